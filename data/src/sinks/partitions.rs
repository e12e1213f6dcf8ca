//! A folder for each value of some columns: `day=2024-01-01/city=Oslo/...`, as Hive and its readers have them.
//!
//! Rows wait, sorted by folder, until they are many; then the folder that has most of them writes. So thousands of folders take the
//! memory of few: [`MAX_WAITING_BYTES`] of rows, and [`MAX_OPEN`] files that are open. What has to make room ends its file, and begins
//! another one when more rows come.

use std::collections::{BTreeMap, HashMap};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::SinkWriter;
use crate::block::data_bytes;
use crate::operators::packed::take_rows;
use crate::storage::hive_folder;
use crate::wire::spec::WrittenFile;

/// Rows that wait in one writer, at most.
const MAX_WAITING_BYTES: u64 = 32 << 20;
/// Files that one writer has open, at most.
const MAX_OPEN: usize = 32;

/// Opens the writer of a folder: its path from the target on, and a number that no other writer of this input has.
pub(super) type OpenFolder =
    Box<dyn Fn(&str, u64) -> Result<Box<dyn SinkWriter>, TaskFailure> + Send>;

/// Writes the rows of an input into a folder for each value.
pub(super) struct Partitions {
    operation: String,
    columns: Vec<String>,
    open_folder: OpenFolder,
    waiting: BTreeMap<String, WaitingRows>,
    waiting_bytes: u64,
    open: HashMap<String, OpenWriter>,
    /// Writers so far.
    opened: u64,
    /// Counts uses of writers.
    clock: u64,
    finished: Vec<WrittenFile>,
}

#[derive(Default)]
struct WaitingRows {
    batches: Vec<RecordBatch>,
    bytes: u64,
}

struct OpenWriter {
    writer: Box<dyn SinkWriter>,
    used_at: u64,
}

impl Partitions {
    /// `operation`: the call of the user, for messages. Not without columns.
    pub(super) fn new(operation: &str, columns: Vec<String>, open_folder: OpenFolder) -> Self {
        Self {
            operation: operation.to_owned(),
            columns,
            open_folder,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            open: HashMap::new(),
            opened: 0,
            clock: 0,
            finished: Vec::new(),
        }
    }

