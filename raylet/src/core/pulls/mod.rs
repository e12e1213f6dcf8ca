//! Copies of objects that are being fetched from other nodes.
//!
//! ```text
//!  want ──► Pull from the first source ──► sealed: all waiters are answered by the store
//!              │ source failed
//!              ├─► Pull from the next source, from where the last one stopped
//!              ├─► no source left, but some that cannot read it now: these once more, after a pause that grows
//!              │      ├─► another source is named meanwhile: Pull from it at once, while the pause goes on
//!              │      └─► who has waited through pauses for long learns why it cannot be read
//!              └─► no source left: all waiters learn that it is lost
//! ```
//! A source is asked again when somebody new names it: the object may have been made again there.
//!
//! Owns: who waits for which object, and which sources it has. Does not own: bytes, and the transfer itself.
//!
//! - `PULL-1 (one-transfer)`: an object is fetched by at most one transfer at a time, however many wait.
//! - `PULL-2 (no-idle-transfer)`: a transfer that nobody waits for is given up.

mod check;
mod transfers;

use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_proto::v1::{Address, Failure};
use rustc_hash::FxHashMap;

use crate::core::keys::{ConnectionId, ReplyTo};

/// Sources that cannot read an object now are asked once more after this pause, then after twice the last, and so on.
const PAUSE: Duration = Duration::from_millis(200);
/// Pauses grow up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(3200);
/// Who has waited through pauses for so long while nothing arrived learns why.
const PATIENCE: Duration = Duration::from_secs(6);

/// What to do next for an object.
#[derive(Debug, PartialEq, Eq)]
enum PullStep {
    /// Fetch it, or the rest of it, from this node.
    From(NodeId),
    /// A transfer is under way, or a pause: nothing to do.
    Wait,
    /// Those that have it cannot read it now. They are asked again after this pause; these have waited long enough, and are told why.
    Pause {
        /// The pause.
        pause: Pause,
        /// Who waits no longer.
        given_up: Vec<ReplyTo>,
        /// Why.
        failure: Failure,
    },
    /// No source has it: tell these.
    Lost {
        /// Who waits.
        waiters: Vec<ReplyTo>,
        /// The nodes that were asked.
        tried: Vec<NodeId>,
    },
    /// Some have it, and cannot read it: tell these.
    Unreadable {
        /// Who waits.
        waiters: Vec<ReplyTo>,
        /// Why.
        failure: Failure,
    },
}

/// What happens to a copy.
#[derive(Debug)]
pub enum PullEvent {
    /// It is here.
    Arrived,
}

#[derive(Debug)]
struct Pull {
    owner: Address,
    waiters: Vec<Waiter>,
    current: Option<NodeId>,
    untried: Vec<NodeId>,
    tried: Vec<NodeId>,
    /// Those that have it and could not read it, and what the last of them said.
    unreadable: Vec<NodeId>,
    reason: Option<Failure>,
    /// Until it is over these are not asked again.
    pause: Option<Pause>,
    next_pause: Duration,
}

/// A pause before the sources that cannot read an object are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    /// Tells it from others.
    number: u64,
    time: Duration,
}

#[derive(Debug)]
struct Waiter {
    reply_to: ReplyTo,
    /// Pauses since it came, and since something arrived.
    waited: Duration,
}

/// All transfers into this node.
#[derive(Debug)]
pub struct PullTable {
    here: NodeId,
    pulls: FxHashMap<ObjectId, Pull>,
    pauses: u64,
}

impl PullTable {
    /// A table of node `here`, to which nothing is copied.
    pub fn new(here: NodeId) -> Self {
        Self {
            here,
            pulls: FxHashMap::default(),
            pauses: 0,
        }
    }

