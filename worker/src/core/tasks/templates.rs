//! What the callee at the other end of a lane knows of the functions that are called there.

use std::sync::Arc;

use super::CallTemplate;

/// Templates a callee keeps per lane.
const SLOTS: usize = 64;

/// The templates that were sent on a lane, by their slots. Bounded: a new one takes the place of the oldest.
#[derive(Default)]
pub(crate) struct TemplateSlots {
    known: Vec<Arc<CallTemplate>>,
    next: usize,
}

impl TemplateSlots {
    /// The slot of a template, and whether the callee has to be told about it first.
    pub(in crate::core) fn slot_of(&mut self, template: &Arc<CallTemplate>) -> (u32, bool) {
        let known = self
            .known
            .iter()
            .position(|known| Arc::ptr_eq(known, template));
        let (slot, is_new) = match known {
            Some(slot) => (slot, false),
            None if self.known.len() < SLOTS => {
                self.known.push(Arc::clone(template));
                (self.known.len() - 1, true)
            }
            None => {
                let slot = self.next;
                self.known[slot] = Arc::clone(template);
                self.next = (slot + 1) % SLOTS;
                (slot, true)
            }
        };
        (u32::try_from(slot).expect("slots are few"), is_new)
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::ids::ActorId;

    use super::*;
    use crate::core::tasks::Target;

    fn template() -> Arc<CallTemplate> {
        Arc::new(CallTemplate {
            shared: Default::default(),
            target: Target::Actor(ActorId::NIL),
            group: String::new(),
            retries: 0,
        })
    }

    #[test]
    fn template_is_told_once() {
        let (mut slots, first, second) = (TemplateSlots::default(), template(), template());
        assert_eq!(slots.slot_of(&first), (0, true));
        assert_eq!(slots.slot_of(&second), (1, true));
        assert_eq!(slots.slot_of(&first), (0, false));
    }

    #[test]
    fn oldest_template_makes_room_and_is_told_again() {
        let mut slots = TemplateSlots::default();
        let templates: Vec<_> = (0..=SLOTS).map(|_| template()).collect();
        for template in &templates {
            assert!(slots.slot_of(template).1);
        }
        assert_eq!(slots.slot_of(&templates[SLOTS]), (0, false));
        assert_eq!(slots.slot_of(&templates[0]), (1, true));
    }
}
