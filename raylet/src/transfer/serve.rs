//! The source's side: answers the requests of one stream, one after the other.
//!
//! What lies in the arena is sent from there. What lies in a file is read by calls that can fail: a mapping of a file that was cut,
//! or whose disk fails, would end this process, and all of its node with it.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_object_store::{SealedRange, open_sealed_file};
use aktis_proto::transport::BoxedDuplex;
use aktis_proto::v1::Failure;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::wire::{CHUNK_BYTES, ChunkHead, Reply, Request};
use crate::core::keys::CallId;
use crate::inbox::{Mailbox, Message};

/// A stream on which nobody asks for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// The other side may take so long until it reads on: it may be waiting for room.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);
/// How often the other side hears that its answer takes time, for example since the object is read back from a disk.
const WAIT_PERIOD: Duration = Duration::from_secs(3);
/// So much of a file is read at once.
pub(super) const STEP_BYTES: u64 = 4 << 20;

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

/// An object that is held for another node.
#[derive(Debug)]
pub(crate) struct ReadGrant {
    pub(crate) bytes: HeldBytes,
    /// Ends when that node is declared dead: it need not have closed anything.
    pub(crate) reader_lost: oneshot::Receiver<()>,
}

/// Where an object is read that is held for another node.
#[derive(Debug)]
pub(crate) enum HeldBytes {
    /// In memory.
    Arena(SealedRange<ReadPin>),
    /// In a file.
    File(HeldFile),
}

/// An object in a file.
#[derive(Debug)]
pub(crate) struct HeldFile {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    #[expect(dead_code, reason = "its drop gives the object back")]
    pub(crate) pin: ReadPin,
}

