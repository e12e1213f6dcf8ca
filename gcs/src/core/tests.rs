//! Scenarios of the core: a cluster of messages, without a clock or a network.

mod actors;
mod check;
mod cut_off;
mod definitions;
mod endings;
mod makers;
mod nodes;
mod owed;
mod properties;
mod recovery;
mod room;
mod starts;

use std::time::Duration;

use aktis_common::ids::{ActorId, JobId, NodeId, TaskId, WorkerId};
use aktis_common::resources::ResourceSet;
use aktis_proto::v1::{
    ActorOptions, ActorState, ActorUpdate, AddJobRequest, Address, CreateActorRequest,
    GetActorRequest, KillActorRequest, NodeInfo, RegisterNodeReply, ReportActorStartedRequest,
    ReportWorkerDeathRequest, ResourceRequest, TaskSpec, WorkerDied, publication::Kind,
};
use bytes::Bytes;

use super::*;
use crate::core::restore::Row;

pub(super) const TIMEOUTS: NodeTimeouts = NodeTimeouts {
    silence: Duration::from_secs(10),
    disconnected: Duration::from_secs(2),
    lost_memory: Duration::from_secs(300),
    driver_grace: Duration::from_secs(60),
};

/// A core, its clock, and what it caused.
pub(super) struct Scene {
    pub(super) core: GcsCore,
    pub(super) now: Duration,
    pub(super) effects: Vec<Effect>,
    /// What a storage would hold.
    pub(super) kept: BTreeMap<(Table, Bytes), Bytes>,
    pub(super) job: JobId,
}

impl Scene {
    pub(super) fn new() -> Self {
        let core = GcsCore::new("session".to_owned(), TIMEOUTS).checked(Rhythm::EveryEvent);
        let mut scene = Self {
            core,
            now: Duration::ZERO,
            effects: Vec::new(),
            kept: BTreeMap::new(),
            job: JobId::random(),
        };
        scene.step(GcsCore::resume);
        let job = scene.job;
        scene.add_job(job, Address::default());
        scene
    }

    /// One batch of one event.
    pub(super) fn step<R>(&mut self, event: impl FnOnce(&mut GcsCore, &mut Turn) -> R) -> R {
        let mut turn = Turn::at(self.now, 1_000);
        let result = event(&mut self.core, &mut turn);
        self.core.tick(&mut turn);
        self.core.settle(&mut turn);
        for effect in turn.into_effects() {
            if let Effect::Persist(Write { table, key, value }) = &effect {
                match value {
                    Some(value) => self.kept.insert((*table, key.clone()), value.clone()),
                    None => self.kept.remove(&(*table, key.clone())),
                };
            }
            self.effects.push(effect);
        }
        result
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step(|_, _| {});
    }

    pub(super) fn add_job(&mut self, job: JobId, driver: Address) {
        let driver = Some(driver);
        let request = AddJobRequest {
            job_id: job.to_wire(),
            driver,
            ..Default::default()
        };
        self.step(|core, turn| core.add_job(request, turn)).unwrap();
    }

    pub(super) fn node(&mut self, cpus: i64) -> NodeId {
        let id = NodeId::random();
        self.register(id, cpus);
        id
    }

    pub(super) fn register(&mut self, id: NodeId, cpus: i64) -> u64 {
        self.take_in(id, cpus).generation
    }

    /// The same with all that the node is told.
    pub(super) fn take_in(&mut self, id: NodeId, cpus: i64) -> RegisterNodeReply {
        let info = info(id, cpus);
        self.step(|core, turn| core.register_node(info, turn))
            .unwrap()
    }

    /// A driver on the node, whose job actors are made for from now on.
    pub(super) fn driver_on(&mut self, node: NodeId) -> WorkerId {
        let driver = WorkerId::random();
        self.job = JobId::random();
        let job = self.job;
        self.add_job(job, Address::of(node, driver));
        driver
    }

    /// Whether the job of this scene goes on.
    pub(super) fn is_job_running(&self) -> bool {
        let job_id = self.job.to_wire();
        let jobs = self.core.jobs();
        jobs.iter()
            .any(|job| job.job_id == job_id && job.is_running)
    }

