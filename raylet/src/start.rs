//! Puts a raylet together.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::{NodeId, SessionId};
use aktis_common::machine;
use aktis_common::resources::CPU;
use aktis_proto::convert::fill_resources;
use aktis_proto::transport::Address;
use aktis_proto::v1::{HelloReply, NodeInfo};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::RayletConfig;
use crate::core::pool::PoolLimits;
use crate::core::{CoreSettings, RayletCore};
use crate::error::StartError;
use crate::inbox::{Inbox, Mailbox, Message, RayletEnd, channel};
use crate::io::gcs::{GcsPort, GcsSettings, RegisterError};
use crate::io::lane_proxy::LaneProxy;
use crate::io::links::Links;
use crate::io::logs::{LogFolder, LogPort};
use crate::io::peers::Peers;
use crate::io::process_socket::serve_processes;
use crate::io::store::StorePort;
use crate::io::zygote::ZygotePort;
use crate::main_loop::{Ports, RayletLoop, Surroundings};
use crate::processes::ZygoteCommand;
use crate::service::RayletService;
use crate::sockets::{Sockets, advertised, bind, serve_calls, serve_transfers};
use crate::transfer::TransferStreams;

/// Longest path of a unix socket.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// How long the news of a death waits for its cause.
const CAUSE_PATIENCE: Duration = Duration::from_millis(1500);
/// Least time between two reports of the node's state.
const REPORT_GAP: Duration = Duration::from_millis(20);
/// Pause of prestarting after a worker could not start.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// Workers being started at the same time.
const MAX_STARTING: usize = 64;

/// The daemon of one node.
#[derive(Debug)]
pub struct Raylet;

/// A running raylet. Dropping it does not end the raylet; [`Self::shutdown`] does, and so does the end of the runtime.
#[derive(Debug)]
pub struct RayletHandle {
    node_id: NodeId,
    node_socket: PathBuf,
    grpc_address: Address,
    session_id: String,
    mailbox: Mailbox,
    /// `None` once it was joined: a task is not to be asked again.
    main_loop: Option<JoinHandle<RayletEnd>>,
}

impl Raylet {
    /// Starts a raylet on the current tokio runtime and registers it with the gcs. What may take its time runs on
    /// [`RayletConfig::beside`].
    ///
    /// Its sockets take connections before it is registered. The zygote and the first worker start in the background.
    ///
    /// # Errors
    /// When folders or sockets cannot be made, there is no memory for the object store, or the gcs does not answer within
    /// [`RayletConfig::register_timeout`]. Then nothing is left behind.
    pub async fn start(config: RayletConfig) -> Result<RayletHandle, StartError> {
        Self::prepare(config)?.start().await
    }

    /// Makes the folders and starts the zygote, which takes longest and goes on in the background: what comes before
    /// [`PreparedRaylet::start`] costs no time. On a tokio runtime.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn prepare(mut config: RayletConfig) -> Result<PreparedRaylet, StartError> {
        aktis_common::limits::raise_descriptor_limit();
        make_folders(&config)?;
        make_log_folder(&mut config)?;
        let (mailbox, inbox) = channel();
        let zygote = ZygotePort::open(
            Arc::clone(&config.processes),
            zygote_command(&config),
            mailbox.clone(),
        );
        Ok(PreparedRaylet {
            config,
            zygote,
            mailbox,
            inbox,
        })
    }
}

/// A raylet whose zygote is starting. Dropping it ends the zygote.
pub struct PreparedRaylet {
    config: RayletConfig,
    zygote: ZygotePort,
    mailbox: Mailbox,
    inbox: Inbox,
}

impl PreparedRaylet {
    /// Starts the rest, see [`Raylet::start`].
    ///
    /// # Errors
    /// As [`Raylet::start`].
    pub async fn start(self) -> Result<RayletHandle, StartError> {
        let Self {
            config,
            zygote,
            mailbox,
            inbox,
        } = self;
        let started = match assemble(&config, zygote, &mailbox).await {
            Ok(assembled) => run(&config, assembled, mailbox, inbox).await,
            Err(error) => Err(error),
        };
        if started.is_err() {
            let _ = std::fs::remove_dir_all(config.node_dir());
        }
        started
    }
}

impl RayletHandle {
    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The socket for processes of this node.
    pub fn node_socket(&self) -> &Path {
        &self.node_socket
    }

    /// Where other nodes and the gcs reach it.
    pub fn grpc_address(&self) -> &Address {
        &self.grpc_address
    }

    /// The session, as the gcs named it.
    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Ends the raylet: kills its workers and the zygote, removes the node's folder, takes the node off the gcs's list.
    pub async fn shutdown(mut self) {
        let (done, is_done) = oneshot::channel();
        let end = RayletEnd::Asked("shut down".to_owned());
        self.mailbox.send(Message::Shutdown {
            end,
            done: Some(done),
        });
        let _ = is_done.await;
        self.ended().await;
    }