    /// The folder of each row, and the batch without the columns that folders tell.
    fn apart(&self, batch: &RecordBatch) -> Result<(Vec<String>, RecordBatch), TaskFailure> {
        let schema = batch.schema();
        let mut folders = vec![String::new(); batch.num_rows()];
        let mut rest: Vec<usize> = (0..batch.num_columns()).collect();
        for name in &self.columns {
            let index = schema.index_of(name).map_err(|_| {
                let there: Vec<&str> = schema
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str())
                    .collect();
                self.refused(&format!(
                    "there is no column {name:?}; the columns are {}",
                    there.join(", ")
                ))
            })?;
            rest.retain(|&column| column != index);
            let texts = texts(batch.column(index)).map_err(|why| {
                self.refused(&format!(
                    "the column {name:?} is {}, {why}",
                    schema.field(index).data_type()
                ))
            })?;
            for (folder, text) in folders.iter_mut().zip(texts) {
                hive_folder(folder, name, text.as_deref());
            }
        }
        if rest.is_empty() {
            return Err(self.refused(
                "all columns are in it, so that nothing is left to write; leave one out",
            ));
        }
        let batch = batch
            .project(&rest)
            .map_err(|error| self.internal(&error))?;
        Ok((folders, batch))
    }

    fn refused(&self, why: &str) -> TaskFailure {
        let message = format!(
            "{}: partition_cols={:?}: {why}",
            self.operation, self.columns
        );
        TaskFailure::new(ErrorCode::InvalidArgument, message)
    }

    fn internal(&self, error: &dyn std::fmt::Display) -> TaskFailure {
        TaskFailure::new(ErrorCode::Internal, format!("{}: {error}", self.operation))
    }

    fn wait(&mut self, folder: String, batch: RecordBatch) {
        let bytes = data_bytes(&batch);
        let waiting = self.waiting.entry(folder).or_default();
        waiting.batches.push(batch);
        waiting.bytes += bytes;
        self.waiting_bytes += bytes;
    }

    /// Lets the folder write that has most rows.
    fn write_most(&mut self) -> Result<(), TaskFailure> {
        let most = self.waiting.iter().max_by_key(|(_, waiting)| waiting.bytes);
        let most = most.map(|(folder, _)| folder.clone());
        most.map_or(Ok(()), |folder| self.write_waiting(&folder))
    }

    fn write_waiting(&mut self, folder: &str) -> Result<(), TaskFailure> {
        let Some(waiting) = self.waiting.remove(folder) else {
            return Ok(());
        };
        self.waiting_bytes -= waiting.bytes;
        self.clock += 1;
        if !self.open.contains_key(folder) {
            self.make_room()?;
            let writer = (self.open_folder)(folder, self.opened)?;
            self.opened += 1;
            let open = OpenWriter { writer, used_at: 0 };
            self.open.insert(folder.to_owned(), open);
        }
        let open = self
            .open
            .get_mut(folder)
            .expect("opened just above, if it was not open");
        open.used_at = self.clock;
        let mut batches = waiting.batches.into_iter();
        batches.try_for_each(|batch| open.writer.write(batch))
    }

    /// Ends the file that was written to longest ago, if there are as many as may be.
    fn make_room(&mut self) -> Result<(), TaskFailure> {
        while self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.used_at);
            let Some(oldest) = oldest.map(|(folder, _)| folder.clone()) else {
                return Ok(());
            };
            self.end(&oldest)?;
        }
        Ok(())
    }

    fn end(&mut self, folder: &str) -> Result<(), TaskFailure> {
        if let Some(mut open) = self.open.remove(folder) {
            self.finished.extend(open.writer.finish()?);
        }
        Ok(())
    }
}

impl SinkWriter for Partitions {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let (folders, batch) = self.apart(&batch)?;
        let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (row, folder) in folders.into_iter().enumerate() {
            match rows.get_mut(&folder) {
                Some(rows) => rows.push(row as u64),
                None => drop(rows.insert(folder, vec![row as u64])),
            }
        }
        let is_one = rows.len() == 1;
        for (folder, rows) in rows {
            let part = if is_one {
                batch.clone()
            } else {
                take_rows(&batch, &UInt64Array::from(rows))
                    .map_err(|error| self.internal(&error))?
            };
            self.wait(folder, part);
        }
        while self.waiting_bytes > MAX_WAITING_BYTES {
            self.write_most()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        // Files that are open need no room to be made for them.
        for folder in self.open.keys().cloned().collect::<Vec<_>>() {
            self.write_waiting(&folder)?;
            self.end(&folder)?;
        }
        while let Some(folder) = self.waiting.keys().next().cloned() {
            self.write_waiting(&folder)?;
            self.end(&folder)?;
        }
        Ok(std::mem::take(&mut self.finished))
    }
}

/// The values as names of folders have them, before signs are escaped: as pyarrow writes them. Or why there are none.
fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>, String> {
    if let DataType::Dictionary(_, values) = column.data_type() {
        let plain = arrow::compute::cast(column, values).map_err(|error| error.to_string())?;
        return texts(&plain);
    }
    let kind = column.data_type();
    let float = |text: &str| float_text(text);
    let has_text = kind.is_primitive()
        && !matches!(kind, DataType::Interval(_) | DataType::Duration(_))
        || matches!(kind, DataType::Null | DataType::Boolean)
        || kind.is_string();
    if !has_text {
        return Err("whose values have no text for the name of a folder".to_owned());
    }
    let format = timestamp_format(kind);
    let options = FormatOptions::new()
        .with_timestamp_format(format.as_deref())
        .with_timestamp_tz_format(format.as_deref());
    let formatter = ArrayFormatter::try_new(column, &options).map_err(|error| error.to_string())?;
    let text = |row: usize| {
        if column.is_null(row) || *kind == DataType::Null {
            return Ok(None);
        }
        let text = formatter
            .value(row)
            .try_to_string()
            .map_err(|error| error.to_string())?;
        Ok(Some(if kind.is_floating() {
            float(&text)
        } else {
            text
        }))
    };
    (0..column.len()).map(text).collect()
}

