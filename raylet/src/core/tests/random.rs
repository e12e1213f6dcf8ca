//! Whatever happens in whatever order.

use proptest::prelude::*;

use super::*;

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
                // Connections are never used twice, but here.
                self.happen(Event::ClientEnded { connection });
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
        prop_assert_eq!(bench.free_cpus(), 3.0, "NODE-1, LEASE-2");
    }
}
