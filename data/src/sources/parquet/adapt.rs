//! From the columns that a file has to those that the dataset has.
//!
//! A file is always read with its own columns, so that the reader never has to guess how to cast: rows are converted
//! afterwards, without loss (COL-2), and columns that the file lacks are null or what its path says. A predicate
//! goes down into the reader if the file has all of its columns just as the dataset has them: what no row can be in is not read.
//! Which of the other rows are wanted is asked while they are decoded where that saves something, and else behind the conversion.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::TreeNode;
use datafusion_expr::{Expr, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use parquet::arrow::arrow_reader::ArrowReaderOptions;

use super::spec::{FilePart, ScanSpec};
use super::told_twice::ToldTwice;
use super::views::{self, Viewed};
use crate::block;
use crate::columns;
use crate::error::reason_of;
use crate::operators::relational::assemble;
use crate::plan::Expression;
use crate::storage::PathColumns;
use crate::wire::expression::ExpressionSpec;

/// Rows that are longer than this, before compression, are chosen while they are decoded: what is not wanted of them would take longest.
/// Of short ones, a column that is decoded for all rows takes less time than one of which rows are left out here and there.
const LONG_ROW_BYTES: u64 = 256;

/// A [`ScanSpec`], read.
pub(crate) struct ScanColumns {
    table: SchemaRef,
    files: Vec<SchemaRef>,
    partitions: Vec<String>,
    /// Columns of files that paths tell, too.
    told_twice: Vec<String>,
    told: PathColumns,
    columns: Vec<usize>,
    predicate: Option<Expression>,
    batch_bytes: u64,
    /// Whether nobody has seen the columns of all files.
    is_unread: bool,
}

impl ScanColumns {
    /// Reads the schemas of `scan`.
    pub(crate) fn new(scan: &ScanSpec) -> Result<Self, DataFusionError> {
        let files = scan.file_schemas.iter().cloned().map(block::decode_schema);
        let predicate = scan.predicate.clone();
        let predicate = predicate.map(ExpressionSpec::into_expression);
        Ok(Self {
            table: block::decode_schema(scan.schema.clone())?,
            files: files.collect::<Result<_, _>>()?,
            partitions: scan.partitions.clone(),
            told_twice: scan.told_twice.clone(),
            told: PathColumns {
                is_hive: true,
                has_path: scan.has_path,
            },
            columns: scan.columns.iter().map(|&column| column as usize).collect(),
            predicate: predicate.transpose()?,
            batch_bytes: scan.batch_bytes,
            is_unread: scan.is_unread,
        })
    }

    /// Whether not all rows are wanted.
    pub(super) fn has_predicate(&self) -> bool {
        self.predicate.is_some()
    }

    /// Takes in the columns of a file that nobody had looked at. Returns what its kind is called. Fails if the dataset lacks some of them:
    /// their values would be lost.
    pub(super) fn know(
        &mut self,
        own: &SchemaRef,
        paths: impl Fn() -> String,
    ) -> Result<u32, TaskFailure> {
        let number = |index: usize| u32::try_from(index).expect("fewer than 2^32 files");
        if let Some(known) = self.files.iter().rposition(|known| known == own) {
            return Ok(number(known));
        }
        let is_new = |field: &&FieldRef| self.table.field_with_name(field.name()).is_err();
        if let Some(field) = own.fields().iter().find(is_new) {
            let (name, paths) = (field.name(), paths());
            return Err(TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!(
                    "read {paths}: it has a column '{name}', which the files that were looked at for the columns of the dataset \
                     lack; read_parquet(..., merge_schema=True) looks at all files first"
                ),
            ));
        }
        self.files.push(Arc::clone(own));
        Ok(number(self.files.len() - 1))
    }

    /// Whether rows of both parts may come from one stream.
    pub(crate) fn is_one_run(&self, one: &FilePart, other: &FilePart) -> bool {
        one.file_schema == other.file_schema
            && (one.path == other.path
                || (self.partitions.is_empty() && self.told_twice.is_empty()))
    }

    /// How files of this kind are read. `is_far`: what is not read of them need not come over a network.
    pub(crate) fn adapter(
        &self,
        first: &FilePart,
        is_far: bool,
    ) -> Result<Adapter, DataFusionError> {
        let own = self
            .files
            .get(first.file_schema as usize)
            .unwrap_or(&self.table);
        let wanted = self.columns.iter();
        let wanted: Vec<FieldRef> = wanted
            .map(|&column| Arc::clone(&self.table.fields()[column]))
            .collect();
        let mut fields = wanted.clone();
        let (mut pushed, mut filter) = (None, None);
        let mut looked_at = Vec::new();
        let is_long = first.bytes > LONG_ROW_BYTES.saturating_mul(first.rows);
        let chooses_early = is_far || is_long || self.predicate.as_ref().is_some_and(divides);
        if let Some(predicate) = &self.predicate {
            let names = self.columns_of(predicate)?;
            let is_as_in_table = |name: &String| {
                let both = (own.field_with_name(name), self.table.field_with_name(name));
                matches!(both, (Ok(own), Ok(table)) if own.data_type() == table.data_type())
            };
            if names.iter().all(is_as_in_table) {
                pushed = Some(predicate.bind(own)?);
            }
            if pushed.is_none() || !chooses_early {
                let missing = |name: &&String| fields.iter().all(|field| field.name() != *name);
                let more: Vec<usize> = names
                    .iter()
                    .filter(missing)
                    .map(|name| self.table.index_of(name))
                    .collect::<Result<_, _>>()?;
                fields.extend(
                    more.iter()
                        .map(|&index| Arc::clone(&self.table.fields()[index])),
                );
                filter = Some(predicate.bind(&Schema::new(fields.clone()))?);
            }
            looked_at = names;
        }
        let read = fields
            .iter()
            .filter_map(|field| own.index_of(field.name()).ok());
        let read: Vec<usize> = read.collect();
        let row_bytes = first.bytes / first.rows.max(1);
        let as_read = views::read_as(own, row_bytes, &looked_at);
        let whole = match as_read == *own {
            true => None,
            false => Some(Arc::new(own.project(&read)?)),
        };
        let told = self.told.of(&first.path);
        let told_twice = ToldTwice::new(&told, &self.told_twice, own, &fields);
        let partitions = told
            .into_iter()
            .filter(|(name, _)| self.partitions.contains(name))
            .collect();
        Ok(Adapter {
            whole,
            as_read,
            batch_bytes: self.batch_bytes,
            read,
            pushed,
            chooses_early,
            partitions,
            told_twice,
            converted: Arc::new(Schema::new(fields)),
            filter,
            wanted: wanted.len(),
            is_identity: self.files.is_empty(),
            advice: self.advice(),
        })
    }

    /// What helps where a file has columns of other types than the dataset.
    fn advice(&self) -> &'static str {
        if self.is_unread {
            "read_parquet(..., merge_schema=True) looks at all files first, and finds the type that all values fit into"
        } else {
            "read such files separately"
        }
    }

    fn columns_of(&self, predicate: &Expression) -> Result<Vec<String>, DataFusionError> {
        let columns = collect_columns(&predicate.bind(&self.table)?);
        let mut names: Vec<String> = columns
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        names.sort();
        Ok(names)
    }
}

