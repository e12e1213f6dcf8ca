//! Objects in the stores of nodes, as processes put, read and free them.

use aktis_common::ids::{NodeId, ObjectId, TaskId};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::store_get_reply::Outcome;
use aktis_proto::v1::{StoreCreate, StoreFree, StoreGet, StoreGetReply, StoreRelease, StoreSeal};
use tokio::sync::oneshot;

use super::driver::Driver;

/// Bytes of an object that needs several chunks on its way.
pub const LARGE: u64 = 5 << 20;

/// What became of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// It is here.
    Here,
    /// None of these nodes has it.
    Missed(Vec<NodeId>),
}

impl Driver {
    /// Puts an object of so many bytes into the store of this driver's node. As with a task's result, its owner is another.
    pub async fn put_for(&self, owner: &Self, size_bytes: u64) -> ObjectId {
        let object = ObjectId::of_return(TaskId::from_words(self.chance.word(), 1), 0);
        self.make(object, owner, size_bytes).await;
        object
    }

    /// The same for an object that has its id: the task that makes it runs again.
    pub async fn make(&self, object: ObjectId, owner: &Self, size_bytes: u64) {
        let create = StoreCreate {
            object_id: object.to_wire(),
            size_bytes,
            owner: Some(owner.address()),
        };
        let created = self.link.ask(Kind::StoreCreate(create)).await;
        assert!(
            matches!(created, Some(Kind::StoreCreateReply(_))),
            "{created:?}"
        );
        let seal = StoreSeal {
            object_id: object.to_wire(),
        };
        let sealed = self.link.ask(Kind::StoreSeal(seal)).await;
        assert!(matches!(sealed, Some(Kind::Done(_))), "{sealed:?}");
    }

    /// Asks for an object of which these nodes are said to have copies.
    pub fn begin_read(
        &self,
        object: ObjectId,
        owner: &Self,
        nodes: &[NodeId],
    ) -> oneshot::Receiver<Kind> {
        self.link.request(Kind::StoreGet(StoreGet {
            object_id: object.to_wire(),
            owner: Some(owner.address()),
            locations: nodes.iter().map(|node| node.to_wire()).collect(),
            size_bytes: LARGE,
        }))
    }

    /// What came of it. The object is let go at once.
    pub async fn finish_read(&self, object: ObjectId, waiting: oneshot::Receiver<Kind>) -> Read {
        let Ok(Kind::StoreGetReply(StoreGetReply {
            outcome: Some(outcome),
        })) = waiting.await
        else {
            panic!("a read is answered");
        };
        match outcome {
            Outcome::View(_) => {
                let release = StoreRelease {
                    object_id: object.to_wire(),
                };
                self.link.send(Kind::StoreRelease(release));
                Read::Here
            }
            Outcome::Lost(lost) => {
                let tried = lost.tried_nodes.iter();
                Read::Missed(
                    tried
                        .map(|node| NodeId::from_bytes(node).unwrap())
                        .collect(),
                )
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads an object.
    pub async fn read(&self, object: ObjectId, owner: &Self, nodes: &[NodeId]) -> Read {
        let waiting = self.begin_read(object, owner, nodes);
        self.finish_read(object, waiting).await
    }

    /// Its owner needs it no more: these nodes have copies.
    pub fn free(&self, object: ObjectId, nodes: &[NodeId]) {
        self.link.send(Kind::StoreFree(StoreFree {
            object_ids: vec![object.to_wire()],
            node_ids: nodes.iter().map(|node| node.to_wire()).collect(),
        }));
    }
}
