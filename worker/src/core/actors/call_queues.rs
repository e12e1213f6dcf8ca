//! Calls of this process to one actor that have not ended, by concurrency group.
//!
//! ```text
//!                 waiting            sent (CallWindow)
//!   ""            c7 c6 c5     ───►  c4 c2              ───► actor
//!   "slow"        c9 c8        ───►  c3 c1              ───►
//! ```
//! Groups do not wait for each other, in the actor or here: each has a queue and a window of its own. Within a group calls
//! leave in the order of submission. An actor without concurrency groups has one group, without a name.

use std::collections::VecDeque;

use aktis_common::ids::TaskId;

use super::window::CallWindow;

/// Index of a group among those of an actor that this process has called. Groups are few and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) struct Group(usize);

/// Calls of one group.
#[derive(Debug, Default)]
pub(super) struct CallQueue {
    name: Box<str>,
    /// Not sent yet, in order.
    waiting: VecDeque<TaskId>,
    sent: CallWindow,
}

impl CallQueue {
    /// The call that is to be sent next.
    pub(super) fn front(&self) -> Option<TaskId> {
        self.waiting.front().copied()
    }

    /// Whether the window lets one more call pass.
    pub(super) fn has_room(&self) -> bool {
        self.sent.has_room()
    }

    /// Calls that were sent and are unanswered.
    pub(super) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// The first call is not to be sent, or fails.
    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
    }

    /// Those that wait to be sent, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = TaskId> {
        self.waiting.iter().copied()
    }

    /// The first call leaves.
    pub(super) fn send(&mut self, bytes: usize) {
        if let Some(call) = self.waiting.pop_front() {
            self.sent.sent(call, bytes);
        }
    }

    /// A call that is no longer to be sent. Calls lie in the order of `is_earlier` but for those that two threads submitted at
    /// the same time.
    pub(super) fn remove(&mut self, call: TaskId, is_earlier: impl Fn(TaskId) -> bool) {
        let expected = self.waiting.partition_point(|id| is_earlier(*id));
        if self.waiting.get(expected) == Some(&call) {
            self.waiting.remove(expected);
        } else {
            self.waiting.retain(|id| *id != call);
        }
    }

    pub(super) fn push(&mut self, call: TaskId) {
        self.waiting.push_back(call);
    }

    /// Puts a call that comes back between those that wait.
    pub(super) fn insert(&mut self, call: TaskId, is_after: impl Fn(TaskId) -> bool) {
        let position = self.waiting.iter().position(|id| is_after(*id));
        self.waiting
            .insert(position.unwrap_or(self.waiting.len()), call);
    }
}

/// How many calls an actor runs at once at most: the default group's number, then those of the named groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CallLimits {
    pub(crate) default_group: u32,
    pub(crate) groups: Vec<(String, u32)>,
}

impl CallLimits {
    /// One, if the actor has no such group: it refuses those calls.
    fn of(&self, group: &str) -> usize {
        let named = self.groups.iter().find(|(name, _)| name == group);
        let limit = if group.is_empty() {
            self.default_group
        } else {
            named.map_or(1, |(_, limit)| *limit)
        };
        limit.max(1) as usize
    }
}

/// The queues of one actor.
#[derive(Debug, Default)]
pub(super) struct CallQueues {
    queues: Vec<CallQueue>,
    limits: CallLimits,
}

impl CallQueues {
    /// The limits are known once the actor lives.
    pub(super) fn set_limits(&mut self, limits: CallLimits) {
        for queue in &mut self.queues {
            queue.sent.set_calls_at_once(limits.of(&queue.name));
        }
        self.limits = limits;
    }

    /// The queue of a group, made when it is first called.
    pub(super) fn of(&mut self, group: &str) -> &mut CallQueue {
        let known = self.queues.iter().position(|queue| *queue.name == *group);
        let index = known.unwrap_or_else(|| {
            let mut queue = CallQueue {
                name: group.into(),
                ..CallQueue::default()
            };
            queue.sent.set_calls_at_once(self.limits.of(group));
            self.queues.push(queue);
            self.queues.len() - 1
        });
        &mut self.queues[index]
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = Group> + use<> {
        (0..self.queues.len()).map(Group)
    }

    /// `None`: the actor was forgotten since, and is called anew.
    pub(super) fn get_mut(&mut self, group: Group) -> Option<&mut CallQueue> {
        self.queues.get_mut(group.0)
    }

    /// Calls that have not ended.
    pub(super) fn len(&self) -> usize {
        let length = |queue: &CallQueue| queue.waiting.len() + queue.sent.len();
        self.queues.iter().map(length).sum()
    }

    /// The group in which the call was on its way.
    pub(super) fn answered(&mut self, call: TaskId) -> Option<Group> {
        let answered = |queue: &mut CallQueue| queue.sent.answered(call);
        self.queues.iter_mut().position(answered).map(Group)
    }

    /// The lane is gone: what was sent on it, in order within each group.
    pub(super) fn take_sent(&mut self) -> Vec<TaskId> {
        let mut sent = Vec::new();
        for queue in &mut self.queues {
            sent.append(&mut queue.sent.take());
        }
        sent
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CallQueue> {
        self.queues.iter()
    }

    /// Gives back the memory of calls that have ended.
    pub(super) fn shrink(&mut self) {
        for queue in &mut self.queues {
            queue.waiting.shrink_to_fit();
            queue.sent.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> CallLimits {
        CallLimits {
            default_group: 3,
            groups: vec![("slow".to_owned(), 2)],
        }
    }

    /// How many calls of a megabyte leave: those that can run at once, and the bytes of the window.
    fn leaving(queue: &mut CallQueue, offered: usize) -> usize {
        (0..offered).for_each(|_| queue.push(TaskId::next()));
        while queue.front().is_some() && queue.has_room() {
            queue.send(16 << 20);
        }
        queue.in_flight()
    }

    #[test]
    fn each_group_has_a_window_of_its_own() {
        let mut queues = CallQueues::default();
        queues.set_limits(limits());
        assert_eq!(leaving(queues.of("slow"), 100), 2);
        assert_eq!(leaving(queues.of(""), 100), 3);
        assert_eq!(leaving(queues.of("no such group"), 100), 1);
        assert_eq!(queues.len(), 300);
    }

    #[test]
    fn groups_that_were_called_before_the_actor_lived_get_their_limits() {
        let mut queues = CallQueues::default();
        queues.of("slow").push(TaskId::next());
        queues.set_limits(limits());
        assert_eq!(leaving(queues.of("slow"), 99), 2);
    }

    #[test]
    fn answer_makes_room_in_its_own_group() {
        let mut queues = CallQueues::default();
        queues.set_limits(limits());
        let (plain, slow) = (TaskId::next(), TaskId::next());
        for (group, call) in [("", plain), ("slow", slow)] {
            queues.of(group).push(call);
            queues.of(group).send(1);
        }
        let [default_group, slow_group] = [Group(0), Group(1)];
        assert_eq!(queues.answered(slow), Some(slow_group));
        assert_eq!(queues.answered(slow), None);
        let mut in_flight = |group| queues.get_mut(group).map(|queue| queue.in_flight());
        assert_eq!(in_flight(slow_group), Some(0));
        assert_eq!(in_flight(default_group), Some(1));
        assert_eq!(queues.take_sent(), [plain]);
    }
}