/// Whether it divides: then it may fail for rows that another of its conditions leaves out, which is asked before while they are decoded.
fn divides(predicate: &Expression) -> bool {
    let Expression::Planned(expr) = predicate else {
        return true;
    };
    let divides = |part: &Expr| {
        Ok(matches!(part, Expr::BinaryExpr(binary)
            if matches!(binary.op, Operator::Divide | Operator::Modulo)))
    };
    // The walk itself cannot fail.
    expr.exists(divides).unwrap_or(true)
}

/// How files of one kind are read.
pub(crate) struct Adapter {
    /// The file's columns, as they are read.
    pub(crate) as_read: SchemaRef,
    /// Those that are read, as they are, if that is not the same.
    whole: Option<SchemaRef>,
    batch_bytes: u64,
    /// Which of the file's columns are read.
    pub(crate) read: Vec<usize>,
    /// What the reader knows of the rows that are wanted.
    pub(crate) pushed: Option<Arc<dyn PhysicalExpr>>,
    /// Whether it leaves out all others; if not, it leaves out what it need not read for that.
    pub(crate) chooses_early: bool,
    partitions: Vec<(String, Option<String>)>,
    told_twice: ToldTwice,
    /// The columns that are wanted, and then those that only `filter` needs.
    converted: SchemaRef,
    filter: Option<Arc<dyn PhysicalExpr>>,
    wanted: usize,
    is_identity: bool,
    advice: &'static str,
}