    /// Waits until the raylet has ended, for example because somebody called its `Shutdown`, and gives why. Asked again, it
    /// only says that it was asked before.
    pub async fn ended(&mut self) -> RayletEnd {
        let Some(main_loop) = &mut self.main_loop else {
            return RayletEnd::Asked("it has ended".to_owned());
        };
        let end = main_loop.await;
        self.main_loop = None;
        end.unwrap_or_else(|error| RayletEnd::Failed(format!("a defect: {error}")))
    }
}

/// A raylet that does not run yet.
struct Assembled {
    core: RayletCore,
    ports: Ports,
    sockets: Sockets,
    gcs_settings: GcsSettings,
    grpc_address: Address,
}

async fn assemble(
    config: &RayletConfig,
    zygote: ZygotePort,
    mailbox: &Mailbox,
) -> Result<Assembled, StartError> {
    aktis_object_store::sweep_stale();
    let beside = beside(config);
    let sockets = bind(config).await?;
    let grpc_address = advertised(config, sockets.grpc.address());
    let mut store_config = config.store.clone();
    store_config.spill_dir = Some(config.spill_dir());
    let store = StorePort::open(store_config, config.node_id, mailbox.clone())
        .map_err(StartError::Store)?;
    let node = describe(config, &grpc_address, store.stats().capacity_bytes);
    let gcs_settings = GcsSettings {
        address: config.gcs_address.clone(),
        security: config.security.clone(),
        network: config.network.clone(),
        node_id: config.node_id,
        report_period: config.report_period,
        patience: config.head_patience,
        beside: config.beside.clone(),
    };
    let gcs = GcsPort::open(&gcs_settings, node.clone()).map_err(|error| StartError::Refused {
        address: config.gcs_address.clone(),
        cause: error.to_string(),
    })?;
    let peers = Peers::new(
        config.network.clone(),
        config.security.clone(),
        beside.clone(),
    );
    let ports = Ports {
        links: Links::default(),
        streams: TransferStreams::new(config.node_id, peers.clone()),
        peers,
        store,
        zygote,
        gcs,
        logs: LogPort::open(
            LogFolder::hold(
                config.log_dir(),
                config.log_root.clone(),
                config.log_limits.clone(),
            ),
            mailbox.clone(),
            &beside,
        ),
    };
    let core = RayletCore::new(core_settings(config, node), Instant::now());
    Ok(Assembled {
        core,
        ports,
        sockets,
        gcs_settings,
        grpc_address,
    })
}

async fn run(
    config: &RayletConfig,
    assembled: Assembled,
    mailbox: Mailbox,
    inbox: Inbox,
) -> Result<RayletHandle, StartError> {
    let Assembled {
        core,
        mut ports,
        sockets,
        gcs_settings,
        grpc_address,
    } = assembled;
    let Sockets {
        node,
        proxy,
        grpc,
        transfers,
    } = sockets;
    let transfer_door = advertised(config, transfers.address()).to_string();
    let lanes = LaneProxy {
        here: config.node_id,
        lane_dir: config.lane_dir(),
        peers: ports.peers.clone(),
    };
    let service = RayletService::new(mailbox.clone(), lanes.clone(), transfer_door);
    let beside = beside(config);
    let listeners = vec![
        serve_processes(node, mailbox.clone()),
        lanes.serve(proxy, &beside),
        serve_calls(grpc, config, service, &beside),
        serve_transfers(transfers, config, mailbox.clone(), &beside),
    ];
    let registered = ports.gcs.register(config.register_timeout).await;
    let reply = match registered {
        Ok(reply) => reply,
        Err(error) => {
            listeners.iter().for_each(JoinHandle::abort);
            ports.zygote.close().await;
            return Err(no_gcs(config, error));
        }
    };
    let session_id = reply.session_id.clone();
    if let Err(error) = SessionId::parse(&session_id) {
        listeners.iter().for_each(JoinHandle::abort);
        ports.zygote.close().await;
        let cause = RegisterError::Refused(error.to_string());
        return Err(no_gcs(config, cause));
    }
    ports.gcs.keep_linked(&gcs_settings, reply, mailbox.clone());
    let surroundings = surroundings(config, listeners);
    let main_loop = RayletLoop::new(core, ports, surroundings, mailbox.clone());
    Ok(RayletHandle {
        node_id: config.node_id,
        node_socket: config.node_socket(),
        grpc_address,
        session_id,
        mailbox,
        main_loop: Some(tokio::spawn(main_loop.run(inbox))),
    })
}

/// Where runs what may take its time.
fn beside(config: &RayletConfig) -> Handle {
    config.beside.clone().unwrap_or_else(Handle::current)
}

