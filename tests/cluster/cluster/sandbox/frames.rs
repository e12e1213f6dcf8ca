//! A process at a node's socket: frames in and out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{Failure, GcsCall, NodeFrame};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long an answer may take, in the run's time: above every patience that a node has.
const PATIENCE: Duration = Duration::from_secs(600);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Kind>>>>;

/// Writes frames and waits for answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    outgoing: mpsc::UnboundedSender<(u64, Kind)>,
    waiting: Waiting,
    next: Arc<Mutex<u64>>,
}

/// The tasks of a connection, and what came without being asked for.
#[derive(Debug)]
pub struct Connection {
    pub link: Link,
    pub events: mpsc::UnboundedReceiver<Kind>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Connects and says hello.
    pub async fn open(socket: &Path, hello: Kind) -> std::io::Result<(Self, Kind)> {
        let stream = UnixStream::connect(socket).await?;
        let (mut input, mut output) = stream.into_split();
        let (outgoing, mut to_write) = mpsc::unbounded_channel();
        let (happened, events) = mpsc::unbounded_channel();
        let waiting: Waiting = Arc::default();
        let link = Link {
            outgoing,
            waiting: Arc::clone(&waiting),
            next: Arc::new(Mutex::new(1)),
        };
        let writer = tokio::spawn(async move {
            while let Some((request_id, kind)) = to_write.recv().await {
                if output.write_all(&encode(request_id, kind)).await.is_err() {
                    return;
                }
            }
        });
        let reader = tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            while let Ok(1..) = input.read_buf(&mut buffer).await {
                while let Some((request_id, kind)) = take(&mut buffer) {
                    let answered = waiting.lock().unwrap().remove(&request_id);
                    match answered {
                        Some(waiter) => drop(waiter.send(kind)),
                        None => drop(happened.send(kind)),
                    }
                }
            }
            // Whoever still waits learns that nothing comes.
            waiting.lock().unwrap().clear();
        });
        let reply = link.ask(hello).await;
        let connection = Self {
            link,
            events,
            reader,
            writer,
        };
        match reply {
            Some(reply) => Ok((connection, reply)),
            None => Err(std::io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Closes the connection at once, as the end of its process would.
    pub fn close(&self) {
        self.reader.abort();
        self.writer.abort();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl Link {
    /// Sends a frame whose answer nobody waits for.
    pub fn send(&self, kind: Kind) {
        let _ = self.outgoing.send((0, kind));
    }

    /// Sends a request; its answer comes out of the receiver.
    pub fn request(&self, kind: Kind) -> oneshot::Receiver<Kind> {
        let (sender, receiver) = oneshot::channel();
        let mut next = self.next.lock().unwrap();
        self.waiting.lock().unwrap().insert(*next, sender);
        let _ = self.outgoing.send((*next, kind));
        *next += 1;
        receiver
    }

    /// Asks and waits; nothing if the connection ends before the answer.
    pub async fn ask(&self, kind: Kind) -> Option<Kind> {
        let answer = self.request(kind);
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("a node answers")
            .ok()
    }

    /// Calls the gcs through the node.
    pub async fn call_gcs<T: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<T, Failure> {
        let call = GcsCall {
            method: method.to_owned(),
            body: Bytes::from(request.encode_to_vec()),
        };
        match self.ask(Kind::GcsCall(call)).await {
            Some(Kind::GcsReply(reply)) => Ok(T::decode(reply.body).unwrap()),
            Some(Kind::Failure(failure)) => Err(failure),
            Some(other) => panic!("expected a reply of the gcs, got {other:?}"),
            None => Err(Failure {
                message: "the node is gone".to_owned(),
                ..Failure::default()
            }),
        }
    }
}

fn encode(request_id: u64, kind: Kind) -> BytesMut {
    let frame = NodeFrame {
        request_id,
        kind: Some(kind),
    };
    let header = frame.encode_to_vec();
    let length = u32::try_from(header.len()).unwrap();
    let mut output = BytesMut::new();
    output.put_u32_le(length + 4);
    output.put_u32_le(length);
    output.put_slice(&header);
    output
}

fn take(input: &mut BytesMut) -> Option<(u64, Kind)> {
    let total = input.get(..4)?.get_u32_le() as usize;
    if input.len() < 4 + total {
        return None;
    }
    let mut frame = input.split_to(4 + total).freeze();
    frame.advance(4);
    let header = frame.get_u32_le() as usize;
    let frame = NodeFrame::decode(&frame[..header]).unwrap();
    Some((frame.request_id, frame.kind.unwrap()))
}
