//! Filter, project, compute, select, drop, rename: bound to the columns that the batches really have.

use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

use super::stream::{BatchStream, CallsBegun, is_pause};
use crate::columns::conform;
use crate::error::{quoted, reason_of};
use crate::graph::{NamedExpression, Operator};
use crate::plan::Expression;
use crate::plan::functions::with_row_field;

/// Inputs have fewer rows than this, each step's rows counted for itself.
const MAX_INPUT_ROWS: i64 = 1 << 33;

/// The number of the first row of the input with this number, as expressions know it.
pub(crate) fn first_row_of(sequence: u64) -> i64 {
    sequence.cast_signed().wrapping_mul(MAX_INPUT_ROWS)
}

/// Applies a relational step to the stream of the input with this number.
pub(crate) fn open(
    step: Operator,
    input: Box<dyn BatchStream>,
    sequence: u64,
) -> Box<dyn BatchStream> {
    Box::new(RelationalStream {
        step,
        input,
        next_row: first_row_of(sequence),
        bound: None,
        empty: None,
        is_told: false,
    })
}

struct RelationalStream {
    step: Operator,
    input: Box<dyn BatchStream>,
    /// The number of the next row, as its expressions know it.
    next_row: i64,
    bound: Option<(SchemaRef, Bound)>,
    /// The last batch without rows.
    empty: Option<RecordBatch>,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

/// A step that knows its columns.
pub(crate) enum Bound {
    Filter(BoundExpression),
    Compute(SchemaRef, Vec<BoundExpression>),
    /// Brought into this form.
    Conform(SchemaRef),
    /// Brought into this form, in which somebody knows them.
    Declare(SchemaRef),
    /// Columns by position, with their new names.
    Columns(SchemaRef, Vec<usize>),
}

/// An expression that knows its columns.
pub(crate) struct BoundExpression {
    expression: Arc<dyn PhysicalExpr>,
    /// Whether it wants the numbers of rows as one column more.
    wants_rows: bool,
}

impl BatchStream for RelationalStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while let Some(batch) = self.input.next()? {
            if is_pause(&batch) {
                return Ok(Some(batch));
            }
            let first_row = self.next_row;
            self.next_row += i64::try_from(batch.num_rows()).unwrap_or(0);
            let batch = self.bind(&batch.schema())?.apply(&batch, first_row)?;
            if batch.num_rows() > 0 {
                self.is_told = true;
                return Ok(Some(batch));
            }
            self.empty = Some(batch);
        }
        // Where no row is left, the columns are.
        let empty = self.empty.take();
        Ok(empty.filter(|_| !std::mem::replace(&mut self.is_told, true)))
    }

    fn begin_ahead(
        &mut self,
        before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        self.input.begin_ahead(before)
    }

    fn is_ready_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        self.input.is_ready_within(patience)
    }

    fn passes_on(&self) -> Option<&dyn BatchStream> {
        Some(&*self.input)
    }
}

impl RelationalStream {
    fn bind(&mut self, schema: &SchemaRef) -> Result<&Bound, TaskFailure> {
        let is_bound = self
            .bound
            .as_ref()
            .is_some_and(|(bound, _)| bound == schema);
        if !is_bound {
            self.bound = Some((Arc::clone(schema), bind_step(&self.step, schema)?));
        }
        Ok(&self.bound.as_ref().expect("bound just above").1)
    }
}

/// The step over batches with these columns.
pub(crate) fn bind_step(step: &Operator, schema: &Schema) -> Result<Bound, TaskFailure> {
    match step {
        Operator::Filter(predicate) => {
            bind_condition("filter()", predicate, schema).map(Bound::Filter)
        }
        Operator::Project(columns) => bind_project(columns, schema),
        Operator::Compute(columns) => bind_compute(columns, schema),
        Operator::Select(names) => {
            let indices: Result<Vec<usize>, TaskFailure> = names
                .iter()
                .map(|name| index_of("select_columns()", name, schema))
                .collect();
            Ok(columns(schema, indices?))
        }
        Operator::Drop(names) => {
            for name in names {
                index_of("drop_columns()", name, schema)?;
            }
            let fields = schema.fields().iter().enumerate();
            let rest = fields.filter(|(_, field)| !names.contains(field.name()));
            let rest = rest.map(|(index, _)| index).collect();
            Ok(columns(schema, rest))
        }
        Operator::Rename(pairs) => bind_rename(pairs, schema),
        Operator::Conform(columns) => Ok(Bound::Conform(Arc::clone(columns))),
        Operator::Declare(columns) => bind_declare(columns, schema),
        Operator::Map(_)
        | Operator::Relational(_)
        | Operator::Sample { .. }
        | Operator::BlockRows(_)
        | Operator::Unnest(_)
        | Operator::Expect(_) => Err(TaskFailure::new(
            ErrorCode::Internal,
            "this step does not work batch by batch",
        )),
    }
}

