//! What workers hold that have asked for memory: looked at ten times a second, measured seldom.
//!
//! Anonymous pages are a number that the kernel keeps, but those that a worker has in common with its zygote are among them. Sharing them
//! out takes a walk over all of its pages, which is done beside the loop, and not again while what was in common then explains the
//! difference: it becomes less as the worker writes to such pages, and never more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::ids::WorkerId;
use rustc_hash::FxHashMap;

use super::RayletLoop;
use crate::core::event::{Event, Overgrown};
use crate::inbox::Message;
use crate::io::held::Measured;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// What is explained by pages in common is measured again after this, and after so many times what measuring took.
const MEASURED_FOR: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 50;
/// One that has not answered for so long is begun again.
const MEASURING: Duration = Duration::from_secs(30);

/// What is known of a worker.
#[derive(Debug)]
struct Known {
    pid: u32,
    /// Since when it is being measured. That waits for what the process does with its memory, and may never come back.
    measuring_since: Option<Instant>,
    /// Anonymous pages that are not its own, in bytes, and until when that counts.
    common: Option<(u64, Instant)>,
}

/// The workers that have limits.
#[derive(Debug, Default)]
pub(super) struct MemoryWatch {
    known: FxHashMap<WorkerId, Known>,
    /// When to look; `None`: nobody had a limit the last time, and this is done with the next tick.
    next_look: Option<Instant>,
}

impl MemoryWatch {
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Whether a worker must be measured that has so many bytes of anonymous pages.
    fn must_measure(
        &mut self,
        (worker, pid): (WorkerId, u32),
        (anonymous_bytes, limit_bytes): (u64, u64),
        now: Instant,
    ) -> bool {
        if anonymous_bytes <= limit_bytes {
            return false;
        }
        let unknown = || Known {
            pid,
            measuring_since: None,
            common: None,
        };
        let known = self.known.entry(worker).or_insert_with(unknown);
        if known.pid != pid {
            *known = unknown();
        }
        let is_explained = known.common.is_some_and(|(common_bytes, until)| {
            anonymous_bytes.saturating_sub(common_bytes) <= limit_bytes && now < until
        });
        let is_measuring = (known.measuring_since)
            .is_some_and(|since| now.saturating_duration_since(since) < MEASURING);
        let must = !is_measuring && !is_explained;
        if must {
            known.measuring_since = Some(now);
        }
        must
    }

    /// Takes in what was found. Gives what the worker holds too much, if it does. `limit_bytes`: what it may hold by now, when it may work
    /// for somebody else.
    fn measured(
        &mut self,
        measured: &Measured,
        limit_bytes: Option<u64>,
        now: Instant,
    ) -> Option<Overgrown> {
        let known = self.known.get_mut(&measured.worker)?;
        if known.pid != measured.pid {
            return None;
        }
        known.measuring_since = None;
        let own_bytes = measured.own_bytes?;
        let pause = MEASURED_FOR.max(measured.took * PAUSE_FACTOR);
        let common_bytes = measured.anonymous_bytes.saturating_sub(own_bytes);
        known.common = Some((common_bytes, now + pause));
        let limit_bytes = limit_bytes.filter(|&limit| own_bytes > limit)?;
        Some(Overgrown {
            worker: measured.worker,
            held_bytes: own_bytes,
            limit_bytes,
        })
    }
}

impl RayletLoop {
    /// Looks for workers that hold more memory than was asked for them.
    pub(super) fn look_at_memory(&mut self, now: Instant) {
        let limits: Vec<(WorkerId, u64)> = self.core.leases().memory_limits().collect();
        let watch = &mut self.memory;
        watch
            .known
            .retain(|worker, _| limits.iter().any(|(limited, _)| limited == worker));
        watch.next_look = (!limits.is_empty()).then(|| now + LOOK);
        for (worker, limit_bytes) in limits {
            let processes = &self.surroundings.processes;
            let pid = self.core.pool().get(worker).and_then(|worker| worker.pid);
            let Some((pid, anonymous_bytes)) =
                pid.zip(pid.and_then(|pid| processes.anonymous_bytes(pid)))
            else {
                continue;
            };
            let found = (anonymous_bytes, limit_bytes);
            if !self.memory.must_measure((worker, pid), found, now) {
                continue;
            }
            let (processes, mailbox) = (Arc::clone(processes), self.mailbox.clone());
            self.surroundings.beside.spawn_blocking(move || {
                let began = Instant::now();
                let own_bytes = processes.own_bytes(pid);
                // What was given back meanwhile was in common with nobody.
                let after = processes.anonymous_bytes(pid).unwrap_or(0);
                let anonymous_bytes = anonymous_bytes.min(after);
                mailbox.send(Message::Measured(Measured {
                    worker,
                    pid,
                    anonymous_bytes,
                    own_bytes,
                    took: began.elapsed(),
                }));
            });
        }
    }

