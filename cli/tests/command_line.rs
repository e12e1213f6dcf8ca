//! The aktis command with real processes. The zygote is a shell that forks nothing but cleans up like the real one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[allow(dead_code, reason = "shared with other tests")]
mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use aktis_cli::join::find_raylet;
use aktis_common::config::Settings;
use serde_json::Value;
use support::Place;

#[test]
fn head_starts_shows_its_status_and_stops_without_a_trace() {
    let place = Place::new();
    let started = place.run(&["start", "--head", "--port", "0", "--num-cpus", "3"]);
    assert!(started.succeeded(), "{started:?}");
    let address = started.head_address();
    assert!(
        started
            .out
            .contains(&format!("aktis start --address {address}")),
        "{started:?}"
    );

    let status = place.json(&["status", "--json"]);
    assert_eq!(status["total"]["CPU"], 3.0);
    assert_eq!(status["nodes"][0]["is_head"], true);
    let health = place.json(&["health-check", "--json"]);
    assert_eq!(
        (&health["address"], &health["session_id"]),
        (&status["address"], &status["session_id"])
    );
    let text = place.run(&["status", "--address", &address]).out;
    assert!(
        text.contains("Nodes: 1 alive") && text.contains("0 / 3 CPU"),
        "{text}"
    );
    let nodes = place.run(&["list", "nodes"]).out;
    assert!(
        nodes.lines().count() == 2 && nodes.contains("head"),
        "{nodes}"
    );
    assert_eq!(
        place.json(&["list", "actors", "--json"]),
        Value::Array(Vec::new())
    );

    let stopped = place.run(&["stop"]);
    assert!(stopped.out.contains("Ended 1 Aktis daemon."), "{stopped:?}");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn two_nodes_join_a_head_on_one_machine_and_all_are_stopped() {
    let place = Place::new();
    let head = place.run(&["start", "--head", "--port", "0", "--num-cpus", "1"]);
    let address = head.head_address();
    for cpus in ["2", "4"] {
        let joined = place.run(&["start", "--address", &address, "--num-cpus", cpus]);
        assert!(joined.out.contains("has joined the cluster"), "{joined:?}");
    }
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["total"]["CPU"], 7.0);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    let stopped = place.run(&["stop"]);
    assert!(
        stopped.out.contains("Ended 3 Aktis daemons."),
        "{stopped:?}"
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn every_command_speaks_json() {
    let place = Place::new();
    let head = place.json(&["start", "--head", "--port", "0", "--json"]);
    let address = head["address"].as_str().unwrap();
    assert_eq!(head["is_head"], true);
    let node = place.json(&["start", "--address", address, "--json"]);
    assert_eq!(node["is_head"], false);
    assert_eq!(place.json(&["status", "--json"])["address"], address);
    let nodes = place.run(&["list", "nodes"]).out;
    for told in [&head, &node] {
        assert!(nodes.contains(told["node_id"].as_str().unwrap()), "{nodes}");
    }
    let stopped = place.json(&["stop", "--json"]);
    assert_eq!(stopped["ended"], 2, "{stopped}");
}

#[test]
fn help_speaks_to_users() {
    let help = Place::new().run(&["--help"]);
    assert!(help.out.starts_with("Start Aktis on machines"), "{help:?}");
    assert!(help.out.contains("aktis start --head"), "{help:?}");
}

#[test]
fn stop_says_when_nothing_runs() {
    let place = Place::new();
    let stopped = place.run(&["stop"]);
    assert!(stopped.succeeded(), "{stopped:?}");
    assert!(stopped.out.contains("No Aktis daemon"), "{stopped:?}");
}

#[test]
fn killed_head_leaves_only_its_tables_and_the_next_one_takes_them_up() {
    let place = Place::new();
    let port = free_port();
    let first = place.run(&["start", "--head", "--port", &port]);
    assert!(first.succeeded(), "{first:?}");
    let session = place.json(&["status", "--json"])["session_id"].clone();
    place.kill_daemons();
    let tables = vec![format!("head-{port}.redb")];
    place.until("only the tables are left", || place.leftovers() == tables);
    place.until_free(&port);

    let second = place.run(&["start", "--head", "--port", &port]);
    assert!(second.err.contains("Taking up the session"), "{second:?}");
    assert_eq!(place.json(&["status", "--json"])["session_id"], session);
    let stopped = place.run(&["stop", "--forget"]);
    assert!(stopped.out.contains("Forgot the tables"), "{stopped:?}");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn tables_survive_every_end_but_an_explicit_forget() {
    let place = Place::new();
    let port = free_port();
    let start = ["start", "--head", "--port", &port];
    assert!(place.run(&start).succeeded());
    let session = || place.json(&["status", "--json"])["session_id"].clone();
    let first = session();
    // As systemd and a kubelet end it.
    place.signal_daemons("-TERM");
    place.until("it has ended", || {
        place.leftovers() == [format!("head-{port}.redb")]
    });
    place.until_free(&port);
    let again = place.run(&start);
    assert!(again.succeeded(), "{again:?}");
    assert_eq!(session(), first, "D2");
    let stopped = place.run(&["stop"]);
    assert!(stopped.out.contains("tables stay in"), "{stopped:?}");
    assert!(place.run(&start).succeeded());
    assert_eq!(session(), first, "D2");
    place.run(&["stop"]);
    let fresh = place.run(&["start", "--head", "--port", &port, "--fresh"]);
    assert!(fresh.succeeded(), "{fresh:?}");
    assert_ne!(session(), first);
}

#[test]
fn nodes_go_on_with_a_head_that_was_restarted() {
    let place = Place::new();
    let port = free_port();
    let start = ["start", "--head", "--port", &port];
    let head = place.run(&start);
    let joined = place.run(&[
        "start",
        "--address",
        &head.head_address(),
        "--num-cpus",
        "5",
    ]);
    assert!(joined.succeeded(), "{joined:?}");
    place.signal_daemons_of_role("head", "-TERM");
    place.until("the head has ended", || place.daemons() == 1);
    place.until_free(&port);
    let again = place.run(&start);
    assert!(again.succeeded(), "{again:?}");
    place.until("the node is back, with the same token", || {
        let nodes = place.json(&["list", "nodes", "--json"]);
        let alive = nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["is_alive"] == true);
        alive.count() == 2
    });
}

#[test]
fn driver_joins_the_node_beside_it_and_the_heads_where_there_is_none() {
    let place = Place::new();
    let head = place
        .run(&["start", "--head", "--port", "0"])
        .head_address();
    let other = Place::new();
    let joined = other.run(&["start", "--address", &head]);
    assert!(joined.succeeded(), "{joined:?}");
    let joins = |temp_dir: &Path| {
        let settings = Settings {
            temp_dir: temp_dir.to_owned(),
            ..Settings::default()
        };
        find_raylet(Some(&head), &settings).unwrap().session_dir
    };
    assert!(joins(other.path()).starts_with(other.path()));
    assert!(joins(place.path()).starts_with(place.path()));
    assert!(joins(Place::new().path()).starts_with(place.path()));
}

#[test]
fn node_of_a_head_that_is_another_session_now_ends() {
    let place = Place::new().with("AKTIS_TOKEN", "the same for both");
    let port = free_port();
    let start = ["start", "--head", "--port", &port, "--storage", "memory"];
    let head = place.run(&start);
    let joined = place.run(&["start", "--address", &head.head_address()]);
    assert!(joined.succeeded(), "{joined:?}");
    place.signal_daemons_of_role("head", "-KILL");
    place.until("the head has ended", || place.daemons() == 1);
    place.until_free(&port);
    let again = place.run(&start);
    assert!(again.succeeded(), "{again:?}");
    place.until("only the head is left", || place.daemons() == 1);
    let nodes = place.json(&["list", "nodes", "--json"]);
    let alive = nodes.as_array().unwrap().iter();
    assert_eq!(alive.filter(|node| node["is_alive"] == true).count(), 1);
}

#[test]
fn node_whose_head_is_gone_for_good_ends_and_its_exit_code_tells() {
    let place = Place::new().with("AKTIS_HEAD_RECONNECT_TIMEOUT", "500ms");
    let head = place.run(&["start", "--head", "--port", "0"]);
    let mut node = place.spawn(&["start", "--address", &head.head_address(), "--block"]);
    place.until("both are up", || {
        let status = place.json(&["status", "--json"]);
        status["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() == 2)
    });
    place.signal_daemons_of_role("head", "-KILL");
    let ended = node.wait_with_output();
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert!(ended.err.contains("head_reconnect_timeout"), "{ended:?}");
    place.until("nothing is left", || place.daemons() == 0);
}

#[test]
fn killed_node_leaves_nothing_and_the_head_notices() {
    let place = Place::new();
    let head = place.run(&["start", "--head", "--port", "0"]);
    let joined = place.run(&["start", "--address", &head.head_address()]);
    assert!(joined.succeeded(), "{joined:?}");
    let before = place.leftovers().len();
    place.kill_daemons_of_role("node");
    place.until("its folder is gone", || place.leftovers().len() < before);
    place.until("the head notices", || {
        let nodes = place.json(&["list", "nodes", "--json"]);
        nodes
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["is_alive"] == true)
            .count()
            == 1
    });
}

#[test]
fn head_that_runs_already_is_named_with_ways_out() {
    let place = Place::new();
    let port = free_port();
    place.run(&["start", "--head", "--port", &port]);
    let again = place.run(&["start", "--head", "--port", &port]);
    assert!(!again.succeeded());
    assert!(
        again.err.contains("runs at") && again.err.contains("aktis stop"),
        "{again:?}"
    );
}

#[test]
fn daemon_starts_although_nobody_reads_what_the_command_prints() {
    let place = Place::new();
    let unread = ["sh", "-c", "{ \"$@\"; echo status $? >&2; } | true", "sh"].map(str::to_owned);
    let head = place.run_by(&unread, &["start", "--head", "--port", "0"]);
    assert!(head.err.contains("status 0"), "{head:?}");
    assert!(place.run(&["status"]).succeeded());
    assert!(place.run(&["stop"]).succeeded());
    let mut blocking = place.spawn_by(&unread, &["start", "--head", "--port", "0", "--block"]);
    place.until("it runs", || place.run(&["status"]).succeeded());
    assert!(place.run(&["stop"]).succeeded());
    blocking.kill();
}

#[test]
fn taken_port_is_an_error_that_names_it() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failed = place.run(&["start", "--head", "--port", &port]);
    assert!(!failed.succeeded());
    assert!(
        failed.err.contains(&format!("127.0.0.1:{port} is in use")),
        "{failed:?}"
    );
    place.until("nothing is left", || {
        place.leftovers().iter().all(|name| name.ends_with(".redb"))
    });
}

#[test]
fn unreachable_head_is_an_error_that_says_what_to_check() {
    let place = Place::new();
    let address = format!("127.0.0.1:{}", free_port());
    for arguments in [
        ["start", "--address", &address],
        ["status", "--address", &address],
        ["health-check", "--address", &address],
    ] {
        let failed = place.run(&arguments);
        assert!(!failed.succeeded());
        assert!(failed.err.contains("aktis start --head"), "{failed:?}");
    }
    for command in ["status", "health-check"] {
        let failed = place.run(&[command]);
        assert!(
            !failed.succeeded() && failed.err.contains("no Aktis cluster runs on this machine"),
            "{failed:?}"
        );
    }
}

#[test]
fn open_address_without_protection_is_refused_before_anything_starts() {
    let place = Place::new();
    let failed = place.run(&["start", "--head", "--node-ip-address", "0.0.0.0"]);
    assert!(
        failed.err.contains("needs a token and TLS"),
        "NET-1: {failed:?}"
    );
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn bad_flags_name_the_setting_and_the_fix() {
    let place = Place::new();
    let failed = place.run(&["start", "--head", "--resources", "{'disk': 1}"]);
    assert!(failed.err.contains(r#"such as {"disk": 2}"#), "{failed:?}");
    let failed = place.run(&["start", "--head", "--resources", r#"{"CPU": 1}"#]);
    assert!(failed.err.contains("give it by num_cpus"), "{failed:?}");
}

#[test]
fn token_of_the_cluster_is_needed_by_everybody() {
    let place = Place::new().with("AKTIS_TOKEN", "right");
    let head = place.run(&["start", "--head", "--port", "0"]);
    assert!(head.succeeded(), "{head:?}");
    assert!(place.run(&["status"]).succeeded());
    let failed = place.run_with("AKTIS_TOKEN", "wrong", &["status"]);
    assert!(
        failed.err.contains("the token is missing or wrong"),
        "NET-2: {failed:?}"
    );
}

/// A port that stays free until the test takes it: below those that the system gives to whoever asks for any, as the other
/// tests of this file do at the same time.
fn free_port() -> String {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = first + TRIED.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port.to_string();
        }
    }
}
