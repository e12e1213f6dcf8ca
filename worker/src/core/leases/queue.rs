//! Tasks of one class that wait for a worker.
//!
//! A cancelled task stays where it is until it comes to the front, or until such tasks are the majority: to cancel n tasks
//! takes n steps, not n squared.

use std::collections::VecDeque;

use aktis_common::ids::TaskId;

/// An empty queue with room for more tasks than this gives its memory back.
const KEPT_QUEUE: usize = 1 << 14;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct TaskQueue {
    tasks: VecDeque<TaskId>,
    /// How many of `tasks` were cancelled.
    cancelled: usize,
}

impl TaskQueue {
    /// Tasks that wait.
    pub(super) fn len(&self) -> usize {
        self.tasks.len().saturating_sub(self.cancelled)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push_back(&mut self, task: TaskId) {
        self.tasks.push_back(task);
    }

    pub(super) fn push_front(&mut self, task: TaskId) {
        self.tasks.push_front(task);
    }

    /// The task that came first. It may have been cancelled.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.tasks.front().copied()
    }

    /// The task that is next. `is_left`: it waits, and was not cancelled.
    pub(super) fn pop(&mut self, is_left: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        loop {
            let Some(task) = self.tasks.pop_front() else {
                self.cancelled = 0;
                return None;
            };
            if self.cancelled == 0 || is_left(task) {
                return Some(task);
            }
            self.cancelled = self.cancelled.saturating_sub(1);
        }
    }

    /// One of the tasks was cancelled.
    pub(super) fn one_was_cancelled(&mut self, is_left: impl Fn(TaskId) -> bool) {
        self.cancelled += 1;
        if self.cancelled * 2 > self.tasks.len() {
            self.tasks.retain(|task| is_left(*task));
            self.cancelled = 0;
            self.shrink();
        }
    }

    /// All tasks, for good.
    pub(super) fn take(&mut self) -> impl Iterator<Item = TaskId> + use<> {
        std::mem::take(self).tasks.into_iter()
    }

    /// Those that wait, and some that were cancelled.
    pub(super) fn iter(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().copied()
    }

    /// Gives back the memory of a queue that was long.
    pub(super) fn shrink(&mut self) {
        if self.tasks.is_empty() && self.tasks.capacity() > KEPT_QUEUE {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn cancelling_all_of_many_tasks_looks_at_each_a_few_times() {
        const TASKS: usize = 10_000;
        let tasks: Vec<TaskId> = (0..TASKS).map(|_| TaskId::next()).collect();
        let mut queue = TaskQueue::default();
        tasks.iter().for_each(|task| queue.push_back(*task));
        let (mut cancelled, looked_at) = (HashSet::new(), Cell::new(0));
        for (count, task) in (1..).zip(tasks.iter().rev()) {
            cancelled.insert(*task);
            queue.one_was_cancelled(|task| {
                looked_at.set(looked_at.get() + 1);
                !cancelled.contains(&task)
            });
            assert_eq!(queue.len(), TASKS - count);
        }
        assert!(looked_at.get() < 4 * TASKS, "{}", looked_at.get());
        assert!(queue.is_empty() && queue.tasks.is_empty());
    }

    #[test]
    fn tasks_between_cancelled_ones_come_in_order() {
        let tasks: Vec<TaskId> = (0..9).map(|_| TaskId::next()).collect();
        let mut queue = TaskQueue::default();
        tasks.iter().for_each(|task| queue.push_back(*task));
        let is_left = |task| {
            tasks
                .iter()
                .position(|known| *known == task)
                .is_some_and(|at| at % 3 != 0)
        };
        (0..3).for_each(|_| queue.one_was_cancelled(is_left));
        assert_eq!(queue.len(), 6);
        let left: Vec<TaskId> = std::iter::from_fn(|| queue.pop(is_left)).collect();
        assert_eq!(left, [1, 2, 4, 5, 7, 8].map(|at| tasks[at]));
        assert!(queue.is_empty());
    }
}
