//! Copies from sources that break, lie and go.
#![allow(unsafe_code, reason = "vouches for the ranges of its own store")]

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_object_store::{
    BytesAt, ClientId, CreateAnswer, CreatingRange, NodeStore, SealedRange, StoreConfig,
};
use aktis_proto::transport::{Address, BoxedDuplex, Listener, Network, Security, serve_streams};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::fetch::{PullOrder, pull};
use super::place::{PullPlace, SEGMENT_BYTES};
use super::streams::TransferStreams;
use super::wire::{CHUNK_BYTES, ChunkHead, Reply, Request};
use crate::core::event::PullFailure;
use crate::inbox::{Inbox, Message, channel};
use crate::io::peers::Peers;

/// Four segments and a half.
const OBJECT_BYTES: usize = (SEGMENT_BYTES as usize) * 9 / 2;

/// What a stream of a source does wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    BreaksAfter(usize),
    WrongChecksum,
    Refuses(ErrorCode),
}

/// A node that has the object.
#[derive(Clone)]
struct Source {
    id: NodeId,
    bytes: Arc<Vec<u8>>,
    /// For each stream that is opened, and then for all others.
    faults: Arc<Mutex<VecDeque<Fault>>>,
    always: Option<Fault>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Source {
    fn new(bytes: &Arc<Vec<u8>>, faults: &[Fault], always: Option<Fault>) -> Self {
        Self {
            id: NodeId::random(),
            bytes: Arc::clone(bytes),
            faults: Arc::new(Mutex::new(faults.iter().copied().collect())),
            always,
            requests: Arc::default(),
        }
    }

    async fn open(&self, folder: &TempDir, streams: &TransferStreams) {
        let door = Address::Unix(folder.path().join(self.id.to_string()));
        let listener = Listener::bind(&door, &Security::default()).await.unwrap();
        streams.note_door(self.id, door);
        let source = self.clone();
        tokio::spawn(async move {
            let serve = move |stream| source.clone().serve(stream);
            serve_streams(listener, &Security::default(), serve).await
        });
    }

    async fn serve(self, mut stream: BoxedDuplex) {
        let fault = self.faults.lock().pop_front().or(self.always);
        let mut sent = 0;
        while let Ok(request) = Request::read(&mut stream).await {
            self.requests.lock().push(request);
            if let Some(Fault::Refuses(code)) = fault {
                let why = "too many open files".to_owned();
                let refused = Reply::Refused { code, why };
                refused.write(&mut stream).await.unwrap();
                continue;
            }
            let rest = &self.bytes[request.offset as usize..];
            let wanted = &rest[..rest.len().min(request.most_bytes as usize)];
            let reply = Reply::Bytes {
                total_bytes: self.bytes.len() as u64,
                len_bytes: wanted.len() as u64,
            };
            reply.write(&mut stream).await.unwrap();
            for chunk in wanted.chunks(CHUNK_BYTES) {
                let mut head = ChunkHead::of(chunk);
                match fault {
                    Some(Fault::BreaksAfter(most)) if sent >= most => return,
                    Some(Fault::WrongChecksum) => head.checksum ^= 1,
                    _ => {}
                }
                sent += chunk.len();
                if head.write(&mut stream).await.is_err() || stream.write_all(chunk).await.is_err()
                {
                    return;
                }
            }
        }
    }

    fn asked_bytes(&self) -> u64 {
        self.requests
            .lock()
            .iter()
            .map(|request| request.most_bytes)
            .sum()
    }
}

/// A node that wants the object, and has a place for it.
struct Wanting {
    _store: NodeStore,
    place: PullPlace,
    streams: TransferStreams,
    folder: TempDir,
    object: ObjectId,
    seen: Box<dyn Fn() -> Vec<u8>>,
}

impl Wanting {
    fn new() -> Self {
        let config = StoreConfig::new(4 * OBJECT_BYTES as u64);
        let mut store = NodeStore::new(config, |_| (), |_| ()).unwrap();
        let object = ObjectId::for_put();
        let bytes = OBJECT_BYTES as u64;
        let created = store.create(ClientId(1), object, WorkerId::NIL, bytes, false);
        let Ok(CreateAnswer::Created(at)) = created else {
            panic!("an empty store has room");
        };
        let (arena, at) = store.map_for_writing(BytesAt::Arena(at)).unwrap();
        // SAFETY: the store granted the place, and nobody seals the object.
        let range = unsafe { CreatingRange::new(arena.clone(), at.offset, at.len) };
        let network = Network::system();
        let beside = tokio::runtime::Handle::current();
        Self {
            _store: store,
            place: PullPlace::new(range.unwrap()).unwrap(),
            streams: TransferStreams::new(
                NodeId::random(),
                Peers::new(network, Security::default(), beside),
            ),
            folder: TempDir::new().unwrap(),
            object,
            seen: Box::new(move || {
                // SAFETY: the tests read what has been written.
                let range = unsafe { SealedRange::new(arena.clone(), at.offset, at.len, ()) };
                range.unwrap().to_vec()
            }),
        }
    }

