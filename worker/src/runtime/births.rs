//! Actors that this process is making, until the head has answered.
//!
//! Calls of one process overtake each other on their way to the head, and wait for a head that is away each for itself. One that
//! is to end an actor of which the head has not heard ends nothing: the actor would begin afterwards, and live as long as its
//! job with all that it holds. So it is sent when the head has answered.

use aktis_common::ids::ActorId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

type Then = Box<dyn FnOnce() + Send>;

/// The actors, and what waits for each.
#[derive(Default)]
pub(super) struct Births(Mutex<FxHashMap<ActorId, Vec<Then>>>);

impl Births {
    /// The head is asked for it.
    pub(super) fn begin(&self, actor: ActorId) {
        self.0.lock().insert(actor, Vec::new());
    }

    /// The head has answered, or will not.
    pub(super) fn end(&self, actor: ActorId) {
        let waiting = self.0.lock().remove(&actor);
        waiting.into_iter().flatten().for_each(|then| then());
    }

    /// Does something when the head has answered, at once if it has.
    pub(super) fn after(&self, actor: ActorId, then: Then) {
        if let Some(waiting) = self.0.lock().get_mut(&actor) {
            waiting.push(then);
            return;
        }
        then();
    }
}
