//! From nodes of the plan to what travels to workers, one by one.

use datafusion_expr::{FetchType, Limit, TableSource};

use super::spec::{
    CountSink, FunctionKind, KeepsKind, MapStep, NamedExpression, NamesStep, ParquetSink,
    RenameStep, SinkKind, StepKind,
};
use crate::error::PlanError;
use crate::graph::{ParquetOutput, Sink};
use crate::plan::{Kept, LateStep, MapFunction, MapSpec, Produces};
use crate::sources::{BlocksTable, ParquetTable, RangeTable};

/// Rows of a source, where they are known before it is read.
pub(crate) fn table_rows(table: &dyn TableSource) -> Option<u64> {
    if let Some(parquet) = table.downcast_ref::<ParquetTable>() {
        Some(parquet.rows())
    } else if let Some(blocks) = table.downcast_ref::<BlocksTable>() {
        Some(blocks.blocks.iter().map(|block| block.rows).sum())
    } else {
        table.downcast_ref::<RangeTable>().map(|range| range.rows)
    }
}

/// The number in a limit.
pub(crate) fn limit_rows(limit: &Limit) -> Result<u64, PlanError> {
    match limit.get_fetch_type().map_err(PlanError::planner)? {
        FetchType::Literal(Some(rows)) => Ok(rows as u64),
        FetchType::Literal(None) => Ok(u64::MAX),
        FetchType::UnsupportedExpr => Err(PlanError::InvalidArgument(
            "limit() needs a number".to_owned(),
        )),
    }
}

/// A step that is bound at run time, and its name.
pub(crate) fn late_step(step: &LateStep) -> (&'static str, StepKind) {
    let names = |names: &[String]| NamesStep {
        names: names.to_vec(),
    };
    match step {
        LateStep::Filter(text) => ("Filter", StepKind::Filter(text.clone())),
        LateStep::Select(selected) => ("Select", StepKind::Select(names(selected))),
        LateStep::Drop(dropped) => ("Drop", StepKind::Drop(names(dropped))),
        LateStep::Rename(pairs) => {
            let pair = |(old, new): &(String, String)| NamedExpression {
                sql: old.clone(),
                name: new.clone(),
            };
            let pairs = pairs.iter().map(pair).collect();
            ("Rename", StepKind::Rename(RenameStep { pairs }))
        }
    }
}

/// A call of a function.
pub(crate) fn map_step(map: &MapSpec) -> MapStep {
    let function = match &map.function {
        MapFunction::Python(python) => FunctionKind::Python(python.definition.clone()),
        MapFunction::Embedder(embedder) => FunctionKind::Embedder(embedder.spec.to_json()),
    };
    let (keeps, keeps_names) = match &map.keeps {
        Kept::Nothing => (KeepsKind::Nothing, Vec::new()),
        Kept::Named(names) => (KeepsKind::Named, names.clone()),
        Kept::AllExcept(names) => (KeepsKind::AllExcept, names.clone()),
    };
    MapStep {
        name: map.name.clone(),
        function: Some(function),
        reads_some: map.reads.is_some(),
        reads: map.reads.clone().unwrap_or_default(),
        keeps: keeps.into(),
        keeps_names,
        is_mask: map.produces == Produces::Mask,
        keeps_rows: map.keeps_rows,
        batch_rows: map.batch_rows.unwrap_or(0) as u64,
        // Known when all steps of a stage are.
        captured: 0,
    }
}

/// Where rows end; `None`: with the consumer.
pub(crate) fn sink_kind(sink: &Sink) -> Option<SinkKind> {
    match sink {
        Sink::Consumer => None,
        Sink::Count => Some(SinkKind::Count(CountSink {})),
        Sink::Parquet(output) => Some(SinkKind::Parquet(parquet_sink(output))),
    }
}

/// How workers write the files of `output`.
pub(crate) fn parquet_sink(output: &ParquetOutput) -> ParquetSink {
    ParquetSink {
        folder: output.folder.clone(),
        prefix: output.prefix.clone(),
        compression: output.compression.clone(),
        row_group_rows: output.row_group_rows.unwrap_or(0),
        max_rows_per_file: output.max_rows_per_file.unwrap_or(0),
    }
}
