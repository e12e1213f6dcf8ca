//! Lanes to workers of other nodes.
//!
//! ```text
//!  process ──proxy.sock──► raylet ──Raylet.Lane──► raylet of the callee ──<lane_dir>/<worker>──► worker
//!            LaneRoute,              LaneBytes                             raw bytes
//!            raw bytes
//! ```
//! The end of either side ends the other. Nothing here passes the loop.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, WorkerId};
use aktis_proto::convert::status;
use aktis_proto::v1::{Address, LaneBytes, LaneRoute};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::peers::Peers;
use super::process_socket::{is_own_user, pause_after};
use crate::core::event::Event;
use crate::inbox::Mailbox;

/// Bytes read at once, and the most that one message carries.
const READ_BYTES: usize = 256 << 10;
/// Messages between a socket and the network: bounds what one lane keeps in memory.
const PIPE_MESSAGES: usize = 8;
/// How often a lane socket that is about to be made is looked for, and when it takes longer than with most workers.
const LANE_POLL: Duration = Duration::from_millis(1);
const LATE_LANE_POLL: Duration = Duration::from_millis(20);
const MOST_LANES_ARE_THERE: Duration = Duration::from_millis(100);
/// A worker that has no lane socket after this time was given up.
const LONGEST_WAIT_FOR_LANE: Duration = Duration::from_secs(60);
/// A route is a few dozen bytes.
const MAX_ROUTE_BYTES: usize = 4096;

/// The lanes of a node.
#[derive(Debug, Clone)]
pub(crate) struct LaneProxy {
    pub(crate) here: NodeId,
    pub(crate) lane_dir: PathBuf,
    pub(crate) peers: Peers,
}

impl LaneProxy {
    /// Accepts processes that want a lane to another node, until the task is aborted.
    pub(crate) fn serve(self, listener: UnixListener, beside: &Handle) -> JoinHandle<()> {
        beside.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if is_own_user(&stream) => {
                        let proxy = self.clone();
                        tokio::spawn(async move {
                            if let Err(error) = proxy.carry(stream).await {
                                tracing::debug!(%error, "a lane to another node ended");
                            }
                        });
                    }
                    Ok(_) => tracing::warn!("a process of another user tried to open a lane"),
                    Err(error) => pause_after(&error).await,
                }
            }
        })
    }

    async fn carry(&self, mut near: UnixStream) -> io::Result<()> {
        let callee = read_route(&mut near).await?;
        let node = callee.node().map_err(invalid)?;
        if node == self.here {
            let worker = callee.worker().map_err(invalid)?;
            let mut far = UnixStream::connect(lane_path(&self.lane_dir, worker)).await?;
            copy_bidirectional(&mut near, &mut far).await?;
            return Ok(());
        }
        let mut client = self.peers.client(node).map_err(io::Error::other)?;
        let (reader, writer) = near.into_split();
        let (sender, receiver) = mpsc::channel(PIPE_MESSAGES);
        let pump = tokio::spawn(pump_out(reader, sender, Some(callee), |bytes| bytes));
        let answers = client.lane(ReceiverStream::new(receiver)).await;
        let result = match answers {
            Ok(answers) => pump_in(answers.into_inner(), writer).await,
            Err(status) => Err(io::Error::other(status.message().to_owned())),
        };
        // The callee's side has ended: so does the caller's.
        pump.abort();
        result
    }

    /// Serves a lane from another node.
    pub(crate) async fn accept(
        &self,
        mut from: Streaming<LaneBytes>,
    ) -> Result<impl Stream<Item = Result<LaneBytes, Status>> + Send + use<>, Status> {
        let invalid = |message: String| status(ErrorCode::InvalidArgument, message);
        let first = from.message().await?;
        let first = first.ok_or_else(|| invalid("a lane without a first message".to_owned()))?;
        let callee = first.callee.unwrap_or_default();
        let worker = callee
            .worker()
            .map_err(|error| invalid(error.to_string()))?;
        let path = lane_path(&self.lane_dir, worker);
        let socket = UnixStream::connect(&path).await.map_err(|error| {
            status(
                ErrorCode::WorkerCrashed,
                format!("worker {worker} cannot be reached: {error}"),
            )
        })?;
        let (reader, mut writer) = socket.into_split();
        let (sender, receiver) = mpsc::channel(PIPE_MESSAGES);
        tokio::spawn(pump_out(reader, sender, None, Ok));
        tokio::spawn(async move {
            if writer.write_all(&first.data).await.is_ok() {
                let _ = pump_in(from, writer).await;
            }
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// The socket on which a worker of this node takes lanes.
fn lane_path(lane_dir: &Path, worker: WorkerId) -> PathBuf {
    lane_dir.join(worker.to_string())
}

/// Tells the loop when a worker's lane socket is there: only then may its address be given away.
///
/// A worker learns where its socket goes from the reply to its hello, and the socket appears when it takes connections: a frame that
/// says so would come later. The time limit of the worker's start ends this too.
pub(crate) async fn await_lane(lane: PathBuf, worker: WorkerId, mailbox: Mailbox) {
    let begun = tokio::time::Instant::now();
    while !lane.exists() {
        let pause = match begun.elapsed() {
            waited if waited > LONGEST_WAIT_FOR_LANE => return,
            waited if waited > MOST_LANES_ARE_THERE => LATE_LANE_POLL,
            _ => LANE_POLL,
        };
        tokio::time::sleep(pause).await;
    }
    mailbox.event(Event::LaneOpen { worker });
}

/// Reads the first frame of a process: where its lane goes.
async fn read_route(stream: &mut UnixStream) -> io::Result<Address> {
    let total = stream.read_u32_le().await? as usize;
    let header = stream.read_u32_le().await? as usize;
    if !(4..=MAX_ROUTE_BYTES).contains(&total) || header > total - 4 {
        return Err(invalid(format!(
            "a route of {total} bytes with a header of {header}"
        )));
    }
    let mut body = vec![0; total - 4];
    stream.read_exact(&mut body).await?;
    let route = LaneRoute::decode(&body[..header]).map_err(invalid)?;
    route
        .callee
        .ok_or_else(|| invalid("a route without a callee"))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Socket to network, until the socket ends.
async fn pump_out<T: Send + 'static>(
    mut reader: OwnedReadHalf,
    sender: mpsc::Sender<T>,
    mut callee: Option<Address>,
    wrap: fn(LaneBytes) -> T,
) {
    if callee.is_some() {
        let first = LaneBytes {
            callee: callee.take(),
            data: Bytes::new(),
        };
        if sender.send(wrap(first)).await.is_err() {
            return;
        }
    }
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let data = buffer.split().freeze();
        if sender
            .send(wrap(LaneBytes { callee: None, data }))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Network to socket, until the network side ends; then the socket's writing side ends.
async fn pump_in(mut from: Streaming<LaneBytes>, mut writer: OwnedWriteHalf) -> io::Result<()> {
    loop {
        match from.message().await {
            Ok(Some(chunk)) => writer.write_all(&chunk.data).await?,
            Ok(None) => return writer.shutdown().await,
            Err(status) => return Err(io::Error::other(status.message().to_owned())),
        }
    }
}
