//! How many calls are on their way to one concurrency group of an actor.
//!
//! Calls that an actor cannot start yet wait with their caller, where they cost one record each and can be cancelled
//! without a message, instead of filling the actor's memory. As many as the actor runs at once are always sent: holding
//! those back would change what a program means.

use std::collections::VecDeque;

use aktis_common::ids::TaskId;

/// Calls sent ahead of those that the actor can run at once.
const AHEAD_CALLS: usize = 1000;
/// Bytes of calls beyond those that the actor can run at once.
const AHEAD_BYTES: usize = 16 << 20;

/// Calls that were sent and are unanswered, in order.
#[derive(Debug, Default)]
pub(super) struct CallWindow {
    sent: VecDeque<(TaskId, u32)>,
    bytes: usize,
    /// How many calls the group runs at once.
    calls_at_once: usize,
}

impl CallWindow {
    pub(super) fn set_calls_at_once(&mut self, calls_at_once: usize) {
        self.calls_at_once = calls_at_once;
    }

    /// Whether one more call may be sent.
    pub(super) fn has_room(&self) -> bool {
        let sent = self.sent.len();
        sent < self.calls_at_once
            || (sent < self.calls_at_once + AHEAD_CALLS && self.bytes < AHEAD_BYTES)
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn sent(&mut self, call: TaskId, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes += bytes as usize;
        self.sent.push_back((call, bytes));
    }

    /// False: the call was not on its way.
    pub(super) fn answered(&mut self, call: TaskId) -> bool {
        let position = self.sent.iter().position(|(id, _)| *id == call);
        let sent = position.and_then(|position| self.sent.remove(position));
        if let Some((_, bytes)) = sent {
            self.bytes -= bytes as usize;
        }
        sent.is_some()
    }

    /// The lane is gone: what was sent on it, in order.
    pub(super) fn take(&mut self) -> Vec<TaskId> {
        self.bytes = 0;
        self.sent.drain(..).map(|(call, _)| call).collect()
    }

    pub(super) fn shrink(&mut self) {
        self.sent.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(calls_at_once: usize, bytes: usize) -> usize {
        let mut window = CallWindow::default();
        window.set_calls_at_once(calls_at_once);
        while window.has_room() && window.len() < 100_000 {
            window.sent(TaskId::next(), bytes);
        }
        window.len()
    }

    #[test]
    fn small_calls_are_limited_by_number() {
        assert_eq!(filled(1, 10), 1 + AHEAD_CALLS);
    }

    #[test]
    fn large_calls_are_limited_by_bytes() {
        assert_eq!(filled(1, 1 << 20), 16);
    }

    #[test]
    fn what_the_actor_runs_at_once_is_always_sent() {
        assert_eq!(filled(500, 1 << 20), 500);
    }

    #[test]
    fn answers_make_room_in_any_order() {
        let mut window = CallWindow::default();
        window.set_calls_at_once(1);
        let calls: Vec<TaskId> = (0..16).map(|_| TaskId::next()).collect();
        calls.iter().for_each(|call| window.sent(*call, 1 << 20));
        assert!(!window.has_room());
        assert!(window.answered(calls[7]));
        assert!(window.has_room());
        assert!(!window.answered(calls[7]));
        assert_eq!(window.len(), 15);
        assert_eq!(window.take().len(), 15);
    }
}
