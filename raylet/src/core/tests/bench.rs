//! A core whose zygote, workers and system answer at once.

use super::*;

/// A core with a zygote that forks at once and workers that are ready at once.
pub(super) struct Bench {
    pub(super) core: RayletCore,
    pub(super) now: Instant,
    pub(super) effects: Vec<Effect>,
    pub(super) next_pid: u32,
    pub(super) next_connection: u64,
    /// Connections of workers, by process id; a killed one is disconnected by the bench.
    pub(super) workers: BTreeMap<u32, ConnectionId>,
    pub(super) killed: Vec<u32>,
    /// The zygote has no time for processes that end.
    pub(super) leaves_dead_unreaped: bool,
    /// Workers that are forked from now on say nothing.
    pub(super) are_workers_silent: bool,
    /// What the follower of logs finds at the end of each worker.
    pub(super) last_words: String,
}

impl Bench {
    pub(super) fn new(cpus: i64) -> Self {
        Self::with_gpus(cpus, 0)
    }

    pub(super) fn with_gpus(cpus: i64, gpus: i64) -> Self {
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
            checks: Rhythm::EveryEvent,
        };
        let mut bench = Self {
            core: RayletCore::new(settings, now),
            now,
            effects: Vec::new(),
            next_pid: 100,
            next_connection: 1000,
            workers: BTreeMap::new(),
            killed: Vec::new(),
            leaves_dead_unreaped: false,
            last_words: String::new(),
            are_workers_silent: false,
        };
        bench.register(1, |_| ());
        bench
    }

    /// The gcs takes the node in under this number, and says what `with` adds.
    pub(super) fn register(&mut self, generation: u64, with: impl FnOnce(&mut Registration)) {
        let mut registration = Registration::default();
        registration.reply.generation = generation;
        with(&mut registration);
        self.happen(Event::Registered(Box::new(registration)));
    }

    /// One event, and what zygote, workers and system answer to its effects.
    pub(super) fn happen(&mut self, event: Event) {
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
                Effect::LookAtDead { worker, .. } => self.happen(Event::DeadLookedAt {
                    worker: *worker,
                    has_ended: self.leaves_dead_unreaped,
                }),
                Effect::AwaitEnd { pid } => self.happen(Event::ProcessEnded { pid: *pid }),
                _ => {}
            }
            self.effects.push(effect);
        }
    }

    pub(super) fn start_worker(&mut self, token: StartupToken, worker: WorkerId) {
        let (pid, connection) = (self.next_pid, ConnectionId(self.next_connection));
        self.next_pid += 1;
        self.next_connection += 1;
        self.workers.insert(pid, connection);
        self.happen(Event::Zygote(ZygoteEvent::Forked { token, pid }));
        if !self.are_workers_silent {
            self.greet(token, worker);
        }
    }

    /// The worker that was forked last says that it is ready.
    pub(super) fn greet(&mut self, token: StartupToken, worker: WorkerId) {
        self.say_hello(token, worker);
        self.happen(Event::LaneOpen { worker });
    }

    /// The worker that was forked last is there, and takes no lanes yet.
    pub(super) fn say_hello(&mut self, token: StartupToken, worker: WorkerId) -> ConnectionId {
        let (&pid, &connection) = self.workers.last_key_value().expect("a worker was forked");
        let mut hello = Hello {
            worker_id: worker.to_wire(),
            pid,
            startup_token: token.0,
            version: aktis_proto::VERSION.to_owned(),
            ..Hello::default()
        };
        hello.set_kind(ProcessKind::Worker);
        self.frame(connection, 1, Kind::Hello(hello));
        connection
    }

    /// The zygote says that a process has ended.
    pub(super) fn exit(&mut self, pid: u32, cause: &str) {
        let exit = Exit::of(cause);
        self.happen(Event::Zygote(ZygoteEvent::Exited { pid, exit }));
    }

    /// Connection and process of a worker end.
    pub(super) fn end(&mut self, pid: u32) {
        if let Some(connection) = self.workers.remove(&pid) {
            self.happen(Event::Disconnected { connection });
            self.exit(pid, "killed by signal 9");
        }
    }

    pub(super) fn frame(&mut self, connection: ConnectionId, request_id: u64, kind: Kind) {
        self.happen(Event::Frame {
            connection,
            request_id,
            kind,
            payload: Bytes::new(),
        });
    }

    pub(super) fn driver(&mut self, n: u64) -> ConnectionId {
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

    pub(super) fn ask(&mut self, connection: ConnectionId, request_id: u64, cpus: f64) {
        self.frame(connection, request_id, Kind::LeaseRequest(request(cpus)));
    }

    /// What was answered to a lease request, taken out.
    pub(super) fn grant(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
    ) -> Option<LeaseGrant> {
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

    /// Whether the owner of a lease was asked to return it.
    pub(super) fn is_asked_back(&self, grant: &LeaseGrant) -> bool {
        self.effects.iter().any(|effect| {
            matches!(effect, Effect::Send { kind: Kind::LeaseReclaim(reclaim), .. }
                if reclaim.lease_id == grant.lease_id)
        })
    }

    /// What was answered to starts of actors, in order.
    pub(super) fn start_answers(&self) -> Vec<start_actor_reply::Outcome> {
        let answers = self.effects.iter().filter_map(|effect| match effect {
            Effect::Answer {
                answer: CallAnswer::ActorStart(reply),
                ..
            } => reply.outcome.clone(),
            _ => None,
        });
        answers.collect()
    }

    /// The worker that a start named.
    pub(super) fn hosted(&self, answer: usize) -> WorkerId {
        match &self.start_answers()[answer] {
            start_actor_reply::Outcome::Address(place) => place.worker().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The system takes its time to end a worker. Gives its process and connection.
    pub(super) fn detach(&mut self, worker: WorkerId) -> (u32, ConnectionId) {
        let pid = self.core.pool().get(worker).unwrap().pid.unwrap();
        (pid, self.workers.remove(&pid).unwrap())
    }

    /// The deaths that the gcs was told of, in order.
    pub(super) fn deaths(&self) -> Vec<ReportWorkerDeathRequest> {
        let reports = self.effects.iter().filter_map(|effect| match effect {
            Effect::Report(GcsReport::WorkerDeath(report)) => Some(report.clone()),
            _ => None,
        });
        reports.collect()
    }

    /// Whether the store was told that a client is gone.
    pub(super) fn has_left_the_store(&self, client: ConnectionId) -> bool {
        self.effects.iter().any(|effect| {
            matches!(effect, Effect::Store(NodeStoreEffect::ClientGone { connection })
                if *connection == client)
        })
    }

    pub(super) fn call(&mut self, number: u64, request: CallRequest) {
        let call = CallId(number);
        self.happen(Event::Call { call, request });
    }

    pub(super) fn free_cpus(&self) -> f64 {
        self.core.leases().resources().available().get(CPU).as_f64()
    }
}

pub(super) fn owner(n: u64) -> WorkerId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    WorkerId::new(bytes)
}

pub(super) fn request(cpus: f64) -> LeaseRequest {
    let resources = ResourceRequest::from_numbers([(CPU, cpus)], 0).unwrap();
    LeaseRequest {
        resources: Some((&resources).into()),
        job_id: JOB.to_wire(),
        ..LeaseRequest::default()
    }
}

pub(super) fn start_request(actor: ActorId, generation: u64) -> StartActorRequest {
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

pub(super) fn give_back(grant: &LeaseGrant) -> Kind {
    Kind::LeaseReturn(LeaseReturn {
        lease_id: grant.lease_id,
        node_id: HERE.to_wire(),
        is_worker_unusable: false,
    })
}
