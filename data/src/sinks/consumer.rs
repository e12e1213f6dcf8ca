//! Rows that the consumer reads, as blocks.

use super::SinkKind;
use crate::registered::Registered;

pub(super) struct Consumer;

impl SinkKind for Consumer {
    fn step(&self) -> Option<&'static str> {
        None
    }

    fn settings(&self) -> Option<Registered> {
        None
    }
}
