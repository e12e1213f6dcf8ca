//! Invariants as functions of a state, looked at by tests after every event and by builds for debugging each second.
//!
//! A table has a function `check` that says which invariant does not hold, by its label, and what the state is that breaks it. The
//! same function is called by the tests of the table, by the cluster in one process (`tests/cluster`), and by the daemon itself as
//! often as its [`Rhythm`] says. A broken invariant is a fault of this program: whoever looks panics.

use std::fmt;
use std::time::Duration;

/// An invariant does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its label.
    pub label: &'static str,
    /// What breaks it.
    pub state: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not hold: {}", self.label, self.state)
    }
}

impl std::error::Error for Broken {}

/// Returns [`Broken`] under this label, with the state, unless the condition holds.
#[macro_export]
macro_rules! holds {
    ($condition:expr, $label:literal, $($state:tt)+) => {
        if !$condition {
            return Err($crate::checks::Broken {
                label: $label,
                state: format!($($state)+),
            });
        }
    };
}

/// How often a daemon looks at its own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// Never: it takes time in proportion to the state.
    Never,
    /// About once a second, after an event.
    EverySecond,
    /// After every event.
    EveryEvent,
}

impl Default for Rhythm {
    /// Each second in a build for debugging.
    fn default() -> Self {
        if cfg!(debug_assertions) {
            Self::EverySecond
        } else {
            Self::Never
        }
    }
}

/// Says when to look.
#[derive(Debug)]
pub struct Lookout {
    rhythm: Rhythm,
    next: Duration,
}

impl Lookout {
    /// Looks at this rhythm.
    pub fn new(rhythm: Rhythm) -> Self {
        Self {
            rhythm,
            next: Duration::ZERO,
        }
    }

    /// Whether to look, after an event at `now`: a time since anything.
    pub fn is_due(&mut self, now: Duration) -> bool {
        let is_due = match self.rhythm {
            Rhythm::Never => false,
            Rhythm::EverySecond => now >= self.next,
            Rhythm::EveryEvent => true,
        };
        if is_due {
            self.next = now + Duration::from_secs(1);
        }
        is_due
    }
}

/// Whoever looked has seen this.
///
/// # Panics
/// When an invariant does not hold: what this program would do next cannot be right.
pub fn insist(seen: Result<(), Broken>) {
    if let Err(broken) = seen {
        panic!("{broken}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below_ten(number: u32) -> Result<(), Broken> {
        holds!(number < 10, "TEST-1", "the number is {number}");
        Ok(())
    }

    #[test]
    fn broken_invariant_is_named_with_its_state() {
        assert_eq!(below_ten(9), Ok(()));
        let broken = below_ten(12).unwrap_err();
        assert_eq!(broken.to_string(), "TEST-1 does not hold: the number is 12");
    }

    #[test]
    #[should_panic(expected = "TEST-1")]
    fn whoever_sees_a_broken_invariant_stops() {
        insist(below_ten(12));
    }

    #[test]
    fn lookout_looks_at_its_rhythm() {
        let looks_in = |rhythm, millis: &[u64]| {
            let (mut lookout, mut looks) = (Lookout::new(rhythm), 0);
            for at in millis {
                looks += usize::from(lookout.is_due(Duration::from_millis(*at)));
            }
            looks
        };
        let times = [0, 1, 999, 1000, 1500, 2000];
        assert_eq!(looks_in(Rhythm::Never, &times), 0);
        assert_eq!(looks_in(Rhythm::EverySecond, &times), 3);
        assert_eq!(looks_in(Rhythm::EveryEvent, &times), 6);
    }
}
