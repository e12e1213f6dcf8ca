//! Files of formats that Python reads: CSV, JSON, text, images and their like.
//!
//! ```text
//!  storage    paths, folders, patterns ──► files with their sizes
//!  cut        sizes ──► splits of parts of files               a part: a file from one byte to another
//!  worker     a split as a batch of parts ──► Python ──► rows
//! ```
//! A part is the lines (rows) that begin in it, so that parts of a file together are all of its rows. Where a file is cut
//! follows from the sizes of files alone: a position means the same whoever reads it, whenever.

mod cut;
mod part;

use std::sync::Arc;

use aktis_worker::TaskFailure;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::DataFusionError;
use datafusion_expr::TableSource;
use prost::Message;

use super::looks::{self, Looks};
use super::python::{LoadedReader, PythonReader, ReaderSpec};
use super::{
    Opened, PartPlace, Places, Source, SourceKind, SourceReader, Split, SplitOptions, Wanted,
};
use crate::error::PlanError;
use crate::ledger::Trait;
use crate::operators::stream::BatchStream;
use crate::storage::{DataFile, PathColumns, StoreSpec};
use part::{RangesPosition, as_batch};

pub(super) const KIND: SourceKind = SourceKind {
    name: "files",
    of_table: |table| Some(table.downcast_ref::<FilesTable>()?),
    reader: |settings| Ok(Box::new(FilesReader::new(settings)?)),
    calls_python: true,
    reaches_by_python: |_| true,
};

/// A file, and whether it may be read in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The file.
    pub file: DataFile,
    /// Whether its rows can be found from anywhere inside of it.
    pub has_parts: bool,
}

/// Files of one format.
#[derive(Debug, Clone)]
pub struct FilesTable {
    /// Where they lie; `None`: nobody can look at them again.
    store: Option<StoreSpec>,
    files: Vec<SourceFile>,
    looks: Looks,
    reader: PythonReader,
    told: PathColumns,
    /// The columns that paths tell, beside those of the format.
    partitions: Vec<String>,
    /// Rows of each file, if that is always the same.
    rows_per_file: Option<u64>,
    schema: SchemaRef,
}

impl FilesTable {
    /// The table of `files`. `operation`: the call of the user, for messages. `store`: where they lie, to look whether they have changed.
    pub fn new(
        operation: &str,
        store: Option<StoreSpec>,
        files: Vec<SourceFile>,
        reader: PythonReader,
        told: PathColumns,
        rows_per_file: Option<u64>,
    ) -> Result<Self, PlanError> {
        let own = reader.known_schema();
        if told.has_path && own.field_with_name(PathColumns::PATH).is_ok() {
            return Err(PlanError::InvalidArgument(format!(
                "{operation}: there would be two columns 'path'; leave include_paths out"
            )));
        }
        let mut partitions: Vec<String> = Vec::new();
        for file in &files {
            for (name, _) in told.of(&file.file.path) {
                if own.field_with_name(&name).is_err() && !partitions.contains(&name) {
                    partitions.push(name);
                }
            }
        }
        let told_field =
            |name: &String| -> FieldRef { Arc::new(Field::new(name, DataType::Utf8, true)) };
        let fields = own.fields().iter().cloned();
        let schema = match &reader.schema {
            Some(_) => Schema::new(
                fields
                    .chain(partitions.iter().map(told_field))
                    .collect::<Vec<_>>(),
            ),
            None => Schema::empty(),
        };
        Ok(Self {
            store,
            files,
            looks: Looks::new(),
            reader,
            told,
            partitions,
            rows_per_file,
            schema: Arc::new(schema),
        })
    }
}

impl TableSource for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Source for FilesTable {
    fn is_open(&self) -> bool {
        self.reader.schema.is_none()
    }

    fn rows(&self) -> Option<u64> {
        self.rows_per_file
            .map(|rows| rows * self.files.len() as u64)
    }

    fn num_blocks(&self) -> usize {
        self.files.len()
    }

    fn files(&self) -> Vec<String> {
        let path = |file: &SourceFile| file.file.path.clone();
        self.files.iter().map(path).collect()
    }

    fn looked_again(&self) -> Result<Option<Arc<dyn TableSource>>, PlanError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let known = self.files.iter().map(|file| &file.file);
        let Some(now) = self.looks.again(store, known)? else {
            return Ok(None);
        };
        // Where rows of another kind cannot be found in parts, their reader says so.
        let file = |(before, file): (&SourceFile, DataFile)| SourceFile {
            file,
            has_parts: before.has_parts,
        };
        let files = self.files.iter().zip(now).map(file).collect();
        let looks = Looks::new();
        Ok(Some(Arc::new(Self {
            files,
            looks,
            ..self.clone()
        })))
    }

    fn look(&self) -> u64 {
        looks::number(self.files.iter().map(|file| &file.file))
    }

    fn identity(&self) -> Result<Vec<Trait>, String> {
        let files = self.files.iter();
        let files = files.map(|file| (file.file.path.as_str(), file.file.size_bytes));
        let told = format!(
            "{:?} {:?} {:?}",
            self.told, self.partitions, self.rows_per_file
        );
        Ok(vec![
            super::identity_of_files(files)?,
            Trait::new("what paths tell", told),
        ])
    }

    fn splits(&self, row_limit: u64, options: SplitOptions) -> Vec<Split> {
        let splits = cut::cut(&self.files, self.rows_per_file, row_limit, options);
        let split = |(parts, rows)| Split {
            position: super::encode(&RangesPosition { parts }),
            blocks: Vec::new(),
            rows,
            row_bytes: 0,
        };
        splits.into_iter().map(split).collect()
    }

    fn settings(&self, _wanted: &Wanted<'_>) -> Result<Bytes, DataFusionError> {
        let schema = self.reader.schema.as_ref().map(|_| &self.schema);
        Ok(super::encode(&FilesSpec {
            reader: Some(self.reader.spec(schema)?),
            partitions: self.partitions.clone(),
            is_hive: self.told.is_hive,
            has_path: self.told.has_path,
        }))
    }
}