    pub(super) fn report(&mut self, id: NodeId, generation: u64, free: i64) -> bool {
        let report = NodeInfo {
            generation,
            ..info(id, free)
        };
        self.step(|core, turn| core.report_node(&report, turn))
            .unwrap()
    }

    pub(super) fn create(&mut self, options: ActorOptions, cpus: i64) -> ActorId {
        let id = ActorId::random();
        self.try_create(id, options, cpus).unwrap();
        id
    }

    pub(super) fn try_create(
        &mut self,
        id: ActorId,
        options: ActorOptions,
        cpus: i64,
    ) -> Result<ActorUpdate, GcsError> {
        let request = creation(id, self.job, options, cpus);
        self.step(|core, turn| core.create_actor(request, turn))
    }

    /// The starts that were asked for since the last call: actor, attempt, node.
    pub(super) fn starts(&mut self) -> Vec<(ActorId, u64, NodeId)> {
        let mut starts = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::StartActor {
                actor,
                attempt,
                node,
                ..
            } => {
                starts.push((*actor, *attempt, *node));
                false
            }
            _ => true,
        });
        starts
    }

    /// The workers that were to be killed since the last call.
    pub(super) fn kills(&mut self) -> Vec<WorkerId> {
        let mut kills = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::KillWorker { request, .. } if !request.worker_id.is_empty() => {
                kills.push(WorkerId::from_bytes(&request.worker_id).unwrap());
                false
            }
            _ => true,
        });
        kills
    }

    /// Answers a start: a worker has the task.
    pub(super) fn accept(&mut self, start: (ActorId, u64, NodeId)) -> WorkerId {
        let worker = WorkerId::random();
        let address = Address::of(start.2, worker);
        let outcome = StartOutcome::Started { address, pid: 7 };
        self.step(|core, turn| core.start_answered(start.0, start.1, start.2, outcome, turn));
        worker
    }

    /// The constructor of the actor has ended well.
    pub(super) fn construct(&mut self, actor: ActorId, node: NodeId, worker: WorkerId) {
        let restarts = self.update(actor).restarts;
        self.construct_after(restarts, actor, node, worker);
    }

    /// The same of a process that was asked for after so many restarts.
    pub(super) fn construct_after(
        &mut self,
        restarts: u32,
        actor: ActorId,
        node: NodeId,
        worker: WorkerId,
    ) {
        let report = ReportActorStartedRequest {
            actor_id: actor.to_wire(),
            address: Some(Address::of(node, worker)),
            pid: 7,
            failure: None,
            restarts,
        };
        self.step(|core, turn| core.actor_started(report, turn))
            .unwrap();
    }

    /// An actor that this process makes.
    pub(super) fn made_by(&mut self, node: NodeId, maker: WorkerId, cpus: i64) -> ActorId {
        self.try_made_by(node, maker, ActorOptions::default(), cpus)
            .unwrap()
    }

    pub(super) fn try_made_by(
        &mut self,
        node: NodeId,
        maker: WorkerId,
        options: ActorOptions,
        cpus: i64,
    ) -> Result<ActorId, GcsError> {
        let id = ActorId::random();
        let mut request = creation(id, self.job, options, cpus);
        if let Some(spec) = &mut request.spec {
            spec.owner = Some(Address::of(node, maker));
        }
        self.step(|core, turn| core.create_actor(request, turn))?;
        Ok(id)
    }

    /// Creates an actor and brings it to life.
    pub(super) fn living(&mut self, options: ActorOptions) -> (ActorId, NodeId, WorkerId) {
        let actor = self.create(options, 0);
        let (node, worker) = self.bring_up(actor);
        (actor, node, worker)
    }

    /// Carries the only open start through.
    pub(super) fn bring_up(&mut self, actor: ActorId) -> (NodeId, WorkerId) {
        let starts = self.starts();
        let [start] = starts[..] else {
            panic!("expected one start, got {starts:?}")
        };
        assert_eq!(start.0, actor);
        let worker = self.accept(start);
        self.construct(actor, start.2, worker);
        (start.2, worker)
    }

    pub(super) fn worker_dies(&mut self, actor: ActorId, node: NodeId, worker: WorkerId) {
        self.worker_ends(actor, node, worker, false);
    }

    pub(super) fn worker_ends(
        &mut self,
        actor: ActorId,
        node: NodeId,
        worker: WorkerId,
        is_intended: bool,
    ) {
        let death = WorkerDied {
            worker: Some(Address::of(node, worker)),
            cause: "was killed by signal 9".to_owned(),
            ..WorkerDied::default()
        };
        let actor_id = actor.to_wire();
        let report = ReportWorkerDeathRequest {
            death: Some(death),
            actor_id,
            is_intended,
            ..Default::default()
        };
        self.step(|core, turn| core.worker_died(report, turn))
            .unwrap();
    }

    /// A process that is no actor ends.
    pub(super) fn process_ends(&mut self, node: NodeId, process: WorkerId) {
        let death = WorkerDied {
            worker: Some(Address::of(node, process)),
            cause: "exited with code 0".to_owned(),
            ..WorkerDied::default()
        };
        let report = ReportWorkerDeathRequest {
            death: Some(death),
            ..Default::default()
        };
        self.step(|core, turn| core.worker_died(report, turn))
            .unwrap();
    }

    pub(super) fn kill(&mut self, actor: ActorId, no_restart: bool) {
        let actor_id = actor.to_wire();
        let request = KillActorRequest {
            actor_id,
            no_restart,
            ..Default::default()
        };
        self.step(|core, turn| core.kill_actor(&request, turn))
            .unwrap();
    }

    pub(super) fn update(&self, actor: ActorId) -> ActorUpdate {
        let request = GetActorRequest {
            actor_id: actor.to_wire(),
            ..Default::default()
        };
        self.core.get_actor(&request).unwrap()
    }

    pub(super) fn state(&self, actor: ActorId) -> ActorState {
        self.update(actor).state()
    }

    pub(super) fn failure(&self, actor: ActorId) -> String {
        self.update(actor).failure.unwrap_or_default().message
    }

    /// States of the actor that were published, in order, without repeats.
    pub(super) fn published(&self, actor: ActorId) -> Vec<ActorState> {
        let mut states: Vec<ActorState> = self
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Publish(publication) => match &publication.kind {
                    Some(Kind::Actor(update)) if update.actor_id == actor.to_wire() => {
                        Some(update.state())
                    }
                    _ => None,
                },
                _ => None,
            })
            .collect();
        states.dedup();
        states
    }

    /// A head on what was kept so far.
    pub(super) fn restarted(&self) -> Self {
        let row = |((table, key), value): (&(Table, Bytes), &Bytes)| Row {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        };
        let rows = self.kept.iter().map(row).collect();
        let core = GcsCore::restore("new".to_owned(), TIMEOUTS, rows, Duration::ZERO)
            .unwrap()
            .checked(Rhythm::EveryEvent);
        let mut scene = Self {
            core,
            now: Duration::ZERO,
            effects: Vec::new(),
            kept: self.kept.clone(),
            job: self.job,
        };
        scene.step(GcsCore::resume);
        scene
    }
}

