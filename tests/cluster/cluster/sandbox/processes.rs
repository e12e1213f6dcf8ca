//! Zygotes and workers that pretend: tasks of the run, which speak the protocols of the real ones.
//!
//! A worker says hello, makes the file of its lane, becomes the actor that it is told to be, and ends when it is killed,
//! asked to, or its node is gone. Which processes live, and which actor each one hosts, is known here without asking
//! anybody: invariants compare what the cluster says with it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aktis_common::ids::WorkerId;
use aktis_common::zygote::{WorkerStart, ZygoteReply, ZygoteRequest};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorStarted, Failure, Goodbye, Hello, ProcessKind, StartActor};
use aktis_raylet::processes::{Processes, StartedZygote, ZygoteCommand};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};

use super::clock::next_random;
use super::frames::Connection;
use super::log::Log;
use super::network::Host;

/// Ids of pretended processes: above every id that the kernel gives, so that no signal finds a real one.
const FIRST_PID: u32 = 1 << 23;
/// How long a start takes at most.
const START_MILLIS: u64 = 30;
/// An actor of this class raises in its constructor.
pub const BROKEN_CLASS: &str = "Broken";

/// All pretended processes of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    log: Log,
}

#[derive(Debug)]
struct State {
    next_pid: u32,
    chance: u64,
    /// By process id.
    living: BTreeMap<u32, Living>,
    /// How long a killed process takes to be gone.
    dying: Duration,
    /// Actors that were told to begin, in order: (actor, restarts).
    begun: Vec<(Vec<u8>, u32)>,
}

#[derive(Debug)]
struct Living {
    host: Host,
    worker: String,
    actor: Option<Vec<u8>>,
    killed: Arc<Notify>,
    hang_up: Arc<Notify>,
}

/// A process that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub pid: u32,
    pub host: Host,
    pub worker: String,
    pub actor: Option<Vec<u8>>,
}

impl World {
    pub fn new(seed: u64, log: Log) -> Self {
        let state = State {
            next_pid: FIRST_PID,
            chance: seed,
            living: BTreeMap::new(),
            dying: Duration::ZERO,
            begun: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            log,
        }
    }

    /// The processes of one node's start.
    pub fn of_host(&self, host: Host) -> Arc<HostProcesses> {
        Arc::new(HostProcesses {
            world: self.clone(),
            host,
            pids: Mutex::default(),
        })
    }

    /// Killed processes take so long to be gone.
    pub fn set_dying(&self, dying: Duration) {
        self.state.lock().unwrap().dying = dying;
    }

    /// All that live.
    pub fn living(&self) -> Vec<Seen> {
        let state = self.state.lock().unwrap();
        let seen = |(pid, living): (&u32, &Living)| Seen {
            pid: *pid,
            host: living.host,
            worker: living.worker.clone(),
            actor: living.actor.clone(),
        };
        state.living.iter().map(seen).collect()
    }

    /// The processes that host an actor.
    pub fn hosts_of(&self, actor: &[u8]) -> Vec<Seen> {
        let mut living = self.living();
        living.retain(|seen| seen.actor.as_deref() == Some(actor));
        living
    }

    /// How often an actor's constructor was begun.
    pub fn begun(&self, actor: &[u8]) -> usize {
        let state = self.state.lock().unwrap();
        state
            .begun
            .iter()
            .filter(|(begun, _)| begun == actor)
            .count()
    }

    /// Kills a process, as the kernel or a user would.
    pub fn kill(&self, pid: u32) {
        let state = self.state.lock().unwrap();
        if let Some(living) = state.living.get(&pid) {
            living.killed.notify_one();
        }
    }

    /// A process loses its connection to the node and lives on.
    pub fn hang_up(&self, pid: u32) {
        if let Some(living) = self.state.lock().unwrap().living.get(&pid) {
            living.hang_up.notify_one();
        }
    }

    fn chance(&self, below: u64) -> u64 {
        next_random(&mut self.state.lock().unwrap().chance) % below
    }

    fn born(&self, host: Host, start: &WorkerStart) -> (u32, Arc<Notify>, Arc<Notify>) {
        let mut state = self.state.lock().unwrap();
        let pid = state.next_pid;
        state.next_pid += 1;
        let (killed, hang_up) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let living = Living {
            host,
            worker: start.worker_id.clone(),
            actor: None,
            killed: Arc::clone(&killed),
            hang_up: Arc::clone(&hang_up),
        };
        state.living.insert(pid, living);
        (pid, killed, hang_up)
    }

    fn gone(&self, pid: u32, cause: &str) {
        let gone = self.state.lock().unwrap().living.remove(&pid);
        if let Some(Living {
            host,
            actor: Some(actor),
            ..
        }) = gone
        {
            self.log.note(format!(
                "{host}: process of actor {} {cause}",
                short(&actor)
            ));
        }
    }
}

