//! GPUs: by which names a worker sees them, and when the memory of one is free for the next.

use aktis_proto::v1::{Lending, Lingering};

use super::*;

fn gpu_request(gpus: f64) -> LeaseRequest {
    let wanted = ResourceRequest::from_numbers([(GPU, gpus)], 0).unwrap();
    LeaseRequest {
        resources: Some((&wanted).into()),
        ..request(0.0)
    }
}

#[test]
fn worker_is_shown_its_gpus_by_the_names_of_the_nodes_environment() {
    let mut bench = Bench::with_gpus(1, 2);
    let driver = bench.driver(1);
    bench.frame(driver, 2, Kind::LeaseRequest(gpu_request(2.0)));
    let held = bench.grant(driver, 2).unwrap().accelerators.unwrap();
    assert_eq!(held.gpu_ids, [0, 1]);
    assert_eq!(held.visible_devices, "2,3");
}

#[test]
fn gpu_of_an_idle_worker_is_given_away_when_its_process_is_gone() {
    let mut bench = Bench::with_gpus(1, 2);
    let driver = bench.driver(1);
    bench.frame(driver, 2, Kind::LeaseRequest(gpu_request(1.0)));
    let first = bench.grant(driver, 2).unwrap();
    bench.frame(driver, 3, give_back(&first));
    bench.frame(driver, 4, Kind::LeaseRequest(gpu_request(2.0)));
    assert!(
        bench.grant(driver, 4).is_none(),
        "NODE-2: the idle worker may hold memory of one of them"
    );
    let connection = bench.workers.remove(&first.pid).unwrap();
    bench.happen(Event::Disconnected { connection });
    assert!(bench.grant(driver, 4).is_none(), "NODE-2");
    bench.exit(first.pid, "exited with code 0");
    assert!(bench.grant(driver, 4).is_some());
}

impl Bench {
    /// A worker that has had a task with this share of a GPU, and is idle.
    fn idle_with_gpu(&mut self, driver: ConnectionId, gpus: f64) -> (u32, ConnectionId) {
        self.frame(driver, 900, Kind::LeaseRequest(gpu_request(gpus)));
        let grant = self.grant(driver, 900).unwrap();
        self.frame(driver, 901, give_back(&grant));
        (grant.pid, self.workers[&grant.pid])
    }

    /// Whether this worker was asked to end.
    fn is_asked_to_end(&self, worker: ConnectionId) -> bool {
        self.effects.iter().any(|effect| {
            matches!(effect, Effect::Send { connection, kind: Kind::Exit(_), .. } if *connection == worker)
        })
    }

    /// Its connection ends, and its process does not yet.
    fn hang_up(&mut self, pid: u32) {
        let connection = self.workers.remove(&pid).unwrap();
        self.happen(Event::Disconnected { connection });
    }
}

fn of_job(job: JobId, request: LeaseRequest) -> Kind {
    Kind::LeaseRequest(LeaseRequest {
        job_id: job.to_wire(),
        ..request
    })
}

/// `POOL-2`: it cannot be used again, and frameworks keep memory.
#[test]
fn idle_worker_of_another_job_ends_before_its_gpu_is_used() {
    let mut bench = Bench::with_gpus(1, 1);
    let driver = bench.driver(1);
    let (idle, connection) = bench.idle_with_gpu(driver, 1.0);
    let request = of_job(JobId::new([8; 16]), gpu_request(1.0));
    bench.frame(driver, 2, request);
    assert!(bench.is_asked_to_end(connection));
    bench.hang_up(idle);
    assert!(bench.grant(driver, 2).is_none(), "POOL-5");
    bench.exit(idle, "exited with code 0");
    assert_ne!(bench.grant(driver, 2).unwrap().pid, idle);
}

/// It becomes no actor, since that one may be killed.
#[test]
fn idle_worker_that_lends_something_ends_before_an_actor_gets_its_gpu() {
    let mut bench = Bench::with_gpus(1, 1);
    let driver = bench.driver(1);
    let (idle, connection) = bench.idle_with_gpu(driver, 1.0);
    bench.frame(connection, 0, Kind::Lending(Lending { is_lending: true }));
    let mut start = start_request(ActorId::new([4; 16]), 1);
    let spec = start.start.as_mut().and_then(|start| start.spec.as_mut());
    spec.unwrap().resources = gpu_request(1.0).resources;
    bench.call(1, CallRequest::StartActor(Box::new(start)));
    assert!(bench.is_asked_to_end(connection));
    // It stays for what it owns, with the memory of its GPU.
    let holds_devices = true;
    bench.frame(connection, 0, Kind::Lingering(Lingering { holds_devices }));
    assert!(bench.start_answers().is_empty(), "POOL-5");
    bench.hang_up(idle);
    assert!(bench.start_answers().is_empty(), "POOL-5");
    bench.exit(idle, "exited with code 0");
    assert_eq!(bench.start_answers().len(), 1);
}

#[test]
fn worker_that_lingers_without_its_gpu_is_not_waited_for() {
    let mut bench = Bench::with_gpus(1, 1);
    let driver = bench.driver(1);
    let (_, connection) = bench.idle_with_gpu(driver, 1.0);
    bench.frame(driver, 2, of_job(JobId::new([8; 16]), gpu_request(1.0)));
    assert!(bench.grant(driver, 2).is_none(), "POOL-5");
    let holds_devices = false;
    bench.frame(connection, 0, Kind::Lingering(Lingering { holds_devices }));
    assert!(bench.grant(driver, 2).is_some());
}

#[test]
fn idle_worker_with_a_part_of_a_gpu_stays_while_there_is_room_beside_it() {
    let mut bench = Bench::with_gpus(1, 1);
    let driver = bench.driver(1);
    let (half, connection) = bench.idle_with_gpu(driver, 0.5);
    let other = JobId::new([8; 16]);
    bench.frame(driver, 2, of_job(other, gpu_request(0.5)));
    assert!(bench.grant(driver, 2).is_some());
    assert!(!bench.is_asked_to_end(connection));
    bench.frame(driver, 3, of_job(other, gpu_request(0.5)));
    assert!(bench.grant(driver, 3).is_none(), "POOL-5");
    assert!(bench.is_asked_to_end(connection));
    bench.end(half);
    assert!(bench.grant(driver, 3).is_some());
}