    /// Ends a worker that holds too much.
    pub(super) fn on_measured(&mut self, measured: &Measured) {
        let is_its_own = |limit: &(WorkerId, u64)| limit.0 == measured.worker;
        let limit = self.core.leases().memory_limits().find(is_its_own);
        let limit_bytes = limit.map(|(_, limit_bytes)| limit_bytes);
        let overgrown = self.memory.measured(measured, limit_bytes, Instant::now());
        if let Some(overgrown) = overgrown {
            self.handle(Event::Overgrown(overgrown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 7;
    const LIMIT: Option<u64> = Some(100);

    fn measured(worker: WorkerId, anonymous_bytes: u64, own_bytes: Option<u64>) -> Measured {
        Measured {
            worker,
            pid: PID,
            anonymous_bytes,
            own_bytes,
            took: Duration::from_millis(1),
        }
    }

    #[test]
    fn pages_in_common_are_measured_once_and_now_and_then() {
        let (mut watch, worker, now) = (MemoryWatch::default(), WorkerId::random(), Instant::now());
        let must = |watch: &mut MemoryWatch, bytes, at| {
            watch.must_measure((worker, PID), (bytes, 100), at)
        };
        assert!(
            !must(&mut watch, 100, now),
            "even if all of it were its own"
        );
        assert!(must(&mut watch, 130, now));
        assert!(!must(&mut watch, 130, now), "it is being measured");
        assert!(
            watch
                .measured(&measured(worker, 130, Some(90)), LIMIT, now)
                .is_none()
        );
        assert!(!must(&mut watch, 140, now), "40 of them are in common");
        assert!(must(&mut watch, 141, now));
        let over = watch.measured(&measured(worker, 141, Some(101)), LIMIT, now);
        assert_eq!(
            over.map(|over| (over.held_bytes, over.limit_bytes)),
            Some((101, 100))
        );
        assert!(!must(&mut watch, 140, now));
        assert!(
            must(&mut watch, 140, now + MEASURED_FOR),
            "pages in common become its own"
        );
        assert!(
            watch
                .measured(&measured(worker, 140, None), LIMIT, now)
                .is_none()
        );
        assert!(
            must(&mut watch, 140, now + MEASURED_FOR),
            "nothing was found"
        );
    }

    #[test]
    fn another_process_of_the_worker_is_another_one() {
        let (mut watch, worker, now) = (MemoryWatch::default(), WorkerId::random(), Instant::now());
        assert!(watch.must_measure((worker, PID), (200, 100), now));
        assert!(watch.must_measure((worker, PID + 1), (200, 100), now));
        assert!(
            watch
                .measured(&measured(worker, 200, Some(150)), LIMIT, now)
                .is_none()
        );
        assert!(!watch.must_measure((worker, PID + 1), (200, 100), now));
    }

    #[test]
    fn limit_that_is_gone_when_it_was_measured_ends_nobody() {
        let (mut watch, worker, now) = (MemoryWatch::default(), WorkerId::random(), Instant::now());
        let mut found = |limit_bytes| {
            watch.known.clear();
            assert!(watch.must_measure((worker, PID), (200, 100), now));
            let over = watch.measured(&measured(worker, 200, Some(150)), limit_bytes, now);
            over.map(|over| over.limit_bytes)
        };
        assert_eq!(found(LIMIT), LIMIT);
        assert_eq!(found(None), None, "it works for somebody without one");
        assert_eq!(found(Some(150)), None);
    }

    #[test]
    fn measuring_takes_a_small_part_of_the_time() {
        let (mut watch, worker, now) = (MemoryWatch::default(), WorkerId::random(), Instant::now());
        assert!(watch.must_measure((worker, PID), (130, 100), now));
        let slow = Measured {
            took: Duration::from_millis(200),
            ..measured(worker, 130, Some(90))
        };
        assert!(watch.measured(&slow, LIMIT, now).is_none());
        let later = now + Duration::from_secs(9);
        assert!(!watch.must_measure((worker, PID), (130, 100), later));
        let later = now + Duration::from_secs(11);
        assert!(watch.must_measure((worker, PID), (130, 100), later));
    }
}
