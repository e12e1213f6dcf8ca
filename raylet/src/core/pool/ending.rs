//! Workers are asked to end, are killed, stay for what they own, and end.
//!
//! ```text
//!  Busy, Idle, Retiring ── Lingering ──► Lingering ── nobody needs anything, job over ──► (process ends)
//! ```
//! A worker that has had its last call, or whose actor has ended, may own objects that other processes hold references to.
//! It says so and serves them on. Its actor is over for everybody, and what it held is free at once; but for GPUs whose
//! memory it may still use: those are free when its process has ended.

use std::time::Instant;

use aktis_common::ids::{JobId, WorkerId};
use aktis_common::resources::format_bytes;
use aktis_proto::v1::{Exit as ExitFrame, node_frame};

use super::{Duty, PoolChores, PoolEvent, Worker, WorkerPool, WorkerState};
use crate::core::effect::{Effect, Epitaph, NodeStoreEffect};
use crate::core::event::{Exit, Overgrown};
use crate::core::out::Out;
use crate::core::processes::Process;

impl WorkerPool {
    /// Workers that are late, too many, or do not end when asked.
    pub fn do_chores(&mut self, out: &mut Out) {
        let now = out.now();
        self.end_pause(now);
        let chores = self.chores(now);
        for worker in chores.overdue {
            let limit = self.limits.start_timeout.as_secs_f64();
            self.fail_start(worker, &format!("it did not report within {limit} s"), out);
        }
        for worker in chores.surplus {
            self.ask_to_end(worker, "idle for too long", out);
        }
        for worker in chores.stubborn {
            self.kill(worker, "did not end when asked", out);
            // Tried again after the same time, should the system be slow to end it.
            self.retire(worker, now);
        }
    }

    /// What is due at `now`.
    pub(super) fn chores(&self, now: Instant) -> PoolChores {
        let mut chores = PoolChores::default();
        for worker in self.workers.values() {
            match worker.state {
                WorkerState::Starting { since } if now >= since + self.limits.start_timeout => {
                    chores.overdue.push(worker.id);
                }
                WorkerState::Retiring { since } if now >= since + self.limits.exit_grace => {
                    chores.stubborn.push(worker.id);
                }
                _ => {}
            }
        }
        let beyond_warm = self.idle.len().saturating_sub(self.limits.warm_max);
        chores.surplus = self.expired_idle(now).take(beyond_warm).collect();
        chores
    }

    /// Idle workers past their time, the longest idle first. One that lends what it owns to others stays. One that begins to
    /// lend at this very moment lingers when it is asked to end.
    fn expired_idle(&self, now: Instant) -> impl Iterator<Item = WorkerId> {
        let is_expired = move |worker: &&Worker| match worker.state {
            WorkerState::Idle { since } => {
                !worker.is_lending && now >= since + self.limits.idle_timeout
            }
            _ => false,
        };
        let idle = self.idle.iter().map(|id| &self.workers[id]);
        idle.filter(is_expired).map(|worker| worker.id)
    }

    /// Asks a worker to end; it is killed when it does not.
    pub fn ask_to_end(&mut self, worker: WorkerId, reason: &str, out: &mut Out) {
        if self.is_lingering(worker) {
            // It ends when it can.
            return;
        }
        self.retire(worker, out.now());
        self.tell_to_end(worker, reason, false, out);
    }

    /// Asks a worker to end that nobody needs any more, whatever it owns.
    fn dismiss(&mut self, worker: WorkerId, reason: &str, out: &mut Out) {
        self.retire_for_good(worker, out.now());
        self.tell_to_end(worker, reason, true, out);
    }

    fn tell_to_end(&mut self, worker: WorkerId, reason: &str, is_final: bool, out: &mut Out) {
        match self.get(worker).and_then(|worker| worker.connection) {
            Some(connection) => {
                let reason = reason.to_owned();
                let exit = ExitFrame { reason, is_final };
                out.notify(connection, node_frame::Kind::Exit(exit));
            }
            None => self.kill(worker, reason, out),
        }
    }

    /// Kills a worker. Its resources are free when its process has ended, so that GPU memory really is.
    pub fn kill(&mut self, worker: WorkerId, cause: &str, out: &mut Out) {
        self.note_kill(worker, cause);
        let Some(doomed) = self.get(worker) else {
            return;
        };
        match doomed.pid {
            Some(pid) => out.push(Effect::Kill { pid }),
            // Not forked yet: the zygote's reply finds it gone and kills it.
            None if matches!(doomed.state, WorkerState::Starting { .. }) => {
                self.remove(worker);
            }
            None => {}
        }
    }

    /// A worker holds more memory than was asked for it. One that ends already is let be.
    pub fn end_overgrown(&mut self, overgrown: &Overgrown, out: &mut Out) {
        let worker = self.workers.get_mut(&overgrown.worker);
        let Some(worker) = worker.filter(|worker| worker.duty().is_some() && !worker.is_doomed())
        else {
            return;
        };
        worker.is_overgrown = true;
        let cause = format!(
            "held {}, and memory={} is what it may hold",
            format_bytes(overgrown.held_bytes),
            format_bytes(overgrown.limit_bytes)
        );
        self.kill(overgrown.worker, &cause, out);
    }

