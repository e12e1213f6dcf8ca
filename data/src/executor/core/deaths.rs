//! Which deaths of workers count against the inputs that they had.
//!
//! An input that its worker dies of is tried a few times, and then given up: its rows may be to blame. Workers that die together are
//! another matter: a node is gone, or several, or somebody has ended them all. No input is to blame for that, and a job on nodes that
//! come and go would spend all tries of its inputs in a night. So deaths that come together are not counted, as long as the job gets
//! on between them: were it their rows after all, in every worker, nothing would get done, and then they count.

use std::collections::BTreeSet;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use super::Executor;
use super::event::WorkerKey;
use super::stage::Active;
use super::workers::WorkerState;

/// How many workers of a stage may try to make their functions ready, one after another, where none can.
const CONSTRUCTIONS: u32 = 3;
/// Deaths with no more time than this between them have one cause.
const TOGETHER: Duration = Duration::from_secs(2);

/// An input that a worker had: its stage, and its place in the order of that.
pub(super) type InputKey = (usize, u64);

/// The deaths so far.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// Over which deaths were not counted since something was last done.
    spared: BTreeSet<InputKey>,
    /// Those that came together, the last ones, in the order in which they became known.
    incident: Vec<WorkerDeath>,
}

/// One of the deaths of an incident.
#[derive(Debug)]
struct WorkerDeath {
    at: Duration,
    /// What the worker had.
    inputs: Vec<InputKey>,
    is_counted: bool,
}

/// What a death means for inputs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeathVerdict {
    /// It counts against its own.
    Counts,
    /// It does not, and those that were counted against these inputs do not either.
    Spares(Vec<InputKey>),
}

/// Workers that died before they were ready, counted by incident: all that had been started when one of them was found
/// dead died of the same thing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StartFailures {
    /// Incidents since a worker was ready.
    pub(crate) incidents: u32,
    /// Workers with lower numbers belong to the last of them.
    until: u64,
}

impl StartFailures {
    /// A worker died before it was ready; workers from `next_worker` on are not started yet. Whether it is a new incident.
    pub(crate) fn add(&mut self, worker: WorkerKey, next_worker: u64) -> bool {
        if worker.0 < self.until {
            return false;
        }
        self.incidents += 1;
        self.until = next_worker;
        true
    }

    /// A worker is ready.
    pub(crate) fn forget(&mut self) {
        self.incidents = 0;
    }
}

impl Deaths {
    /// An input is done, or a block of one.
    pub(super) fn got_on(&mut self) {
        self.spared.clear();
    }

    /// A worker died over these inputs at this time of the job. `is_node`: its node is known to be gone.
    pub(super) fn add(&mut self, inputs: &[InputKey], at: Duration, is_node: bool) -> DeathVerdict {
        self.leave_others(inputs, at);
        let is_shared = is_node || !self.incident.is_empty();
        let is_counted = !is_shared || !may_spare(&self.spared, inputs);
        let mut taken_back = Vec::new();
        if !is_counted {
            for death in &mut self.incident {
                if death.is_counted && may_spare(&self.spared, &death.inputs) {
                    death.is_counted = false;
                    taken_back.extend(&death.inputs);
                }
            }
            self.spared.extend(taken_back.iter().chain(inputs));
        }
        self.incident.push(WorkerDeath {
            at,
            inputs: inputs.to_vec(),
            is_counted,
        });
        match is_counted {
            true => DeathVerdict::Counts,
            false => DeathVerdict::Spares(taken_back),
        }
    }

    /// Leaves those in the incident that have come with a death over `inputs` at `at`.
    fn leave_others(&mut self, inputs: &[InputKey], at: Duration) {
        let is_apart = |last: &WorkerDeath| at.saturating_sub(last.at) > TOGETHER;
        if self.incident.last().is_some_and(is_apart) {
            self.incident.clear();
        }
        // Whose next worker dies too, has not died with the others: only those that are nearer to this death than to the one
        // before have come with it.
        let has_one =
            |death: &&WorkerDeath| death.inputs.iter().any(|input| inputs.contains(input));
        if let Some(before) = self.incident.iter().rev().find(has_one) {
            let before = before.at;
            let is_nearer =
                |death: &WorkerDeath| at.saturating_sub(death.at) < death.at.saturating_sub(before);
            self.incident.retain(is_nearer);
        }
    }
}

