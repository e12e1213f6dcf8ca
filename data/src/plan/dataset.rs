//! [`Dataset`]: what the user writes, step by step.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use aktis_common::resources::format_bytes;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::Column;
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, TableSource, UserDefinedLogicalNode,
    Volatility,
};

use super::failing::FailurePolicy;
use super::nodes::expect::ExpectNode;
use super::nodes::late::{LateNode, LateStep};
use super::nodes::map::{Kept, MapNode, MapSpec};
use super::nodes::openness::is_open;
use super::planner::planner;
use crate::error::PlanError;
use crate::graph::{JobOutput, plan_job, plan_job_apart};
use crate::sinks::Sink;
use crate::sources::{self, BlocksTable, FilesTable, RangeTable, SourceBlock, TasksTable};
use crate::stats::ExecutionStats;
use crate::storage::{DataFile, PathColumns, ReadOptions, StoreSpec, find_paths};

/// The name of every source in its plan.
const SOURCE_NAME: &str = "source";

/// A description of data and of what happens to it. Nothing is read but file footers until it runs.
#[derive(Debug, Clone)]
pub struct Dataset {
    plan: LogicalPlan,
    /// The same after the planner's rules, once somebody wanted to know it.
    optimized: Arc<OnceLock<LogicalPlan>>,
}

impl Dataset {
    /// The rows of Parquet files as usual.
    #[cfg(test)]
    pub(crate) fn read_parquet(paths: &[String]) -> Result<Self, PlanError> {
        Self::read_parquet_with(paths, &ReadOptions::default(), None)
    }

    /// The rows of Parquet files; see [`find_files`](crate::storage::find_files) for what a path may be. `options` say which files of a folder are
    /// read and what their paths add to their columns.
    ///
    /// Reads the footers of all files, or of some, as `merges` says for [`read_parquet_in`](Self::read_parquet_in). Where their columns
    /// differ, the dataset has the columns of all of them, by name, each of a type that all values fit into; what a file does not have is
    /// null.
    pub fn read_parquet_with(
        paths: &[String],
        options: &ReadOptions,
        merges: Option<bool>,
    ) -> Result<Self, PlanError> {
        let paths = find_paths("read_parquet()", paths, options)?;
        Self::scan(sources::table_here(&paths, options.told, merges)?)
    }

    /// The rows of Parquet files that were found in a store, as [`read_parquet_with`](Self::read_parquet_with). `merges`: whether the
    /// footers of all files are read; if not, the columns are those of some files, and of others that lack some or have them of types
    /// that fit. `None`: of many files those of some are read, if these have the same columns.
    pub fn read_parquet_in(
        store: StoreSpec,
        files: Vec<DataFile>,
        told: PathColumns,
        merges: Option<bool>,
    ) -> Result<Self, PlanError> {
        Self::scan(sources::table_of(store, files, told, merges)?)
    }

    /// The rows of files of a format that somebody else reads.
    pub fn read_files(table: FilesTable) -> Result<Self, PlanError> {
        Self::scan(Arc::new(table))
    }

    /// The rows that tasks of somebody else give.
    pub fn read_tasks(table: TasksTable) -> Result<Self, PlanError> {
        Self::scan(Arc::new(table))
    }

    /// The numbers `0..rows` in the column `id`.
    pub fn range(rows: u64) -> Result<Self, PlanError> {
        Self::scan(Arc::new(RangeTable::new(rows)))
    }

    /// The rows of `batches`, which all have the columns of `schema`.
    pub fn from_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self, PlanError> {
        let blocks = batches
            .into_iter()
            .map(|batch| Arc::new(SourceBlock::local(batch)))
            .collect();
        Self::over_blocks(schema, blocks, false)
    }

    /// The rows of blocks that exist already, with the columns of `schema`, which those of every block fit into.
    pub fn from_blocks(
        schema: SchemaRef,
        blocks: Vec<Arc<SourceBlock>>,
    ) -> Result<Self, PlanError> {
        Self::over_blocks(schema, blocks, true)
    }

    fn over_blocks(
        schema: SchemaRef,
        blocks: Vec<Arc<SourceBlock>>,
        is_mixed: bool,
    ) -> Result<Self, PlanError> {
        let schema = Arc::new(Schema::new(schema.fields().clone()));
        Self::scan(Arc::new(BlocksTable {
            blocks,
            schema,
            is_mixed,
        }))
    }

    pub(super) fn scan(source: Arc<dyn TableSource>) -> Result<Self, PlanError> {
        let builder = LogicalPlanBuilder::scan(SOURCE_NAME, source, None);
        Self::build(builder)
    }