/// What workers know of [`FilesTable`].
#[derive(Clone, PartialEq, Message)]
struct FilesSpec {
    #[prost(message, optional, tag = "1")]
    reader: Option<ReaderSpec>,
    #[prost(string, repeated, tag = "2")]
    partitions: Vec<String>,
    #[prost(bool, tag = "3")]
    is_hive: bool,
    #[prost(bool, tag = "4")]
    has_path: bool,
}

struct FilesReader {
    reader: LoadedReader,
    told: PathColumns,
    partitions: Vec<String>,
    bytes_read: u64,
}

impl FilesReader {
    fn new(settings: &Bytes) -> Result<Self, TaskFailure> {
        let spec: FilesSpec = super::decode(settings)?;
        Ok(Self {
            reader: LoadedReader::new(spec.reader.unwrap_or_default()),
            told: PathColumns {
                is_hive: spec.is_hive,
                has_path: spec.has_path,
            },
            partitions: spec.partitions,
            bytes_read: 0,
        })
    }
}

impl SourceReader for FilesReader {
    fn open(
        &mut self,
        input: Opened,
        _row_limit: Option<usize>,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let RangesPosition { parts } = super::decode(&input.position)?;
        self.bytes_read += parts.iter().map(|part| part.end - part.start).sum::<u64>();
        let positions = as_batch(&parts, self.told, &self.partitions)?;
        self.reader.rows(positions)
    }

    fn places(&self, position: &Bytes) -> Result<Option<Places>, TaskFailure> {
        let RangesPosition { parts } = super::decode(position)?;
        let parts = parts.into_iter().map(|part| PartPlace {
            file: Some(part.path),
            row_group: None,
            first_row: 0,
            rows: 0,
        });
        // How many rows there are in a part, only reading shows.
        Ok(Some(Places {
            parts: parts.collect(),
            is_exact: false,
        }))
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    fn may_run_ahead(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::testing::install_test_host;

    fn file(path: &str) -> SourceFile {
        SourceFile {
            file: DataFile {
                path: path.to_owned(),
                size_bytes: 10,
                version: 0,
            },
            has_parts: false,
        }
    }

    fn reader(schema: Option<Schema>) -> PythonReader {
        PythonReader {
            definition: Bytes::from_static(b"same"),
            schema: schema.map(Arc::new),
        }
    }

    const BOTH: PathColumns = PathColumns {
        is_hive: true,
        has_path: true,
    };

    #[test]
    fn known_columns_are_those_of_the_format_and_of_paths_and_unknown_ones_are_not_guessed() {
        let own = Schema::new(vec![Field::new("bytes", DataType::Binary, true)]);
        let files = || vec![file("/in/day=1/a")];
        let known = FilesTable::new("read_x()", None, files(), reader(Some(own)), BOTH, Some(1));
        let known = known.expect("no column is there twice");
        let schema = known.schema();
        let names: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["bytes", "day", "path"]);
        assert_eq!((known.rows(), known.is_open()), (Some(1), false));
        let open = FilesTable::new("read_x()", None, files(), reader(None), BOTH, None);
        let open = open.expect("no column is known");
        assert!(open.is_open() && open.schema().fields().is_empty());
        let path = Schema::new(vec![Field::new("path", DataType::Utf8, true)]);
        let twice = FilesTable::new("read_x()", None, files(), reader(Some(path)), BOTH, None);
        assert!(
            twice
                .expect_err("is there twice")
                .to_string()
                .contains("two columns 'path'")
        );
    }

    #[test]
    fn reader_gets_parts_with_what_their_paths_tell() {
        install_test_host();
        let files = vec![
            file("/in/day=1/a"),
            file("/in/day=__HIVE_DEFAULT_PARTITION__/b"),
        ];
        let table = FilesTable::new("read_x()", None, files, reader(None), BOTH, None);
        let table = table.expect("no column is known");
        let wanted = Wanted {
            columns: &[],
            filters: &[],
            batch_rows: None,
            room: crate::sources::ReadRoom::OF_TESTS,
        };
        let settings = table.settings(&wanted).expect("travels");
        let mut reader = (KIND.reader)(&settings).expect("is understood");
        let options = SplitOptions {
            workers: 1,
            batch_rows: None,
            window_rows: 0,
            work: crate::sources::RowWork::Reading,
            parts: None,
            is_spread: false,
        };
        let [split] = &table.splits(u64::MAX, options)[..] else {
            panic!("small files are one split");
        };
        let input = Opened {
            position: split.position.clone(),
            blocks: Vec::new(),
        };
        let mut rows = reader.open(input, None).expect("opens");
        let parts = rows.next().expect("reads").expect("has rows");
        let texts = |name: &str| -> Vec<Option<String>> {
            let column = parts.column_by_name(name).expect("is there");
            let values = column.as_string::<i32>().iter();
            values.map(|value| value.map(str::to_owned)).collect()
        };
        assert_eq!(texts("day"), [Some("1".to_owned()), None]);
        let path = parts.schema().index_of("path").expect("is there");
        assert_eq!(path, 0);
        assert_eq!(parts.num_rows(), 2);
        assert_eq!(reader.bytes_read(), 20);
    }
}
