//! Tasks and an actor in Rust: pi by throwing darts, with no Python anywhere.
//!
//! `cargo run --release -p aktis-examples --bin tasks_and_actor` runs it. This library is what driver and workers share:
//! the native functions under the names by which they are called, and how their inputs and outputs are bytes.
//!
//! ```text
//!  main ── throw_darts(seed, darts) ──► workers           one task per seed, all at once
//!    │                                    │ hits
//!    └── Tally.add(hits, darts) ──► actor ◄┘ by reference: the driver never waits for the hits
//! ```

use aktis::{CallContext, ErrorCode, NativeActor, NativeRegistry, TaskFailure, Value};

/// Name of the task.
pub const THROW_DARTS: &str = "examples.throw_darts";
/// Name of the actor.
pub const TALLY: &str = "examples.Tally";

/// What every process of this program can run.
pub fn registry() -> NativeRegistry {
    NativeRegistry::default()
        .with_function(THROW_DARTS, throw_darts)
        .with_actor(TALLY, Tally::create)
}

/// Whole numbers as a value: 8 bytes each, little-endian.
pub fn to_value(numbers: &[u64]) -> Value {
    Value::native(
        numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect::<Vec<u8>>(),
    )
}

/// The numbers of a value that [`to_value`] made.
///
/// # Errors
/// When there are not `N` of them.
pub fn from_value<const N: usize>(value: &Value) -> Result<[u64; N], TaskFailure> {
    let bytes: &[u8] = &value.inband;
    let numbers: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("chunks have 8 bytes")))
        .collect();
    numbers.try_into().map_err(|_| {
        let message = format!("expected {N} numbers, got {} bytes", bytes.len());
        TaskFailure::new(ErrorCode::InvalidArgument, message)
    })
}

/// A task: how many of so many darts hit the quarter circle.
fn throw_darts(
    _context: &CallContext<'_>,
    input: Value,
    _dependencies: Vec<Value>,
) -> Result<Vec<Value>, TaskFailure> {
    let [seed, darts] = from_value(&input)?;
    Ok(vec![to_value(&[hits_of(seed, darts)])])
}

/// Deterministic, so that a task that is run again gives the same result.
fn hits_of(seed: u64, darts: u64) -> u64 {
    let mut state = seed;
    let mut coordinate = || {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bits = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits are left");
        f64::from(bits) / f64::from(u32::MAX)
    };
    let mut hits = 0;
    for _ in 0..darts {
        let (x, y) = (coordinate(), coordinate());
        hits += u64::from(x * x + y * y <= 1.0);
    }
    hits
}

/// An actor: adds up what the tasks found.
struct Tally {
    hits: u64,
    darts: u64,
}

impl Tally {
    fn create(
        _context: &CallContext<'_>,
        _input: Value,
        _dependencies: Vec<Value>,
    ) -> Result<Box<dyn NativeActor>, TaskFailure> {
        Ok(Box::new(Self { hits: 0, darts: 0 }))
    }
}

impl NativeActor for Tally {
    fn call(
        &mut self,
        _context: &CallContext<'_>,
        method: &str,
        input: Value,
        dependencies: Vec<Value>,
    ) -> Result<Vec<Value>, TaskFailure> {
        match method {
            "add" => {
                let [darts] = from_value(&input)?;
                for found in &dependencies {
                    let [hits] = from_value(found)?;
                    self.hits += hits;
                    self.darts += darts;
                }
                Ok(vec![to_value(&[self.hits, self.darts])])
            }
            _ => {
                let message = format!("Tally has no method {method}");
                Err(TaskFailure::new(ErrorCode::InvalidArgument, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_being_a_value() {
        assert_eq!(
            from_value::<2>(&to_value(&[1, u64::MAX])).unwrap(),
            [1, u64::MAX]
        );
        assert!(from_value::<3>(&to_value(&[1, 2])).is_err());
    }

    #[test]
    fn darts_hit_about_pi_quarters_of_the_time() {
        let hits = hits_of(7, 100_000);
        assert!((77_500..79_500).contains(&hits), "{hits}");
        assert_eq!(hits, hits_of(7, 100_000));
    }
}
