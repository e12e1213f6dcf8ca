//! Objects between nodes: chunks with checksums, from where the last source stopped.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_object_store::{CreatingRange, SealedRange};
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
const CHUNK_BYTES: usize = 2 << 20;

/// Where a copy is written, and how far it has come. Shared by the attempts to fetch it from different nodes.
#[derive(Debug, Clone)]
pub(crate) struct PullPlace {
    /// `None` once the place is no longer ours.
    open: Arc<Mutex<Option<OpenPlace>>>,
}

#[derive(Debug)]
struct OpenPlace {
    range: CreatingRange,
    /// Bytes that are there.
    received: u64,
}

impl PullPlace {
    /// An empty place.
    pub(crate) fn new(range: CreatingRange) -> Self {
        let open = OpenPlace { range, received: 0 };
        Self {
            open: Arc::new(Mutex::new(Some(open))),
        }
    }

    /// From now on nothing is written: the copy is sealed, or the place goes to others.
    pub(crate) fn close(&self) {
        drop(self.open.lock().take());
    }

    /// Whether all of the copy is there.
    pub(crate) fn is_whole(&self) -> bool {
        let open = self.open.lock();
        open.as_ref()
            .is_some_and(|place| place.received == place.range.len_bytes())
    }

    fn received(&self) -> Option<u64> {
        self.open.lock().as_ref().map(|place| place.received)
    }

    /// Writes a chunk behind what is there. Whether the copy is whole.
    fn append(&self, chunk: &ObjectChunk) -> Result<bool, PullFailure> {
        let broken = |what: String| PullFailure::Source(what);
        let mut open = self.open.lock();
        let place = open
            .as_mut()
            .ok_or_else(|| broken("the transfer was given up".to_owned()))?;
        let (at, len) = (place.received, place.range.len_bytes());
        let end = at + chunk.data.len() as u64;
        if chunk.offset != at || end > len {
            let offset = chunk.offset;
            return Err(broken(format!(
                "a chunk at {offset} does not fit: {at} of {len} are there"
            )));
        }
        if crc32fast::hash(&chunk.data) != chunk.checksum {
            return Err(broken(format!(
                "the checksum of the chunk at {at} is wrong"
            )));
        }
        place.range.write_at(at, &[&chunk.data]).map_err(|error| {
            PullFailure::Here(Failure::of(ErrorCode::Internal, error.to_string()))
        })?;
        place.received = end;
        Ok(end == len)
    }
}

/// Fetches an object, or the rest of it, from one node, and tells the loop how that ended.
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
        if place.insert(target).append(&chunk)? {
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

/// The reference to an object that the store holds for a transfer to another node; given back when dropped.
#[derive(Debug)]
pub(crate) struct ReadPin {
    pub(crate) call: CallId,
    pub(crate) object: ObjectId,
    pub(crate) mailbox: Mailbox,
}

impl Drop for ReadPin {
    fn drop(&mut self) {
        self.mailbox.send(Message::ReadEnded {
            call: self.call,
            object: self.object,
        });
    }
}

/// An object that is held in memory for another node.
#[derive(Debug)]
pub(crate) struct ReadGrant(pub(crate) SealedRange<ReadPin>);

impl ReadGrant {
    /// The chunks from `offset` on. At least one is sent, so that an empty object arrives too.
    pub(crate) fn chunks(
        self,
        offset: u64,
    ) -> Result<impl Stream<Item = Result<ObjectChunk, Status>> + Send, Status> {
        let len = self.0.len();
        let begin = usize::try_from(offset).ok().filter(|begin| *begin <= len);
        let Some(begin) = begin else {
            let message = format!("offset {offset} is behind the object's {len} bytes");
            return Err(status(ErrorCode::InvalidArgument, message));
        };
        Ok(futures::stream::unfold(
            (self, Some(begin)),
            |(grant, next)| async move {
                let at = next?;
                let end = grant.0.len().min(at + CHUNK_BYTES);
                let chunk = grant.chunk(at, end);
                let next = (end < grant.0.len()).then_some(end);
                Some((Ok(chunk), (grant, next)))
            },
        ))
    }

    fn chunk(&self, at: usize, end: usize) -> ObjectChunk {
        let bytes = &self.0[at..end];
        ObjectChunk {
            total_bytes: self.0.len() as u64,
            offset: at as u64,
            data: Bytes::copy_from_slice(bytes),
            checksum: crc32fast::hash(bytes),
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "vouches for the ranges of its own store")]
mod tests {
    use aktis_object_store::{ClientId, CreateAnswer, NodeStore, StoreConfig};

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
    fn place() -> (NodeStore, PullPlace, impl Fn() -> Vec<u8>) {
        let mut store = NodeStore::new(StoreConfig::new(1 << 20), |_| (), |_| ()).unwrap();
        let owner = aktis_common::ids::WorkerId::NIL;
        let created = store.create(ClientId(1), ObjectId::for_put(), owner, 10, false);
        let Ok(CreateAnswer::Created(at)) = created else {
            panic!("an empty store has room");
        };
        let arena = store.arena().clone();
        // SAFETY: the store granted the place, and nobody seals the object.
        let range = unsafe { CreatingRange::new(arena.clone(), at.offset, at.len) };
        let place = PullPlace::new(range.unwrap());
        (store, place, move || {
            // SAFETY: the tests read what they have written.
            let range = unsafe { SealedRange::new(arena.clone(), at.offset, at.len, ()) };
            range.unwrap().to_vec()
        })
    }

    #[test]
    fn next_source_goes_on_where_the_last_one_stopped() {
        let (_store, place, bytes) = place();
        assert!(matches!(place.append(&chunk(0, b"01234")), Ok(false)));
        let second_source = place.clone();
        assert_eq!(second_source.received(), Some(5));
        assert!(matches!(
            second_source.append(&chunk(5, b"56789")),
            Ok(true)
        ));
        assert!(place.is_whole());
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
        assert!(matches!(place.append(&chunk(0, b"01234")), Ok(false)));
        assert!(!place.is_whole());
        place.close();
        assert!(matches!(
            place.append(&chunk(5, b"56789")),
            Err(PullFailure::Source(_))
        ));
    }
}
