//! Copies of objects that are being fetched from other nodes.
//!
//! ```text
//!  want ──► Pull from the first source ──► sealed: all waiters are answered by the store
//!              │ source failed
//!              ├─► Pull from the next source, from where the last one stopped
//!              ├─► no source left, but some that cannot read it now: these once more, after a pause that grows
//!              │      └─► often enough: all waiters learn why it cannot be read
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

/// Sources that cannot read an object now are asked so many times more: the first time after this pause, then after twice the last.
const ROUNDS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// What to do next for an object.
#[derive(Debug, PartialEq, Eq)]
enum PullStep {
    /// Fetch it, or the rest of it, from this node, after a pause.
    From(NodeId, Duration),
    /// A transfer is under way: nothing to do.
    Wait,
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
    waiters: Vec<ReplyTo>,
    current: Option<NodeId>,
    untried: Vec<NodeId>,
    tried: Vec<NodeId>,
    /// Those that have it and could not read it, and what the last of them said.
    unreadable: Vec<NodeId>,
    reason: Option<Failure>,
    /// How often all of these were asked once more.
    rounds: u32,
}

/// All transfers into this node.
#[derive(Debug)]
pub struct PullTable {
    here: NodeId,
    pulls: FxHashMap<ObjectId, Pull>,
}