/// The first bytes of an id.
pub fn short(id: &[u8]) -> String {
    id.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Processes of one node, from its start to its end.
#[derive(Debug)]
pub struct HostProcesses {
    world: World,
    host: Host,
    pids: Mutex<Vec<u32>>,
}

impl HostProcesses {
    /// All of them end with their node.
    pub fn kill_all(&self) {
        for pid in self.pids.lock().unwrap().drain(..) {
            self.world.kill(pid);
        }
    }
}

/// A handle as the raylet takes it.
#[derive(Debug, Clone)]
pub struct Handle(pub Arc<HostProcesses>);

impl Processes for Handle {
    fn start_zygote(&self, _: &ZygoteCommand) -> io::Result<StartedZygote> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let (ended, end) = oneshot::channel::<()>();
        let host = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _ = run_zygote(host, theirs).await;
            drop(ended);
        });
        Ok(StartedZygote {
            pid: FIRST_PID - 1,
            stream: ours,
            end: Box::pin(async move {
                let _ = end.await;
                "exit status: 0".to_owned()
            }),
        })
    }

    fn kill_group(&self, pid: u32) {
        self.0.world.kill(pid);
    }
}

async fn run_zygote(
    host: Arc<HostProcesses>,
    stream: std::os::unix::net::UnixStream,
) -> io::Result<()> {
    let (reader, mut writer) = UnixStream::from_std(stream)?.into_split();
    let (say, mut said) = mpsc::unbounded_channel::<ZygoteReply>();
    let _ = say.send(ZygoteReply::Ready { pid: FIRST_PID - 1 });
    let mut lines = BufReader::new(reader).lines();
    loop {
        tokio::select! {
            biased;
            reply = said.recv() => {
                let mut line = serde_json::to_vec(&reply.expect("a sender is kept here"))?;
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    break;
                }
            }
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    if let ZygoteRequest::Fork(start) = serde_json::from_str(&line)? {
                        fork(&host, start, &say);
                    }
                }
                _ => break,
            },
        }
    }
    host.kill_all();
    Ok(())
}

fn fork(host: &Arc<HostProcesses>, start: WorkerStart, say: &mpsc::UnboundedSender<ZygoteReply>) {
    let world = host.world.clone();
    let (pid, killed, hang_up) = world.born(host.host, &start);
    host.pids.lock().unwrap().push(pid);
    let _ = say.send(ZygoteReply::Forked {
        startup_token: start.startup_token,
        pid,
    });
    let say = say.clone();
    tokio::spawn(async move {
        let life = live(&world, pid, &start, &hang_up);
        let (cause, is_killed) = tokio::select! {
            biased;
            () = killed.notified() => ("was killed by signal 9", true),
            () = life => ("ended", false),
        };
        let dying = world.state.lock().unwrap().dying;
        tokio::time::sleep(dying).await;
        world.gone(pid, cause);
        let _ = say.send(ZygoteReply::Exited {
            pid,
            cause: cause.to_owned(),
            is_out_of_memory: false,
            is_killed,
        });
    });
}

/// The life of a worker, until it is to end.
async fn live(world: &World, pid: u32, start: &WorkerStart, hang_up: &Notify) {
    let pause = Duration::from_millis(world.chance(START_MILLIS));
    tokio::time::sleep(pause).await;
    let worker = WorkerId::from_hex(&start.worker_id).unwrap();
    let mut hello = Hello {
        worker_id: worker.to_wire(),
        pid,
        startup_token: start.startup_token,
        version: aktis_proto::VERSION.to_owned(),
        ..Hello::default()
    };
    hello.set_kind(ProcessKind::Worker);
    let opened = Connection::open(&start.raylet_socket, Kind::Hello(hello)).await;
    let Ok((mut connection, Kind::HelloReply(reply))) = opened else {
        return;
    };
    let lane = PathBuf::from(&reply.lane_dir).join(worker.to_string());
    let Ok(_lane) = tokio::net::UnixListener::bind(lane) else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            () = hang_up.notified() => {
                connection.close();
                // Its process is stuck in something else.
                std::future::pending::<()>().await;
            }
            event = connection.events.recv() => match event {
                Some(Kind::StartActor(start)) => become_actor(world, pid, start, &connection),
                Some(Kind::Exit(_)) => {
                    connection.link.send(Kind::Goodbye(Goodbye::default()));
                    tokio::task::yield_now().await;
                    return;
                }
                Some(_) => {}
                None => return,
            },
        }
    }
}

fn become_actor(world: &World, pid: u32, start: StartActor, connection: &Connection) {
    let StartActor {
        spec,
        options,
        restarts,
        ..
    } = start;
    let actor_id = spec.unwrap_or_default().actor_id;
    let class = options.unwrap_or_default().class_name;
    let failure = (class == BROKEN_CLASS).then(|| Failure {
        message: "constructor raised".to_owned(),
        ..Failure::default()
    });
    {
        let mut state = world.state.lock().unwrap();
        state.begun.push((actor_id.to_vec(), restarts));
        if let Some(living) = state.living.get_mut(&pid) {
            living.actor = Some(actor_id.to_vec());
            let host = living.host;
            world.log.note(format!(
                "{host}: actor {} begins, restarts {restarts}",
                short(&actor_id)
            ));
        }
    }
    connection
        .link
        .send(Kind::ActorStarted(ActorStarted { actor_id, failure }));
}
