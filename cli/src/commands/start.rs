//! `aktis start`.

use aktis_common::config::Settings;
use aktis_common::ids::{SessionId, random_bytes};
use aktis_gcs::forget_tables;
use aktis_proto::transport::{Address, Security};

use serde_json::json;

use super::query::Cluster;
use super::{StartArgs, StorageArg, render};
use crate::daemon::{DaemonPlan, Part, Ready, run_here, spawn_daemon};
use crate::launcher::Launcher;
use crate::session::{Role, head_tables, make_base, new_session_id, owners, sweep_stale};

pub(super) fn start(
    args: &StartArgs,
    settings: &Settings,
    launcher: &Launcher,
) -> Result<u8, String> {
    sweep_stale(settings);
    check_security(args, settings)?;
    // Settings that make no node are said here, not in a log file.
    crate::node::node_resources(settings).map_err(|error| error.to_string())?;
    let mut settings = settings.clone();
    let plan = match &args.address {
        Some(address) => node_plan(address, args, &mut settings, launcher)?,
        None => head_plan(args, &settings, launcher)?,
    };
    let settings = &settings;
    if args.block {
        return Ok(run_here(&plan, settings, |ready| match ready {
            Ready::Up { .. } => {
                let end = if args.json {
                    ""
                } else {
                    "\n\nRunning until Ctrl-C."
                };
                let text = announcement(&plan, ready, args.json);
                if let Err(message) = render::print_line(&format!("{text}{end}")) {
                    tracing::warn!(message, "it runs all the same");
                }
            }
            Ready::Failed { message } => eprintln!("error: {message}"),
        }));
    }
    let ready = spawn_daemon(&plan, settings, launcher).map_err(|error| error.to_string())?;
    render::print_line(&announcement(&plan, &ready, args.json))?;
    Ok(0)
}

/// `NET-1` before anything is spawned.
fn check_security(args: &StartArgs, settings: &Settings) -> Result<(), String> {
    let security = Security::from_settings(settings).map_err(|error| error.to_string())?;
    let address = Address::Tcp {
        host: args.node_ip_address.clone(),
        port: args.port,
    };
    security
        .check_listener(&address)
        .map_err(|error| error.to_string())
}

fn head_plan(
    args: &StartArgs,
    settings: &Settings,
    launcher: &Launcher,
) -> Result<DaemonPlan, String> {
    let address = Address::Tcp {
        host: args.node_ip_address.clone(),
        port: args.port,
    };
    let same = |owner: &crate::session::Owner| {
        owner.role == Role::Head && owner.gcs_address == address.to_string()
    };
    if let Some((_, owner)) = owners(settings).into_iter().find(|(_, owner)| same(owner)) {
        return Err(format!(
            "a head runs at {address} already (process {}); join it with \
             `aktis start --address {address}`, end it with `aktis stop`, or choose another --port",
            owner.process.pid
        ));
    }
    let storage = (args.storage == StorageArg::File && args.port != 0)
        .then(|| make_base(settings).map(|base| head_tables(&base, args.port)))
        .transpose()
        .map_err(|error| error.to_string())?;
    if let Some(path) = storage.as_ref().filter(|_| args.fresh) {
        forget_tables(path).map_err(|error| error.to_string())?;
    }
    if let Some(path) = storage.as_ref().filter(|path| path.exists()) {
        eprintln!(
            "Taking up the session that the last head left in {}; with --fresh it would begin a new one.",
            path.display()
        );
    }
    let session_id = new_session_id();
    Ok(DaemonPlan {
        folder_name: session_id.to_string(),
        session_id,
        part: Part::Head {
            port: args.port,
            storage,
        },
        node_ip: args.node_ip_address.clone(),
        zygote_command: launcher.zygote_command.clone(),
        output: None,
    })
}

fn node_plan(
    address: &str,
    args: &StartArgs,
    settings: &mut Settings,
    launcher: &Launcher,
) -> Result<DaemonPlan, String> {
    let cluster = Cluster::to_join(Some(address), settings)?;
    let session_id = cluster.health()?.session_id;
    let session_id = SessionId::parse(&session_id)
        .map_err(|error| format!("the head at {address} is not to be trusted: {error}"))?;
    settings.token.clone_from(&cluster.security().token);
    let [a, b] = random_bytes::<2>();
    Ok(DaemonPlan {
        folder_name: format!("{session_id}-{a:02x}{b:02x}"),
        session_id,
        part: Part::Node {
            head: cluster.address().to_string(),
        },
        node_ip: args.node_ip_address.clone(),
        zygote_command: launcher.zygote_command.clone(),
        output: None,
    })
}

/// What is said of a daemon that is up.
fn announcement(plan: &DaemonPlan, ready: &Ready, as_json: bool) -> String {
    let Ready::Up {
        gcs_address,
        session_id,
        session_dir,
        node_id,
        pid,
    } = ready
    else {
        return String::new();
    };
    if as_json {
        let told = json!({
            "address": gcs_address,
            "session_id": session_id,
            "session_dir": session_dir,
            "node_id": node_id,
            "is_head": matches!(plan.part, Part::Head { .. }),
            "pid": pid,
        });
        return render::pretty(&told);
    }
    match plan.part {
        Part::Head { .. } => format!(
            "Aktis head is up at {gcs_address}\n\
             \n  \
             session   {session_id} in {}\n  \
             node      {node_id} (process {pid})\n\
             \n\
             Connect from Python:   aktis.init(address=\"{gcs_address}\")\n\
             Add a node:            aktis start --address {gcs_address}\n\
             Look at it:            aktis status\n\
             End it:                aktis stop",
            session_dir.display()
        ),
        Part::Node { .. } => format!(
            "Node {node_id} has joined the cluster at {gcs_address} (process {pid}, session {session_id})\n\
             \n\
             Connect from Python:   aktis.init(address=\"{gcs_address}\")\n\
             End it:                aktis stop"
        ),
    }
}
