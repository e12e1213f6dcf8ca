//! Filter, project, select, drop, rename: bound to the columns that the batches really have.

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;

use super::stream::BatchStream;
use crate::columns::conform;
use crate::error::{first_line, quoted};
use crate::graph::{NamedExpression, Operator};
use crate::plan::Expression;

/// Applies a relational step to a stream.
pub(crate) fn open(step: Operator, input: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
    Box::new(RelationalStream {
        step,
        input,
        bound: None,
        empty: None,
        is_told: false,
    })
}

struct RelationalStream {
    step: Operator,
    input: Box<dyn BatchStream>,
    bound: Option<(SchemaRef, Bound)>,
    /// The last batch without rows.
    empty: Option<RecordBatch>,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

/// A step that knows its columns.
enum Bound {
    Filter(Arc<dyn PhysicalExpr>),
    Compute(SchemaRef, Vec<Arc<dyn PhysicalExpr>>),
    /// Brought into this form.
    Conform(SchemaRef),
    /// Columns by position, with their new names.
    Columns(SchemaRef, Vec<usize>),
}

impl BatchStream for RelationalStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        while let Some(batch) = self.input.next()? {
            let batch = self.bind(&batch.schema())?.apply(&batch)?;
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

fn bind_step(step: &Operator, schema: &Schema) -> Result<Bound, TaskFailure> {
    match step {
        Operator::Filter(predicate) => {
            let expression = bind_expression(predicate, schema)?;
            let kind = expression
                .data_type(schema)
                .map_err(|error| invalid(predicate, &error, schema))?;
            if kind != DataType::Boolean {
                return Err(TaskFailure::new(
                    ErrorCode::InvalidArgument,
                    format!(
                        "filter(expr={:?}): it gives {kind} and not true or false",
                        predicate.to_string()
                    ),
                ));
            }
            Ok(Bound::Filter(expression))
        }
        Operator::Project(columns) => bind_project(columns, schema),
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
        Operator::Map(_) | Operator::Relational(_) | Operator::Sample { .. } => {
            Err(TaskFailure::new(
                ErrorCode::Internal,
                "this step does not work batch by batch",
            ))
        }
    }
}

fn bind_project(columns: &[NamedExpression], schema: &Schema) -> Result<Bound, TaskFailure> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(columns.len());
    let mut expressions = Vec::with_capacity(columns.len());
    for column in columns {
        let expression = bind_expression(&column.expression, schema)?;
        let field = expression
            .return_field(schema)
            .map_err(|error| invalid(&column.expression, &error, schema))?;
        fields.push(Arc::new(Field::clone(&field).with_name(&column.name)));
        expressions.push(expression);
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

fn columns(schema: &Schema, indices: Vec<usize>) -> Bound {
    let fields: Vec<FieldRef> = indices
        .iter()
        .map(|&index| Arc::clone(&schema.fields()[index]))
        .collect();
    Bound::Columns(Arc::new(Schema::new(fields)), indices)
}

fn bind_expression(
    expression: &Expression,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, TaskFailure> {
    expression
        .bind(schema)
        .map_err(|error| invalid(expression, &error, schema))
}

impl Bound {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, TaskFailure> {
        match self {
            Self::Filter(expression) => {
                let mask = evaluate(expression, batch)?;
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
                    .map(|expression| evaluate(expression, batch))
                    .collect();
                assemble(Arc::clone(schema), arrays?, batch.num_rows())
            }
            Self::Conform(schema) => conform(batch, schema).map_err(|misfit| {
                let between = misfit.between("in one dataset", "in another");
                TaskFailure::new(ErrorCode::Application, format!("union(): {between}"))
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

fn evaluate(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<ArrayRef, TaskFailure> {
    let value = expression.evaluate(batch);
    value
        .and_then(|value| value.into_array(batch.num_rows()))
        .map_err(|error| {
            TaskFailure::new(
                ErrorCode::InvalidArgument,
                format!("compute {expression}: {}", first_line(&error)),
            )
        })
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
            first_line(error),
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
