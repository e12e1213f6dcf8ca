//! How long rows of sources are, before any operator has seen one: where memory is scarce, batches of long rows must be small from the
//! first one on.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::{DataType, SchemaRef};
use parking_lot::Mutex;

use super::leaf::Splits;

/// Sources whose first rows are read at the same time: readers mostly wait for storage, and each of them holds a batch.
const READ_AT_ONCE: NonZeroUsize = NonZeroUsize::new(8).expect("is not zero");

/// Bytes of a row of each source, about, in sum. Columns tell where all of their values are equally long; other sources are read.
pub(super) fn of_all(sources: &[(Arc<Splits>, SchemaRef)]) -> Result<u64, TaskFailure> {
    let mut known = 0;
    let mut read: Vec<&Splits> = Vec::new();
    for (splits, columns) in sources {
        let fields = columns.fields().iter();
        match fields
            .map(|field| width_of(field.data_type()))
            .sum::<Option<u64>>()
        {
            Some(bytes) => known += bytes,
            None => read.push(splits),
        }
    }
    let read: Vec<u64> = at_once(&read, READ_AT_ONCE, |splits| splits.row_bytes())?;
    Ok(known + read.iter().sum::<u64>())
}

/// What `work` makes of each of these, in any order: of so many at the same time at most.
fn at_once<T: Sync, R: Send>(
    all: &[T],
    most: NonZeroUsize,
    work: impl Fn(&T) -> Result<R, TaskFailure> + Sync,
) -> Result<Vec<R>, TaskFailure> {
    let left = Mutex::new(all.iter());
    let take = || {
        let mut made = Vec::new();
        while let Some(next) = { left.lock().next() } {
            match work(next) {
                Ok(one) => made.push(one),
                Err(failure) => {
                    // Nobody wants the others any more.
                    *left.lock() = [].iter();
                    return Err(failure);
                }
            }
        }
        Ok(made)
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 1..all.len().min(most.get()) {
            let thread = thread::Builder::new().name("aktis-first-rows".to_owned());
            threads.push(thread.spawn_scoped(scope, take).map_err(|error| {
                let text = format!("start a thread that reads first rows: {error}");
                TaskFailure::new(ErrorCode::Internal, text)
            })?);
        }
        let mut made = take()?;
        for thread in threads {
            made.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(made)
    })
}

/// How many bytes each value has, if all have as many.
fn width_of(kind: &DataType) -> Option<u64> {
    let count = |number: i32| u64::try_from(number).ok();
    match kind {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(bytes) => count(*bytes),
        DataType::FixedSizeList(item, values) => {
            Some(count(*values)? * width_of(item.data_type())?)
        }
        DataType::Struct(fields) => fields.iter().map(|field| width_of(field.data_type())).sum(),
        kind => kind.primitive_width().map(|bytes| bytes as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use arrow::datatypes::{Field, Fields};

    use super::*;

    #[test]
    fn width_of_values_that_are_equally_long_is_known() {
        let floats = Arc::new(Field::new("item", DataType::Float32, true));
        let vector = DataType::FixedSizeList(floats, 384);
        assert_eq!(width_of(&vector), Some(4 * 384));
        let both = |other: DataType| {
            let fields = [("id", DataType::Int64), ("other", other)];
            let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
            width_of(&DataType::Struct(Fields::from(fields.to_vec())))
        };
        assert_eq!(both(DataType::FixedSizeBinary(16)), Some(24));
        assert_eq!(both(DataType::Utf8), None);
    }

    #[test]
    fn as_many_as_may_be_are_worked_on_at_the_same_time() {
        let two = NonZeroUsize::new(2).expect("is not zero");
        // Nobody passes alone.
        let barrier = Barrier::new(2);
        let made = at_once(&[1, 2, 3, 4], two, |&number| {
            barrier.wait();
            Ok(10 * number)
        });
        let mut made = made.expect("nothing fails");
        made.sort_unstable();
        assert_eq!(made, [10, 20, 30, 40]);
        assert_eq!(at_once(&[], two, |&(): &()| Ok(())), Ok(vec![]));
    }

    #[test]
    fn failure_of_one_is_that_of_all() {
        let lost = || TaskFailure::new(ErrorCode::ObjectLost, "gone");
        let failed = at_once(&[1, 2, 3], READ_AT_ONCE, |&number| match number {
            2 => Err(lost()),
            number => Ok(number),
        });
        assert_eq!(failed, Err(lost()));
    }
}
