//! Other users and other containers on the same machine, with the same temporary folder. These tests need root: only root can be
//! somebody else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::{Value, json};
use support::Place;

const STRANGER: u32 = 65534;

/// A place that another user can reach; `None` without root.
fn shared_place() -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return None;
    }
    let place = Place::new();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    // The one that was built lies where others may not look.
    let program = place.program();
    std::fs::copy(env!("CARGO_BIN_EXE_aktis"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(place)
}

fn as_stranger() -> Vec<String> {
    let id = STRANGER.to_string();
    ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]
        .map(str::to_owned)
        .to_vec()
}

/// The folder of root's sessions, made by another user first, with a file that names a process and a folder of root.
fn forged_base(place: &Place, owner: &Value) -> PathBuf {
    let base = place.path().join("aktis-0");
    let session = base.join("1-abcdef");
    std::fs::create_dir_all(&session).unwrap();
    std::fs::write(session.join("owner.json"), owner.to_string()).unwrap();
    std::fs::write(session.join("lock"), "").unwrap();
    for path in [
        &base,
        &session,
        &session.join("owner.json"),
        &session.join("lock"),
    ] {
        let mode = if path.is_dir() { 0o777 } else { 0o666 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    base
}

/// A process of root that is no business of Aktis.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn mark(&self) -> Value {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let started: u64 = fields.split_whitespace().nth(19).unwrap().parse().unwrap();
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
        let pid_namespace = std::os::unix::fs::MetadataExt::ino(&namespace);
        json!({ "pid": self.0.id(), "started": started, "boot_id": boot_id.trim(), "pid_namespace": pid_namespace })
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn forged_owner(bystander: &Bystander, address: &str, folder: &Path) -> Value {
    json!({
        "process": bystander.mark(),
        "role": "head",
        "session_id": "1-abcdef",
        "gcs_address": address,
        "extra_dirs": [folder],
    })
}

#[test]
fn another_user_joins_no_cluster_and_ends_no_node() {
    let Some(place) = shared_place() else { return };
    let head = place.run(&["start", "--head", "--port", "0"]);
    assert!(head.succeeded(), "{head:?}");
    let address = head.head_address();
    for arguments in [
        ["status", "--address", &address],
        ["start", "--address", &address],
    ] {
        let failed = place.run_by(&as_stranger(), &arguments);
        assert!(!failed.succeeded(), "NET-4: {failed:?}");
        assert!(
            failed.err.contains("not served by a process of this user"),
            "NET-3: {failed:?}"
        );
    }
    // One that speaks the protocol and does not care whose the port is.
    let status = place.json(&["status", "--json"]);
    let raylet = status["nodes"][0]["address"].as_str().unwrap().to_owned();
    for (address, method) in [
        (&raylet, "aktis.v1.Raylet/Shutdown"),
        (&address, "aktis.v1.Gcs/ClusterStatus"),
    ] {
        assert_eq!(
            support::raw_call(address, method).code(),
            tonic::Code::Unauthenticated,
            "NET-2: {method}"
        );
    }
    assert_eq!(place.daemons(), 1);
    assert!(place.run(&["status"]).succeeded());
}

/// Nodes register and drivers ask with the version in each call.
#[test]
fn node_and_driver_of_another_version_are_refused_with_both_versions_named() {
    let place = Place::new();
    let head = place.run(&["start", "--head", "--port", "0"]);
    assert!(head.succeeded(), "{head:?}");
    let token = std::fs::read(place.session_file("token").1).unwrap();
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    let address = head.head_address();
    let headers = [
        ("aktis-token", token),
        ("aktis-version", "0.0.7".to_owned()),
    ];
    for method in ["aktis.v1.Gcs/RegisterNode", "aktis.v1.Gcs/ListNodes"] {
        let refused = support::raw_call_with(&address, method, &headers);
        assert_eq!(
            refused.code(),
            tonic::Code::FailedPrecondition,
            "{refused:?}"
        );
        let message = refused.message();
        assert!(
            message.contains("0.0.7") && message.contains(aktis_proto::VERSION),
            "{message}"
        );
    }
    assert_eq!(place.daemons(), 1);
}

#[test]
fn what_another_user_made_first_is_neither_believed_nor_followed() {
    let Some(place) = shared_place() else { return };
    let mine = place.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("precious"), "x").unwrap();
    let mut bystander = Bystander::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    forged_base(&place, &forged_owner(&bystander, &address, &mine));
    let stopped = place.run(&["stop"]);
    assert!(
        stopped.out.contains("No Aktis daemon"),
        "SES-2: {stopped:?}"
    );
    let status = place.run(&["status"]);
    assert!(
        status.err.contains("no Aktis cluster runs"),
        "SES-1: {status:?}"
    );
    let started = place.run(&["start", "--head", "--port", "0"]);
    assert!(started.err.contains("another user"), "SES-1: {started:?}");
    assert!(mine.join("precious").exists(), "SES-3");
    assert!(bystander.0.try_wait().unwrap().is_none(), "SES-2: it lives");
}

#[test]
fn token_is_not_sent_to_the_head_of_another_user() {
    let Some(place) = shared_place() else { return };
    let theirs = place.run_by(&as_stranger(), &["start", "--head", "--port", "0"]);
    assert!(theirs.succeeded(), "{theirs:?}");
    let address = theirs.head_address();
    let failed = place.run_with("AKTIS_TOKEN", "mine", &["status", "--address", &address]);
    assert!(
        failed.err.contains(&format!("uid {STRANGER}")),
        "NET-3: {failed:?}"
    );
    place.run_by(&as_stranger(), &["stop"]);
}

#[test]
fn sessions_of_two_containers_share_a_temporary_folder() {
    let Some(place) = shared_place() else { return };
    let container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let container: Vec<String> = container.map(str::to_owned).to_vec();
    let head = place.run(&["start", "--head", "--port", "0"]);
    assert!(head.succeeded(), "{head:?}");
    let before = place.leftovers();
    let stopped = place.run_by(&container, &["stop"]);
    assert!(
        stopped.out.contains("No Aktis daemon"),
        "SES-2: {stopped:?}"
    );
    let status = place.run_by(&container, &["status"]);
    assert!(status.err.contains("no Aktis cluster runs"), "{status:?}");
    let mut other = place.spawn_by(&container, &["start", "--head", "--port", "0", "--block"]);
    place.until("the other one is up", || {
        place.leftovers().len() > before.len()
    });
    assert!(place.run(&["status"]).succeeded(), "SES-4");
    let stopped = place.run(&["stop"]);
    assert!(
        stopped.out.contains("Ended 1 Aktis daemon."),
        "SES-4: {stopped:?}"
    );
    assert!(!place.leftovers().is_empty(), "SES-4: the other one lives");
    other.kill();
}

#[test]
fn head_with_few_descriptors_serves_in_spite_of_silent_connections() {
    let place = Place::new();
    let limited = ["sh", "-c", "ulimit -n 512; exec \"$@\"", "sh"].map(str::to_owned);
    let head = place.run_by(&limited, &["start", "--head", "--port", "0"]);
    assert!(head.succeeded(), "{head:?}");
    let address = head.head_address();
    let mut silent = Vec::new();
    for _ in 0..800 {
        if let Ok(stream) = std::net::TcpStream::connect(&address) {
            silent.push(stream);
        }
    }
    let status = place.run(&["status", "--address", &address]);
    assert!(status.succeeded(), "NET-5: {status:?}");
    let joined = place.run(&["start", "--address", &address]);
    assert!(joined.succeeded(), "NET-5: {joined:?}");
}

#[test]
fn workers_do_not_see_the_token() {
    let place = Place::new().with("AKTIS_TOKEN", "sesame");
    let seen = place.path().join("seen");
    let script = format!("env > {}; cat > /dev/null; rm -rf \"$2\"", seen.display());
    let zygote = serde_json::to_string(&["/bin/sh", "-c", &script, "zygote"]).unwrap();
    let head = place.run_with(
        "AKTIS_ZYGOTE_COMMAND",
        &zygote,
        &["start", "--head", "--port", "0"],
    );
    assert!(head.succeeded(), "{head:?}");
    place.until("the zygote has started", || {
        std::fs::read_to_string(&seen).is_ok_and(|text| text.contains("PATH="))
    });
    let text = std::fs::read_to_string(&seen).unwrap();
    assert!(!text.contains("sesame"), "{text}");
}

#[test]
fn token_lies_in_a_file_for_this_user_alone() {
    let place = Place::new();
    assert!(place.run(&["start", "--head", "--port", "0"]).succeeded());
    let (session, token) = place.session_file("token");
    assert_eq!(
        token.metadata().unwrap().permissions().mode() & 0o777,
        0o600,
        "NET-4"
    );
    assert_eq!(
        session.metadata().unwrap().permissions().mode() & 0o777,
        0o700,
        "SES-1"
    );
    assert!(std::fs::read_to_string(token).unwrap().len() >= 32, "NET-4");
}