/// Arrow's C++ has a blank between date and time.
fn timestamp_format(kind: &DataType) -> Option<String> {
    let DataType::Timestamp(unit, zone) = kind else {
        return None;
    };
    let fraction = match unit {
        TimeUnit::Second => "",
        TimeUnit::Millisecond => "%.3f",
        TimeUnit::Microsecond => "%.6f",
        TimeUnit::Nanosecond => "%.9f",
    };
    let zone = match zone.as_deref() {
        None => "",
        Some("UTC" | "Z" | "+00:00") => "Z",
        Some(_) => "%z",
    };
    Some(format!("%Y-%m-%d %H:%M:%S{fraction}{zone}"))
}

/// As Arrow's C++ writes numbers: `1` and not `1.0`, an exponent beyond 15 digits and below five zeros, with its sign.
fn float_text(text: &str) -> String {
    let Ok(value) = text.parse::<f64>() else {
        return text.to_owned();
    };
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    // The shortest text that means this number also has its shortest digits: a narrow float keeps its own.
    let plain = text.strip_suffix(".0").unwrap_or(text);
    let scientific = format!("{value:e}");
    let exponent = scientific
        .split_once('e')
        .and_then(|(_, exponent)| exponent.parse::<i32>().ok());
    match exponent {
        Some(exponent) if !(-5..15).contains(&exponent) => {
            scientific_text(if plain.contains('e') {
                plain
            } else {
                &scientific
            })
        }
        _ if plain.contains('e') => value.to_string(),
        _ => plain.to_owned(),
    }
}

