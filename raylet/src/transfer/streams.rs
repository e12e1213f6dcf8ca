//! Streams to other nodes, kept for a while after their use.

use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::NodeId;
use aktis_proto::transport::{Address, BoxedDuplex};
use aktis_proto::v1::RayletEmpty;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::io::peers::Peers;

/// How long a stream is kept that nobody uses.
const KEPT: Duration = Duration::from_secs(30);
/// Streams to one node at the same time; what is beyond waits.
const MOST_STREAMS: usize = 16;

/// One stream; the next transfer gets it when this one is given back whole.
pub(super) struct Line {
    pub(super) stream: BoxedDuplex,
    /// Whether an earlier transfer has used it: then its end may have gone meanwhile.
    pub(super) is_used: bool,
    node: NodeId,
    _room: OwnedSemaphorePermit,
}

struct Idle {
    since: Instant,
    stream: BoxedDuplex,
}

#[derive(Default)]
struct Node {
    /// Where it takes streams.
    door: Option<Address>,
    idle: Vec<Idle>,
    room: Option<Arc<Semaphore>>,
}

/// Streams to all nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TransferStreams {
    here: NodeId,
    peers: Peers,
    nodes: Arc<Mutex<FxHashMap<NodeId, Node>>>,
}

impl TransferStreams {
    pub(crate) fn new(here: NodeId, peers: Peers) -> Self {
        Self {
            here,
            peers,
            nodes: Arc::default(),
        }
    }

    /// The node that these streams are of.
    pub(super) fn here(&self) -> NodeId {
        self.here
    }

    /// A node that takes streams at `door`.
    #[cfg(test)]
    pub(super) fn note_door(&self, node: NodeId, door: Address) {
        self.nodes.lock().entry(node).or_default().door = Some(door);
    }

    /// A stream, one that is there or a fresh one. Waits while the node has as many as it may have.
    pub(super) async fn open(&self, node: NodeId, is_fresh: bool) -> Result<Line, String> {
        let room = self.room_of(node).acquire_owned().await;
        self.open_in(node, room.map_err(|error| error.to_string())?, is_fresh)
            .await
    }

    /// One more, if the node may have more.
    pub(super) async fn open_another(&self, node: NodeId) -> Option<Result<Line, String>> {
        let room = self.room_of(node).try_acquire_owned().ok()?;
        Some(self.open_in(node, room, false).await)
    }

    /// It may be used again.
    pub(super) fn give_back(&self, line: Line) {
        let mut nodes = self.nodes.lock();
        let is_first = nodes.values().all(|node| node.idle.is_empty());
        nodes.entry(line.node).or_default().idle.push(Idle {
            since: Instant::now(),
            stream: line.stream,
        });
        if is_first {
            tokio::spawn(self.clone().close_idle());
        }
    }

    /// Runs as long as there are idle streams.
    async fn close_idle(self) {
        loop {
            tokio::time::sleep(KEPT / 2).await;
            let mut nodes = self.nodes.lock();
            for node in nodes.values_mut() {
                node.idle.retain(|idle| idle.since.elapsed() < KEPT);
            }
            // Nodes that nobody uses are forgotten; one that comes back is asked again.
            nodes.retain(|_, node| {
                let room = node.room.as_ref();
                !node.idle.is_empty() || room.is_some_and(|room| Arc::strong_count(room) > 1)
            });
            if nodes.values().all(|node| node.idle.is_empty()) {
                return;
            }
        }
    }

    fn room_of(&self, node: NodeId) -> Arc<Semaphore> {
        let mut nodes = self.nodes.lock();
        let room = &mut nodes.entry(node).or_default().room;
        Arc::clone(room.get_or_insert_with(|| Arc::new(Semaphore::new(MOST_STREAMS))))
    }

    async fn open_in(
        &self,
        node: NodeId,
        room: OwnedSemaphorePermit,
        is_fresh: bool,
    ) -> Result<Line, String> {
        if !is_fresh && let Some(stream) = self.take_idle(node) {
            return Ok(Line {
                stream,
                is_used: true,
                node,
                _room: room,
            });
        }
        let door = self.door_of(node).await?;
        match self.peers.open_stream(&door).await {
            Ok(stream) => Ok(Line {
                stream,
                is_used: false,
                node,
                _room: room,
            }),
            Err(error) => {
                self.nodes.lock().entry(node).or_default().door = None;
                Err(error.to_string())
            }
        }
    }

    fn take_idle(&self, node: NodeId) -> Option<BoxedDuplex> {
        let mut nodes = self.nodes.lock();
        let idle = &mut nodes.get_mut(&node)?.idle;
        idle.retain(|idle| idle.since.elapsed() < KEPT);
        idle.pop().map(|idle| idle.stream)
    }

    async fn door_of(&self, node: NodeId) -> Result<Address, String> {
        let known = self
            .nodes
            .lock()
            .get(&node)
            .and_then(|node| node.door.clone());
        if let Some(door) = known {
            return Ok(door);
        }
        let mut client = self.peers.client(node).map_err(|error| error.to_string())?;
        let asked = client.find_transfer_door(RayletEmpty {}).await;
        let reply = asked.map_err(|status| status.message().to_owned())?;
        let door = reply.into_inner().address;
        let door: Address = door.parse().map_err(|error| format!("{door:?}: {error}"))?;
        self.nodes.lock().entry(node).or_default().door = Some(door.clone());
        Ok(door)
    }
}
