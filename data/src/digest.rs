//! Short signs of long things, the same in every process of one build.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A sign of what was added, in order.
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        Self(DefaultHasher::new())
    }

    /// Adds a thing.
    pub(crate) fn add(&mut self, thing: &(impl Hash + ?Sized)) {
        thing.hash(&mut self.0);
    }

    /// The sign.
    pub(crate) fn text(&self) -> String {
        format!("{:016x}", self.0.finish())
    }
}
