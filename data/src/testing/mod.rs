//! What tests of this crate share: Parquet files to read, and functions that need no Python.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_inference::HubModel;
use aktis_worker::{TaskFailure, Value};
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::graph::RangeKey;
use crate::operators::udf::{self, BatchFunction, RowsWriter, UdfHost};
use crate::plan::{
    Batching, Compute, Dataset, FailurePolicy, Kept, MapFunction, MapSpec, Produces, PythonFunction,
};
use crate::storage::{
    DataFile, Described, PathColumns, Published, RemoteFiles, StoreRefusal, StoreSpec, Transfer,
};

/// Columns `id` (0, 1, ...), `text` ("row 0", ...) and `data` (1000 bytes per row).
pub(crate) fn rows(first: i64, count: i64) -> RecordBatch {
    let ids = Int64Array::from_iter_values(first..first + count);
    let texts = StringArray::from_iter_values((first..first + count).map(|id| format!("row {id}")));
    let data = BinaryArray::from_iter_values((first..first + count).map(|id| {
        (0..1000i64)
            .map(|byte| ((id * 31 + byte * 7) % 251) as u8)
            .collect::<Vec<u8>>()
    }));
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(texts), Arc::new(data)];
    RecordBatch::try_new(schema(), columns).expect("columns fit the schema")
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("data", DataType::Binary, false),
    ]))
}

/// Writes [`rows`] as a Parquet file of row groups of `group_rows`.
pub(crate) fn write_file(path: &Path, first: i64, count: i64, group_rows: usize) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50)
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = std::fs::File::create(path).expect("creates a file");
    let mut writer = ArrowWriter::try_new(file, schema(), Some(properties)).expect("opens");
    writer.write(&rows(first, count)).expect("writes");
    writer.close().expect("closes");
}

/// The column `id` of all batches, in order.
pub(crate) fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    let column = |batch: &RecordBatch| -> Vec<i64> {
        let column = batch.column_by_name("id").expect("has ids");
        column
            .as_any()
            .downcast_ref::<Int64Array>()
            .expect("of integers")
            .values()
            .to_vec()
    };
    batches.iter().flat_map(column).collect()
}

/// All rows as one batch.
pub(crate) fn whole(batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&batches[0].schema(), batches).expect("all have the same columns")
}

/// The rows, those with the largest `id` first.
pub(crate) fn sorted_downwards(dataset: &Dataset) -> Dataset {
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: true,
        has_nulls_first: false,
    };
    dataset.sort(vec![key]).expect("plans")
}

/// A map that runs one of [`TestFunction`]'s functions.
pub(crate) fn test_map(name: &str) -> MapSpec {
    install_test_host();
    MapSpec {
        name: name.to_owned(),
        function: MapFunction::Python(PythonFunction {
            definition: Bytes::from(name.to_owned()),
            captured: None,
        }),
        reads: None,
        keeps: Kept::Nothing,
        produces: Produces::Unknown,
        keeps_rows: false,
        batch_rows: None,
        window_rows: 0,
        compute: Compute::tasks(),
        failures: FailurePolicy::default(),
        cache: None,
        batching: Batching::default(),
    }
}

pub(crate) fn install_test_host() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| udf::install(Box::new(TestHost)));
}

struct TestHost;

impl UdfHost for TestHost {
    fn load(
        &self,
        definition: &Bytes,
        _captured: Option<&Value>,
    ) -> Result<Box<dyn BatchFunction>, TaskFailure> {
        let name = String::from_utf8_lossy(definition).into_owned();
        if name == "broken constructor" {
            return Err(TaskFailure::new(
                ErrorCode::Application,
                "constructor: no model",
            ));
        }
        if name == "calls under way" {
            return Ok(Box::new(Overlapping::default()));
        }
        Ok(Box::new(TestFunction {
            name,
            failures: 0,
            outputs: Vec::new(),
        }))
    }

    /// Local files, by a definition of any text.
    fn open_files(&self, definition: &Bytes) -> Result<Arc<dyn RemoteFiles>, TaskFailure> {
        let are_in_twos = definition == FAR_IN_TWOS;
        Ok(Arc::new(FarFiles {
            meeting: are_in_twos.then(Meeting::default),
        }))
    }

    fn open_writer(
        &self,
        _definition: &Bytes,
        folder: &str,
        stem: &str,
    ) -> Result<Box<dyn RowsWriter>, TaskFailure> {
        let name = format!("{stem}.ids");
        Ok(Box::new(IdsWriter {
            path: Path::new(folder).join(&name),
            name,
            ids: Vec::new(),
        }))
    }

