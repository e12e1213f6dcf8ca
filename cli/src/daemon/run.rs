//! The daemon itself.

use std::path::Path;
use std::sync::Arc;

use aktis_common::config::{Secret, Settings};
use aktis_common::ids::SessionId;
use aktis_gcs::{Gcs, GcsConfig, GcsHandle, StorageKind};
use aktis_proto::transport::{Address, Security};
use aktis_raylet::processes::SystemProcesses;
use aktis_raylet::{Raylet, RayletEnd, RayletHandle};
use tokio::signal::unix::{SignalKind, signal};

use super::threads::Threads;
use super::{DaemonPlan, Part, Ready};
use crate::laptop::with_causes;
use crate::launcher::Launcher;
use crate::node::NodePlan;
use crate::session::{
    Owner, ProcessMark, Role, SessionFolder, announce_daemon, make_spill_folder, write_token,
};

/// `NET-4 (always-a-token)`: a head makes one; a node is given the head's.
const NO_TOKEN: &str = "a node needs the token of its head: set AKTIS_TOKEN";

/// Becomes the daemon of `plan`: leaves the terminal's session, writes `ready_path`, runs until a signal.
pub(crate) fn run_daemon(plan: &DaemonPlan, settings: &Settings, ready_path: &Path) -> u8 {
    // Fails only for the leader of a process group, which then is on its own already.
    let _ = rustix::process::setsid();
    run(plan, settings, |ready| ready.write(ready_path))
}

/// Runs the daemon in this process, until a signal; `report` is told when it is up.
pub(crate) fn run_here(plan: &DaemonPlan, settings: &Settings, report: impl FnOnce(&Ready)) -> u8 {
    run(plan, settings, report)
}

fn run(plan: &DaemonPlan, settings: &Settings, report: impl FnOnce(&Ready)) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (runtime, threads) = match runtime.and_then(|runtime| Ok((runtime, Threads::start()?))) {
        Ok(both) => both,
        Err(error) => {
            report(&Ready::Failed {
                message: format!("cannot start the daemon's threads: {error}"),
            });
            return 1;
        }
    };
    let code = runtime.block_on(async {
        match start(plan, settings, &threads).await {
            Ok(daemon) => {
                report(&daemon.ready());
                match daemon.serve().await {
                    Ok(()) => 0,
                    Err(message) => {
                        eprintln!("error: {message}");
                        1
                    }
                }
            }
            Err(message) => {
                report(&Ready::Failed { message });
                1
            }
        }
    });
    runtime.shutdown_background();
    code
}

struct Daemon {
    folder: SessionFolder,
    gcs: Option<GcsHandle>,
    gcs_address: Address,
    raylet: RayletHandle,
    /// Goes when the raylet has ended.
    _spill: Option<SessionFolder>,
    _announcement: Option<SessionFolder>,
}

async fn start(
    plan: &DaemonPlan,
    settings: &Settings,
    threads: &Threads,
) -> Result<Daemon, String> {
    let folder = SessionFolder::create(settings, &plan.folder_name).map_err(|e| e.to_string())?;
    let spill = make_spill_folder(settings, folder.path()).map_err(|e| e.to_string())?;
    let security = Security::from_settings(settings).map_err(|error| error.to_string())?;
    let (gcs, gcs_address) = start_gcs(plan, settings, &security, folder.path(), threads).await?;
    let security = gcs.as_ref().map_or(security, |gcs| gcs.security().clone());
    let token = security.token.clone().ok_or(NO_TOKEN)?;
    write_token(folder.path(), &token).map_err(|error| error.to_string())?;
    let launcher = Launcher {
        self_command: Vec::new(),
        zygote_command: plan.zygote_command.clone(),
    };
    let node = NodePlan {
        settings,
        launcher: &launcher,
        session_dir: folder.path(),
        gcs_address: gcs_address.clone(),
        listen: Some(plan.raylet_listen()),
        is_head: gcs.is_some(),
        spill_dir: spill.as_ref().map(SessionFolder::path),
        security,
    };
    let mut config = node.raylet_config().map_err(|error| error.to_string())?;
    config.processes = Arc::new(SystemProcesses::of_daemon());
    config.beside = Some(threads.beside());
    let owner = Owner {
        process: ProcessMark::own(),
        role: if gcs.is_some() {
            Role::Head
        } else {
            Role::Node
        },
        session_id: match &gcs {
            Some(gcs) => SessionId::parse(gcs.session_id()).map_err(|e| e.to_string())?,
            None => plan.session_id.clone(),
        },
        gcs_address: gcs_address.to_string(),
    };
    // Before the raylet: should this process be killed now, the next start finds the folder.
    owner
        .write(folder.path())
        .map_err(|error| error.to_string())?;
    let announcement = announce(plan, settings, &owner, &token);
    let raylet = threads.raylet.run(Raylet::start(config)).await;
    let raylet = raylet.map_err(|error| with_causes(&error))?;
    if let Some(output) = &plan.output {
        // Open descriptors follow the file: from here on the output goes with the folder.
        let _ = std::fs::rename(output, folder.path().join("daemon.log"));
    }
    Ok(Daemon {
        folder,
        gcs,
        gcs_address,
        raylet,
        _spill: spill,
        _announcement: announcement,
    })
}

