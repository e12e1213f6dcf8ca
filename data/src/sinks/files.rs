//! Files of formats that Python writes: CSV, JSON lines, images and their like.
//!
//! The writer of an input gets a folder and what its files' names begin with; what they are called behind that, how many there
//! are and what is in them is its own affair. They become visible as those of every sink do (SINK-1).

use std::fs;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use prost::Message;

use super::{FileNames, FileStem, OwnStage, SinkKind, SinkWriter, Written};
use crate::block;
use crate::columns::unify;
use crate::error::PlanError;
use crate::ledger::{FileFormat, FolderOutput, JobIdentity, OutputPlan, SaveMode};
use crate::operators::udf::{self, RowsWriter};
use crate::os_error;
use crate::registered::Registered;
use crate::wire::spec::WrittenFile;

pub(super) const NAME: &str = "files";

/// A folder of files of one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOutput {
    /// The call of the user, for messages: `write_csv()`.
    pub operation: String,
    /// What the `UdfHost` makes the format ready of.
    pub definition: Bytes,
    /// Absolute path of the folder.
    pub folder: String,
    /// What the files' names begin with; no other job may use it.
    pub prefix: String,
    /// Columns whose values are folders, the outermost first.
    pub partition_columns: Vec<String>,
    /// Rows per file at least, but for the last one.
    pub min_rows_per_file: Option<u64>,
    /// Workers that write at once, at most.
    pub max_writers: Option<usize>,
    /// What becomes of files that are there.
    pub mode: SaveMode,
    /// What the files are called, if the user says so.
    pub names: Option<FileNames>,
    /// What tells the job from others, if it is taken up when it was left unfinished.
    pub identity: Option<JobIdentity>,
}

impl FilesOutput {
    fn spec(&self) -> FilesSink {
        FilesSink {
            operation: self.operation.clone(),
            definition: self.definition.clone(),
            folder: self.folder.clone(),
            prefix: self.prefix.clone(),
            partition_columns: self.partition_columns.clone(),
        }
    }
}

impl SinkKind for FilesOutput {
    fn step(&self) -> Option<&'static str> {
        Some("Write")
    }

    fn settings(&self) -> Option<Registered> {
        Some(Registered {
            kind: NAME.to_owned(),
            settings: Bytes::from(self.spec().encode_to_vec()),
        })
    }

    /// Without the definition, which whoever made it knows.
    fn shape(&self) -> Option<Bytes> {
        let spec = FilesSink {
            definition: Bytes::new(),
            folder: String::new(),
            prefix: String::new(),
            ..self.spec()
        };
        Some(Bytes::from(spec.encode_to_vec()))
    }

    fn own_stage(&self) -> Option<OwnStage> {
        OwnStage::for_files(self.min_rows_per_file, None, self.max_writers)
    }

    fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        let format = Box::new(self.spec());
        let output = OutputPlan {
            folder: &self.folder,
            prefix: &self.prefix,
            mode: self.mode,
            names: self.names.clone(),
            identity: self.identity.clone(),
        };
        FolderOutput::begin(output, format).map(Some)
    }
}

/// What travels to workers.
#[derive(Clone, PartialEq, Message)]
struct FilesSink {
    #[prost(string, tag = "1")]
    operation: String,
    #[prost(bytes = "bytes", tag = "2")]
    definition: Bytes,
    #[prost(string, tag = "3")]
    folder: String,
    #[prost(string, tag = "4")]
    prefix: String,
    #[prost(string, repeated, tag = "5")]
    partition_columns: Vec<String>,
}

pub(super) fn open(settings: &Bytes, input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    let sink: FilesSink = super::decode(settings)?;
    let (operation, columns) = (sink.operation.clone(), sink.partition_columns.clone());
    let stem = FileStem::new(&sink.folder, &sink.prefix, input);
    super::by_folder(&operation, &columns, stem, move |stem| {
        Ok(Box::new(InputFiles::open(sink.clone(), stem)?))
    })
}

/// What has no rows has files all the same, where the format can say the columns; no file is written anew for the sake of
/// others: readers of these formats put columns together by name.
impl FileFormat for FilesSink {
    fn operation(&self) -> &str {
        &self.operation
    }

    fn empty_files(&self, schema: &SchemaRef) -> Result<Vec<WrittenFile>, TaskFailure> {
        let input = Written {
            sequence: 0,
            attempt: 0,
        };
        let stem = FileStem::new(&self.folder, &self.prefix, input);
        let mut files = InputFiles::open(self.clone(), stem)?;
        files.schema = Some(Arc::clone(schema));
        files
            .writer
            .write(RecordBatch::new_empty(Arc::clone(schema)))?;
        files.finish()
    }