    fn decode_images(&self, _images: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
        Err(TaskFailure::new(
            ErrorCode::Internal,
            "no test decodes images",
        ))
    }

    fn model_folder(&self, _model: &HubModel) -> Result<PathBuf, TaskFailure> {
        Err(TaskFailure::new(ErrorCode::Internal, "no test has a hub"))
    }
}

/// Parquet files of a folder, as if they were far.
pub(crate) fn far_files(folder: &Path, names: &[&str]) -> Dataset {
    install_test_host();
    let file = |name: &&str| {
        let path = folder.join(name);
        let described = std::fs::metadata(&path).expect("is there");
        DataFile::here(&format!("far:{}", path.display()), &described)
    };
    let files: Vec<DataFile> = names.iter().map(file).collect();
    let store = StoreSpec {
        definition: "far".into(),
    };
    Dataset::read_parquet_in(store, files, PathColumns::default(), None).expect("has footers")
}

fn near(name: &str) -> &str {
    name.strip_prefix("far:").expect("is far")
}

fn copied(from: &str, to: &str) -> Result<(), StoreRefusal> {
    let folder = Path::new(to).parent().expect("is in a folder");
    std::fs::create_dir_all(folder).expect("creates");
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| StoreRefusal {
            text: format!("copy {from}: {error}"),
            number: error.raw_os_error().unwrap_or_default(),
        })
}

/// The definition of a store that answers the first request when the second has come.
pub(crate) const FAR_IN_TWOS: &str = "far, in twos";

/// Where the first two requests wait for one another.
#[derive(Default)]
struct Meeting {
    requests: Mutex<u32>,
    came: Condvar,
}

impl Meeting {
    fn wait(&self) -> Result<(), StoreRefusal> {
        let mut requests = self.requests.lock();
        *requests += 1;
        self.came.notify_all();
        let deadline = Duration::from_secs(20);
        let waited = self
            .came
            .wait_while_for(&mut requests, |requests| *requests < 2, deadline);
        if waited.timed_out() {
            let text = "the second request has not come beside the first".to_owned();
            return Err(StoreRefusal { text, number: 110 });
        }
        Ok(())
    }
}

/// Local files as `far:/path`, which are refused where they are not there.
struct FarFiles {
    meeting: Option<Meeting>,
}

impl RemoteFiles for FarFiles {
    fn read_ranges(&self, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreRefusal> {
        self.meeting.as_ref().map_or(Ok(()), Meeting::wait)?;
        let whole = std::fs::read(near(path)).map_err(|error| StoreRefusal {
            text: format!("read {path}: it is far and gone"),
            number: error.raw_os_error().unwrap_or_default(),
        })?;
        let whole = Bytes::from(whole);
        let place = |at: u64| usize::try_from(at).expect("is in memory");
        let part = |range: &Range<u64>| whole.slice(place(range.start)..place(range.end));
        Ok(ranges.iter().map(part).collect())
    }

    fn describe(&self, paths: &[&str]) -> Result<Vec<Option<Described>>, StoreRefusal> {
        let described = |path: &&str| {
            let described = std::fs::metadata(near(path)).ok()?;
            let DataFile {
                size_bytes,
                version,
                ..
            } = DataFile::here(path, &described);
            Some(Described {
                size_bytes,
                version,
            })
        };
        Ok(paths.iter().map(described).collect())
    }

    fn upload(&self, files: &[Transfer]) -> Result<(), StoreRefusal> {
        files
            .iter()
            .try_for_each(|file| copied(&file.local, near(&file.name)))
    }

    fn download(&self, files: &[Transfer]) -> Result<(), StoreRefusal> {
        files
            .iter()
            .try_for_each(|file| copied(near(&file.name), &file.local))
    }

    fn publish(&self, folder: &str, new: &[Published], replaces: bool) -> Result<(), StoreRefusal> {
        let there: Vec<PathBuf> = std::fs::read_dir(near(folder))
            .expect("is there")
            .map(|entry| entry.expect("reads").path())
            .filter(|path| replaces && path.is_file())
            .collect();
        new.iter()
            .try_for_each(|file| copied(near(&file.hidden), near(&file.name)))?;
        let is_new = |path: &Path| new.iter().any(|file| Path::new(near(&file.name)) == path);
        there
            .iter()
            .filter(|path| !is_new(path))
            .for_each(|path| std::fs::remove_file(path).expect("removes"));
        Ok(())
    }

    fn sweep(&self, folder: &str) -> Result<(), StoreRefusal> {
        if Path::new(near(folder)).is_dir() {
            std::fs::remove_dir_all(near(folder)).expect("removes");
        }
        Ok(())
    }
}

/// Writes the column `id` into one file, if there are rows.
struct IdsWriter {
    path: PathBuf,
    name: String,
    ids: Vec<i64>,
}

impl RowsWriter for IdsWriter {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        self.ids.extend(ids(&[batch]));
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<(String, u64)>, TaskFailure> {
        std::fs::write(&self.path, format!("{:?}", self.ids)).expect("writes");
        Ok(vec![(self.name.clone(), self.ids.len() as u64)])
    }
}

/// `calls under way`: how many there are when one ends, as `id` of its rows. There may be four.
#[derive(Default)]
struct Overlapping(VecDeque<Option<RecordBatch>>);

impl BatchFunction for Overlapping {
    fn calls_ahead(&self) -> usize {
        4
    }

