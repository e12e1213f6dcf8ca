//! The core as a whole: events in, effects out.

mod cut_off;
mod ends;

use std::collections::BTreeMap;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, JobId, WorkerId};
use aktis_common::resources::{CPU, GPU, Quantity, ResourceRequest, ResourceSet};
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{
    Address, CreateActorRequest, GcsCall, Hello, KillWorkerRequest, LeaseGrant, LeaseReply,
    LeaseRequest, LeaseReturn, ProcessKind, Publication, StartActor, StartActorRequest, TaskSpec,
    WorkerDied, lease_reply, publication, start_actor_reply,
};
use proptest::prelude::*;
use prost::Message;

use super::effect::{GcsReport, PeerMessage, StoreEffect};
use super::event::{CallRequest, Exit, Registration, ZygoteEvent};
use super::keys::{CallId, LeaseId, StartupToken};
use super::worker_pool::{Duty, WorkerState};
use super::*;

const HERE: NodeId = NodeId::new([1; 16]);
const THERE: NodeId = NodeId::new([2; 16]);
const JOB: JobId = JobId::new([9; 16]);

/// A core with a zygote that forks at once and workers that are ready at once.
struct Bench {
    core: RayletCore,
    now: Instant,
    effects: Vec<Effect>,
    next_pid: u32,
    next_connection: u64,
    /// Connections of workers, by process id; a killed one is disconnected by the bench.
    workers: BTreeMap<u32, ConnectionId>,
    killed: Vec<u32>,
    /// Workers that are forked from now on say nothing.
    are_workers_silent: bool,
    /// What the follower of logs finds at the end of each worker.
    last_words: String,
}

impl Bench {
    fn new(cpus: i64) -> Self {
        Self::with_gpus(cpus, 0)
    }

    fn with_gpus(cpus: i64, gpus: i64) -> Self {
        let now = Instant::now();
        let total = ResourceSet::of_cpus(cpus).with(GPU, Quantity::from_whole(gpus));
        let resources = NodeResources::new(total, Vec::new(), BTreeMap::new());
        let settings = CoreSettings {
            node: NodeInfo::default(),
            node_id: HERE,
            resources,
            gpu_names: vec!["2".to_owned(), "3".to_owned()],
            pool: PoolLimits {
                warm_max: 1,
                start_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(60),
                exit_grace: Duration::from_secs(1),
                failure_pause: Duration::from_secs(5),
                max_starting: 16,
            },
            actor_patience: Duration::from_secs(1),
            cause_patience: Duration::from_millis(300),
            report_gap: Duration::from_millis(20),
            lost_node_memory: Duration::from_secs(300),
            id_prefix: [3; 8],
        };
        let mut bench = Self {
            core: RayletCore::new(settings, now),
            now,
            effects: Vec::new(),
            next_pid: 100,
            next_connection: 1000,
            workers: BTreeMap::new(),
            killed: Vec::new(),
            last_words: String::new(),
            are_workers_silent: false,
        };
        bench.register(1, |_| ());
        bench
    }

    /// The gcs takes the node in under this number, and says what `with` adds.
    fn register(&mut self, generation: u64, with: impl FnOnce(&mut Registration)) {
        let mut registration = Registration::default();
        registration.reply.generation = generation;
        with(&mut registration);
        self.happen(Event::Registered(Box::new(registration)));
    }

    /// One event, and what zygote, workers and system answer to its effects.
    fn happen(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.core.handle(event, self.now, &mut effects);
        for effect in effects {
            match &effect {
                Effect::Fork { token, worker, .. } => self.start_worker(*token, *worker),
                Effect::Kill { pid } => {
                    self.killed.push(*pid);
                    self.end(*pid);
                }
                Effect::EndLog { worker, .. } => {
                    let (worker, last_words) = (*worker, self.last_words.clone());
                    self.happen(Event::LogEnded { worker, last_words });
                }
                Effect::AwaitEnd { pid } => self.happen(Event::ProcessEnded { pid: *pid }),
                _ => {}
            }
            self.effects.push(effect);
        }
    }

    fn start_worker(&mut self, token: StartupToken, worker: WorkerId) {
        let (pid, connection) = (self.next_pid, ConnectionId(self.next_connection));
        self.next_pid += 1;
        self.next_connection += 1;
        self.workers.insert(pid, connection);
        self.happen(Event::Zygote(ZygoteEvent::Forked { token, pid }));
        if self.are_workers_silent {
            return;
        }
        let mut hello = Hello {
            worker_id: worker.to_wire(),
            pid,
            startup_token: token.0,
            version: aktis_proto::VERSION.to_owned(),
            ..Hello::default()
        };
        hello.set_kind(ProcessKind::Worker);
        self.frame(connection, 1, Kind::Hello(hello));
        self.happen(Event::LaneOpen { worker });
    }

