//! Objects between nodes: chunks with checksums, from where the last source stopped.

use std::io::IoSlice;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_object_store::{Arena, ObjectLocation};
use aktis_proto::convert::status;
use aktis_proto::v1::{Failure, FetchObjectRequest, ObjectChunk};
use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::Status;

use super::peers::Peers;
use crate::core::event::PullFailure;
use crate::core::keys::CallId;
use crate::inbox::{Mailbox, Message};

/// Bytes of one chunk.
const CHUNK_BYTES: u64 = 2 << 20;

/// Where a copy is written, and how far it has come. Shared by the attempts to fetch it from different nodes.
#[derive(Debug, Clone)]
pub(crate) struct PullPlace {
    arena: Arc<dyn Arena>,
    place: ObjectLocation,
    /// Bytes that are there; `None` once the place is no longer ours.
    received: Arc<Mutex<Option<u64>>>,
}

impl PullPlace {
    /// An empty place.
    pub(crate) fn new(arena: Arc<dyn Arena>, place: ObjectLocation) -> Self {
        Self {
            arena,
            place,
            received: Arc::new(Mutex::new(Some(0))),
        }
    }

    /// From now on nothing is written: the place goes to others.
    pub(crate) fn revoke(&self) {
        *self.received.lock() = None;
    }

    fn received(&self) -> Option<u64> {
        *self.received.lock()
    }

    /// Writes a chunk behind what is there.
    fn append(&self, chunk: &ObjectChunk) -> Result<u64, PullFailure> {
        let broken = |what: String| PullFailure::Source(what);
        let mut received = self.received.lock();
        let at = received.ok_or_else(|| broken("the transfer was given up".to_owned()))?;
        let end = at + chunk.data.len() as u64;
        if chunk.offset != at || end > self.place.len {
            let (offset, len) = (chunk.offset, self.place.len);
            return Err(broken(format!(
                "a chunk at {offset} does not fit: {at} of {len} are there"
            )));
        }
        if crc32fast::hash(&chunk.data) != chunk.checksum {
            return Err(broken(format!(
                "the checksum of the chunk at {at} is wrong"
            )));
        }
        self.arena
            .write_at(self.place.offset + at, &[IoSlice::new(&chunk.data)])
            .map_err(|error| {
                PullFailure::Here(Failure::of(ErrorCode::Internal, error.to_string()))
            })?;
        *received = Some(end);
        Ok(end)
    }
}

/// Fetches an object, or the rest of it, from one node, and tells the driver how that ended.
pub(crate) async fn pull(
    object: ObjectId,
    node: NodeId,
    place: Option<PullPlace>,
    peers: Peers,
    mailbox: Mailbox,
) {
    let result = fetch(object, node, place, &peers, &mailbox).await;
    mailbox.send(Message::PullEnded {
        object,
        node,
        result,
    });
}

async fn fetch(
    object: ObjectId,
    node: NodeId,
    mut place: Option<PullPlace>,
    peers: &Peers,
    mailbox: &Mailbox,
) -> Result<(), PullFailure> {
    let source = |cause: String| PullFailure::Source(format!("node {node}: {cause}"));
    let mut client = peers
        .client(node)
        .map_err(|error| source(error.to_string()))?;
    let offset = place.as_ref().and_then(PullPlace::received).unwrap_or(0);
    let request = FetchObjectRequest {
        object_id: object.to_wire(),
        offset,
    };
    let mut chunks = client
        .fetch_object(request)
        .await
        .map_err(|status| source(status.message().to_owned()))?
        .into_inner();
    loop {
        let chunk = chunks
            .message()
            .await
            .map_err(|status| source(status.message().to_owned()))?;
        let Some(chunk) = chunk else {
            return Err(source("it stopped before the end".to_owned()));
        };
        let target = match place.take() {
            Some(target) => target,
            None => ask_for_place(object, chunk.total_bytes, mailbox).await?,
        };
        let target = place.insert(target);
        if target.append(&chunk)? == target.place.len {
            return Ok(());
        }
    }
}

async fn ask_for_place(
    object: ObjectId,
    total_bytes: u64,
    mailbox: &Mailbox,
) -> Result<PullPlace, PullFailure> {
    let (sender, receiver) = oneshot::channel();
    mailbox.send(Message::PullSized {
        object,
        total_bytes,
        place: sender,
    });
    let ended = || PullFailure::Source("the raylet ends".to_owned());
    receiver.await.map_err(|_| ended())?
}