    pub(super) fn from_plan(plan: LogicalPlan) -> Self {
        let optimized = Arc::default();
        Self { plan, optimized }
    }

    pub(super) fn build(
        builder: Result<LogicalPlanBuilder, DataFusionError>,
    ) -> Result<Self, PlanError> {
        let plan = builder
            .and_then(LogicalPlanBuilder::build)
            .map_err(PlanError::planner)?;
        Ok(Self::from_plan(plan))
    }

    pub(super) fn extend(node: impl UserDefinedLogicalNode + 'static) -> Self {
        Self::from_plan(LogicalPlan::Extension(Extension {
            node: Arc::new(node),
        }))
    }

    pub(super) fn builder(&self) -> LogicalPlanBuilder {
        LogicalPlanBuilder::from(self.plan.clone())
    }

    /// The plan as it was written.
    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    /// The same rows, which have these columns: somebody has seen the first of them. Rows that have others fail the run.
    pub fn declared(&self, columns: &Schema) -> Result<Self, PlanError> {
        let field = |field: &FieldRef| Field::clone(field).with_nullable(true);
        let columns: Vec<Field> = columns.fields().iter().map(field).collect();
        self.late(LateStep::Declare(Arc::new(Schema::new(columns))))
    }

    /// Whether a function of somebody's has to run for the rows.
    pub fn has_functions(&self) -> bool {
        let is_map = |node: &LogicalPlan| {
            Ok(matches!(node, LogicalPlan::Extension(extension)
                if extension.node.as_any().is::<MapNode>()))
        };
        // The walk itself cannot fail.
        self.plan.exists(is_map).unwrap_or(true)
    }

    /// The same rows, where `defaults` hold for functions that say nothing else of rows that they fail for.
    pub fn with_failures(&self, defaults: &FailurePolicy) -> Result<Self, PlanError> {
        with_failures(self.plan.clone(), defaults)
            .map(Self::from_plan)
            .map_err(PlanError::planner)
    }

    /// The same rows, of which nothing is expected: for who only wants to know what they are like.
    pub fn without_expectations(&self) -> Result<Self, PlanError> {
        let without = |node: LogicalPlan| {
            let LogicalPlan::Extension(extension) = &node else {
                return Ok(Transformed::no(node));
            };
            Ok(match extension.node.as_any().downcast_ref::<ExpectNode>() {
                Some(expect) => Transformed::yes(expect.input().clone()),
                None => Transformed::no(node),
            })
        };
        let plan = self.plan.clone().transform_up(without);
        plan.map(|plan| Self::from_plan(plan.data))
            .map_err(PlanError::planner)
    }

    /// Whether there may be columns that only a run will show.
    pub fn is_open(&self) -> bool {
        is_open(&self.plan)
    }

    /// The columns, if they are all known.
    pub fn schema(&self) -> Option<SchemaRef> {
        let known = Schema::new(self.plan.schema().fields().clone());
        (!self.is_open()).then(|| Arc::new(known))
    }

    /// The names of the columns that are known.
    pub fn known_columns(&self) -> Vec<String> {
        self.plan
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    }

    /// Runs a function over the rows.
    pub fn map(&self, spec: MapSpec) -> Result<Self, PlanError> {
        let named_by_keeps = match &spec.keeps {
            Kept::Named(names) => names.as_slice(),
            Kept::Nothing | Kept::AllExcept(_) => &[],
        };
        let named: Vec<&String> = spec.reads.iter().flatten().chain(named_by_keeps).collect();
        self.check_columns("map_batches()", &named)?;
        let node =
            MapNode::try_new(Arc::new(spec), self.plan.clone()).map_err(PlanError::planner)?;
        Ok(Self::extend(node))
    }

    /// These columns, in this order.
    pub fn select(&self, names: &[String]) -> Result<Self, PlanError> {
        check_distinct("select_columns()", names.iter())?;
        self.check_columns("select_columns()", &names.iter().collect::<Vec<_>>())?;
        let known = self.known_columns();
        if names.iter().any(|name| !known.contains(name)) {
            return self.late(LateStep::Select(names.to_vec()));
        }
        let columns: Result<Vec<Expr>, PlanError> =
            names.iter().map(|name| self.column(name)).collect();
        Self::build(self.builder().project(columns?))
    }

    /// All but these columns.
    pub fn drop(&self, names: &[String]) -> Result<Self, PlanError> {
        self.check_columns("drop_columns()", &names.iter().collect::<Vec<_>>())?;
        if self.is_open() {
            return self.late(LateStep::Drop(names.to_vec()));
        }
        let rest: Vec<String> = self
            .known_columns()
            .into_iter()
            .filter(|name| !names.contains(name))
            .collect();
        self.select(&rest)
    }

