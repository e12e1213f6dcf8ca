//! Laptop sessions inside this process. The zygote is a shell that forks nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use aktis_cli::Launcher;
use aktis_cli::laptop::{LaptopConfig, LaptopSession};
use aktis_common::config::{Bytes, Settings};

fn config(folder: &tempfile::TempDir) -> LaptopConfig {
    let settings = Settings {
        temp_dir: folder.path().to_owned(),
        num_cpus: Some(2),
        num_gpus: Some(0),
        object_store_bytes: Some(Bytes(64 << 20)),
        ..Settings::default()
    };
    let zygote_command = ["/bin/sh", "-c", "cat > /dev/null"]
        .map(str::to_owned)
        .to_vec();
    let launcher = Launcher {
        self_command: Vec::new(),
        zygote_command,
    };
    LaptopConfig {
        settings,
        launcher,
        worker_env: BTreeMap::new(),
    }
}

fn place() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ak")
        .tempdir_in("/tmp")
        .unwrap()
}

#[test]
fn session_opens_private_sockets_and_leaves_nothing() {
    let place = place();
    let begun = Instant::now();
    let session = LaptopSession::start(config(&place)).unwrap();
    println!("started in {:?}", begun.elapsed());
    assert!(session.raylet_socket().exists());
    std::os::unix::net::UnixStream::connect(session.raylet_socket()).unwrap();
    let folder = session.session_dir().to_owned();
    let mode = folder.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "SES-1");
    session.shutdown();
    assert!(!folder.exists());
}

#[test]
fn sessions_of_one_process_do_not_disturb_each_other() {
    let place = place();
    let first = LaptopSession::start(config(&place)).unwrap();
    let second = LaptopSession::start(config(&place)).unwrap();
    assert_ne!(first.session_dir(), second.session_dir());
    drop(first);
    assert!(second.raylet_socket().exists());
}

#[test]
fn session_that_cannot_start_says_why_and_leaves_nothing() {
    let place = place();
    let mut broken = config(&place);
    broken.settings.resources.insert("GPU".to_owned(), 1.0);
    let error = LaptopSession::start(broken).unwrap_err().to_string();
    assert!(error.contains("give it by num_gpus"), "{error}");
    let base = std::fs::read_dir(place.path())
        .unwrap()
        .flatten()
        .next()
        .unwrap();
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn status_shows_the_session_of_a_script_where_no_cluster_runs_and_names_the_others() {
    let place = place();
    let run = |arguments: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_aktis"))
            .args(arguments)
            .env("AKTIS_TEMP_DIR", place.path())
            .env_remove("AKTIS_ADDRESS")
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let first = LaptopSession::start(config(&place)).unwrap();
    let text = run(&["status"]);
    let heading = format!("Session {}", first.gcs_address());
    assert!(text.starts_with(&heading), "{text}");
    assert!(
        text.contains("0 / 2 CPU") && !text.contains("Other sessions"),
        "{text}"
    );
    // The same id as everywhere else, to be searched for.
    let node = first.node_id().to_string();
    assert!(text.contains(&node), "{text}");
    assert!(run(&["list", "nodes"]).contains(&node));

    let second = LaptopSession::start(config(&place)).unwrap();
    let status: serde_json::Value = serde_json::from_str(&run(&["status", "--json"])).unwrap();
    let mut shown = [&status["address"], &status["other_sessions"][0]["address"]]
        .map(|address| address.as_str().unwrap_or_default().to_owned());
    let mut run_here = [&first, &second].map(|session| session.gcs_address().to_string());
    shown.sort();
    run_here.sort();
    assert_eq!(shown, run_here);
}