    fn is_lazy(&self) -> bool {
        false
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        self.0.push_back(Some(batch));
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let calls = self.0.len() as i64;
        let Some(batch) = self.0.front_mut().and_then(Option::take) else {
            self.0.pop_front();
            return Ok(None);
        };
        let counts = Int64Array::from(vec![calls; batch.num_rows()]);
        let column: ArrayRef = Arc::new(counts);
        Ok(Some(
            RecordBatch::try_from_iter([("id", column)]).expect("one column"),
        ))
    }

    fn forget_calls(&mut self) {
        self.0.clear();
    }
}

/// `same`, `lengths` (rows per call), `twice` (every batch two times), `even` (a mask over `id`), `drop one`, `fail at 3`, `fail at 7`,
/// `fail at 107`, `fail six times at 7`, `fail above 5 rows` (which has what it gives at once), `panic at 7`.
struct TestFunction {
    name: String,
    failures: u32,
    outputs: Vec<RecordBatch>,
}

impl BatchFunction for TestFunction {
    fn is_lazy(&self) -> bool {
        self.name != "fail above 5 rows"
    }

    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        let one = |name: &str, column: ArrayRef| {
            RecordBatch::try_from_iter([(name, column)]).expect("one column")
        };
        self.outputs = match self.name.as_str() {
            "lengths" => {
                let rows = i64::try_from(batch.num_rows()).expect("few rows");
                vec![one("rows", Arc::new(Int64Array::from(vec![rows])))]
            }
            "twice" => vec![batch.clone(), batch],
            "even" => {
                let even = ids(&[batch]).into_iter().map(|id| Some(id % 2 == 0));
                vec![one("keep", Arc::new(BooleanArray::from_iter(even)))]
            }
            "drop one" => vec![batch.slice(1, batch.num_rows() - 1)],
            "text length" => {
                let texts = batch.column_by_name("text").expect("reads texts");
                let texts = texts
                    .as_any()
                    .downcast_ref::<StringArray>()
                    .expect("of strings");
                assert_eq!(batch.num_columns(), 1, "gets only what it reads");
                let lengths = texts
                    .iter()
                    .map(|text| text.map_or(0, |text| text.len() as i64));
                vec![one(
                    "length",
                    Arc::new(Int64Array::from_iter_values(lengths)),
                )]
            }
            "fail at 3" if ids(std::slice::from_ref(&batch)).contains(&3) => {
                return Err(TaskFailure::new(
                    ErrorCode::Application,
                    "ValueError: three",
                ));
            }
            "fail at 7" if ids(std::slice::from_ref(&batch)).contains(&7) => {
                return Err(TaskFailure::new(
                    ErrorCode::Application,
                    "ValueError: seven",
                ));
            }
            "fail at 107" if ids(std::slice::from_ref(&batch)).contains(&107) => {
                return Err(TaskFailure::new(ErrorCode::Application, "ValueError: late"));
            }
            "fail six times at 7"
                if self.failures < 6 && ids(std::slice::from_ref(&batch)).contains(&7) =>
            {
                self.failures += 1;
                return Err(TaskFailure::new(
                    ErrorCode::Application,
                    "ValueError: by chance",
                ));
            }
            "fail" => return Err(TaskFailure::new(ErrorCode::Application, "ValueError: no")),
            "fail above 5 rows" if batch.num_rows() > 5 => {
                return Err(TaskFailure::new(ErrorCode::Application, "ValueError: many"));
            }
            "fail slowly" => {
                std::thread::sleep(std::time::Duration::from_millis(25));
                return Err(TaskFailure::new(ErrorCode::Application, "ValueError: no"));
            }
            "panic at 7" if ids(std::slice::from_ref(&batch)).contains(&7) => panic!("seven"),
            _ => vec![batch],
        };
        self.outputs.reverse();
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        Ok(self.outputs.pop())
    }

    fn forget_calls(&mut self) {
        self.outputs.clear();
    }
}