    /// The zygote says that a process has ended.
    fn exit(&mut self, pid: u32, cause: &str) {
        let exit = Exit::of(cause);
        self.happen(Event::Zygote(ZygoteEvent::Exited { pid, exit }));
    }

    /// Connection and process of a worker end.
    fn end(&mut self, pid: u32) {
        if let Some(connection) = self.workers.remove(&pid) {
            self.happen(Event::Disconnected { connection });
            self.exit(pid, "killed by signal 9");
        }
    }

    fn frame(&mut self, connection: ConnectionId, request_id: u64, kind: Kind) {
        self.happen(Event::Frame {
            connection,
            request_id,
            kind,
            payload: Bytes::new(),
        });
    }

    fn driver(&mut self, n: u64) -> ConnectionId {
        let mut hello = Hello {
            worker_id: owner(n).to_wire(),
            job_id: JOB.to_wire(),
            version: aktis_proto::VERSION.to_owned(),
            ..Hello::default()
        };
        hello.set_kind(ProcessKind::Driver);
        self.frame(ConnectionId(n), 1, Kind::Hello(hello));
        ConnectionId(n)
    }

    fn ask(&mut self, connection: ConnectionId, request_id: u64, cpus: f64) {
        self.frame(connection, request_id, Kind::LeaseRequest(request(cpus)));
    }

    /// What was answered to a lease request, taken out.
    fn grant(&mut self, connection: ConnectionId, request_id: u64) -> Option<LeaseGrant> {
        let position = self.effects.iter().position(|effect| {
            matches!(effect, Effect::Send { connection: to, request_id: id, kind: Kind::LeaseReply(_), .. }
                if (*to, *id) == (connection, request_id))
        })?;
        match self.effects.remove(position) {
            Effect::Send {
                kind:
                    Kind::LeaseReply(LeaseReply {
                        outcome: Some(lease_reply::Outcome::Grant(grant)),
                    }),
                ..
            } => Some(grant),
            _ => None,
        }
    }

    /// What was answered to starts of actors, in order.
    fn start_answers(&self) -> Vec<start_actor_reply::Outcome> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Answer {
                answer: CallAnswer::ActorStart(reply),
                ..
            } => reply.outcome.clone(),
            _ => None,
        });
        answers.collect()
    }

    /// Whether the store was told that a client is gone.
    fn has_left_the_store(&self, client: ConnectionId) -> bool {
        self.effects.iter().any(|effect| {
            matches!(effect, Effect::Store(StoreEffect::ClientGone { connection })
                if *connection == client)
        })
    }

    fn free_cpus(&self) -> f64 {
        self.core.leases().resources().available().get(CPU).as_f64()
    }

    /// Panics if what must always hold does not.
    fn check(&self) {
        self.core.pool().check();
        for (lease, grant) in self.core.leases().grants() {
            if let Some(worker) = grant.worker {
                let worker = self
                    .core
                    .pool()
                    .get(worker)
                    .expect("no lease of a dead worker");
                let is_its = worker.duty().map(Duty::lease) == Some(lease);
                let is_ending = matches!(worker.state, WorkerState::Retiring { .. });
                assert!(
                    is_its || is_ending,
                    "a lease and its worker agree: {worker:?}"
                );
            }
        }
        for worker in self.core.pool().iter() {
            if let Some(duty) = worker.duty() {
                let grant = self.core.leases().get(duty.lease());
                assert_eq!(grant.and_then(|grant| grant.worker), Some(worker.id));
            }
        }
    }
}

fn owner(n: u64) -> WorkerId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    WorkerId::new(bytes)
}

fn request(cpus: f64) -> LeaseRequest {
    let resources = ResourceRequest::from_numbers([(CPU, cpus)], 0).unwrap();
    LeaseRequest {
        resources: Some((&resources).into()),
        job_id: JOB.to_wire(),
        ..LeaseRequest::default()
    }
}

fn start_request(actor: ActorId, generation: u64) -> StartActorRequest {
    let spec = TaskSpec {
        actor_id: actor.to_wire(),
        job_id: JOB.to_wire(),
        resources: request(1.0).resources,
        ..TaskSpec::default()
    };
    let start = StartActor {
        spec: Some(spec),
        ..StartActor::default()
    };
    StartActorRequest {
        start: Some(start),
        generation,
        ..StartActorRequest::default()
    }
}