fn no_gcs(config: &RayletConfig, error: RegisterError) -> StartError {
    let address = config.gcs_address.clone();
    match error {
        RegisterError::Away(cause) => {
            let waited_secs = config.register_timeout.as_secs_f64();
            StartError::NoGcs {
                address,
                waited_secs,
                cause,
            }
        }
        RegisterError::Refused(cause) => StartError::Refused { address, cause },
    }
}

fn make_folders(config: &RayletConfig) -> Result<(), StartError> {
    // The longest socket below the node's folder is a lane.
    let longest = config.lane_dir().join("0".repeat(32));
    let length = longest.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(StartError::SocketPathTooLong {
            path: config.node_dir(),
            length,
        });
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    for path in [
        config.session_dir.clone(),
        config.node_dir(),
        config.lane_dir(),
    ] {
        builder
            .create(&path)
            .map_err(|source| StartError::Folder { path, source })?;
    }
    Ok(())
}

/// Makes the folder of the workers' output. Where the user's state cannot be written, output goes with the node.
fn make_log_folder(config: &mut RayletConfig) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    if let Err(source) = builder.create(config.log_dir()) {
        let path = config.log_dir();
        if config.log_root.take().is_none() {
            return Err(StartError::Folder { path, source });
        }
        tracing::warn!(?path, error = %source, "the output of workers does not outlive the session");
        let path = config.log_dir();
        builder
            .create(&path)
            .map_err(|source| StartError::Folder { path, source })?;
    }
    Ok(())
}

fn describe(config: &RayletConfig, grpc_address: &Address, store_capacity_bytes: u64) -> NodeInfo {
    let mut node = NodeInfo {
        node_id: config.node_id.to_wire(),
        hostname: machine::host_name(),
        raylet_address: grpc_address.to_string(),
        node_socket: config.node_socket().display().to_string(),
        machine_id: machine::machine_id(),
        is_alive: true,
        is_head: config.is_head,
        store_capacity_bytes,
        session_dir: config.session_dir.display().to_string(),
        ..NodeInfo::default()
    };
    fill_resources(&mut node, &config.resources);
    node
}

fn core_settings(config: &RayletConfig, node: NodeInfo) -> CoreSettings {
    let cpus = usize::try_from(config.resources.total().get(CPU).whole()).unwrap_or(0);
    CoreSettings {
        node,
        node_id: config.node_id,
        resources: config.resources.clone(),
        gpu_names: config.gpu_names.clone(),
        pool: PoolLimits {
            warm_max: cpus.max(1),
            start_timeout: config.worker_start_timeout,
            idle_timeout: config.worker_idle,
            exit_grace: config.worker_exit_grace,
            failure_pause: FAILURE_PAUSE,
            max_starting: MAX_STARTING,
        },
        actor_patience: config.actor_patience,
        cause_patience: CAUSE_PATIENCE,
        report_gap: REPORT_GAP,
        lost_node_memory: config.lost_node_memory,
        checks: config.checks,
        id_prefix: prefix_of(config.node_id),
    }
}

/// What the ids of this node's workers begin with. The node's own id is fresh for every start.
fn prefix_of(node_id: NodeId) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&node_id.as_bytes()[..8]);
    prefix
}

fn zygote_log(config: &RayletConfig) -> PathBuf {
    config.log_dir().join("zygote.log")
}

fn zygote_command(config: &RayletConfig) -> ZygoteCommand {
    ZygoteCommand {
        node: config.node_id,
        command: config.zygote_command.clone(),
        env: config.zygote_env.clone(),
        cleanup_dirs: config.cleanup_dirs.clone(),
        log_path: zygote_log(config),
    }
}

fn surroundings(config: &RayletConfig, listeners: Vec<JoinHandle<()>>) -> Surroundings {
    let text = |path: &Path| path.display().to_string();
    Surroundings {
        welcome: HelloReply {
            node_id: config.node_id.to_wire(),
            lane_dir: text(&config.lane_dir()),
            lane_proxy_path: text(&config.proxy_socket()),
            session_dir: text(&config.session_dir),
            gcs_address: config.gcs_address.to_string(),
            max_inline_bytes: config.max_inline_bytes,
            spill_dir: text(&config.spill_dir()),
            min_free_disk_fraction: config.store.min_free_disk_fraction,
            min_free_disk_bytes: config.store.min_free_disk_bytes,
            ..HelloReply::default()
        },
        node_socket: config.node_socket(),
        node_dir: config.node_dir(),
        lane_dir: config.lane_dir(),
        zygote_log: zygote_log(config),
        hostname: machine::host_name(),
        worker_env: config.worker_env.clone(),
        processes: Arc::clone(&config.processes),
        beside: beside(config),
        listeners,
    }
}