    fn make_alike(&self, _files: &mut [WrittenFile]) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn makes_alike(&self) -> bool {
        false
    }
}

/// The files of one input, or of one folder of it.
struct InputFiles {
    sink: FilesSink,
    stem: FileStem,
    writer: Box<dyn RowsWriter>,
    /// The columns of all rows so far.
    schema: Option<SchemaRef>,
}

impl InputFiles {
    fn open(sink: FilesSink, stem: FileStem) -> Result<Self, TaskFailure> {
        let writer = udf::open_writer(
            &sink.definition,
            &stem.unfinished_folder().display().to_string(),
            &stem.unfinished_name(),
        )?;
        Ok(Self {
            sink,
            stem,
            writer,
            schema: None,
        })
    }

    fn written(&self, name: &str, rows: u64) -> Result<WrittenFile, TaskFailure> {
        let operation = &self.sink.operation;
        let path = self.stem.visible(name).ok_or_else(|| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("{operation}: a file of this input is called {name:?}"),
            )
        })?;
        let unfinished = self.stem.unfinished_folder().join(name);
        let described = fs::metadata(&unfinished).map_err(|error| {
            let what = format!("{operation}: write {}", path.display());
            os_error::failure(&what, &error, ErrorCode::InvalidArgument)
        })?;
        let schema = self.schema.clone();
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        let schema = block::encode_schema(&schema).map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("{operation}: {error}"))
        })?;
        Ok(WrittenFile {
            path: path.display().to_string(),
            rows,
            bytes: described.len(),
            unfinished: unfinished.display().to_string(),
            schema,
            sequence: self.stem.sequence(),
            output: 0,
        })
    }
}

impl SinkWriter for InputFiles {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let next = batch.schema();
        let schema = match &self.schema {
            Some(schema) => unify(schema, &next).map_err(|misfit| {
                let between =
                    misfit.between("in the first rows of a part", "in the rows after these");
                TaskFailure::new(
                    ErrorCode::InvalidArgument,
                    format!("{}: {between}", self.sink.operation),
                )
            })?,
            None => next,
        };
        self.schema = Some(schema);
        self.writer.write(batch)
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        let files = self.writer.finish()?;
        let files = files.into_iter();
        files
            .map(|(name, rows)| self.written(&name, rows))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ledger::close_together;
    use crate::testing::{install_test_host, rows};

    fn output(folder: &Path, mode: SaveMode) -> FilesOutput {
        FilesOutput {
            operation: "write_ids()".to_owned(),
            definition: Bytes::new(),
            folder: folder.display().to_string(),
            prefix: "job".to_owned(),
            partition_columns: Vec::new(),
            min_rows_per_file: None,
            max_writers: None,
            mode,
            names: None,
            identity: None,
        }
    }

    fn visible(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("is there");
        let names = entries.map(|entry| entry.expect("reads").file_name());
        let mut names: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| !name.starts_with(['.', '_']))
            .collect();
        names.sort();
        names
    }

    /// SINK-1 (all-or-nothing).
    #[test]
    fn files_get_their_names_when_the_job_is_whole_and_go_when_it_fails() {
        install_test_host();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = output(folder.path(), SaveMode::Append);
        let settings = output.settings().expect("workers write").settings;
        for outcome in [
            Err(TaskFailure::new(ErrorCode::Internal, "a worker died")),
            Ok(()),
        ] {
            let is_whole = outcome.is_ok();
            let mut begun = output.begin().expect("begins").expect("is a folder");
            let input = Written {
                sequence: 3,
                attempt: 7,
            };
            let mut writer = open(&settings, input).expect("opens");
            writer.write(rows(0, 2)).expect("writes");
            let files = writer.finish().expect("finishes");
            assert_eq!(files[0].rows, 2);
            begun.add(3, files, Vec::new(), Vec::new());
            assert_eq!(visible(folder.path()), Vec::<String>::new());
            assert_eq!(
                close_together(vec![(begun, None)], outcome).is_ok(),
                is_whole
            );
            let wanted: &[&str] = if is_whole { &["job_000003.ids"] } else { &[] };
            assert_eq!(visible(folder.path()), wanted);
        }
    }

    #[test]
    fn output_without_rows_has_a_file_that_tells_its_columns() {
        install_test_host();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begun = output(folder.path(), SaveMode::Append).begin();
        let begun = begun.expect("begins").expect("is a folder");
        let schema = crate::testing::schema();
        close_together(vec![(begun, Some(schema))], Ok(())).expect("commits");
        assert_eq!(visible(folder.path()), ["job_000000.ids"]);
    }
}