    /// `waiter` wants an object of which `sources` have copies.
    fn want(
        &mut self,
        object: ObjectId,
        owner: Address,
        sources: impl IntoIterator<Item = NodeId>,
        waiter: ReplyTo,
    ) -> PullStep {
        let pull = self.pulls.entry(object).or_insert_with(|| Pull {
            owner,
            waiters: Vec::new(),
            current: None,
            untried: Vec::new(),
            tried: Vec::new(),
            unreadable: Vec::new(),
            reason: None,
            pause: None,
            next_pause: PAUSE,
        });
        pull.waiters.push(Waiter {
            reply_to: waiter,
            waited: Duration::ZERO,
        });
        for source in sources {
            let is_known = pull.untried.contains(&source) || pull.unreadable.contains(&source);
            if is_known || pull.current == Some(source) {
                continue;
            }
            // One that did not have it may have it by now: this waiter was told so later than the others.
            pull.tried.retain(|tried| *tried != source);
            pull.untried.push(source);
        }
        self.advance(object)
    }

    /// The current source failed. `unreadable`: it has the object, and this is why it cannot read it now. `has_given`: some of it arrived.
    fn failed(
        &mut self,
        object: ObjectId,
        node: NodeId,
        unreadable: Option<Failure>,
        has_given: bool,
    ) -> PullStep {
        let Some(pull) = self.pulls.get_mut(&object) else {
            return PullStep::Wait;
        };
        if pull.current != Some(node) {
            return PullStep::Wait;
        }
        pull.current = None;
        if has_given {
            pull.next_pause = PAUSE;
            pull.waiters
                .iter_mut()
                .for_each(|waiter| waiter.waited = Duration::ZERO);
        }
        if unreadable.is_some() {
            pull.unreadable.push(node);
            pull.reason = unreadable;
        } else {
            pull.tried.push(node);
        }
        self.advance(object)
    }

    /// A pause is over: those that could not read the object are asked again.
    fn pause_ended(&mut self, object: ObjectId, number: u64) -> PullStep {
        let Some(pull) = self.pulls.get_mut(&object) else {
            return PullStep::Wait;
        };
        let Some(pause) = pull.pause.take_if(|pause| pause.number == number) else {
            return PullStep::Wait;
        };
        for waiter in &mut pull.waiters {
            waiter.waited += pause.time;
        }
        pull.untried.append(&mut pull.unreadable);
        self.advance(object)
    }

    fn advance(&mut self, object: ObjectId) -> PullStep {
        let pull = self
            .pulls
            .get_mut(&object)
            .expect("advance follows a look-up");
        // `PULL-1`: who comes later waits for the transfer that runs.
        if pull.current.is_some() {
            return PullStep::Wait;
        }
        if !pull.untried.is_empty() {
            let node = pull.untried.remove(0);
            pull.current = Some(node);
            return PullStep::From(node);
        }
        if pull.pause.is_some() {
            return PullStep::Wait;
        }
        let failure = pull.why_unreadable(object);
        let given_up = match &failure {
            Some(_) => pull.take_who_waited_long(),
            None => Vec::new(),
        };
        let Some(failure) = failure.filter(|_| !pull.waiters.is_empty()) else {
            let pull = self.pulls.remove(&object).expect("it was there a line ago");
            return pull.end_without(object, given_up);
        };
        self.pauses += 1;
        let pause = Pause {
            number: self.pauses,
            time: pull.next_pause,
        };
        pull.pause = Some(pause);
        pull.next_pause = LONGEST_PAUSE.min(pull.next_pause * 2);
        PullStep::Pause {
            pause,
            given_up,
            failure,
        }
    }

    /// The owner of an object that is being fetched.
    fn owner_of(&self, object: ObjectId) -> Option<&Address> {
        self.pulls.get(&object).map(|pull| &pull.owner)
    }

    /// The object is here, or cannot be: who waited.
    fn end(&mut self, object: ObjectId) -> Vec<ReplyTo> {
        self.pulls
            .remove(&object)
            .map(|pull| reply_to(pull.waiters))
            .unwrap_or_default()
    }