/// Whether something was done since deaths over these were last not counted.
fn may_spare(spared: &BTreeSet<InputKey>, inputs: &[InputKey]) -> bool {
    !inputs.iter().any(|input| spared.contains(input))
}

impl Executor {
    /// Another worker tries, after a pause; of workers that were started together, all of which fail, one counts.
    pub(super) fn constructor_failed(&mut self, worker: WorkerKey, failure: TaskFailure) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let next_worker = self.next_worker;
        let stage = &mut self.stages[index];
        let starts = &mut stage.starts[stage.workers.kind_of(worker)];
        stage.workers.remove(worker);
        if starts.add(worker, next_worker) && starts.incidents >= CONSTRUCTIONS {
            self.finish(Err(failure));
        }
    }

    pub(super) fn worker_lost(
        &mut self,
        worker: WorkerKey,
        failure: &TaskFailure,
        is_explained: bool,
        at: Duration,
    ) {
        let Some(index) = self.stage_of(worker) else {
            return;
        };
        let (max_deaths, next_worker) = (self.setup.max_deaths, self.next_worker);
        let is_node = failure.code == ErrorCode::NodeDied;
        let stage = &mut self.stages[index];
        let kind = stage.workers.kind_of(worker);
        match stage.workers.remove(worker) {
            Some(WorkerState::Busy(held)) => {
                let mut all: Vec<Active> = held.into_all().collect();
                // Of inputs whose calls overlap either may be to blame: both count, and each is tried alone from then on. One that only
                // waits behind another is not.
                let suspected = if stage.setup.looks_ahead {
                    1
                } else {
                    all.len()
                };
                let keys = all[..suspected].iter().map(|one| (index, one.sequence));
                let keys: Vec<InputKey> = keys.collect();
                let verdict = match is_explained {
                    true => DeathVerdict::Spares(Vec::new()),
                    false => self.deaths.add(&keys, at, is_node),
                };
                for one in &mut all[..suspected] {
                    *one.work.deaths_mut() += u32::from(verdict == DeathVerdict::Counts);
                }
                let (sequence, deaths) = (all[0].sequence, *all[0].work.deaths_mut());
                let is_bound = !all[0].work.kinds().is_empty();
                let unwanted = stage.put_back(all);
                self.spare(verdict);
                self.free_unwanted(unwanted);
                let stage = &self.stages[index];
                if deaths > max_deaths {
                    let failure = given_up(&stage.setup.name, sequence, deaths, failure);
                    return self.finish(Err(failure));
                }
                if is_bound {
                    self.size_pools();
                }
            }
            Some(WorkerState::Starting) => {
                let starts = &mut stage.starts[kind];
                let is_new = starts.add(worker, next_worker);
                if is_new && starts.incidents > max_deaths {
                    let failure = never_started(&stage.setup.name, starts.incidents, failure);
                    self.finish(Err(failure));
                }
            }
            // It says that those that die with it have not died of their inputs.
            Some(WorkerState::Idle) => {
                let verdict = self.deaths.add(&[], at, is_node);
                self.spare(verdict);
            }
            None => {}
        }
    }

    /// Takes back what was counted against inputs.
    fn spare(&mut self, verdict: DeathVerdict) {
        let DeathVerdict::Spares(inputs) = verdict else {
            return;
        };
        for (stage, sequence) in inputs {
            if let Some(deaths) = self.stages[stage].deaths_over(sequence) {
                *deaths = deaths.saturating_sub(1);
            }
        }
    }
}

fn given_up(stage: &str, sequence: u64, deaths: u32, last: &TaskFailure) -> TaskFailure {
    let code = match last.code {
        ErrorCode::OutOfMemory => ErrorCode::OutOfMemory,
        _ => ErrorCode::WorkerCrashed,
    };
    TaskFailure::new(
        code,
        format!(
            "{stage}: input {sequence} was given up because {deaths} worker processes died over it, the last one like \
             this: {last}; look for a crash, os._exit() or too much memory in the function; on_error=\"dead_letter\" finds the rows \
             that workers die of, and puts them aside"
        ),
    )
}

