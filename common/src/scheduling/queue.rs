//! The order in which waiting requests are served.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

/// After this many grants to requests behind it, a request holds those back that compete with it.
const PASS_LIMIT: u32 = 16;
/// How long a request first holds others back. Doubles each time it held in vain.
const FIRST_HOLD: Duration = Duration::from_secs(2);
/// The longest hold.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// Patience of a request that holds until it is taken out.
const FOR_EVER: Duration = Duration::MAX;

/// What a request may have when it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Whatever is free.
    Open,
    /// The same, and what it waits for is kept for it from now on (`SCH-4`).
    Holds,
    /// What is kept for nobody else: it needs something that an earlier request waits for and holds.
    Held,
}

/// What became of one try to serve a waiting request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It was granted and leaves the queue.
    Granted,
    /// It waits, for lack of the named resources, which others will give back.
    Waits {
        /// Names of the resources of which too little is free.
        short_of: Vec<String>,
    },
    /// It cannot be granted however many others finish (infeasible, bound to a node that is gone, or short of what something
    /// has that never ends). It stays, but holds nobody back.
    Hopeless,
}

/// Requests that wait, first come first tried.
///
/// A request may pass one that waits before it and does not fit: that keeps the node busy. `SCH-4 (no-starvation)`: a
/// request that was passed [`PASS_LIMIT`] times becomes a barrier, and later ones that need a resource it is short of
/// get none of that ([`Standing::Held`]), so what is released collects until the barrier fits. Should it be released too late,
/// the barrier lifts after a while and comes back with twice the patience: neither side waits for ever, and no more time is
/// held in vain than was needed.
#[derive(Debug, Clone)]
pub struct WaitQueue<K, T> {
    entries: Vec<Entry<K, T>>,
}

#[derive(Debug, Clone)]
struct Entry<K, T> {
    key: K,
    item: T,
    passes: u32,
    /// Set while this entry is a barrier: when it became one.
    holds_since: Option<Duration>,
    patience: Duration,
}

impl<K, T> Default for WaitQueue<K, T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, T> WaitQueue<K, T> {
    /// A queue with nobody in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request at the end.
    pub fn push(&mut self, key: K, item: T) {
        self.entries.push(Entry {
            key,
            item,
            passes: 0,
            holds_since: None,
            patience: FIRST_HOLD,
        });
    }

    /// Adds a request before the first one for which `is_later` says so. It has waited elsewhere: from the beginning it holds, until
    /// the caller takes it out.
    pub fn push_holding(&mut self, key: K, item: T, is_later: impl Fn(&T) -> bool) {
        let later = self.entries.iter().position(|entry| is_later(&entry.item));
        self.entries.push(Entry {
            key,
            item,
            passes: PASS_LIMIT,
            holds_since: None,
            patience: FOR_EVER,
        });
        if let Some(position) = later {
            self.entries[position..].rotate_right(1);
        }
    }

    /// Takes a request out.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        let position = self.entries.iter().position(|entry| entry.key == *key)?;
        Some(self.entries.remove(position).item)
    }

    /// Keeps the requests for which `is_kept` says so.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&K, &T) -> bool) {
        self.entries
            .retain(|entry| is_kept(&entry.key, &entry.item));
    }

    /// A request that waits.
    pub fn get(&self, key: &K) -> Option<&T> {
        self.entries
            .iter()
            .find(|entry| entry.key == *key)
            .map(|entry| &entry.item)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.entries
            .iter_mut()
            .find(|entry| entry.key == *key)
            .map(|entry| &mut entry.item)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &T)> {
        self.entries.iter().map(|entry| (&entry.key, &entry.item))
    }

    /// Tries every request once, in order, and takes out those that `attempt` granted. Gives the names of the resources that are
    /// held: what is free of them is for whoever waits for them first.
    ///
    /// `needs` says whether a request asks for the named resource. `now` is time since any fixed origin.
    pub fn serve(
        &mut self,
        now: Duration,
        needs: impl Fn(&T, &str) -> bool,
        mut attempt: impl FnMut(&K, &mut T, Standing) -> Attempt,
    ) -> Vec<String> {
        let mut granted: HashSet<K> = HashSet::new();
        let mut held: Vec<String> = Vec::new();
        // Positions that waited so far in this round: a grant behind them passes them.
        let mut waiting: Vec<(usize, Vec<String>)> = Vec::new();
        for position in 0..self.entries.len() {
            let (before, rest) = self.entries.split_at_mut(position);
            let entry = &mut rest[0];
            let is_held = held.iter().any(|name| needs(&entry.item, name));
            let standing = match is_held {
                true => Standing::Held,
                false if entry.is_barrier(now) => Standing::Holds,
                false => Standing::Open,
            };
            match attempt(&entry.key, &mut entry.item, standing) {
                Attempt::Granted => {
                    granted.insert(entry.key);
                    // What is held was not touched, and passes nobody who waits for it.
                    for (passed, short_of) in waiting.iter().filter(|_| !is_held) {
                        if short_of.iter().any(|name| needs(&entry.item, name)) {
                            before[*passed].passes += 1;
                        }
                    }
                }
                Attempt::Waits { .. } if is_held => {}
                Attempt::Waits { short_of } => {
                    if standing == Standing::Holds {
                        held.extend(short_of.iter().cloned());
                    }
                    waiting.push((position, short_of));
                }
                Attempt::Hopeless => entry.holds_since = None,
            }
        }
        self.entries.retain(|entry| !granted.contains(&entry.key));
        held
    }

    /// When a barrier lifts, so that the caller serves the queue again then; same clock as `now` of [`Self::serve`].
    pub fn next_change(&self) -> Option<Duration> {
        self.entries
            .iter()
            .filter(|entry| entry.patience != FOR_EVER)
            .filter_map(|entry| Some(entry.holds_since? + entry.patience))
            .min()
    }
}

impl<K, T> Entry<K, T> {
    /// Whether this entry, which waits, holds others back now; starts and ends the hold.
    fn is_barrier(&mut self, now: Duration) -> bool {
        match self.holds_since {
            Some(since) if now.saturating_sub(since) >= self.patience => {
                self.holds_since = None;
                self.passes = 0;
                self.patience = (self.patience * 2).min(LONGEST_HOLD);
                false
            }
            Some(_) => true,
            None if self.passes >= PASS_LIMIT => {
                self.holds_since = Some(now);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