/// Drivers with another temporary folder find the token by it. Without, they need to be told, which is no reason not to start.
fn announce(
    plan: &DaemonPlan,
    settings: &Settings,
    owner: &Owner,
    token: &Secret,
) -> Option<SessionFolder> {
    announce_daemon(settings, &plan.folder_name, owner, token).unwrap_or_else(|error| {
        tracing::warn!(%error, "drivers need the same AKTIS_TEMP_DIR, or AKTIS_TOKEN, to join");
        None
    })
}

async fn start_gcs(
    plan: &DaemonPlan,
    settings: &Settings,
    security: &Security,
    session_dir: &Path,
    threads: &Threads,
) -> Result<(Option<GcsHandle>, Address), String> {
    let (port, storage) = match &plan.part {
        Part::Node { head } => return Ok((None, head.parse().map_err(|e| format!("{e}"))?)),
        Part::Head { port, storage } => (*port, storage),
    };
    let listen = vec![
        Address::Tcp {
            host: plan.node_ip.clone(),
            port,
        },
        Address::Unix(session_dir.join("gcs.sock")),
    ];
    let mut config = GcsConfig::new(plan.session_id.as_str(), listen).with_settings(settings);
    config.security = security.clone();
    config.makes_token = true;
    config.beside = Some(threads.beside());
    config.storage = storage
        .clone()
        .map_or(StorageKind::Memory, StorageKind::File);
    let gcs = threads.gcs.run(Gcs::start(config)).await;
    let gcs = gcs.map_err(|error| with_causes(&error))?;
    let address = gcs.address().clone();
    Ok((Some(gcs), address))
}

impl Daemon {
    fn ready(&self) -> Ready {
        Ready::Up {
            gcs_address: self.gcs_address.to_string(),
            session_id: self.raylet.session_id().to_owned(),
            session_dir: self.folder.path().to_owned(),
            node_id: self.raylet.node_id().to_string(),
            pid: std::process::id(),
        }
    }

    /// Runs until a signal, or until one of its parts ends; then ends in good order. The head's tables stay: whoever ends a
    /// daemon may be about to start it again.
    ///
    /// Err: why it could not go on.
    async fn serve(mut self) -> Result<(), String> {
        let mut terminate = signal(SignalKind::terminate()).ok();
        let mut interrupt = signal(SignalKind::interrupt()).ok();
        let wait = |signal: Option<tokio::signal::unix::Signal>| async move {
            match signal {
                Some(mut signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        };
        let gcs_ended = async {
            match &mut self.gcs {
                Some(gcs) => gcs.ended().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            () = wait(terminate.take()) => Ok(()),
            () = wait(interrupt.take()) => Ok(()),
            end = self.raylet.ended() => match end {
                RayletEnd::Asked(_) => Ok(()),
                RayletEnd::Failed(cause) => Err(format!("the node ends: {cause}")),
            },
            () = gcs_ended => Err("the control store ended by a defect; its log says more".to_owned()),
        };
        self.raylet.shutdown().await;
        if let Some(gcs) = self.gcs {
            gcs.shutdown().await;
        }
        outcome
    }
}
