//! A zygote and its workers for the tests of this crate: the protocol, and nothing of Python.
//!
//! As a zygote it takes requests on descriptor 0 and starts itself again as a worker. A worker says hello, answers
//! `StartActor` (the class `Broken` fails), and serves its lane socket: what it reads there is a command if it is one of
//! `block`, `unblock`, `exit`, else it is sent back.
//!
//! The environment variable `FAKE_WORKER` changes a worker: `silent` never says hello, `crash` ends at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use aktis_common::ids::WorkerId;
use aktis_common::zygote::{WorkerStart, ZygoteReply, ZygoteRequest};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    ActorStarted, Blocked, Failure, Goodbye, Hello, HelloReply, NodeFrame, ProcessKind, StartActor,
    Unblocked,
};
use prost::Message;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = match arguments.get(1).map(String::as_str) {
        Some("worker") => run_worker(&arguments[2]),
        Some("--cleanup-dir") => run_zygote(PathBuf::from(&arguments[2])),
        _ => Err("this program is started by the tests".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fake zygote: {error}");
            ExitCode::FAILURE
        }
    }
}

type Shared = Arc<Mutex<UnixStream>>;

fn run_zygote(cleanup_dir: PathBuf) -> Outcome {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let out: Shared = Arc::new(Mutex::new(stream.try_clone()?));
    say(
        &out,
        &ZygoteReply::Ready {
            pid: std::process::id(),
        },
    )?;
    let mut pids = Vec::new();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if let ZygoteRequest::Fork(start) = serde_json::from_str(&line)? {
            pids.push(start_worker(&start, &out)?);
        }
    }
    for pid in pids {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = std::fs::remove_dir_all(cleanup_dir);
    Ok(())
}

fn say(out: &Shared, reply: &ZygoteReply) -> Outcome {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    out.lock().map_err(|_| "a thread died")?.write_all(&line)?;
    Ok(())
}

fn start_worker(start: &WorkerStart, out: &Shared) -> Result<i32, Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["worker", &serde_json::to_string(start)?])
        .envs(&start.env)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&start.stdout_path)?)
        .stderr(std::fs::File::create(
            start.stdout_path.with_extension("err"),
        )?)
        .process_group(0)
        .spawn()?;
    let pid = child.id();
    say(
        out,
        &ZygoteReply::Forked {
            startup_token: start.startup_token,
            pid,
        },
    )?;
    let out = Arc::clone(out);
    std::thread::spawn(move || {
        let status = child.wait();
        let is_killed = matches!(&status, Ok(status) if status.signal() == Some(9));
        let cause = status.map_or_else(|error| error.to_string(), describe);
        let exited = ZygoteReply::Exited {
            pid,
            cause,
            is_out_of_memory: false,
            is_killed,
        };
        let _ = say(&out, &exited);
    });
    Ok(i32::try_from(pid)?)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
    }
}

fn run_worker(start: &str) -> Outcome {
    let start: WorkerStart = serde_json::from_str(start)?;
    match start.env.get("FAKE_WORKER").map(String::as_str) {
        Some("silent") => loop {
            std::thread::park();
        },
        Some("crash") => return Err("no module named 'broken'".into()),
        _ => {}
    }
    let worker = WorkerId::from_hex(&start.worker_id)?;
    let mut stream = UnixStream::connect(&start.raylet_socket)?;
    let mut hello = Hello {
        worker_id: worker.to_wire(),
        pid: std::process::id(),
        startup_token: start.startup_token,
        version: aktis_proto::VERSION.to_owned(),
        ..Hello::default()
    };
    hello.set_kind(ProcessKind::Worker);
    send(&mut stream, 1, Kind::Hello(hello))?;
    let out: Shared = Arc::new(Mutex::new(stream.try_clone()?));
    loop {
        match receive(&mut stream)? {
            Some(Kind::HelloReply(reply)) => serve_lanes(&reply, worker, Arc::clone(&out))?,
            Some(Kind::StartActor(start)) => answer_start(&out, start)?,
            Some(Kind::Exit(_)) => {
                send(
                    &mut *out.lock().map_err(|_| "a thread died")?,
                    0,
                    Kind::Goodbye(Goodbye::default()),
                )?;
                return Ok(());
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn answer_start(out: &Shared, start: StartActor) -> Outcome {
    let options = start.options.unwrap_or_default();
    println!("constructing {}", options.class_name);
    let failure = (options.class_name == "Broken").then(|| Failure {
        message: "constructor raised".to_owned(),
        ..Failure::default()
    });
    let actor_id = start.spec.unwrap_or_default().actor_id;
    let started = ActorStarted { actor_id, failure };
    send(
        &mut *out.lock().map_err(|_| "a thread died")?,
        0,
        Kind::ActorStarted(started),
    )
}

fn serve_lanes(reply: &HelloReply, worker: WorkerId, out: Shared) -> Outcome {
    let path = PathBuf::from(&reply.lane_dir).join(worker.to_string());
    let hidden = path.with_extension("new");
    let listener = UnixListener::bind(&hidden)?;
    // Seen when it listens, as that of a real worker.
    std::fs::rename(hidden, path)?;
    std::thread::spawn(move || {
        for lane in listener.incoming().flatten() {
            let out = Arc::clone(&out);
            std::thread::spawn(move || serve_lane(lane, &out));
        }
    });
    Ok(())
}

fn serve_lane(mut lane: UnixStream, out: &Shared) {
    let commands: BTreeMap<&[u8], Kind> = BTreeMap::from([
        (&b"block"[..], Kind::Blocked(Blocked {})),
        (&b"unblock"[..], Kind::Unblocked(Unblocked {})),
    ]);
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = lane.read(&mut buffer) {
        let said = &buffer[..count];
        if said == b"exit" {
            // The end of the raylet's connection is the end of this process; so it is the other way round.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("a process may kill itself");
        }
        if let Some(kind) = commands.get(said)
            && let Ok(mut out) = out.lock()
        {
            let _ = send(&mut out, 0, kind.clone());
        }
        if lane.write_all(said).is_err() {
            return;
        }
    }
}

fn send(stream: &mut UnixStream, request_id: u64, kind: Kind) -> Outcome {
    let header = NodeFrame {
        request_id,
        kind: Some(kind),
    }
    .encode_to_vec();
    let length = u32::try_from(header.len())?;
    stream.write_all(&(length + 4).to_le_bytes())?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&header)?;
    Ok(())
}

fn receive(stream: &mut UnixStream) -> Result<Option<Kind>, Box<dyn std::error::Error>> {
    let mut word = [0; 4];
    if stream.read_exact(&mut word).is_err() {
        return Ok(None);
    }
    let mut body = vec![0; u32::from_le_bytes(word) as usize];
    stream.read_exact(&mut body)?;
    let header = u32::from_le_bytes(body[..4].try_into()?) as usize;
    Ok(NodeFrame::decode(&body[4..4 + header])?.kind)
}