pub(super) fn info(id: NodeId, cpus: i64) -> NodeInfo {
    let set: aktis_proto::v1::ResourceSet = (&ResourceSet::of_cpus(cpus)).into();
    NodeInfo {
        node_id: id.to_wire(),
        raylet_address: format!("unix:/{id}"),
        total: Some(set.clone()),
        available: Some(set),
        ..NodeInfo::default()
    }
}

pub(super) fn creation(
    id: ActorId,
    job: JobId,
    options: ActorOptions,
    cpus: i64,
) -> CreateActorRequest {
    let set = ResourceSet::of_cpus(cpus);
    let resources = ResourceRequest {
        resources: Some((&set).into()),
        ..ResourceRequest::default()
    };
    let spec = TaskSpec {
        task_id: TaskId::next().to_wire(),
        actor_id: id.to_wire(),
        job_id: job.to_wire(),
        resources: Some(resources),
        ..TaskSpec::default()
    };
    CreateActorRequest {
        spec: Some(spec),
        options: Some(options),
        args_payload: Bytes::from_static(b"arguments"),
        get_if_exists: false,
    }
}

pub(super) fn named(name: &str) -> ActorOptions {
    ActorOptions {
        name: name.to_owned(),
        namespace: "space".to_owned(),
        ..Default::default()
    }
}

pub(super) fn restarting(max_restarts: i32) -> ActorOptions {
    ActorOptions {
        max_restarts,
        ..Default::default()
    }
}