/// An object that is held in memory for another node; let go when dropped.
#[derive(Debug)]
pub(crate) struct ReadGrant {
    arena: Arc<dyn Arena>,
    place: ObjectLocation,
    call: CallId,
    object: ObjectId,
    mailbox: Mailbox,
}

impl ReadGrant {
    /// The object at `place`, which the store holds for `call`.
    pub(crate) fn new(
        arena: Arc<dyn Arena>,
        place: ObjectLocation,
        call: CallId,
        object: ObjectId,
        mailbox: Mailbox,
    ) -> Self {
        Self {
            arena,
            place,
            call,
            object,
            mailbox,
        }
    }

    /// The chunks from `offset` on. At least one is sent, so that an empty object arrives too.
    pub(crate) fn chunks(
        self,
        offset: u64,
    ) -> Result<impl Stream<Item = Result<ObjectChunk, Status>> + Send, Status> {
        if offset > self.place.len {
            let message = format!(
                "offset {offset} is behind the object's {} bytes",
                self.place.len
            );
            return Err(status(ErrorCode::InvalidArgument, message));
        }
        Ok(futures::stream::unfold(
            (self, Some(offset)),
            |(grant, next)| async move {
                let at = next?;
                let end = grant.place.len.min(at + CHUNK_BYTES);
                let chunk = grant.chunk(at, end);
                let next = (chunk.is_ok() && end < grant.place.len).then_some(end);
                Some((chunk, (grant, next)))
            },
        ))
    }

    fn chunk(&self, at: u64, end: u64) -> Result<ObjectChunk, Status> {
        let bytes = self
            .arena
            .slice(self.place.offset + at, end - at)
            .map_err(|error| status(ErrorCode::Internal, error.to_string()))?;
        Ok(ObjectChunk {
            total_bytes: self.place.len,
            offset: at,
            data: Bytes::copy_from_slice(bytes),
            checksum: crc32fast::hash(bytes),
        })
    }
}

impl Drop for ReadGrant {
    fn drop(&mut self) {
        self.mailbox.send(Message::ReadEnded {
            call: self.call,
            object: self.object,
        });
    }
}

#[cfg(test)]
mod tests {
    use aktis_object_store::{ArenaMap, ClientId, CreateAnswer, StoreConfig, StoreDriver};

    use super::*;

    fn chunk(offset: u64, data: &'static [u8]) -> ObjectChunk {
        ObjectChunk {
            total_bytes: 10,
            offset,
            data: Bytes::from_static(data),
            checksum: crc32fast::hash(data),
        }
    }

    /// A place of ten bytes, and what a reader would see there.
    fn place() -> (StoreDriver, PullPlace, impl Fn() -> Vec<u8>) {
        let mut store = StoreDriver::new(StoreConfig::new(1 << 20), |_| (), |_| ()).unwrap();
        let owner = aktis_common::ids::WorkerId::NIL;
        let created = store.create(ClientId(1), ObjectId::for_put(), owner, 10, false);
        let Ok(CreateAnswer::Created(at)) = created else {
            panic!("an empty store has room");
        };
        let map = ArenaMap::from_handle(store.arena_handle().unwrap()).unwrap();
        let place = PullPlace::new(Arc::clone(store.arena()), at);
        (store, place, move || {
            map.view(at.offset, at.len).unwrap().to_vec()
        })
    }

    #[test]
    fn next_source_goes_on_where_the_last_one_stopped() {
        let (_store, place, bytes) = place();
        assert!(matches!(place.append(&chunk(0, b"01234")), Ok(5)));
        let second_source = place.clone();
        assert_eq!(second_source.received(), Some(5));
        assert!(matches!(second_source.append(&chunk(5, b"56789")), Ok(10)));
        assert_eq!(bytes(), b"0123456789");
    }

    #[test]
    fn chunk_with_a_wrong_checksum_or_offset_is_refused() {
        let (_store, place, _) = place();
        let broken = ObjectChunk {
            checksum: 1,
            ..chunk(0, b"01234")
        };
        for wrong in [broken, chunk(5, b"56789"), chunk(0, b"0123456789ab")] {
            assert!(matches!(place.append(&wrong), Err(PullFailure::Source(_))));
        }
        assert_eq!(place.received(), Some(0));
    }

    #[test]
    fn nothing_is_written_to_a_place_that_went_to_others() {
        let (_store, place, _) = place();
        place.revoke();
        assert!(matches!(
            place.append(&chunk(0, b"01234")),
            Err(PullFailure::Source(_))
        ));
    }
}
