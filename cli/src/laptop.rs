//! Laptop mode: gcs and raylet on one thread inside the driver's process.
//!
//! No TCP port is opened: everything is a unix socket in a 0700 folder. One thread with a current-thread runtime serves
//! both, so that a call between them costs no switch between threads. The zygote is warmed up in the background.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use aktis_common::config::Settings;
use aktis_common::ids::{NodeId, SessionId};
use aktis_common::standard_streams::hold_standard_streams;
use aktis_gcs::{Gcs, GcsConfig, GcsHandle};
use aktis_proto::transport::{Address, Security, SecurityError};
use aktis_raylet::{Raylet, RayletConfig, RayletHandle};
use tokio::sync::oneshot;

use crate::launcher::Launcher;
use crate::node::{NodeError, NodePlan};
use crate::session::{
    Owner, ProcessMark, Role, SessionError, SessionFolder, make_spill_folder, new_session_id,
    sweep_stale,
};

/// Name of the thread that serves the session.
const THREAD_NAME: &str = "aktis-session";
/// How long a shutdown may take before the process goes on without it.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// What a laptop session is started with.
#[derive(Debug, Clone)]
pub struct LaptopConfig {
    /// Resources, sizes, folders.
    pub settings: Settings,
    /// How workers are started.
    pub launcher: Launcher,
    /// Environment variables of every worker.
    pub worker_env: std::collections::BTreeMap<String, String>,
}

/// A laptop session that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaptopError {
    /// No folder.
    #[error("{0}")]
    Session(SessionError),
    /// The node's resources make no sense.
    #[error("{0}")]
    Node(NodeError),
    /// Token and TLS do not fit together.
    #[error("{0}")]
    Security(SecurityError),
    /// The system gives no thread or runtime.
    #[error("cannot start the session's thread: {cause}")]
    Thread {
        /// What the system said.
        cause: String,
    },
    /// The gcs does not start.
    #[error("cannot start the gcs: {0}")]
    Gcs(aktis_gcs::StartError),
    /// The raylet does not start.
    #[error("cannot start the raylet: {}", with_causes(.0))]
    Raylet(aktis_raylet::StartError),
}

/// A running laptop session. Ends with [`Self::shutdown`] or when it is dropped; when the process is killed, the zygote
/// ends the workers and removes the folder.
#[derive(Debug)]
pub struct LaptopSession {
    folder: SessionFolder,
    /// Goes when the raylet has ended.
    _spill: Option<SessionFolder>,
    session_id: SessionId,
    node_id: NodeId,
    raylet_socket: PathBuf,
    gcs_address: Address,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: mpsc::Receiver<()>,
}

/// What the thread tells when both are up.
struct Started {
    node_id: NodeId,
    raylet_socket: PathBuf,
}

impl LaptopSession {
    /// Starts a session. Returns as soon as it takes connections; workers become ready in the background.
    ///
    /// # Errors
    /// When the folder, the sockets or the object store cannot be made, or the settings make no sense.
    pub fn start(config: LaptopConfig) -> Result<Self, LaptopError> {
        let LaptopConfig {
            settings,
            launcher,
            worker_env,
        } = config;
        hold_standard_streams();
        sweep_stale(&settings);
        let session_id = new_session_id();
        let folder =
            SessionFolder::create(&settings, session_id.as_str()).map_err(LaptopError::Session)?;
        let spill = make_spill_folder(&settings, folder.path()).map_err(LaptopError::Session)?;
        let security = Security::from_settings(&settings).map_err(LaptopError::Security)?;
        let gcs_address = Address::Unix(folder.path().join("gcs.sock"));
        let plan = NodePlan {
            settings: &settings,
            launcher: &launcher,
            session_dir: folder.path(),
            gcs_address: gcs_address.clone(),
            listen: None,
            is_head: true,
            spill_dir: spill.as_ref().map(SessionFolder::path),
            security: security.clone(),
        };
        let mut raylet_config = plan.raylet_config().map_err(LaptopError::Node)?;
        raylet_config.worker_env.extend(worker_env);
        let owner = Owner {
            process: ProcessMark::own(),
            role: Role::Laptop,
            session_id: session_id.clone(),
            gcs_address: gcs_address.to_string(),
        };
        owner.write(folder.path()).map_err(LaptopError::Session)?;
        let listen = vec![gcs_address.clone()];
        let mut gcs_config = GcsConfig::new(session_id.as_str(), listen).with_settings(&settings);
        gcs_config.security = security;

        let (started, is_started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(THREAD_NAME.to_owned())
            .spawn(move || {
                serve(gcs_config, raylet_config, &started, stopped);
                let _ = end.send(());
            })
            .map_err(|error| LaptopError::Thread {
                cause: error.to_string(),
            })?;
        let begun = is_started.recv().unwrap_or_else(|_| {
            Err(LaptopError::Thread {
                cause: "it ended before it began".to_owned(),
            })
        })?;
        Ok(Self {
            folder,
            _spill: spill,
            session_id,
            node_id: begun.node_id,
            raylet_socket: begun.raylet_socket,
            gcs_address,
            stop: Some(stop),
            thread: Some(thread),
            ended,
        })
    }

    /// The socket that drivers connect to.
    pub fn raylet_socket(&self) -> &Path {
        &self.raylet_socket
    }

    /// The session's folder.
    pub fn session_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The session.
    pub fn session_id(&self) -> &str {
        self.session_id.as_str()
    }

    /// The only node.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Where the gcs is reached.
    pub fn gcs_address(&self) -> &Address {
        &self.gcs_address
    }

    /// Ends workers, raylet and gcs, and removes the folder.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // A fork of the driver has no such thread, and the session is not its own.
        if !self.folder.is_own() {
            std::mem::forget(self.thread.take());
            return;
        }
        let Some(stop) = self.stop.take() else { return };
        let _ = stop.send(());
        // The thread may be stuck in a system call; the folder goes in any case.
        let is_over = self.ended.recv_timeout(SHUTDOWN_PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| is_over) {
            let _ = thread.join();
        }
    }
}

impl Drop for LaptopSession {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread: starts both, waits for the end, ends both.
fn serve(
    gcs: GcsConfig,
    raylet: RayletConfig,
    started: &mpsc::Sender<Result<Started, LaptopError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(LaptopError::Thread {
                cause: error.to_string(),
            }));
            return;
        }
    };
    runtime.block_on(async {
        match start_both(gcs, raylet).await {
            Ok((gcs, raylet)) => {
                let begun = Started {
                    node_id: raylet.node_id(),
                    raylet_socket: raylet.node_socket().to_owned(),
                };
                let _ = started.send(Ok(begun));
                let _ = stopped.await;
                raylet.shutdown().await;
                gcs.shutdown().await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
    // Blocking work that hangs must not keep the driver from ending.
    runtime.shutdown_background();
}

async fn start_both(
    gcs: GcsConfig,
    raylet: RayletConfig,
) -> Result<(GcsHandle, RayletHandle), LaptopError> {
    // First of all: its zygote takes longest.
    let raylet = Raylet::prepare(raylet).map_err(LaptopError::Raylet)?;
    let gcs = Gcs::start(gcs).await.map_err(LaptopError::Gcs)?;
    let raylet = raylet.start().await.map_err(LaptopError::Raylet)?;
    Ok((gcs, raylet))
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
