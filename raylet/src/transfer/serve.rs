//! The source's side: answers the requests of one stream, one after the other.

use std::io;
use std::time::Duration;

use aktis_common::ids::{NodeId, ObjectId};
use aktis_object_store::SealedRange;
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
    pub(crate) range: SealedRange<ReadPin>,
    /// Ends when that node is declared dead: it need not have closed anything.
    pub(crate) reader_lost: oneshot::Receiver<()>,
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
        Ok(Err(Failure { message, .. })) => return Reply::Refused(message).write(stream).await,
        Err(_) => {
            return Reply::Refused("this node ends".to_owned())
                .write(stream)
                .await;
        }
    };
    let ReadGrant { range, reader_lost } = grant;
    let range = match read_in(range, request).await {
        Ok(range) => range,
        Err(why) => return Reply::Refused(why).write(stream).await,
    };
    tokio::select! {
        sent = send(stream, request, &range) => sent,
        _ = reader_lost => Err(io::Error::other("the node that reads was declared dead")),
    }
}

/// Has what is wanted of an object on the disk read, by a thread that may wait for it.
async fn read_in(
    range: SealedRange<ReadPin>,
    request: Request,
) -> Result<SealedRange<ReadPin>, String> {
    if !range.is_on_disk() {
        return Ok(range);
    }
    let reading = tokio::task::spawn_blocking(move || {
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(range.len());
        let wanted =
            clamp(request.offset)..clamp(request.offset.saturating_add(request.most_bytes));
        let read = range.read_in(wanted).map_err(|error| error.chain());
        read.map(|()| range)
    });
    reading.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Sends what is wanted of an object's bytes.
async fn send(stream: &mut BoxedDuplex, request: Request, bytes: &[u8]) -> io::Result<()> {
    let begin = usize::try_from(request.offset).ok();
    let Some(rest) = begin.and_then(|begin| bytes.get(begin..)) else {
        let (offset, len) = (request.offset, bytes.len());
        let why = format!("offset {offset} is behind the object's {len} bytes");
        return Reply::Refused(why).write(stream).await;
    };
    let most = usize::try_from(request.most_bytes).unwrap_or(usize::MAX);
    let wanted = &rest[..most.min(rest.len())];
    let reply = Reply::Bytes {
        total_bytes: bytes.len() as u64,
        len_bytes: wanted.len() as u64,
    };
    reply.write(stream).await?;
    for chunk in wanted.chunks(CHUNK_BYTES) {
        let head = ChunkHead::of(chunk);
        let writing = async {
            head.write(stream).await?;
            stream.write_all(chunk).await
        };
        tokio::time::timeout(WRITE_PATIENCE, writing)
            .await
            .map_err(io::Error::other)??;
    }
    stream.flush().await
}