fn scientific_text(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}e{sign}{exponent}")
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Float32Array, Float64Array, Int64Array, NullArray, StringArray,
        TimestampMicrosecondArray,
    };
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    type Seen = Arc<Mutex<Vec<(String, u64, usize)>>>;

    /// Notes the folder, its number and the rows at the end.
    struct Notes {
        folder: String,
        number: u64,
        rows: usize,
        seen: Seen,
    }

    impl SinkWriter for Notes {
        fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
            assert_eq!(batch.schema().fields().len(), 1, "folders tell the others");
            self.rows += batch.num_rows();
            Ok(())
        }

        fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
            self.seen
                .lock()
                .push((self.folder.clone(), self.number, self.rows));
            Ok(Vec::new())
        }
    }

    fn partitions(columns: &[&str]) -> (Partitions, Seen) {
        let seen = Seen::default();
        let notes = Arc::clone(&seen);
        let open = move |folder: &str, number| {
            let notes = Notes {
                folder: folder.to_owned(),
                number,
                rows: 0,
                seen: Arc::clone(&notes),
            };
            Ok(Box::new(notes) as Box<dyn SinkWriter>)
        };
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        (
            Partitions::new("write_test()", columns, Box::new(open)),
            seen,
        )
    }

    fn batch(keys: &[Option<&str>]) -> RecordBatch {
        let key: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        let x: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        RecordBatch::try_from_iter([("k", key), ("x", x)]).expect("two columns")
    }

    #[test]
    fn rows_of_a_value_meet_in_its_folder() {
        let (mut writer, seen) = partitions(&["k"]);
        writer
            .write(batch(&[Some("a b/c"), None, Some("é"), Some("a b/c")]))
            .expect("writes");
        writer.write(batch(&[Some("é")])).expect("writes");
        writer.finish().expect("ends");
        let wanted = [
            ("k=%C3%A9", 2),
            ("k=__HIVE_DEFAULT_PARTITION__", 1),
            ("k=a%20b%2Fc", 2),
        ];
        let mut seen: Vec<_> = seen
            .lock()
            .iter()
            .map(|(folder, _, rows)| (folder.clone(), *rows))
            .collect();
        seen.sort();
        assert_eq!(seen, wanted.map(|(folder, rows)| (folder.to_owned(), rows)));
    }

    /// A folder whose file had to make room gets another one, and no row is lost.
    #[test]
    fn many_folders_have_few_open_files() {
        let (mut writer, seen) = partitions(&["k"]);
        let keys: Vec<String> = (0..100).map(|key| key.to_string()).collect();
        let keys: Vec<Option<&str>> = keys.iter().map(|key| Some(key.as_str())).collect();
        for _ in 0..3 {
            writer.write(batch(&keys)).expect("writes");
            while !writer.waiting.is_empty() {
                writer.write_most().expect("writes");
                assert!(writer.open.len() <= MAX_OPEN);
            }
            assert_eq!(writer.waiting_bytes, 0);
        }
        writer.finish().expect("ends");
        let seen = seen.lock();
        assert_eq!(seen.iter().map(|(_, _, rows)| rows).sum::<usize>(), 300);
        let mut numbers: Vec<u64> = seen.iter().map(|(_, number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..seen.len() as u64).collect::<Vec<_>>());
        assert!(seen.len() > 100, "some were ended to make room");
    }

    #[test]
    fn columns_that_cannot_be_folders_are_named() {
        let (mut writer, _) = partitions(&["y"]);
        let failure = writer.write(batch(&[Some("a")])).expect_err("is not there");
        assert!(
            failure
                .message
                .contains("no column \"y\"; the columns are k, x"),
            "{failure}"
        );
        let (mut writer, _) = partitions(&["k", "x"]);
        let failure = writer
            .write(batch(&[Some("a")]))
            .expect_err("leaves nothing");
        assert!(
            failure.message.contains("nothing is left to write"),
            "{failure}"
        );
    }

    /// As pyarrow 26 names them.
    #[test]
    fn values_have_the_text_that_pyarrow_gives_them() {
        let numbers = [
            1.0,
            0.1,
            1e20,
            -0.0,
            1e-7,
            1e14,
            1e15,
            1.5e-5,
            f64::NAN,
            f64::INFINITY,
        ];
        let wanted = [
            "1",
            "0.1",
            "1e+20",
            "-0",
            "1e-7",
            "100000000000000",
            "1e+15",
            "0.000015",
            "nan",
            "inf",
        ];
        let column: ArrayRef = Arc::new(Float64Array::from(numbers.to_vec()));
        assert_eq!(
            texts(&column).expect("numbers"),
            wanted.map(|text| Some(text.to_owned()))
        );
        let column: ArrayRef = Arc::new(Float32Array::from(vec![0.1, 16_777_216.0, 1e20]));
        assert_eq!(
            texts(&column).expect("numbers"),
            ["0.1", "16777216", "1e+20"].map(|text| Some(text.to_owned()))
        );
        let time = TimestampMicrosecondArray::from(vec![1_704_103_323_000_005]);
        let column: ArrayRef = Arc::new(time.clone());
        assert_eq!(
            texts(&column).expect("times"),
            [Some("2024-01-01 10:02:03.000005".to_owned())]
        );
        let column: ArrayRef = Arc::new(time.with_timezone("UTC"));
        assert_eq!(
            texts(&column).expect("times"),
            [Some("2024-01-01 10:02:03.000005Z".to_owned())]
        );
        let column: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
        assert_eq!(
            texts(&column).expect("truths"),
            [Some("true".to_owned()), None]
        );
        let column: ArrayRef = Arc::new(NullArray::new(1));
        assert_eq!(texts(&column).expect("nulls"), [None]);
    }
}