/// A transfer to another node, as the loop knows it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) object: ObjectId,
    pub(crate) reader: NodeId,
    pub(crate) stage: ReadStage,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum ReadStage {
    /// The object is brought into memory, or checked in its file; then this one gets it.
    Awaited(oneshot::Sender<Result<ReadGrant, Failure>>),
    /// It is being sent, until this is dropped.
    Granted(#[expect(dead_code, reason = "its drop is what is heard")] oneshot::Sender<()>),
}

/// Serves a stream until its other end goes.
pub(crate) async fn serve(mut stream: BoxedDuplex, mailbox: Mailbox) {
    loop {
        let request = tokio::time::timeout(IDLE, Request::read(&mut stream)).await;
        let Ok(Ok(request)) = request else { return };
        if let Err(error) = answer(&mut stream, request, &mailbox).await {
            return tracing::debug!(object = %request.object, %error, "a transfer to another node ends early");
        }
    }
}

async fn answer(stream: &mut BoxedDuplex, request: Request, mailbox: &Mailbox) -> io::Result<()> {
    let (grant, mut granted) = oneshot::channel();
    let asked = mailbox.ask(Message::ReadObject {
        call: mailbox.next_call(),
        object: request.object,
        reader: request.reader,
        grant,
    });
    asked.await;
    let granted = loop {
        match tokio::time::timeout(WAIT_PERIOD, &mut granted).await {
            Ok(granted) => break granted,
            Err(_) => Reply::Wait.write(stream).await?,
        }
    };
    let grant = match granted {
        Ok(Ok(grant)) => grant,
        Ok(Err(failure)) => {
            return refuse(stream, failure.error_code(), failure.message).await;
        }
        Err(_) => return refuse(stream, ErrorCode::NodeDied, "this node ends".to_owned()).await,
    };
    let ReadGrant { bytes, reader_lost } = grant;
    let sending = async {
        match bytes {
            HeldBytes::Arena(range) => send(stream, request, &range).await,
            HeldBytes::File(held) => send_file(stream, request, held).await,
        }
    };
    tokio::select! {
        sent = sending => sent,
        _ = reader_lost => Err(io::Error::other("the node that reads was declared dead")),
    }
}

async fn refuse(stream: &mut BoxedDuplex, code: ErrorCode, why: String) -> io::Result<()> {
    Reply::Refused { code, why }.write(stream).await
}

/// Sends what is wanted of an object's bytes.
async fn send(stream: &mut BoxedDuplex, request: Request, bytes: &[u8]) -> io::Result<()> {
    let Some(wanted) = begin(stream, request, bytes.len() as u64).await? else {
        return Ok(());
    };
    let wanted = &bytes[wanted.start as usize..wanted.end as usize];
    for chunk in wanted.chunks(CHUNK_BYTES) {
        send_chunk(stream, chunk).await?;
    }
    stream.flush().await
}

/// The same of an object in a file. One that cannot be read is refused; what cannot be read later ends the stream, and is refused
/// when the other side asks for it again.
async fn send_file(stream: &mut BoxedDuplex, request: Request, held: HeldFile) -> io::Result<()> {
    let reader = match FileReader::open(held, request.offset).await {
        Ok(reader) => reader,
        // Whether its bytes are lost the store looks when it is asked for them again.
        Err(why) => return refuse(stream, ErrorCode::ObjectUnreadable, why).await,
    };
    let Some(wanted) = begin(stream, request, reader.held.len).await? else {
        return Ok(());
    };
    let (mut at, mut reader) = (wanted.start, reader);
    while at < wanted.end {
        let most = wanted.end - at;
        let step = &reader.step[..reader.step.len().min(most as usize)];
        for chunk in step.chunks(CHUNK_BYTES) {
            send_chunk(stream, chunk).await?;
        }
        at += step.len() as u64;
        if at < wanted.end {
            reader = reader.read(at).await.map_err(io::Error::other)?;
        }
    }
    stream.flush().await
}

/// Tells what comes of an object of `total_bytes`; nothing, if there is nothing where it was asked for.
async fn begin(
    stream: &mut BoxedDuplex,
    request: Request,
    total_bytes: u64,
) -> io::Result<Option<Range<u64>>> {
    let Request {
        offset, most_bytes, ..
    } = request;
    if offset > total_bytes {
        let why = format!("offset {offset} is behind the object's {total_bytes} bytes");
        refuse(stream, ErrorCode::InvalidArgument, why).await?;
        return Ok(None);
    }
    let wanted = offset..offset.saturating_add(most_bytes).min(total_bytes);
    let reply = Reply::Bytes {
        total_bytes,
        len_bytes: wanted.end - wanted.start,
    };
    reply.write(stream).await?;
    Ok(Some(wanted))
}

async fn send_chunk(stream: &mut BoxedDuplex, chunk: &[u8]) -> io::Result<()> {
    let head = ChunkHead::of(chunk);
    let writing = async {
        head.write(stream).await?;
        stream.write_all(chunk).await
    };
    tokio::time::timeout(WRITE_PATIENCE, writing)
        .await
        .map_err(io::Error::other)?
}

/// Reads a file step by step, on threads that may wait for a disk.
struct FileReader {
    held: HeldFile,
    file: File,
    step: Vec<u8>,
}

impl FileReader {
    /// Opens the file, and reads from `at` on.
    async fn open(held: HeldFile, at: u64) -> Result<Self, String> {
        let opening = tokio::task::spawn_blocking(move || {
            let file = open_sealed_file(&held.path).map_err(|error| error.chain())?;
            Self {
                held,
                file,
                step: Vec::new(),
            }
            .filled(at)
        });
        opening.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn read(self, at: u64) -> Result<Self, String> {
        let reading = tokio::task::spawn_blocking(move || self.filled(at));
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn filled(mut self, at: u64) -> Result<Self, String> {
        let len = self.held.len.saturating_sub(at).min(STEP_BYTES);
        self.step.resize(len as usize, 0);
        match self
            .file
            .read_exact_at(&mut self.step, self.held.offset + at)
        {
            Ok(()) => Ok(self),
            Err(error) => Err(format!(
                "read {len} bytes at {at} of an object in {}: {error}",
                self.held.path.display()
            )),
        }
    }
}