fn give_back(grant: &LeaseGrant) -> Kind {
    Kind::LeaseReturn(LeaseReturn {
        lease_id: grant.lease_id,
        node_id: HERE.to_wire(),
        is_worker_unusable: false,
    })
}

#[test]
fn killed_worker_releases_its_lease() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    bench.ask(driver, 3, 1.0);
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    assert!(
        bench.grant(driver, 3).is_none(),
        "NODE-2: its process may live"
    );
    assert!(
        !bench.has_left_the_store(connection),
        "NODE-2: it may be writing"
    );
    bench.exit(grant.pid, "killed by signal 9");
    assert!(bench.has_left_the_store(connection));
    let next = bench.grant(driver, 3).expect("the CPU is free again");
    assert_ne!(next.worker, grant.worker);
    bench.check();
}

#[test]
fn death_is_announced_once_with_the_cause_that_comes_a_little_later() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let connection = bench.workers.remove(&grant.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    let causes = |bench: &Bench| -> Vec<String> {
        let reports = bench.effects.iter().filter_map(|effect| match effect {
            Effect::Report(GcsReport::WorkerDeath(report)) => report.death.clone(),
            _ => None,
        });
        reports.map(|death| death.cause).collect()
    };
    assert!(causes(&bench).is_empty());
    bench.exit(grant.pid, "killed by signal 9");
    bench.now += Duration::from_secs(5);
    bench.happen(Event::Tick);
    assert_eq!(causes(&bench), ["killed by signal 9"]);
}

#[test]
fn end_of_an_owner_withdraws_its_claims_and_kills_its_workers() {
    let mut bench = Bench::new(1);
    let (first, second) = (bench.driver(1), bench.driver(2));
    bench.ask(first, 2, 1.0);
    let grant = bench.grant(first, 2).unwrap();
    bench.ask(first, 3, 1.0);
    bench.ask(second, 2, 1.0);
    bench.happen(Event::Disconnected { connection: first });
    assert!(bench.killed.contains(&grant.pid), "NODE-1");
    assert!(bench.grant(second, 2).is_some());
    assert!(
        bench.core.leases().claims_where(|_, _| true).is_empty(),
        "NODE-1"
    );
    bench.check();
}

#[test]
fn lease_of_a_remote_owner_ends_when_its_death_is_published() {
    let mut bench = Bench::new(1);
    let owner = Address::of(THERE, owner(7));
    let lease = CallRequest::Lease {
        request: request(1.0),
        owner: owner.clone(),
        claim_id: 5,
    };
    bench.happen(Event::Call {
        call: CallId(1),
        request: lease,
    });
    assert_eq!(bench.free_cpus(), 0.0);
    let died = WorkerDied {
        worker: Some(owner),
        cause: "gone".to_owned(),
        ..WorkerDied::default()
    };
    let kind = Some(publication::Kind::WorkerDied(died));
    bench.happen(Event::Published(Publication { kind }));
    assert_eq!(bench.free_cpus(), 1.0, "NODE-1");
    bench.check();
}

#[test]
fn grant_that_crosses_the_withdrawal_of_its_claim_is_taken_back() {
    let mut bench = Bench::new(1);
    let owner = Address::of(THERE, owner(7));
    let lease = CallRequest::Lease {
        request: request(1.0),
        owner,
        claim_id: 5,
    };
    bench.happen(Event::Call {
        call: CallId(1),
        request: lease,
    });
    assert_eq!(bench.free_cpus(), 0.0);
    let withdraw = CallRequest::WithdrawClaim { claim_id: 5 };
    bench.happen(Event::Call {
        call: CallId(2),
        request: withdraw,
    });
    assert_eq!(bench.free_cpus(), 1.0);
    bench.check();
}

#[test]
fn answer_of_another_node_to_a_withdrawn_claim_is_given_back_there() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    let grant = LeaseGrant {
        lease_id: 77,
        worker: Some(Address::of(THERE, owner(8))),
        ..LeaseGrant::default()
    };
    let outcome = Ok(LeaseReply {
        outcome: Some(lease_reply::Outcome::Grant(grant)),
    });
    let reply_to = ReplyTo::Process {
        connection: driver,
        request_id: 2,
    };
    bench.happen(Event::ForwardEnded {
        reply_to,
        claim_id: 1,
        outcome,
    });
    let is_given_back = bench.effects.iter().any(|effect| {
        matches!(effect, Effect::Tell { node: THERE, message: PeerMessage::ReturnLease(lease) }
            if lease.lease_id == 77)
    });
    assert!(is_given_back);
}

