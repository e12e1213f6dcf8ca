//! One row for all rows with the same keys.
//!
//! Rows become states, states travel, states become results. The second half runs in another worker, which never sees the
//! columns that the first half saw: what it must know of their types it reads off the states. So the functions are used in
//! forms whose states tell: decimals are added at full width, floats as doubles.

use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, Schema, SchemaRef,
};
use datafusion_common::{Result, plan_err};
use datafusion_expr::AggregateUDF;
use datafusion_functions_aggregate::array_agg::array_agg_udaf;
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion_functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion_functions_aggregate::sum::sum_udaf;
use datafusion_functions_aggregate::variance::var_pop_udaf;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{Column, cast, lit};
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::drive::{Run, Slot, leaf};
use super::environment::Environment;
use super::feed::nullable;
use crate::error::quoted;
use crate::graph::{Aggregate, AggregateCall, AggregateFunction, AggregatePhase, Fragment};
use crate::operators::comparable::comparable_key;

/// Groups rows, or their states, of these columns.
pub(super) fn begin(
    aggregate: &Aggregate,
    schema: &SchemaRef,
    environment: &Environment,
) -> Result<Run> {
    let (slot, plan) = planned(aggregate, schema)?;
    let step = Fragment::Aggregate(aggregate.clone()).step();
    Run::new(step, &plan, vec![slot], environment)
}

/// Results of no states, where nobody knows any type: numbers of rows are 0, and all else is null.
pub(super) fn begin_without_columns(
    aggregate: &Aggregate,
    environment: &Environment,
) -> Result<Run> {
    let names = aggregate
        .calls
        .iter()
        .filter_map(|call| call.column.as_ref());
    let names: std::collections::BTreeSet<&String> = aggregate.keys.iter().chain(names).collect();
    let untyped = |name: &String| Field::new(name, DataType::Int64, true);
    let fields: Vec<Field> = names.into_iter().map(untyped).collect();
    let first = Aggregate {
        phase: AggregatePhase::Partial,
        ..aggregate.clone()
    };
    let (_, states) = planned(&first, &Arc::new(Schema::new(fields)))?;
    begin(aggregate, &nullable(&states.schema()), environment)
}

/// The columns that both halves together make of rows with these columns.
pub(crate) fn output_of(aggregate: &Aggregate, rows: &SchemaRef) -> Result<SchemaRef> {
    let half = |phase| Aggregate {
        phase,
        ..aggregate.clone()
    };
    let (_, states) = planned(&half(AggregatePhase::Partial), &nullable(rows))?;
    let (_, results) = planned(&half(AggregatePhase::Final), &nullable(&states.schema()))?;
    Ok(nullable(&results.schema()))
}

fn planned(
    aggregate: &Aggregate,
    schema: &SchemaRef,
) -> Result<(Arc<Slot>, Arc<dyn ExecutionPlan>)> {
    let (slot, rows) = leaf(schema)?;
    Ok((slot, over(aggregate, rows)?))
}

/// How states of groups that lie in as many partitions as `states` has are brought together.
pub(super) fn final_mode(states: &Arc<dyn ExecutionPlan>) -> AggregateMode {
    match states.output_partitioning().partition_count() {
        1 => AggregateMode::Final,
        _ => AggregateMode::FinalPartitioned,
    }
}

/// The operator over rows, or states of them: in as many partitions as they have.
pub(crate) fn over(
    aggregate: &Aggregate,
    rows: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = &rows.schema();
    let keys: Result<Vec<_>> = aggregate
        .keys
        .iter()
        .map(|name| Ok((key(name, schema)?, name.clone())))
        .collect();
    let keys = PhysicalGroupBy::new_single(keys?);
    let plan = match aggregate.phase {
        AggregatePhase::Partial => {
            let calls: Result<Vec<_>> = aggregate
                .calls
                .iter()
                .map(|call| bound(call, arguments(call, schema)?, schema))
                .collect();
            let calls = calls?;
            let filters = vec![None; calls.len()];
            let own = Arc::clone(schema);
            AggregateExec::try_new(AggregateMode::Partial, keys, calls, filters, rows, own)?
        }
        AggregatePhase::Final => {
            let (values, calls) = of_states(aggregate, schema)?;
            let filters = vec![None; calls.len()];
            let keys = keys.as_final();
            let mode = final_mode(&rows);
            AggregateExec::try_new(mode, keys, calls, filters, rows, values)?
        }
    };
    Ok(Arc::new(plan))
}

/// The functions as they were when they made these states, and columns that they could have made them of.
fn of_states(
    aggregate: &Aggregate,
    states: &SchemaRef,
) -> Result<(SchemaRef, Vec<Arc<AggregateFunctionExpr>>)> {
    let mut place = aggregate.keys.len();
    let mut fields = states.fields()[..place.min(states.fields().len())].to_vec();
    for (index, call) in aggregate.calls.iter().enumerate() {
        let Some(state) = states.fields().get(place) else {
            return plan_err!(
                "the states of {} groups have too few columns",
                aggregate.keys.len()
            );
        };
        let kind = call.function.type_of_values(state.data_type());
        fields.push(Arc::new(Field::new(format!("values {index}"), kind, true)));
        place += call.function.states();
    }
    let values: SchemaRef = Arc::new(Schema::new(fields));
    let first = aggregate.keys.len();
    let calls = aggregate.calls.iter().enumerate().map(|(index, call)| {
        let place = first + index;
        let name = values.field(place).name();
        let value: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, place));
        bound(call, with_share(call, value), &values)
    });
    let calls: Result<Vec<_>> = calls.collect();
    Ok((values, calls?))
}