    /// With columns renamed: pairs of old and new name.
    pub fn rename(&self, pairs: &[(String, String)]) -> Result<Self, PlanError> {
        let old: Vec<&String> = pairs.iter().map(|(old, _)| old).collect();
        self.check_columns("rename_columns()", &old)?;
        let new_name = |name: &String| {
            let pair = pairs.iter().find(|(old, _)| old == name);
            pair.map_or_else(|| name.clone(), |(_, new)| new.clone())
        };
        let known = self.known_columns();
        let renamed: Vec<String> = known.iter().map(new_name).collect();
        check_distinct("rename_columns()", renamed.iter())?;
        if self.is_open() {
            return self.late(LateStep::Rename(pairs.to_vec()));
        }
        let mut columns = Vec::new();
        for (name, new) in known.iter().zip(renamed) {
            let column = self.column(name)?;
            columns.push(if *name == new {
                column
            } else {
                column.alias(new)
            });
        }
        Self::build(self.builder().project(columns))
    }

    /// The first `rows` rows.
    pub fn limit(&self, rows: usize) -> Result<Self, PlanError> {
        Self::build(self.builder().limit(0, Some(rows)))
    }

    /// The plan after the planner's rules.
    pub fn optimized(&self) -> Result<LogicalPlan, PlanError> {
        if let Some(known) = self.optimized.get() {
            return Ok(known.clone());
        }
        let optimized = planner().optimize(&self.plan).map_err(PlanError::planner)?;
        if is_the_same_at_any_time(&self.plan) {
            return Ok(self.optimized.get_or_init(|| optimized).clone());
        }
        Ok(optimized)
    }

    /// Whether the planner's rules need not be asked again.
    #[cfg(test)]
    pub(super) fn has_optimized(&self) -> bool {
        self.optimized.get().is_some()
    }

    /// The same over its files as they are now. Fails if one has gone since it was made, or has other columns.
    pub fn as_files_are_now(&self) -> Result<Self, PlanError> {
        let now = self.with_tables(|source| source.looked_again())?;
        Ok(now.unwrap_or_else(|| self.clone()))
    }

    /// The same, where sources know their rows that can count them without reading them; `None`: there is none. `is_guess`: they count
    /// nothing, and know a number that is wrong.
    pub fn counted(&self, is_guess: bool) -> Result<Option<Self>, PlanError> {
        self.with_tables(|source| source.counted(is_guess))
    }

    /// The same with other tables in the place of those for which there is one; `None`: for none.
    fn with_tables(
        &self,
        other: impl Fn(&dyn sources::Source) -> Result<Option<Arc<dyn TableSource>>, PlanError>,
    ) -> Result<Option<Self>, PlanError> {
        let mut asked: Vec<Arc<dyn TableSource>> = Vec::new();
        let mut others = Vec::new();
        for table in self.tables() {
            if asked.iter().all(|known| !Arc::ptr_eq(known, &table)) {
                let source = sources::of_table(table.as_ref());
                let other = source.map_or(Ok(None), &other)?;
                others.extend(other.map(|other| (Arc::clone(&table), other)));
                asked.push(table);
            }
        }
        if others.is_empty() {
            return Ok(None);
        }
        let replaced = |node: LogicalPlan| {
            let LogicalPlan::TableScan(mut scan) = node else {
                return Ok(Transformed::no(node));
            };
            let known = others
                .iter()
                .find(|(known, _)| Arc::ptr_eq(known, &scan.source));
            if let Some((_, other)) = known {
                scan.source = Arc::clone(other);
            }
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        };
        let plan = self.plan.clone().transform_up_with_subqueries(replaced);
        plan.map(|plan| Some(Self::from_plan(plan.data)))
            .map_err(PlanError::planner)
    }