fn never_started(stage: &str, failures: u32, last: &TaskFailure) -> TaskFailure {
    TaskFailure::new(
        last.code,
        format!(
            "{stage}: {failures} worker processes died before they were ready, the last one like this: {last}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn single_deaths_count() {
        let mut deaths = Deaths::default();
        for times in 0..4 {
            assert_eq!(
                deaths.add(&[(0, 7)], times * 5 * SECOND, false),
                DeathVerdict::Counts
            );
        }
        // Over the same input, however quickly.
        assert_eq!(
            deaths.add(&[(0, 7)], 15 * SECOND, false),
            DeathVerdict::Counts
        );
    }

    #[test]
    fn deaths_that_come_together_spare_all_inputs() {
        let mut deaths = Deaths::default();
        assert_eq!(deaths.add(&[(0, 1)], SECOND, false), DeathVerdict::Counts);
        assert_eq!(
            deaths.add(&[(0, 2)], SECOND, false),
            DeathVerdict::Spares(vec![(0, 1)])
        );
        assert_eq!(
            deaths.add(&[(1, 1)], 2 * SECOND, false),
            DeathVerdict::Spares(Vec::new())
        );
        // Its node is gone: others may be quiet.
        deaths.got_on();
        assert_eq!(
            deaths.add(&[(0, 3)], 60 * SECOND, true),
            DeathVerdict::Spares(Vec::new())
        );
    }

    /// The death of a round that becomes known first belongs to that round, however soon after the one before it comes.
    #[test]
    fn input_whose_workers_are_killed_with_others_again_and_again_is_spared() {
        let mut deaths = Deaths::default();
        let mut counted = 0;
        for round in 1..=10_u32 {
            let at = round * SECOND;
            let soon = at + SECOND / 100;
            for (at, input) in [(at, (0, u64::from(round))), (soon, (0, 0))] {
                match deaths.add(&[input], at, false) {
                    DeathVerdict::Counts => counted += 1,
                    DeathVerdict::Spares(inputs) => counted -= inputs.len(),
                }
            }
            deaths.got_on();
        }
        assert_eq!(counted, 0);
    }

    /// Its own death soon after has another cause.
    #[test]
    fn input_that_kills_the_next_worker_too_is_not_spared_for_those_that_died_before() {
        let mut deaths = Deaths::default();
        let (first, second) = (SECOND, SECOND + SECOND / 100);
        assert_eq!(deaths.add(&[(0, 0)], first, false), DeathVerdict::Counts);
        assert_eq!(
            deaths.add(&[(0, 1)], second, false),
            DeathVerdict::Spares(vec![(0, 0)])
        );
        deaths.got_on();
        let later = second + SECOND / 2;
        assert_eq!(deaths.add(&[(0, 0)], later, false), DeathVerdict::Counts);
    }

    /// A worker that had nothing to do says as much as another.
    #[test]
    fn death_beside_that_of_an_idle_worker_is_spared() {
        let mut deaths = Deaths::default();
        assert_eq!(deaths.add(&[(0, 0)], SECOND, false), DeathVerdict::Counts);
        assert_eq!(
            deaths.add(&[], SECOND, false),
            DeathVerdict::Spares(vec![(0, 0)])
        );
    }

    #[test]
    fn inputs_whose_workers_always_die_are_given_up_however_quickly_they_do() {
        let mut deaths = Deaths::default();
        let mut counted = 0;
        for at in 1..=20 {
            for input in [(0, 1), (0, 2)] {
                match deaths.add(&[input], at * SECOND / 10, false) {
                    DeathVerdict::Counts => counted += 1,
                    DeathVerdict::Spares(inputs) => counted -= inputs.len(),
                }
            }
        }
        assert_eq!(counted, 38, "all but those of the first time");
    }

    #[test]
    fn deaths_of_all_workers_count_when_nothing_is_done_between_them() {
        let mut deaths = Deaths::default();
        let round = |at: u32, deaths: &mut Deaths| {
            let first = deaths.add(&[(0, 1)], at * SECOND, false);
            let second = deaths.add(&[(0, 2)], at * SECOND, false);
            assert_eq!(first, DeathVerdict::Counts);
            second != DeathVerdict::Counts
        };
        assert!(round(1, &mut deaths));
        assert!(!round(10, &mut deaths), "nothing was done since");
        deaths.got_on();
        assert!(round(20, &mut deaths));
    }
}