fn bound(
    call: &AggregateCall,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
) -> Result<Arc<AggregateFunctionExpr>> {
    let (function, is_distinct) = call.function.implementation();
    let built = AggregateExprBuilder::new(function, arguments)
        .schema(Arc::clone(schema))
        .alias(&call.name)
        .with_distinct(is_distinct)
        .with_ignore_nulls(call.function.ignores_nulls())
        .build()?;
    Ok(Arc::new(built))
}

/// What the function gets of a row.
fn arguments(call: &AggregateCall, schema: &SchemaRef) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
    let Some(name) = &call.column else {
        return Ok(vec![lit(1i64)]);
    };
    let value = column(name, schema)?;
    let own = value.data_type(schema)?;
    let Some(kind) = call.function.type_for(&own) else {
        return plan_err!(
            "{} of '{name}': its values are of type {own}, which is no number; choose other columns with on=",
            call.function.verb()
        );
    };
    let value = if kind == own {
        value
    } else {
        cast(value, schema, kind)?
    };
    Ok(with_share(call, value))
}

fn with_share(call: &AggregateCall, value: Arc<dyn PhysicalExpr>) -> Vec<Arc<dyn PhysicalExpr>> {
    match call.function {
        AggregateFunction::Quantile(share) => vec![value, lit(f64::from_bits(share))],
        _ => vec![value],
    }
}

/// The column, or a failure that names those there are.
/// A column that tells rows apart, or says their order.
pub(crate) fn key(name: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let column = column(name, schema)?;
    let kind = column.data_type(schema)?;
    Ok(comparable_key(column, &kind))
}

pub(super) fn column(name: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    match schema.index_of(name) {
        Ok(place) => Ok(Arc::new(Column::new(name, place))),
        Err(_) => {
            let names = schema.fields().iter().map(|field| field.name().clone());
            let names: Vec<String> = names.collect();
            plan_err!(
                "there is no column '{name}'; the columns are {}",
                quoted(&names)
            )
        }
    }
}

impl AggregateFunction {
    /// DataFusion's function, and whether it looks at different values only.
    fn implementation(self) -> (Arc<AggregateUDF>, bool) {
        match self {
            Self::Count => (count_udaf(), false),
            Self::CountDistinct => (count_udaf(), true),
            Self::Sum | Self::SumOfFloats => (sum_udaf(), false),
            Self::Min => (min_udaf(), false),
            Self::Max => (max_udaf(), false),
            Self::Variance => (var_pop_udaf(), false),
            Self::Quantile(_) => (percentile_cont_udaf(), false),
            Self::List | Self::ListOfValues => (array_agg_udaf(), false),
            Self::Distinct | Self::DistinctValues => (array_agg_udaf(), true),
        }
    }

    /// Whether DataFusion has to be told to leave nulls out: most functions do so by themselves.
    fn ignores_nulls(self) -> bool {
        matches!(self, Self::ListOfValues | Self::DistinctValues)
    }

    /// Columns of its state.
    fn states(self) -> usize {
        match self {
            Self::Variance => 3,
            _ => 1,
        }
    }

    /// The type that values of type `own` are brought to; `None`: they cannot be.
    fn type_for(self, own: &DataType) -> Option<DataType> {
        let own = match own {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        let is_number = own.is_numeric() || matches!(own, DataType::Boolean | DataType::Null);
        match self {
            Self::Count | Self::CountDistinct | Self::Min | Self::Max => Some(own.clone()),
            Self::List | Self::ListOfValues | Self::Distinct | Self::DistinctValues => {
                Some(own.clone())
            }
            Self::SumOfFloats | Self::Variance | Self::Quantile(_) => {
                is_number.then_some(DataType::Float64)
            }
            Self::Sum => match own {
                DataType::Boolean | DataType::Null => Some(DataType::Int64),
                DataType::Decimal256(_, scale) => {
                    Some(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale))
                }
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale) => {
                    Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale))
                }
                other if other.is_signed_integer() => Some(DataType::Int64),
                other if other.is_unsigned_integer() => Some(DataType::UInt64),
                other if other.is_floating() => Some(DataType::Float64),
                DataType::Duration(unit) => Some(DataType::Duration(*unit)),
                _ => None,
            },
        }
    }

    /// The type of the values that make states of this type.
    fn type_of_values(self, state: &DataType) -> DataType {
        match self {
            Self::Count => DataType::Int64,
            Self::Variance => DataType::Float64,
            Self::Sum | Self::SumOfFloats | Self::Min | Self::Max => state.clone(),
            Self::CountDistinct
            | Self::Quantile(_)
            | Self::List
            | Self::ListOfValues
            | Self::Distinct
            | Self::DistinctValues => match state {
                DataType::List(item) | DataType::LargeList(item) => item.data_type().clone(),
                other => other.clone(),
            },
        }
    }

    /// For messages.
    fn verb(self) -> &'static str {
        match self {
            Self::Sum => "the sum",
            Self::SumOfFloats => "the mean",
            Self::Variance => "the standard deviation",
            Self::Quantile(_) => "a quantile",
            Self::Min => "the least",
            Self::Max => "the greatest",
            Self::Count | Self::CountDistinct => "the number",
            Self::List | Self::ListOfValues | Self::Distinct | Self::DistinctValues => "a list",
        }
    }
}