#[test]
fn warm_leases_are_asked_back_when_their_owner_makes_an_actor() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let grant = bench.grant(driver, 2).unwrap();
    let spec = TaskSpec {
        resources: request(1.0).resources,
        ..TaskSpec::default()
    };
    let create = CreateActorRequest {
        spec: Some(spec),
        ..CreateActorRequest::default()
    };
    let method = "CreateActor".to_owned();
    let body = Bytes::from(create.encode_to_vec());
    bench.frame(driver, 3, Kind::GcsCall(GcsCall { method, body }));
    let is_asked = bench.effects.iter().any(|effect| {
        matches!(effect, Effect::Send { kind: Kind::LeaseReclaim(reclaim), .. }
            if reclaim.lease_id == grant.lease_id)
    });
    assert!(is_asked);
}

#[test]
fn start_that_is_asked_for_twice_makes_one_actor() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    bench.ask(driver, 2, 1.0);
    let held = bench.grant(driver, 2).unwrap();
    let request = start_request(ActorId::new([4; 16]), 1);
    for call in 1..=2 {
        bench.call(call, CallRequest::StartActor(Box::new(request.clone())));
    }
    bench.frame(driver, 0, give_back(&held));
    bench.call(3, CallRequest::StartActor(Box::new(request)));
    let answers = bench.start_answers();
    assert_eq!(answers[0], start_actor_reply::Outcome::NoRoom(true));
    assert!(matches!(answers[1], start_actor_reply::Outcome::Address(_)));
    assert_eq!(answers[2], answers[1], "HOST-1");
    bench.check();
}

#[test]
fn only_the_holder_of_a_lease_can_return_it() {
    let mut bench = Bench::new(1);
    let (holder, thief) = (bench.driver(1), bench.driver(2));
    bench.ask(holder, 2, 1.0);
    let grant = bench.grant(holder, 2).unwrap();
    bench.frame(thief, 0, give_back(&grant));
    assert_eq!(bench.free_cpus(), 0.0);
    bench.frame(holder, 0, give_back(&grant));
    assert_eq!(bench.free_cpus(), 1.0);
}

#[test]
fn process_of_another_version_is_refused_with_both_named() {
    let mut bench = Bench::new(1);
    let mut hello = Hello {
        worker_id: owner(1).to_wire(),
        job_id: JOB.to_wire(),
        version: "0.0.7".to_owned(),
        ..Hello::default()
    };
    hello.set_kind(ProcessKind::Driver);
    bench.frame(ConnectionId(1), 1, Kind::Hello(hello));
    let refusals: Vec<String> = bench
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send {
                kind: Kind::Failure(failure),
                ..
            } => Some(failure.message.clone()),
            _ => None,
        })
        .collect();
    let [message] = &refusals[..] else {
        panic!("{refusals:?}")
    };
    assert!(message.contains("0.0.7") && message.contains(aktis_proto::VERSION));
}

#[test]
fn frame_before_hello_is_refused() {
    let mut bench = Bench::new(1);
    bench.ask(ConnectionId(5), 2, 1.0);
    let is_closed = |effect: &Effect| {
        matches!(
            effect,
            Effect::Close {
                connection: ConnectionId(5)
            }
        )
    };
    assert!(bench.effects.iter().any(is_closed));
}

#[test]
fn request_with_impossible_resources_fails_at_once() {
    let mut bench = Bench::new(1);
    let driver = bench.driver(1);
    let mut wrong = request(1.0);
    let quantities = &mut wrong
        .resources
        .as_mut()
        .unwrap()
        .resources
        .as_mut()
        .unwrap()
        .quantities;
    quantities.insert("GPU".to_owned(), 15_000);
    bench.frame(driver, 2, Kind::LeaseRequest(wrong));
    let failure = bench.effects.iter().find_map(|effect| match effect {
        Effect::Send {
            kind:
                Kind::LeaseReply(LeaseReply {
                    outcome: Some(lease_reply::Outcome::Failure(failure)),
                }),
            ..
        } => Some(failure),
        _ => None,
    });
    assert_eq!(failure.unwrap().error_code(), ErrorCode::InvalidArgument);
}