    /// The connections of this node that wait for something.
    pub fn readers(&self) -> impl Iterator<Item = ConnectionId> {
        let waiters = self.pulls.values().flat_map(|pull| &pull.waiters);
        waiters.filter_map(|waiter| waiter.reply_to.connection())
    }

    /// Waiters for which `is_gone` says so wait no longer; gives the transfers that nobody wants now (`PULL-2`).
    fn forget(&mut self, is_gone: impl Fn(ReplyTo) -> bool) -> Vec<ObjectId> {
        let mut idle = Vec::new();
        for (object, pull) in &mut self.pulls {
            pull.waiters.retain(|waiter| !is_gone(waiter.reply_to));
            if pull.waiters.is_empty() {
                idle.push(*object);
            }
        }
        idle.iter().for_each(|object| {
            self.pulls.remove(object);
        });
        idle
    }
}

impl Pull {
    /// What a reader is told if those that have it go on not being able to read it; `None`: none has it.
    fn why_unreadable(&self, object: ObjectId) -> Option<Failure> {
        let reason = self
            .reason
            .as_ref()
            .filter(|_| !self.unreadable.is_empty())?;
        let message = format!(
            "object {object} is there, and cannot be read now: {}",
            reason.message
        );
        Some(Failure::of(ErrorCode::ObjectUnreadable, message))
    }

    fn take_who_waited_long(&mut self) -> Vec<ReplyTo> {
        let long = |waiter: &mut Waiter| waiter.waited >= PATIENCE;
        reply_to(self.waiters.extract_if(.., long).collect())
    }

    /// No source gives it, or nobody waits for that any longer but `given_up`.
    fn end_without(self, object: ObjectId, given_up: Vec<ReplyTo>) -> PullStep {
        match self.why_unreadable(object) {
            Some(failure) => PullStep::Unreadable {
                waiters: given_up,
                failure,
            },
            None => PullStep::Lost {
                waiters: reply_to(self.waiters),
                tried: self.tried,
            },
        }
    }
}