/// The expression, which must be true or false. `call`: of the user.
pub(crate) fn bind_condition(
    call: &str,
    condition: &Expression,
    schema: &Schema,
) -> Result<BoundExpression, TaskFailure> {
    let (expression, field) = bind_expression(condition, schema)?;
    let kind = field.data_type();
    if *kind == DataType::Boolean {
        return Ok(expression);
    }
    Err(TaskFailure::new(
        ErrorCode::InvalidArgument,
        format!(
            "{call}: {:?} gives {kind} and not true or false",
            condition.to_string()
        ),
    ))
}

fn bind_project(columns: &[NamedExpression], schema: &Schema) -> Result<Bound, TaskFailure> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(columns.len());
    let mut expressions = Vec::with_capacity(columns.len());
    for column in columns {
        let (expression, field) = bind_expression(&column.expression, schema)?;
        fields.push(Arc::new(Field::clone(&field).with_name(&column.name)));
        expressions.push(expression);
    }
    Ok(Bound::Compute(Arc::new(Schema::new(fields)), expressions))
}

fn bind_compute(columns: &[NamedExpression], schema: &Schema) -> Result<Bound, TaskFailure> {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let there = schema.fields().iter().enumerate();
    let mut expressions: Vec<BoundExpression> = there
        .map(|(index, field)| BoundExpression {
            expression: Arc::new(Column::new(field.name(), index)),
            wants_rows: false,
        })
        .collect();
    for column in columns {
        let (expression, field) = bind_expression(&column.expression, schema)?;
        let field = Arc::new(Field::clone(&field).with_name(&column.name));
        match schema.index_of(&column.name) {
            Ok(index) => (fields[index], expressions[index]) = (field, expression),
            Err(_) => {
                fields.push(field);
                expressions.push(expression);
            }
        }
    }
    Ok(Bound::Compute(Arc::new(Schema::new(fields)), expressions))
}

