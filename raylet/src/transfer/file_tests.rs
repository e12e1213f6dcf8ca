//! Objects that are sent from files, which others may cut meanwhile.

use std::fs::OpenOptions;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_proto::transport::BoxedDuplex;
use tempfile::TempDir;

use super::serve::{HeldBytes, HeldFile, ReadGrant, ReadPin, STEP_BYTES, serve};
use super::wire::{ChunkHead, Reply, Request, read_full};
use crate::inbox::{Inbox, Mailbox, Message, channel};

const PATIENCE: Duration = Duration::from_secs(30);
/// Where in its file the object lies.
const OFFSET: u64 = 64;
/// Two steps and a half.
const LEN: u64 = STEP_BYTES * 5 / 2;

/// A node that has an object in a file, and the stream on which another asks for it.
struct Sending {
    stream: BoxedDuplex,
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Sending {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let words = (0..LEN / 4).map(|n| (n as u32).wrapping_mul(2_654_435_761));
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let file = [vec![7; OFFSET as usize], bytes.clone()].concat();
        std::fs::write(folder.path().join("spill-1.bin"), file).unwrap();
        let (mailbox, inbox) = channel();
        // Narrow, so that the sender waits for the reader.
        let (here, there) = tokio::io::duplex(1 << 10);
        tokio::spawn(serve(Box::new(there), mailbox.clone()));
        tokio::spawn(grant_all(inbox, mailbox, folder.path().join("spill-1.bin")));
        Self {
            stream: Box::new(here),
            folder,
            bytes,
        }
    }

    fn cut(&self, len: u64) {
        let path = self.folder.path().join("spill-1.bin");
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(len).unwrap();
    }

    async fn ask(&mut self, offset: u64) -> Reply {
        let request = Request {
            object: ObjectId::for_put(),
            reader: NodeId::random(),
            offset,
            most_bytes: LEN,
        };
        request.write(&mut self.stream).await.unwrap();
        Reply::read(&mut self.stream, PATIENCE).await.unwrap()
    }

    /// What comes until the end of the object or the stream.
    async fn read(&mut self, most: u64) -> Vec<u8> {
        let mut read = Vec::new();
        while (read.len() as u64) < most
            && let Ok(head) = ChunkHead::read(&mut self.stream, PATIENCE).await
        {
            let mut chunk = vec![0; head.len as usize];
            let filled = read_full(&mut self.stream, &mut chunk, PATIENCE).await;
            if filled.is_err() {
                break;
            }
            read.extend(chunk);
        }
        read
    }
}

async fn grant_all(mut inbox: Inbox, mailbox: Mailbox, path: std::path::PathBuf) {
    let mut lost = Vec::new();
    while let Some(message) = inbox.requests.recv().await {
        let Message::ReadObject {
            call,
            object,
            grant,
            ..
        } = message
        else {
            continue;
        };
        let (sender, reader_lost) = tokio::sync::oneshot::channel();
        lost.push(sender);
        let held = HeldFile {
            path: path.clone(),
            offset: OFFSET,
            len: LEN,
            pin: ReadPin {
                call,
                object,
                mailbox: mailbox.clone(),
            },
        };
        let bytes = HeldBytes::File(held);
        let _ = grant.send(Ok(ReadGrant { bytes, reader_lost }));
    }
}

#[tokio::test]
async fn object_in_a_file_is_sent_whole_and_from_any_place() {
    let mut sending = Sending::new();
    for offset in [0, 12_345, STEP_BYTES + 1, LEN] {
        let rest = LEN - offset;
        let reply = Reply::Bytes {
            total_bytes: LEN,
            len_bytes: rest,
        };
        assert_eq!(sending.ask(offset).await, reply);
        assert!(sending.read(rest).await == sending.bytes[offset as usize..]);
    }
}

/// Touching a mapping of it would end the process.
#[tokio::test]
async fn file_that_was_cut_is_refused_and_others_are_sent_on() {
    let mut sending = Sending::new();
    sending.cut(OFFSET + 10);
    let is_unreadable = |reply: &Reply| match reply {
        Reply::Refused { code, why } => {
            *code == ErrorCode::ObjectUnreadable && why.contains("spill-1.bin")
        }
        _ => false,
    };
    let cut = sending.ask(0).await;
    assert!(is_unreadable(&cut), "{cut:?}");
    std::fs::remove_file(sending.folder.path().join("spill-1.bin")).unwrap();
    let gone = sending.ask(0).await;
    assert!(is_unreadable(&gone), "{gone:?}");
}

#[tokio::test]
async fn file_that_is_cut_while_it_is_sent_ends_its_stream_alone() {
    let mut sending = Sending::new();
    assert!(matches!(sending.ask(0).await, Reply::Bytes { .. }));
    sending.cut(OFFSET + STEP_BYTES + 10);
    let sent = sending.read(LEN).await;
    assert!(sent == sending.bytes[..STEP_BYTES as usize]);
}