    /// A number for what was found of its files when it was made: another one for files that have changed.
    pub fn look(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for table in self.tables() {
            let source = sources::of_table(table.as_ref());
            source.map_or(0, sources::Source::look).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The files that are read.
    pub fn input_files(&self) -> Vec<String> {
        let tables = self.tables();
        let sources = tables
            .iter()
            .filter_map(|table| sources::of_table(table.as_ref()));
        sources.flat_map(|source| source.files()).collect()
    }

    /// Blocks of the sources; row groups or files, where they are files.
    pub fn num_blocks(&self) -> usize {
        let tables = self.tables();
        let sources = tables
            .iter()
            .filter_map(|table| sources::of_table(table.as_ref()));
        sources.map(|source| source.num_blocks()).sum()
    }

    /// The tables at the bottom of the plan.
    fn tables(&self) -> Vec<Arc<dyn TableSource>> {
        let mut tables = Vec::new();
        let add = |plan: &LogicalPlan| {
            if let LogicalPlan::TableScan(scan) = plan {
                tables.push(Arc::clone(&scan.source));
            }
            Ok(TreeNodeRecursion::Continue)
        };
        self.plan.apply_with_subqueries(add).expect("it only looks");
        tables
    }

    /// The plan as it was written, after the planner's rules, and cut into stages, as text.
    pub fn explain(&self) -> Result<String, PlanError> {
        let job = plan_job(self, &Sink::Consumer)?;
        let stages = job.stages.iter().enumerate();
        let stages: Vec<String> = stages.map(|(index, _)| job.line(index)).collect();
        let output = JobOutput::new(self.clone(), Sink::Consumer);
        let apart = plan_job_apart(&output, &FailurePolicy::default())?;
        let together = apart.groupable().map_or_else(String::new, |(count, bytes)| {
            format!(
                "\nOn one node {count} of {} stages run in one worker, and what is used twice is read twice there, if {} that they \
                 read at most are no more than twice the memory of relational work, a quarter of the object store.",
                apart.stages.len(),
                format_bytes(bytes)
            )
        });
        let plans = self.explained_plans()?;
        Ok(format!("{plans}\nStages:\n{}{together}", stages.join("\n")))
    }

    /// The same of a run: its stages as they were, and what they did.
    pub fn explain_run(&self, stats: &ExecutionStats) -> Result<String, PlanError> {
        let plans = self.explained_plans()?;
        Ok(format!(
            "{plans}\nStages, as they ran:\n{}",
            stats.to_text()
        ))
    }

    fn explained_plans(&self) -> Result<String, PlanError> {
        let (logical, optimized) = (self.plan.display_indent(), self.optimized()?);
        let optimized = optimized.display_indent();
        Ok(format!(
            "Logical plan:\n{logical}\nOptimised plan:\n{optimized}"
        ))
    }

    pub(super) fn late(&self, step: LateStep) -> Result<Self, PlanError> {
        Ok(Self::extend(
            LateNode::try_new(step, self.plan.clone()).map_err(PlanError::planner)?,
        ))
    }

    pub(super) fn column(&self, name: &str) -> Result<Expr, PlanError> {
        let schema = self.plan.schema();
        let field = schema.qualified_field_with_unqualified_name(name);
        let (qualifier, field) = field.map_err(PlanError::planner)?;
        Ok(Expr::Column(Column::new(qualifier.cloned(), field.name())))
    }

    /// Fails if a column is certainly not there.
    pub(super) fn check_columns(
        &self,
        operation: &'static str,
        names: &[&String],
    ) -> Result<(), PlanError> {
        let available = self.known_columns();
        if self.is_open() {
            return Ok(());
        }
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !available.contains(name))
            .map(|&name| name.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(PlanError::UnknownColumns {
            operation,
            missing,
            available,
        })
    }
}

/// Whether the rules make the same of the plan whenever they are asked: they compute what `now()` is.
fn is_the_same_at_any_time(plan: &LogicalPlan) -> bool {
    let depends = |part: &Expr| {
        Ok(matches!(part, Expr::ScalarFunction(call)
            if call.func.signature().volatility != Volatility::Immutable))
    };
    let mut is_there = false;
    let looked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            is_there = is_there || expr.exists(depends)?;
            Ok(TreeNodeRecursion::Continue)
        })
    });
    looked.is_ok() && !is_there
}

/// The same plan, where `defaults` hold for functions that say nothing else of rows that they fail for.
pub(super) fn with_failures(
    plan: LogicalPlan,
    defaults: &FailurePolicy,
) -> Result<LogicalPlan, DataFusionError> {
    let with_defaults = |node: LogicalPlan| {
        let LogicalPlan::Extension(extension) = &node else {
            return Ok(Transformed::no(node));
        };
        let Some(map) = extension.node.as_any().downcast_ref::<MapNode>() else {
            return Ok(Transformed::no(node));
        };
        let spec = MapSpec {
            failures: map.spec.failures.or(defaults),
            ..MapSpec::clone(&map.spec)
        };
        let map = MapNode::try_new(Arc::new(spec), map.input().clone())?;
        Ok(Transformed::yes(Dataset::extend(map).plan))
    };
    plan.transform_up(with_defaults).map(|plan| plan.data)
}

pub(super) fn check_distinct<'a>(
    operation: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), PlanError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(PlanError::DuplicateColumn {
                operation,
                name: name.clone(),
            });
        }
    }
    Ok(())
}