impl PullTable {
    /// A table of node `here`, to which nothing is copied.
    pub fn new(here: NodeId) -> Self {
        let pulls = FxHashMap::default();
        Self { here, pulls }
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
            rounds: 0,
        });
        pull.waiters.push(waiter);
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

    /// The current source failed. `unreadable`: it has the object, and this is why it cannot read it now.
    fn failed(&mut self, object: ObjectId, node: NodeId, unreadable: Option<Failure>) -> PullStep {
        let Some(pull) = self.pulls.get_mut(&object) else {
            return PullStep::Wait;
        };
        if pull.current != Some(node) {
            return PullStep::Wait;
        }
        pull.current = None;
        if unreadable.is_some() {
            pull.unreadable.push(node);
            pull.reason = unreadable;
        } else {
            pull.tried.push(node);
        }
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
        let mut pause = Duration::ZERO;
        if pull.untried.is_empty() && pull.rounds < ROUNDS {
            pull.untried = std::mem::take(&mut pull.unreadable);
            pause = PAUSE * 2_u32.pow(pull.rounds);
            pull.rounds += 1;
        }
        if pull.untried.is_empty() {
            let pull = self.pulls.remove(&object).expect("it was there a line ago");
            return pull.end_without(object);
        }
        let node = pull.untried.remove(0);
        pull.current = Some(node);
        PullStep::From(node, pause)
    }

    /// The owner of an object that is being fetched.
    fn owner_of(&self, object: ObjectId) -> Option<&Address> {
        self.pulls.get(&object).map(|pull| &pull.owner)
    }

    /// The object is here, or cannot be: who waited.
    fn end(&mut self, object: ObjectId) -> Vec<ReplyTo> {
        self.pulls
            .remove(&object)
            .map(|pull| pull.waiters)
            .unwrap_or_default()
    }

    /// The connections of this node that wait for something.
    pub fn readers(&self) -> impl Iterator<Item = ConnectionId> {
        let waiters = self.pulls.values().flat_map(|pull| &pull.waiters);
        waiters.filter_map(|waiter| waiter.connection())
    }

    /// Waiters for which `is_gone` says so wait no longer; gives the transfers that nobody wants now (`PULL-2`).
    fn forget(&mut self, is_gone: impl Fn(ReplyTo) -> bool) -> Vec<ObjectId> {
        let mut idle = Vec::new();
        for (object, pull) in &mut self.pulls {
            pull.waiters.retain(|waiter| !is_gone(*waiter));
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
    /// No source gives it.
    fn end_without(self, object: ObjectId) -> PullStep {
        let (waiters, tried) = (self.waiters, self.tried);
        match self.reason.filter(|_| !self.unreadable.is_empty()) {
            Some(reason) => {
                let message = format!(
                    "object {object} is there, and cannot be read now: {}",
                    reason.message
                );
                let failure = Failure::of(ErrorCode::ObjectUnreadable, message);
                PullStep::Unreadable { waiters, failure }
            }
            None => PullStep::Lost { waiters, tried },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::keys::CallId;

    fn node(n: u8) -> NodeId {
        NodeId::new([n; 16])
    }

    fn at_once(node: NodeId) -> PullStep {
        PullStep::From(node, Duration::ZERO)
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
        assert_eq!(pulls.failed(object, node(1), None), at_once(node(2)));
        let lost = PullStep::Lost {
            waiters: vec![waiter(1)],
            tried: vec![node(1), node(2)],
        };
        assert_eq!(pulls.failed(object, node(2), None), lost);
    }

    #[test]
    fn source_that_a_later_reader_names_is_asked_again() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        assert_eq!(pulls.failed(object, node(1), None), at_once(node(2)));
        // Its owner says that it was made again, where it was before.
        let joined = pulls.want(object, Address::default(), [node(1)], waiter(2));
        assert_eq!(joined, PullStep::Wait);
        assert_eq!(pulls.failed(object, node(2), None), at_once(node(1)));
        let lost = PullStep::Lost {
            waiters: vec![waiter(1), waiter(2)],
            tried: vec![node(2), node(1)],
        };
        assert_eq!(pulls.failed(object, node(1), None), lost);
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
        let next = pulls.failed(object, node(1), too_many_files(1));
        assert_eq!(next, at_once(node(2)));
        assert_eq!(
            pulls.failed(object, node(2), None),
            at_once(node(3)),
            "it has none"
        );
        let next = pulls.failed(object, node(3), too_many_files(3));
        assert_eq!(next, PullStep::From(node(1), PAUSE));
        // Who names it now waits, too.
        let joined = pulls.want(object, Address::default(), sources, waiter(2));
        assert_eq!(joined, PullStep::Wait);
        pulls.check().unwrap();
        let next = pulls.failed(object, node(1), too_many_files(1));
        assert_eq!(next, at_once(node(3)));
        let next = pulls.failed(object, node(3), too_many_files(3));
        assert_eq!(next, at_once(node(2)), "it was named again");
        let next = pulls.failed(object, node(2), None);
        assert_eq!(next, PullStep::From(node(1), PAUSE * 2));
    }

    #[test]
    fn what_no_source_can_read_for_long_is_not_lost_and_the_reason_is_told() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        pulls.failed(object, node(1), None);
        let mut waited = Duration::ZERO;
        let step = loop {
            match pulls.failed(object, node(2), too_many_files(2)) {
                PullStep::From(_, pause) => waited += pause,
                step => break step,
            }
        };
        assert!(waited >= Duration::from_secs(5), "{waited:?}");
        let PullStep::Unreadable { waiters, failure } = step else {
            panic!("{step:?}");
        };
        assert_eq!(waiters, [waiter(1)]);
        assert_eq!(failure.error_code(), ErrorCode::ObjectUnreadable);
        assert!(failure.message.contains("node 2: too many open files"));
    }

    /// Its node dies while it could not read.
    #[test]
    fn source_that_could_not_read_and_has_it_no_more_is_a_loss() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1)], waiter(1));
        pulls.failed(object, node(1), too_many_files(1));
        let lost = PullStep::Lost {
            waiters: vec![waiter(1)],
            tried: vec![node(1)],
        };
        assert_eq!(pulls.failed(object, node(1), None), lost);
    }

    #[test]
    fn late_failure_of_an_earlier_source_changes_nothing() {
        let mut pulls = PullTable::new(node(9));
        let object = ObjectId::for_put();
        pulls.want(object, Address::default(), [node(1), node(2)], waiter(1));
        pulls.failed(object, node(1), None);
        assert_eq!(pulls.failed(object, node(1), None), PullStep::Wait);
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
