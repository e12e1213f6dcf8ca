//! Calls of workers, and their answers in the order of the calls: one that fails before it is sent may be answered before those that are
//! under way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::core::event::WorkerKey;
use super::pool::Answer;

/// The calls that are under way.
#[derive(Default)]
pub(crate) struct Calls {
    workers: HashMap<WorkerKey, CallsOfWorker>,
    /// Workers whose next answer is there, at least so many times.
    due: VecDeque<WorkerKey>,
}

#[derive(Default)]
struct CallsOfWorker {
    made: u64,
    /// The number of the call whose answer is read next.
    next: u64,
    early: BTreeMap<u64, Answer>,
}

impl Calls {
    /// The worker is called once more.
    pub(super) fn made(&mut self, worker: WorkerKey) {
        self.workers.entry(worker).or_default().made += 1;
    }

    /// The call with this number is answered. Of workers that have ended nobody wants to hear.
    pub(super) fn answered(&mut self, worker: WorkerKey, number: u64, answer: Answer) {
        let Some(calls) = self.workers.get_mut(&worker) else {
            return;
        };
        if number >= calls.next {
            calls.early.insert(number, answer);
            self.due.push_back(worker);
        }
    }

    /// The next answer that is there, of any worker.
    pub(super) fn take(&mut self) -> Option<(WorkerKey, Answer)> {
        while let Some(worker) = self.due.pop_front() {
            let Some(calls) = self.workers.get_mut(&worker) else {
                continue;
            };
            if let Some(answer) = calls.early.remove(&calls.next) {
                calls.next += 1;
                // The one behind it may have come before.
                self.due.push_back(worker);
                return Some((worker, answer));
            }
        }
        None
    }

    /// Nobody wants to know what becomes of the calls that are under way.
    pub(super) fn give_up(&mut self, worker: WorkerKey) {
        if let Some(calls) = self.workers.get_mut(&worker) {
            calls.next = calls.made;
            calls.early.clear();
        }
    }

    /// The worker is no more.
    pub(super) fn ended(&mut self, worker: WorkerKey) {
        self.workers.remove(&worker);
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::error::ErrorCode;
    use aktis_worker::TaskFailure;

    use super::*;

    const WORKER: WorkerKey = WorkerKey(7);

    /// A worker that is called so often.
    fn called(times: usize) -> Calls {
        let mut calls = Calls::default();
        (0..times).for_each(|_| calls.made(WORKER));
        calls
    }

    fn answer(calls: &mut Calls, number: u64) {
        let failure = TaskFailure::new(ErrorCode::Internal, number.to_string());
        calls.answered(WORKER, number, Answer::Pulled(Err(failure)));
    }

    fn read(calls: &mut Calls) -> Vec<String> {
        let next = || calls.take();
        let answers = std::iter::from_fn(next).map(|(worker, answer)| match answer {
            Answer::Pulled(Err(failure)) if worker == WORKER => failure.message,
            _ => "another".to_owned(),
        });
        answers.collect()
    }

    #[test]
    fn answers_are_read_in_the_order_of_the_calls() {
        let mut calls = called(3);
        answer(&mut calls, 1);
        assert_eq!(read(&mut calls), [""; 0], "the first is not answered");
        answer(&mut calls, 0);
        answer(&mut calls, 2);
        assert_eq!(read(&mut calls), ["0", "1", "2"]);
    }

    #[test]
    fn answers_to_calls_that_were_given_up_are_not_read() {
        let mut calls = called(2);
        answer(&mut calls, 1);
        calls.give_up(WORKER);
        answer(&mut calls, 0);
        assert_eq!(read(&mut calls), [""; 0]);
        calls.made(WORKER);
        answer(&mut calls, 2);
        assert_eq!(read(&mut calls), ["2"]);
        calls.made(WORKER);
        calls.ended(WORKER);
        answer(&mut calls, 3);
        assert_eq!(read(&mut calls), [""; 0]);
    }
}