    async fn fetch_from(&self, source: &Source) -> Result<(), PullFailure> {
        source.open(&self.folder, &self.streams).await;
        let (mailbox, mut inbox): (_, Inbox) = channel();
        let wanted = PullOrder {
            object: self.object,
            node: source.id,
            attempt: 1,
        };
        let place = Some(self.place.clone());
        pull(wanted, place, self.streams.clone(), mailbox).await;
        match inbox.messages.recv().await {
            Some(Message::PullEnded { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }
}

fn object() -> Arc<Vec<u8>> {
    let words = (0..OBJECT_BYTES as u32 / 4).map(|n| n.wrapping_mul(2_654_435_761));
    Arc::new(words.flat_map(u32::to_le_bytes).collect())
}

#[tokio::test]
async fn copy_is_whole_though_streams_break_and_lie() {
    let (wanting, bytes) = (Wanting::new(), object());
    let faults = [
        Fault::BreaksAfter(CHUNK_BYTES * 3),
        Fault::WrongChecksum,
        Fault::BreaksAfter(CHUNK_BYTES * 40),
    ];
    let source = Source::new(&bytes, &faults, None);
    wanting.fetch_from(&source).await.unwrap();
    assert!(wanting.place.is_whole());
    assert!((wanting.seen)() == *bytes, "MOVE-1, MOVE-3");
    let requests = source.requests.lock();
    let goes_on = |request: &Request| request.offset % SEGMENT_BYTES == 3 * CHUNK_BYTES as u64;
    assert!(
        requests.iter().any(goes_on),
        "from where the first stream broke"
    );
}

#[tokio::test]
async fn next_source_goes_on_where_the_last_one_stopped() {
    let (wanting, bytes) = (Wanting::new(), object());
    let broken = Source::new(
        &bytes,
        &[Fault::BreaksAfter(CHUNK_BYTES * 35)],
        Some(Fault::BreaksAfter(0)),
    );
    let failed = wanting.fetch_from(&broken).await;
    assert!(matches!(failed, Err(PullFailure::Source(_))), "{failed:?}");
    let missing_bytes = wanting.place.missing_bytes();
    assert_eq!(missing_bytes, (OBJECT_BYTES - CHUNK_BYTES * 35) as u64);
    let other = Source::new(&bytes, &[], None);
    wanting.fetch_from(&other).await.unwrap();
    assert!((wanting.seen)() == *bytes, "MOVE-3");
    assert_eq!(other.asked_bytes(), missing_bytes, "and nothing twice");
}

#[tokio::test]
async fn source_that_lies_is_given_up_and_nothing_of_it_is_written() {
    let (wanting, bytes) = (Wanting::new(), object());
    let liar = Source::new(&bytes, &[], Some(Fault::WrongChecksum));
    let failed = wanting.fetch_from(&liar).await;
    let Err(PullFailure::Source(cause)) = failed else {
        panic!("{failed:?}");
    };
    assert!(cause.contains("checksum"), "{cause}");
    assert_eq!(wanting.place.missing_bytes(), OBJECT_BYTES as u64, "MOVE-1");
}

/// A source that has the object and cannot read it is another matter than one that has none.
#[tokio::test]
async fn what_a_source_cannot_read_now_is_told_apart_from_what_it_has_not() {
    let (wanting, bytes) = (Wanting::new(), object());
    for code in [ErrorCode::ObjectUnreadable, ErrorCode::ObjectLost] {
        let refuses = Source::new(&bytes, &[], Some(Fault::Refuses(code)));
        let failed = wanting.fetch_from(&refuses).await.unwrap_err();
        let (is_unreadable, why) = match failed {
            PullFailure::Unreadable(failure) => (true, failure.message),
            PullFailure::Source(why) => (false, why),
            PullFailure::Here(failure) => panic!("{failure:?}"),
        };
        assert_eq!(is_unreadable, code == ErrorCode::ObjectUnreadable);
        let node = refuses.id;
        assert_eq!(why, format!("node {node}: too many open files"));
    }
}

#[tokio::test]
async fn nothing_is_written_to_a_place_that_went_to_others() {
    let wanting = Wanting::new();
    let mut claim = wanting.place.claim().unwrap();
    claim.append(&[1; 100]).unwrap();
    wanting.place.close();
    let late = claim.append(&[2; 100]);
    assert!(matches!(late, Err(PullFailure::Source(_))), "MOVE-2");
    assert!(wanting.place.claim().is_none(), "MOVE-2");
    assert_eq!((wanting.seen)()[..101], [vec![1; 100], vec![0]].concat());
}