fn reply_to(waiters: Vec<Waiter>) -> Vec<ReplyTo> {
    waiters.into_iter().map(|waiter| waiter.reply_to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys::CallId;

    fn node(n: u8) -> NodeId {
        NodeId::new([n; 16])
    }

    fn at_once(node: NodeId) -> PullStep {
        PullStep::From(node)
    }

    /// A table with an object that only the first node has, which cannot read it now.
    fn unreadable() -> (PullTable, ObjectId, PullStep) {
        let (mut pulls, object) = (PullTable::new(node(9)), ObjectId::for_put());
        pulls.want(object, Address::default(), [node(1)], waiter(1));
        let step = pulls.failed(object, node(1), too_many_files(1), false);
        (pulls, object, step)
    }

    fn pause_of(step: &PullStep) -> Pause {
        match step {
            PullStep::Pause { pause, .. } => *pause,
            step => panic!("{step:?}"),
        }
    }

    /// Time goes on: all pauses end, and the first node cannot read. How long that goes on, and what comes then.
    fn wait_on(
        pulls: &mut PullTable,
        object: ObjectId,
        mut step: PullStep,
    ) -> (Duration, PullStep) {
        let mut waited = Duration::ZERO;
        while let PullStep::Pause {
            pause, given_up, ..
        } = &step
        {
            if !given_up.is_empty() {
                break;
            }
            waited += pause.time;
            pulls.check().unwrap();
            assert_eq!(pulls.pause_ended(object, pause.number), at_once(node(1)));
            step = pulls.failed(object, node(1), too_many_files(1), false);
        }
        (waited, step)
    }

    fn waiter(n: u64) -> ReplyTo {
        ReplyTo::Call(CallId(n))
    }

    #[test]
    fn second_reader_joins_the_transfer_that_runs() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        let first = pulls.want(object, Address::default(), [node(1)], waiter(1));
        assert_eq!(first, at_once(node(1)));
        let second = pulls.want(object, Address::default(), [node(1)], waiter(2));
        assert_eq!(second, PullStep::Wait, "PULL-1");
        assert_eq!(pulls.end(object), [waiter(1), waiter(2)]);
    }

    #[test]
    fn every_source_is_tried_before_the_object_counts_as_lost() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        assert_eq!(pulls.failed(object, node(1), None, false), at_once(node(2)));
        let lost = PullStep::Lost {
            waiters: vec![waiter(1)],
            tried: vec![node(1), node(2)],
        };
        assert_eq!(pulls.failed(object, node(2), None, false), lost);
    }

    #[test]
    fn source_that_a_later_reader_names_is_asked_again() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        assert_eq!(pulls.failed(object, node(1), None, false), at_once(node(2)));
        // Its owner says that it was made again, where it was before.
        let joined = pulls.want(object, Address::default(), [node(1)], waiter(2));
        assert_eq!(joined, PullStep::Wait);
        assert_eq!(pulls.failed(object, node(2), None, false), at_once(node(1)));
        let lost = PullStep::Lost {
            waiters: vec![waiter(1), waiter(2)],
            tried: vec![node(2), node(1)],
        };
        assert_eq!(pulls.failed(object, node(1), None, false), lost);
    }

    fn too_many_files(node: u8) -> Option<Failure> {
        let why = format!("node {node}: too many open files");
        Some(Failure::of(ErrorCode::ObjectUnreadable, why))
    }

    #[test]
    fn source_that_cannot_read_now_is_asked_again_when_the_others_were() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        let sources = [node(1), node(2), node(3)];
        pulls.want(object, Address::default(), sources, waiter(1));
        let next = pulls.failed(object, node(1), too_many_files(1), false);
        assert_eq!(next, at_once(node(2)));
        assert_eq!(
            pulls.failed(object, node(2), None, false),
            at_once(node(3)),
            "it has none"
        );
        let pause = pause_of(&pulls.failed(object, node(3), too_many_files(3), false));
        assert_eq!(pause.time, PAUSE);
        pulls.check().unwrap();
        assert_eq!(pulls.pause_ended(object, pause.number), at_once(node(1)));
        // Who names it now waits, too.
        let joined = pulls.want(object, Address::default(), sources, waiter(2));
        assert_eq!(joined, PullStep::Wait);
        pulls.check().unwrap();
        let next = pulls.failed(object, node(1), too_many_files(1), false);
        assert_eq!(next, at_once(node(3)));
        let next = pulls.failed(object, node(3), too_many_files(3), false);
        assert_eq!(next, at_once(node(2)), "it was named again");
        let next = pulls.failed(object, node(2), None, false);
        assert_eq!(pause_of(&next).time, PAUSE * 2);
    }

    #[test]
    fn new_source_is_asked_at_once_while_others_are_given_time() {
        let (mut pulls, object, step) = unreadable();
        let pause = pause_of(&step);
        let joined = pulls.want(object, Address::default(), [node(1), node(2)], waiter(2));
        assert_eq!(joined, at_once(node(2)));
        pulls.check().unwrap();
        // It has none. The pause goes on, and is not longer for that.
        assert_eq!(pulls.failed(object, node(2), None, false), PullStep::Wait);
        pulls.check().unwrap();
        assert_eq!(pulls.pause_ended(object, pause.number), at_once(node(1)));
        assert_eq!(pulls.pause_ended(object, pause.number), PullStep::Wait);
    }

    #[test]
    fn pause_that_ends_while_a_new_source_is_asked_puts_the_others_behind_it() {
        let (mut pulls, object, step) = unreadable();
        pulls.want(object, Address::default(), [node(2)], waiter(2));
        let ended = pulls.pause_ended(object, pause_of(&step).number);
        assert_eq!(ended, PullStep::Wait, "PULL-1");
        pulls.check().unwrap();
        let next = pulls.failed(object, node(2), None, false);
        assert_eq!(next, at_once(node(1)));
    }

    #[test]
    fn what_no_source_can_read_for_long_is_not_lost_and_the_reason_is_told() {
        let (mut pulls, object, step) = unreadable();
        let (waited, step) = wait_on(&mut pulls, object, step);
        assert!(waited >= Duration::from_secs(5), "{waited:?}");
        let PullStep::Unreadable { waiters, failure } = step else {
            panic!("{step:?}");
        };
        assert_eq!(waiters, [waiter(1)]);
        assert_eq!(failure.error_code(), ErrorCode::ObjectUnreadable);
        assert!(failure.message.contains("node 1: too many open files"));
    }

    #[test]
    fn reader_that_comes_late_waits_as_long_as_the_first() {
        let (mut pulls, object, mut step) = unreadable();
        for _ in 0..4 {
            let pause = pause_of(&step);
            pulls.pause_ended(object, pause.number);
            step = pulls.failed(object, node(1), too_many_files(1), false);
        }
        let joined = pulls.want(object, Address::default(), [node(1)], waiter(2));
        assert_eq!(joined, PullStep::Wait);
        let (_, step) = wait_on(&mut pulls, object, step);
        let PullStep::Pause {
            given_up, pause, ..
        } = &step
        else {
            panic!("{step:?}");
        };
        assert_eq!(*given_up, [waiter(1)], "the second came a moment ago");
        let mut waited = LONGEST_PAUSE + pause.time;
        pulls.pause_ended(object, pause.number);
        let step = pulls.failed(object, node(1), too_many_files(1), false);
        let (more, step) = wait_on(&mut pulls, object, step);
        waited += more;
        assert!(waited >= PATIENCE, "{waited:?}");
        assert!(matches!(step, PullStep::Unreadable { waiters, .. } if waiters == [waiter(2)]));
    }

    #[test]
    fn source_that_gives_some_of_it_has_all_the_time_again() {
        let (mut pulls, object, mut step) = unreadable();
        for _ in 0..4 {
            let pause = pause_of(&step);
            pulls.pause_ended(object, pause.number);
            step = pulls.failed(object, node(1), too_many_files(1), false);
        }
        assert_eq!(pause_of(&step).time, LONGEST_PAUSE);
        pulls.pause_ended(object, pause_of(&step).number);
        let step = pulls.failed(object, node(1), too_many_files(1), true);
        assert_eq!(pause_of(&step).time, PAUSE);
        let (waited, _) = wait_on(&mut pulls, object, step);
        assert!(waited >= PATIENCE, "{waited:?}");
    }

    /// Its node dies while it could not read.
    #[test]
    fn source_that_could_not_read_and_has_it_no_more_is_a_loss() {
        let (mut pulls, object, step) = unreadable();
        pulls.pause_ended(object, pause_of(&step).number);
        let lost = PullStep::Lost {
            waiters: vec![waiter(1)],
            tried: vec![node(1)],
        };
        assert_eq!(pulls.failed(object, node(1), None, false), lost);
    }

    #[test]
    fn late_failure_of_an_earlier_source_changes_nothing() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        pulls.failed(object, node(1), None, false);
        assert_eq!(pulls.failed(object, node(1), None, false), PullStep::Wait);
    }

    #[test]
    fn transfer_without_waiters_is_given_up() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1)], waiter(1));
        pulls.want(object, Address::default(), [node(1)], waiter(2));
        assert!(pulls.forget(|gone| gone == waiter(1)).is_empty());
        assert_eq!(pulls.forget(|gone| gone == waiter(2)), [object], "PULL-2");
    }

    #[test]
    fn object_without_sources_is_lost_at_once() {
        let mut pulls = PullTable::new(node(9));
        let step = pulls.want(ObjectId::for_put(), Address::default(), [], waiter(1));
        assert_eq!(
            step,
            PullStep::Lost {
                waiters: vec![waiter(1)],
                tried: Vec::new()
            }
        );
    }
}
