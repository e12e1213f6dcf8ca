//! When long payloads of a connection go through memory that both ends share.
//!
//! ```text
//!  Off ──peer is on this node──► Possible ──first long payload──► Offered ──peer has mapped it──► On
//!                                    └── no memory to be had ──► Refused
//! ```
//! Until it is on, they go through the socket: the peer may not be able to map it, and does not say so.

use super::outbox::Outbox;
use super::slots::{SentSlots, SlotRange};
use crate::payload::PayloadParts;

/// The peer says that it has mapped memory of which it was told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shared memory is said to be mapped that was not offered")]
pub struct NotOffered;

/// See the [module](self).
#[derive(Default)]
pub(super) enum Sharing {
    /// The peer is not known to be on this node.
    #[default]
    Off,
    /// There can be no more such memory.
    Refused,
    /// To be made for the first long payload.
    Possible,
    /// Its descriptor is sent, or about to be; whether the peer can map it is not known.
    Offered(SentSlots),
    /// The peer has mapped it.
    On(SentSlots),
}

impl Sharing {
    /// The peer is on this node. Once only: a second memory would not be received, since the peer looks for one descriptor.
    pub(super) fn allow(&mut self) {
        if let Self::Off = self {
            *self = Self::Possible;
        }
    }

    /// The peer has mapped what it was offered.
    pub(super) fn confirm(&mut self) -> Result<(), NotOffered> {
        match std::mem::take(self) {
            Self::Offered(slots) => {
                *self = Self::On(slots);
                Ok(())
            }
            other => {
                *self = other;
                Err(NotOffered)
            }
        }
    }

    /// Puts a long payload where the peer sees it. `None`: it is to go through the socket, for which `outbox` may get the
    /// descriptor of the memory to send along.
    #[inline]
    pub(super) fn place(
        &mut self,
        payload: &PayloadParts,
        outbox: &mut Outbox,
    ) -> Option<SlotRange> {
        if !SentSlots::suits(payload.len_bytes()) {
            return None;
        }
        match self {
            Self::On(slots) => return slots.place(payload),
            Self::Possible => self.offer(outbox),
            Self::Off | Self::Refused | Self::Offered(_) => {}
        }
        None
    }

    /// Makes the memory, and has its descriptor sent.
    fn offer(&mut self, outbox: &mut Outbox) {
        *self = match SentSlots::new() {
            Some((slots, memory)) => {
                outbox.attach(memory);
                Self::Offered(slots)
            }
            None => Self::Refused,
        };
    }

    #[cfg(test)]
    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}
