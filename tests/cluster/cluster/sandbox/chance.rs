//! What a seed decides.

use std::sync::{Arc, Mutex};

use super::clock::next_random;

/// A generator that a run's parts share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chance {
    state: Arc<Mutex<u64>>,
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(seed)),
        }
    }

    pub fn word(&self) -> u64 {
        next_random(&mut self.state.lock().unwrap())
    }

    /// A number below `limit`.
    pub fn below(&self, limit: u64) -> u64 {
        self.word() % limit
    }

    /// One of them.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let count = of.len() as u64;
        (count > 0).then(|| &of[self.below(count) as usize])
    }

    /// A fresh id.
    pub fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.word().to_le_bytes());
        id[8..].copy_from_slice(&self.word().to_le_bytes());
        id
    }
}