fn bind_rename(pairs: &[(String, String)], schema: &Schema) -> Result<Bound, TaskFailure> {
    for (old, _) in pairs {
        index_of("rename_columns()", old, schema)?;
    }
    let rename = |field: &FieldRef| {
        let pair = pairs.iter().find(|(old, _)| old == field.name());
        pair.map_or_else(
            || Arc::clone(field),
            |(_, new)| Arc::new(Field::clone(field).with_name(new)),
        )
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(rename).collect();
    let indices = (0..fields.len()).collect();
    Ok(Bound::Columns(Arc::new(Schema::new(fields)), indices))
}

fn bind_declare(columns: &SchemaRef, schema: &Schema) -> Result<Bound, TaskFailure> {
    let others = schema.fields().iter().map(|field| field.name());
    let others = others.filter(|name| columns.index_of(name).is_err());
    let others: Vec<String> = others.cloned().collect();
    if others.is_empty() {
        return Ok(Bound::Declare(Arc::clone(columns)));
    }
    Err(TaskFailure::new(
        ErrorCode::Application,
        format!(
            "sql(): some rows have columns {}, which the first rows had not, and the query does not know: name the columns \
             that it shall know, ds.select_columns([...])",
            quoted(&others)
        ),
    ))
}

fn columns(schema: &Schema, indices: Vec<usize>) -> Bound {
    let fields: Vec<FieldRef> = indices
        .iter()
        .map(|&index| Arc::clone(&schema.fields()[index]))
        .collect();
    Bound::Columns(Arc::new(Schema::new(fields)), indices)
}

/// The expression, and the column that it gives.
fn bind_expression(
    expression: &Expression,
    schema: &Schema,
) -> Result<(BoundExpression, FieldRef), TaskFailure> {
    let failed = |error: &datafusion_common::DataFusionError| invalid(expression, error, schema);
    let bound = expression.bind_with_rows(schema);
    let (physical, wants_rows) = bound.map_err(|error| failed(&error))?;
    let field = if wants_rows {
        physical.return_field(&with_row_field(schema))
    } else {
        physical.return_field(schema)
    };
    let bound = BoundExpression {
        expression: physical,
        wants_rows,
    };
    Ok((bound, field.map_err(|error| failed(&error))?))
}

impl Bound {
    /// The condition, if the step is nothing but that.
    pub(crate) fn condition(&self) -> Option<Arc<dyn PhysicalExpr>> {
        match self {
            Self::Filter(expression) => Some(Arc::clone(&expression.expression)),
            _ => None,
        }
    }

    /// The columns that come out, if they are not those that go in.
    pub(crate) fn columns(&self) -> Option<SchemaRef> {
        match self {
            Self::Filter(_) => None,
            Self::Compute(schema, _)
            | Self::Conform(schema)
            | Self::Declare(schema)
            | Self::Columns(schema, _) => Some(Arc::clone(schema)),
        }
    }

    /// `first_row`: the number of the batch's first row.
    pub(crate) fn apply(
        &self,
        batch: &RecordBatch,
        first_row: i64,
    ) -> Result<RecordBatch, TaskFailure> {
        match self {
            Self::Filter(expression) => {
                let mask = expression.evaluate(batch, first_row)?;
                let mask = mask
                    .as_any()
                    .downcast_ref::<BooleanArray>()
                    .ok_or_else(|| {
                        TaskFailure::new(
                            ErrorCode::Internal,
                            "a filter did not give a boolean column",
                        )
                    })?;
                filter_record_batch(batch, mask).map_err(|error| computation(&error))
            }
            Self::Compute(schema, expressions) => {
                let arrays: Result<Vec<ArrayRef>, TaskFailure> = expressions
                    .iter()
                    .map(|expression| expression.evaluate(batch, first_row))
                    .collect();
                assemble(Arc::clone(schema), arrays?, batch.num_rows())
            }
            Self::Conform(schema) => conform(batch, schema).map_err(|misfit| {
                let between = misfit.between("in one dataset", "in another");
                TaskFailure::new(ErrorCode::Application, format!("union(): {between}"))
            }),
            Self::Declare(schema) => conform(batch, schema).map_err(|misfit| {
                let between = misfit.between("in the first rows", "in others");
                let text = format!(
                    "sql(): {between}; bring the column to one type before: with_column(name, col(name).cast(type))"
                );
                TaskFailure::new(ErrorCode::Application, text)
            }),
            Self::Columns(schema, indices) => {
                let arrays = indices
                    .iter()
                    .map(|&index| Arc::clone(batch.column(index)))
                    .collect();
                assemble(Arc::clone(schema), arrays, batch.num_rows())
            }
        }
    }
}

impl BoundExpression {
    /// Its values. `first_row`: the number of the batch's first row.
    pub(crate) fn evaluate(
        &self,
        batch: &RecordBatch,
        first_row: i64,
    ) -> Result<ArrayRef, TaskFailure> {
        let value = if self.wants_rows {
            self.expression.evaluate(&numbered(batch, first_row)?)
        } else {
            self.expression.evaluate(batch)
        };
        value
            .and_then(|value| value.into_array(batch.num_rows()))
            .map_err(|error| {
                let text = format!("compute {}: {}", self.expression, reason_of(&error));
                TaskFailure::new(ErrorCode::InvalidArgument, text)
            })
    }
}

/// The batch with the numbers of its rows.
fn numbered(batch: &RecordBatch, first_row: i64) -> Result<RecordBatch, TaskFailure> {
    let rows = i64::try_from(batch.num_rows()).unwrap_or(0);
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(
        first_row..first_row + rows,
    )));
    let schema = with_row_field(&batch.schema());
    assemble(Arc::new(schema), columns, batch.num_rows())
}

/// A batch of these columns; with none of them, only the number of rows is left.
pub(crate) fn assemble(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, TaskFailure> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options)
        .map_err(|error| computation(&error))
}

/// The column's position, or a failure that names the columns there are.
pub(crate) fn index_of(operation: &str, name: &str, schema: &Schema) -> Result<usize, TaskFailure> {
    schema.index_of(name).map_err(|_| {
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!(
                "{operation}: there is no column '{name}'; the columns are {}",
                names(schema)
            ),
        )
    })
}

fn names(schema: &Schema) -> String {
    let names: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    quoted(&names)
}

fn invalid(
    expression: &Expression,
    error: &datafusion_common::DataFusionError,
    schema: &Schema,
) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::InvalidArgument,
        format!(
            "bind {:?}: {}; the columns are {}",
            expression.to_string(),
            reason_of(error),
            names(schema)
        ),
    )
}

fn computation(error: &arrow::error::ArrowError) -> TaskFailure {
    TaskFailure::new(
        ErrorCode::InvalidArgument,
        format!("compute a batch: {error}"),
    )
}