#[derive(Debug, Clone)]
enum Step {
    Ask { driver: u64, cpus: u8 },
    AskFromElsewhere { cpus: u8 },
    Withdraw(u64),
    GiveBack(usize),
    GiveBackUnusable(usize),
    Kill(usize),
    KillWorker(usize),
    EndDriver(u64),
    EndZygote,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..4u64, 0..3u8).prop_map(|(driver, cpus)| Step::Ask { driver, cpus }),
        2 => (0..3u8).prop_map(|cpus| Step::AskFromElsewhere { cpus }),
        1 => (1..40u64).prop_map(Step::Withdraw),
        4 => any::<usize>().prop_map(Step::GiveBack),
        1 => any::<usize>().prop_map(Step::GiveBackUnusable),
        2 => any::<usize>().prop_map(Step::Kill),
        1 => any::<usize>().prop_map(Step::KillWorker),
        1 => (1..4u64).prop_map(Step::EndDriver),
        1 => Just(Step::EndZygote),
        1 => (0..20_000u64).prop_map(Step::Wait),
    ]
}

impl Bench {
    fn call(&mut self, number: u64, request: CallRequest) {
        let call = CallId(number);
        self.happen(Event::Call { call, request });
    }

    /// One of the leases, by a number of any size.
    fn pick_lease(&self, index: usize) -> Option<LeaseId> {
        let mut leases: Vec<LeaseId> = self.core.leases().leases_where(|_| true);
        leases.sort_unstable();
        (!leases.is_empty()).then(|| leases[index % leases.len()])
    }

    fn take(&mut self, step: Step, number: u64) {
        match step {
            Step::Ask { driver, cpus } => {
                self.driver(driver);
                self.ask(ConnectionId(driver), number, f64::from(cpus));
            }
            Step::AskFromElsewhere { cpus } => {
                let (owner, request) = (Address::of(THERE, owner(50)), request(f64::from(cpus)));
                let claim_id = number;
                self.call(
                    number,
                    CallRequest::Lease {
                        request,
                        owner,
                        claim_id,
                    },
                );
            }
            Step::Withdraw(claim_id) => self.call(number, CallRequest::WithdrawClaim { claim_id }),
            Step::GiveBack(index) | Step::GiveBackUnusable(index) => {
                let is_worker_unusable = matches!(step, Step::GiveBackUnusable(_));
                if let Some(LeaseId(lease_id)) = self.pick_lease(index) {
                    let node_id = HERE.to_wire();
                    let lease = LeaseReturn {
                        lease_id,
                        node_id,
                        is_worker_unusable,
                    };
                    self.call(number, CallRequest::ReturnLease(lease));
                }
            }
            Step::Kill(index) => {
                let pids: Vec<u32> = self.workers.keys().copied().collect();
                if let Some(pid) = pids.get(index % pids.len().max(1)) {
                    self.end(*pid);
                }
            }
            Step::KillWorker(index) => {
                let lease = self.pick_lease(index);
                let worker = lease.and_then(|lease| self.core.leases().get(lease)?.worker);
                if let Some(worker) = worker {
                    let request = KillWorkerRequest {
                        worker_id: worker.to_wire(),
                        is_graceful: index % 2 == 0,
                        ..KillWorkerRequest::default()
                    };
                    self.call(number, CallRequest::KillWorker(request));
                }
            }
            Step::EndDriver(driver) => {
                let connection = ConnectionId(driver);
                self.happen(Event::Disconnected { connection });
            }
            Step::EndZygote => {
                let (cause, is_start_failure) = ("it ended".to_owned(), false);
                let lost = ZygoteEvent::Lost {
                    cause,
                    is_start_failure,
                };
                self.happen(Event::Zygote(lost));
            }
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.happen(Event::Tick);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_lease_has_a_dead_worker_and_everything_comes_back(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut bench = Bench::new(3);
        for (step, number) in steps.into_iter().zip(100..) {
            bench.take(step, number);
            bench.check();
            prop_assert!(bench.free_cpus() >= 0.0, "LEASE-1");
        }
        for driver in 1..4 {
            bench.happen(Event::Disconnected { connection: ConnectionId(driver) });
        }
        let died = WorkerDied {
            worker: Some(Address::of(THERE, owner(50))),
            cause: String::new(),
            ..WorkerDied::default()
        };
        let kind = Some(publication::Kind::WorkerDied(died));
        bench.happen(Event::Published(Publication { kind }));
        for _ in 0..3 {
            bench.now += Duration::from_secs(5);
            bench.happen(Event::Tick);
        }
        bench.check();
        prop_assert_eq!(bench.free_cpus(), 3.0, "NODE-1, LEASE-2");
    }
}

mod lingering;