    /// The gcs wants a worker to end.
    pub fn end(&mut self, worker: WorkerId, cause: &str, is_graceful: bool, out: &mut Out) {
        self.note_kill(worker, cause);
        if is_graceful {
            self.ask_to_end(worker, cause, out);
        } else {
            self.kill(worker, cause, out);
        }
    }

    /// Whoever leased a worker is gone: it may be running that owner's tasks. One that lingers runs nothing any more.
    pub fn end_orphan(&mut self, worker: WorkerId, cause: &str, out: &mut Out) {
        if !self.is_lingering(worker) {
            self.kill(worker, cause, out);
        }
    }

    /// The gcs has given the actor up that a worker is. One that was asked to end does so in good order.
    pub fn end_given_up(&mut self, worker: WorkerId, out: &mut Out) {
        let state = self.get(worker).map(|worker| worker.state);
        if !matches!(state, Some(WorkerState::Retiring { .. })) {
            self.kill(worker, "the head has given this actor up here", out);
        }
    }

    /// A job is over. Actors of the job are ended by the gcs, which knows the detached ones.
    pub fn job_over(&mut self, job: JobId, out: &mut Out) {
        let workers: Vec<(WorkerId, WorkerState)> = self
            .iter()
            .filter(|worker| worker.job == Some(job))
            .map(|worker| (worker.id, worker.state))
            .collect();
        for (worker, state) in workers {
            match state {
                WorkerState::Busy(Duty::Lease(_)) => self.kill(worker, "its job is over", out),
                WorkerState::Idle { .. } | WorkerState::Lingering => {
                    self.dismiss(worker, "its job is over", out);
                }
                _ => {}
            }
        }
    }

    /// A worker says that it stays only for what it owns, maybe with memory of its GPUs.
    pub fn on_lingering(
        &mut self,
        worker: WorkerId,
        holds_devices: bool,
        is_leaving: bool,
        out: &mut Out,
    ) {
        let is_final = self.get(worker).is_some_and(|worker| worker.is_final);
        if let Some(cause) = self.linger(worker, holds_devices) {
            out.tell(PoolEvent::Lingers {
                worker,
                holds_devices,
                cause,
                is_intended: is_leaving || is_final,
            });
        }
    }

    /// Whether a worker has ended its work, and stays for what it owns (`LEND-1`).
    fn is_lingering(&self, worker: WorkerId) -> bool {
        self.get(worker)
            .is_some_and(|worker| worker.state == WorkerState::Lingering)
    }

    /// The connection of a worker has ended. Its process is to end, too.
    pub fn connection_ended(&mut self, process: &Process, out: &mut Out) {
        let id = process.worker;
        let starting = self.workers.get_mut(&id);
        let starting =
            starting.filter(|worker| matches!(worker.state, WorkerState::Starting { .. }));
        if let Some(worker) = starting {
            let connection = process.connection;
            out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
            worker.connection = None;
            // Else the end of the process says why.
            if let Some(exit) = worker.exit.clone() {
                self.ended_at_start(id, &exit, out);
            }
            return;
        }
        self.cut_off(id, process.is_leaving, out.now());
        let Some(worker) = self.get(id).cloned() else {
            return;
        };
        // Whatever it started goes too.
        out.push(Effect::Kill { pid: process.pid });
        let exit = worker.exit.clone();
        // Of others nobody has ever heard.
        if worker.has_served {
            out.tell(PoolEvent::CutOff(Box::new(worker)));
        }
        if let Some(exit) = exit {
            self.bury(id, exit, out);
        }
    }

    /// The process of a worker has ended.
    pub fn process_ended(&mut self, pid: u32, exit: Exit, out: &mut Out) {
        let Some(worker) = self.by_pid(pid) else {
            return;
        };
        let (id, connection, is_cut_off) = (worker.id, worker.connection, worker.is_cut_off);
        match connection {
            _ if is_cut_off => self.bury(id, exit, out),
            // Its last frames may still be in its connection; or something it started holds that open.
            Some(connection) => {
                self.note_exit(id, exit, out.now());
                out.push(Effect::Kill { pid });
                out.push(Effect::Close { connection });
            }
            None => self.ended_at_start(id, &exit, out),
        }
    }

    /// The connection and the process of a worker have ended: what it held is free (`NODE-2`), and its actor may begin anew
    /// (`HOST-1`).
    fn bury(&mut self, worker: WorkerId, exit: Exit, out: &mut Out) {
        let Some(worker) = self.remove(worker) else {
            return;
        };
        if let Some(connection) = worker.connection {
            out.push(Effect::Store(NodeStoreEffect::ClientGone { connection }));
        }
        let pid = worker.pid.unwrap_or(0);
        let label = worker.source();
        out.tell(PoolEvent::Ended {
            worker: worker.id,
            exit,
        });
        out.push(Effect::EndLog {
            worker: worker.id,
            epitaph: worker.job.map(|job| Epitaph { job, pid, label }),
        });
    }
}
