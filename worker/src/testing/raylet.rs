//! A raylet that says hello, and for the rest does what the test does in its name.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aktis_common::ids::{NodeId, WorkerId};
use aktis_lane::{Decoder, PayloadParts, encode_whole};
use aktis_object_store::arena::{Arena, NamedArena};
use aktis_proto::v1 as wire;
use prost::Message;
use wire::node_frame::Kind;

use crate::runtime::{ProcessRole, Runtime, RuntimeConfig};
use crate::value::Value;

/// How long a test waits for the other side before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The sockets fail.
    #[error("failed to pretend a raylet: {0}")]
    Socket(#[source] io::Error),
    /// The runtime refuses.
    #[error("failed to join the pretended raylet: {0}")]
    Runtime(String),
}

impl From<io::Error> for JoinError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

/// The node of one process.
pub struct PretendedRaylet {
    listener: UnixListener,
    folder: PathBuf,
    node: NodeId,
    arena: Option<wire::ArenaInfo>,
}

impl PretendedRaylet {
    /// A raylet whose sockets, and those of its processes, lie in this folder.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(folder: &Path) -> Result<Self, JoinError> {
        Ok(Self {
            listener: UnixListener::bind(folder.join("raylet"))?,
            folder: folder.to_owned(),
            node: NodeId::random(),
            arena: None,
        })
    }

    /// Its processes map this arena.
    #[must_use]
    pub fn sharing(mut self, arena: &NamedArena) -> Self {
        let info = self.arena.insert(wire::ArenaInfo {
            name: arena.name().to_owned(),
            len_bytes: arena.len_bytes(),
            ..Default::default()
        });
        info.set_kind(wire::ArenaKind::Named);
        self
    }

    /// Has a driver join, and becomes its raylet.
    ///
    /// # Errors
    /// When either side fails.
    pub fn join(&self) -> Result<(Runtime, RawPeer), JoinError> {
        let config = RuntimeConfig {
            raylet_socket: self.folder.join("raylet"),
            role: ProcessRole::Driver,
            worker_id: WorkerId::random(),
            entrypoint: String::new(),
            namespace: String::new(),
            log_sink: None,
            interrupt: || false,
            queued_limit_bytes: u64::MAX,
            lineage_limit_bytes: 1 << 20,
            lease_idle: Duration::from_secs(1),
            infeasible: aktis_common::config::Infeasible::Fail,
            likely_modules: Vec::new(),
        };
        let starting = std::thread::spawn(move || Runtime::start(config));
        let mut peer = RawPeer::new(self.listener.accept()?.0)?;
        let (hello, _) = peer.receive::<wire::NodeFrame>()?;
        let folder = self.folder.display().to_string();
        peer.send_kind(
            hello.request_id,
            Kind::HelloReply(wire::HelloReply {
                node_id: self.node.to_wire(),
                lane_dir: folder.clone(),
                session_dir: folder,
                max_inline_bytes: 100 << 10,
                arena: self.arena.clone(),
                ..Default::default()
            }),
        )?;
        let started = starting.join();
        let started = started.map_err(|_| JoinError::Runtime("its thread panicked".to_owned()))?;
        let runtime = started.map_err(|failure| JoinError::Runtime(failure.to_string()))?;
        Ok((runtime, peer))
    }

    /// Opens a lane to a process of the node, and says hello.
    ///
    /// # Errors
    /// When it takes none.
    pub fn lane_to(&self, runtime: &Runtime) -> Result<RawPeer, JoinError> {
        let path = self.folder.join(runtime.address().worker.to_string());
        let mut lane = RawPeer::new(UnixStream::connect(path)?)?;
        self.say_hello(&mut lane)?;
        Ok(lane)
    }

    /// Says hello on a lane, as a process of the node.
    ///
    /// # Errors
    /// When the process at its other end is gone.
    pub fn say_hello(&self, lane: &mut RawPeer) -> io::Result<()> {
        let caller = wire::Address {
            node_id: self.node.to_wire(),
            worker_id: WorkerId::random().to_wire(),
        };
        let hello = wire::LaneHello {
            caller: Some(caller),
            ..Default::default()
        };
        let kind = Some(wire::lane_frame::Kind::Hello(Box::new(hello)));
        lane.send(&wire::LaneFrame { kind }, &Value::default())
    }
}

/// The other end of a process's socket.
pub struct RawPeer {
    stream: UnixStream,
    decoder: Decoder,
}

impl RawPeer {
    /// An end that is connected.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            decoder: Decoder::new(),
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn send<M: Message>(&mut self, header: &M, payload: &Value) -> io::Result<()> {
        let mut parts = PayloadParts::default();
        payload.append_to(&mut parts);
        self.stream.write_all(&encode_whole(header, &parts))
    }

    /// Sends a frame of the node's socket.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn send_kind(&mut self, request_id: u64, kind: Kind) -> io::Result<()> {
        let kind = Some(kind);
        self.send(&wire::NodeFrame { request_id, kind }, &Value::default())
    }

    /// The next frame, for which it waits.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the process has closed the connection; others when nothing comes, or bytes
    /// that are no frame.
    pub fn receive<M: Message + Default>(&mut self) -> io::Result<(M, Vec<u8>)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
                let header = M::decode(frame.header).map_err(io::Error::other)?;
                return Ok((header, frame.payload.into_bytes().to_vec()));
            }
            let count = self.stream.read(self.decoder.space())?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.decoder.advance(count);
        }
    }
}
