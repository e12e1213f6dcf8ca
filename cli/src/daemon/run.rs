//! The daemon itself.

use std::path::Path;

use aktis_common::config::Settings;
use aktis_gcs::{Gcs, GcsConfig, GcsHandle, StorageKind};
use aktis_proto::transport::{Address, Security};
use aktis_raylet::{Raylet, RayletHandle};
use tokio::signal::unix::{SignalKind, signal};

use super::{DaemonPlan, Part, Ready};
use crate::laptop::with_causes;
use crate::launcher::Launcher;
use crate::node::NodePlan;
use crate::session::{Owner, ProcessMark, Role, SessionFolder};

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
    // One thread, as in laptop mode: calls between gcs and raylet wake nobody, and the CPUs are for tasks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&Ready::Failed {
                message: format!("cannot start a runtime: {error}"),
            });
            return 1;
        }
    };
    let code = runtime.block_on(async {
        match start(plan, settings).await {
            Ok(daemon) => {
                report(&daemon.ready());
                daemon.serve().await;
                0
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
    /// Tables of a head that ends in good order are not needed again.
    storage: Option<std::path::PathBuf>,
}

async fn start(plan: &DaemonPlan, settings: &Settings) -> Result<Daemon, String> {
    let folder = SessionFolder::create(settings, &plan.folder_name).map_err(|e| e.to_string())?;
    let security = Security::from_settings(settings).map_err(|error| error.to_string())?;
    let (gcs, gcs_address) = start_gcs(plan, settings, &security, folder.path()).await?;
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
    };
    let config = node.raylet_config().map_err(|error| error.to_string())?;
    let owner = Owner {
        process: ProcessMark::own(),
        role: if gcs.is_some() {
            Role::Head
        } else {
            Role::Node
        },
        session_id: gcs
            .as_ref()
            .map_or(&*plan.session_id, |gcs| gcs.session_id())
            .to_owned(),
        gcs_address: gcs_address.to_string(),
        extra_dirs: node.spill_dir().into_iter().collect(),
    };
    // Before the raylet: should this process be killed now, the next start finds the folder.
    owner
        .write(folder.path())
        .map_err(|error| error.to_string())?;
    let raylet = Raylet::start(config)
        .await
        .map_err(|error| with_causes(&error))?;
    if let Some(output) = &plan.output {
        // Open descriptors follow the file: from here on the output goes with the folder.
        let _ = std::fs::rename(output, folder.path().join("daemon.log"));
    }
    let storage = match &plan.part {
        Part::Head { storage, .. } => storage.clone(),
        Part::Node { .. } => None,
    };
    Ok(Daemon {
        folder,
        gcs,
        gcs_address,
        raylet,
        storage,
    })
}

async fn start_gcs(
    plan: &DaemonPlan,
    settings: &Settings,
    security: &Security,
    session_dir: &Path,
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
    let mut config = GcsConfig::new(&plan.session_id, listen).with_settings(settings);
    config.security = security.clone();
    config.storage = storage
        .clone()
        .map_or(StorageKind::Memory, StorageKind::File);
    let gcs = Gcs::start(config)
        .await
        .map_err(|error| with_causes(&error))?;
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

    /// Runs until a signal, or until one of its parts ends; then ends in good order.
    async fn serve(mut self) {
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
        tokio::select! {
            () = wait(terminate.take()) => {}
            () = wait(interrupt.take()) => {}
            () = self.raylet.ended() => {}
            () = gcs_ended => {}
        }
        self.raylet.shutdown().await;
        if let Some(gcs) = self.gcs {
            gcs.shutdown().await;
            if let Some(path) = self.storage {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}