impl Adapter {
    /// Whether the reader gives just the rows that are wanted, so that it may stop when there are enough.
    pub(crate) fn gives_all(&self) -> bool {
        self.filter.is_none()
    }

    /// What a file is read with that nobody plans.
    pub(super) fn options(&self) -> ArrowReaderOptions {
        let options = ArrowReaderOptions::new();
        match &self.whole {
            Some(_) => options.with_schema(Arc::clone(&self.as_read)),
            None => options,
        }
    }

    /// What was read, for pieces that are not too large.
    pub(crate) fn viewed(&self, batch: RecordBatch) -> Viewed {
        Viewed::new(batch, self.whole.clone(), self.batch_bytes)
    }

    /// The rows of `batch`, which was read from one of the files that `paths` names, as rows of the dataset, and which of them are
    /// wanted; `None`: all.
    pub(crate) fn adapt(
        &self,
        batch: RecordBatch,
        paths: impl Fn() -> String,
    ) -> Result<(RecordBatch, Option<BooleanArray>), TaskFailure> {
        let batch = match self.is_identity {
            true => batch,
            false => {
                let batch = self.converted(&self.with_partitions(batch)?, &paths)?;
                self.told_twice.filled(batch, &paths)?
            }
        };
        let Some(filter) = &self.filter else {
            return Ok((batch, None));
        };
        let mask = filter
            .evaluate(&batch)
            .and_then(|mask| mask.into_array(batch.num_rows()));
        let wanted: Vec<usize> = (0..self.wanted).collect();
        let rows = mask.and_then(|mask| Ok((batch.project(&wanted)?, mask)));
        let (rows, mask) = rows.map_err(|error| {
            let text = format!("read {}: evaluate {filter}: {}", paths(), reason_of(&error));
            TaskFailure::new(ErrorCode::InvalidArgument, text)
        })?;
        Ok((rows, Some(mask.as_boolean().clone())))
    }

    fn converted(
        &self,
        batch: &RecordBatch,
        paths: &impl Fn() -> String,
    ) -> Result<RecordBatch, TaskFailure> {
        columns::conform(batch, &self.converted).map_err(|misfit| {
            let between = misfit.between("in the dataset", &format!("in {}", paths()));
            TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!("read_parquet(): {between}; {}", self.advice),
            )
        })
    }

    /// The batch with the columns that its folder's name tells.
    fn with_partitions(&self, batch: RecordBatch) -> Result<RecordBatch, TaskFailure> {
        if self.partitions.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let (mut fields, mut arrays): (Vec<FieldRef>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        for (name, value) in &self.partitions {
            let Ok(field) = self.converted.field_with_name(name) else {
                continue;
            };
            fields.push(Arc::new(field.clone()));
            arrays.push(match value {
                Some(value) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                    value, rows,
                ))),
                None => new_null_array(field.data_type(), rows),
            });
        }
        fields.extend(batch.schema().fields().iter().cloned());
        arrays.extend(batch.columns().iter().cloned());
        assemble(Arc::new(Schema::new(fields)), arrays, rows)
    }
}
