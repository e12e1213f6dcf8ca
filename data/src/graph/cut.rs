//! Cutting an optimised plan into stages.
//!
//! A stage is a chain of steps that run in one worker without moving a block. A new stage begins where the next map
//! wants other workers than the one before, and behind a limit, which only the executor can count. So reading, a map and
//! writing are one stage.

use std::sync::Arc;

use aktis_worker::options::ResourceMap;
use arrow::datatypes::SchemaRef;
use datafusion_expr::{Expr, LogicalPlan, TableScan, TableSource};

use crate::block::BlockHandle;
use crate::error::PlanError;
use crate::ledger::SaveMode;
use crate::plan::expressions;
use crate::plan::{
    Compute, ComputeKind, Dataset, LateNode, LateStep, MapFunction, MapNode, MapSpec, Produces,
};
use crate::sources::parquet::prune;
use crate::wire::lower;
use crate::wire::spec::{
    NamedExpression, NamesStep, ProjectStep, SinkKind, SinkSpec, Step, StepKind,
};

/// Where the rows of a job end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// With the consumer, as blocks.
    Consumer,
    /// Counted and forgotten.
    Count,
    /// In Parquet files.
    Parquet(ParquetOutput),
}

/// A folder of Parquet files, one per input of the last stage unless more or fewer are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOutput {
    /// Absolute path of the folder.
    pub folder: String,
    /// What the files' names begin with; no other job may use it.
    pub prefix: String,
    /// `snappy`, `zstd`, `lz4`, `gzip` or `none`.
    pub compression: String,
    /// Rows per row group at most; `None`: by size.
    pub row_group_rows: Option<u64>,
    /// Rows per file at least, but for the last one.
    pub min_rows_per_file: Option<u64>,
    /// Rows per file at most.
    pub max_rows_per_file: Option<u64>,
    /// Workers that write at once, at most.
    pub max_writers: Option<usize>,
    /// What becomes of files that are there.
    pub mode: SaveMode,
}

impl ParquetOutput {
    /// Files beside those that are there, compressed with snappy.
    pub fn new(folder: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            folder: folder.into(),
            prefix: prefix.into(),
            compression: "snappy".to_owned(),
            row_group_rows: None,
            min_rows_per_file: None,
            max_rows_per_file: None,
            max_writers: None,
            mode: SaveMode::Append,
        }
    }
}

/// A step and its name for people.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// For messages and statistics.
    pub name: String,
    pub(crate) kind: StepKind,
    /// The object that holds the references of its function.
    pub(crate) captured: Option<BlockHandle>,
}

/// What one kind of worker does.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// In order.
    pub steps: Vec<PlannedStep>,
    /// Where and how wide.
    pub compute: Compute,
    /// Whether a function runs here; if not, it is only reading, relational work and writing.
    pub has_map: bool,
    /// Whether the map is the native embedder.
    pub is_native: bool,
    /// Rows of the first map's batches.
    pub batch_rows: Option<usize>,
    /// Rows that an input should have at least.
    pub window_rows: usize,
    /// Most rows that leave as a whole.
    pub row_limit: Option<u64>,
    pub(crate) sink: Option<SinkSpec>,
    /// Its inputs must be put together of those of the stage before, so it never becomes one with that.
    pub(crate) is_apart: bool,
}

/// Where the rows of a job begin.
#[derive(Clone)]
pub(crate) struct SourcePlan {
    pub(crate) table: Option<Arc<dyn TableSource>>,
    pub(crate) columns: Vec<usize>,
    /// SQL; empty: all rows.
    pub(crate) predicate: String,
    /// Most rows that the source needs to give.
    pub(crate) row_limit: Option<u64>,
}

/// A job: a source and stages.
#[derive(Clone)]
pub struct JobPlan {
    pub(crate) source: SourcePlan,
    /// In order.
    pub stages: Vec<StagePlan>,
    /// The columns, if they are all known.
    pub schema: Option<SchemaRef>,
    /// Rows that come out, where the footers alone tell.
    pub known_rows: Option<u64>,
}

/// Optimises `dataset` and cuts it.
pub fn plan_job(dataset: &Dataset, sink: &Sink) -> Result<JobPlan, PlanError> {
    // Whoever only counts wants no columns.
    let counted = (*sink == Sink::Count && !dataset.is_open()).then(|| dataset.select(&[]));
    let plan = counted
        .transpose()?
        .as_ref()
        .unwrap_or(dataset)
        .optimized()?;
    let mut cutter = Cutter::default();
    cutter.visit(&plan)?;
    cutter.end_with(sink);
    let schema = dataset.schema();
    let source = cutter
        .source
        .expect("every plan has a leaf, and visiting it sets the source");
    Ok(JobPlan {
        source,
        stages: cutter.stages,
        schema,
        known_rows: cutter.known_rows,
    })
}

#[derive(Default)]
struct Cutter {
    source: Option<SourcePlan>,
    stages: Vec<StagePlan>,
    /// Rows so far, as long as every step keeps them.
    known_rows: Option<u64>,
}

impl StagePlan {
    fn new() -> Self {
        Self {
            steps: Vec::new(),
            compute: Compute::tasks(),
            has_map: false,
            is_native: true,
            batch_rows: None,
            window_rows: 0,
            row_limit: None,
            sink: None,
            is_apart: false,
        }
    }

    /// For messages: the names of its maps, or what else it does.
    pub fn name(&self, is_first: bool) -> String {
        let mut names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        if is_first {
            names.insert(0, "Read");
        }
        match self.sink.as_ref().and_then(|sink| sink.kind.as_ref()) {
            Some(SinkKind::Parquet(_)) => names.push("Write"),
            Some(SinkKind::Count(_)) => names.push("Count"),
            None => {}
        }
        if names.is_empty() {
            "Pass".to_owned()
        } else {
            names.join("->")
        }
    }

    /// Whether `map` may join this stage.
    fn takes(&self, map: &MapSpec) -> bool {
        if !self.has_map {
            return true;
        }
        let same_workers = self.compute.resources == map.compute.resources;
        match (self.compute.kind, map.compute.kind) {
            (ComputeKind::Tasks, ComputeKind::Tasks) => {
                same_workers
                    && self.compute.min_workers == map.compute.min_workers
                    && self.compute.max_workers == map.compute.max_workers
            }
            (ComputeKind::Tasks, ComputeKind::Actors) => {
                same_workers && self.compute.max_workers.is_none()
            }
            // Two models stay apart, and a function after a model must not hold up the model.
            (ComputeKind::Actors, _) => false,
        }
    }

    fn push_map(&mut self, map: &MapSpec) {
        self.is_native &= matches!(map.function, MapFunction::Embedder(_));
        self.compute = map.compute.clone();
        if !self.has_map {
            self.batch_rows = map.batch_rows;
        }
        self.window_rows = self.window_rows.max(map.window_rows);
        self.has_map = true;
        let kind = StepKind::Map(lower::map_step(map));
        let captured = match &map.function {
            MapFunction::Python(python) => python.captured.clone(),
            MapFunction::Embedder(_) => None,
        };
        self.steps.push(PlannedStep {
            name: map.name.clone(),
            kind,
            captured,
        });
    }

    /// Two stages as one, where there is no room for both.
    pub(crate) fn merged(mut self, next: Self) -> Self {
        let mut resources: ResourceMap = self.compute.resources.clone();
        for (name, amount) in &next.compute.resources {
            let most = resources.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
        let wider = if next.has_map {
            next.compute.clone()
        } else {
            self.compute.clone()
        };
        self.compute = Compute { resources, ..wider };
        self.batch_rows = self.batch_rows.or(next.batch_rows);
        self.window_rows = self.window_rows.max(next.window_rows);
        self.has_map |= next.has_map;
        self.is_native &= next.is_native;
        self.steps.extend(next.steps);
        self.row_limit = next.row_limit;
        self.sink = next.sink;
        self
    }
}

impl Cutter {
    /// Walks from the source up.
    fn visit(&mut self, plan: &LogicalPlan) -> Result<(), PlanError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(_) => {
                self.known_rows = Some(0);
                self.source = Some(SourcePlan {
                    table: None,
                    columns: Vec::new(),
                    predicate: String::new(),
                    row_limit: Some(0),
                });
                Ok(())
            }
            LogicalPlan::Projection(projection) => {
                self.visit(&projection.input)?;
                self.project(&projection.expr, plan)
            }
            LogicalPlan::Filter(filter) => {
                self.visit(&filter.input)?;
                self.known_rows = None;
                let text = unparse(&filter.predicate)?;
                self.relational("Filter", StepKind::Filter(text));
                Ok(())
            }
            LogicalPlan::Limit(limit) => {
                self.visit(&limit.input)?;
                self.limit(lower::limit_rows(limit)?);
                Ok(())
            }
            LogicalPlan::SubqueryAlias(alias) => self.visit(&alias.input),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(map) = node.downcast_ref::<MapNode>() {
                    self.visit(map.input())?;
                    self.map(&map.spec);
                    Ok(())
                } else if let Some(late) = node.downcast_ref::<LateNode>() {
                    self.visit(late.input())?;
                    self.late(&late.step);
                    Ok(())
                } else {
                    Err(unsupported(plan))
                }
            }
            other => Err(unsupported(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<(), PlanError> {
        let all = scan.source.schema();
        let columns: Vec<usize> = scan
            .projection
            .clone()
            .unwrap_or_else(|| (0..all.fields().len()).collect());
        let predicate: Result<Vec<String>, PlanError> = scan
            .filters
            .iter()
            .map(|filter| Ok(format!("({})", unparse(filter)?)))
            .collect();
        let predicate = predicate?.join(" AND ");
        let pruned = prune::prune(scan.source.as_ref(), &scan.filters)?;
        let table = pruned.unwrap_or_else(|| Arc::clone(&scan.source));
        let rows = lower::table_rows(table.as_ref());
        let limit = scan.fetch.map(|rows| rows as u64);
        if predicate.is_empty() {
            self.known_rows = rows.map(|rows| rows.min(limit.unwrap_or(u64::MAX)));
        }
        let reads_columns = scan.source.is::<crate::sources::ParquetTable>();
        let is_identity = columns.iter().copied().eq(0..all.fields().len());
        if !reads_columns && !is_identity {
            let names = columns
                .iter()
                .map(|&index| all.field(index).name().clone())
                .collect();
            self.relational("Select", StepKind::Select(NamesStep { names }));
        }
        self.source = Some(SourcePlan {
            table: Some(table),
            columns,
            predicate,
            row_limit: limit,
        });
        Ok(())
    }

    /// The stage that the next step belongs to.
    fn stage(&mut self) -> &mut StagePlan {
        let is_open = self
            .stages
            .last()
            .is_some_and(|stage| stage.row_limit.is_none());
        if !is_open {
            self.stages.push(StagePlan::new());
        }
        self.stages.last_mut().expect("there is one now")
    }

    fn relational(&mut self, name: &str, kind: StepKind) {
        self.stage().steps.push(PlannedStep {
            name: name.to_owned(),
            kind,
            captured: None,
        });
    }

    fn project(&mut self, expressions: &[Expr], plan: &LogicalPlan) -> Result<(), PlanError> {
        let mut columns = Vec::with_capacity(expressions.len());
        for (expression, field) in expressions.iter().zip(plan.schema().fields()) {
            columns.push(NamedExpression {
                sql: unparse(expression)?,
                name: field.name().clone(),
            });
        }
        let is_plain = |(expression, column): (&Expr, &NamedExpression)| matches!(expression, Expr::Column(source) if source.name == column.name);
        if expressions.iter().zip(&columns).all(is_plain) {
            let names = columns.into_iter().map(|column| column.name).collect();
            self.relational("Select", StepKind::Select(NamesStep { names }));
        } else {
            self.relational("Project", StepKind::Project(ProjectStep { columns }));
        }
        Ok(())
    }

    fn late(&mut self, step: &LateStep) {
        if matches!(step, LateStep::Filter(_)) {
            self.known_rows = None;
        }
        let (name, kind) = lower::late_step(step);
        self.relational(name, kind);
    }

    fn limit(&mut self, rows: u64) {
        if let Some(known) = self.known_rows
            && known <= rows
        {
            // The source gives no more than that by itself.
            return;
        }
        self.known_rows = self.known_rows.map(|known| known.min(rows));
        let stage = self.stage();
        stage.row_limit = Some(rows);
    }

    fn map(&mut self, map: &MapSpec) {
        if !map.keeps_rows || map.produces == Produces::Mask {
            self.known_rows = None;
        }
        if !self.stage().takes(map) {
            self.stages.push(StagePlan::new());
        }
        self.stage().push_map(map);
    }

    /// A stage that only writes: it has its own number of workers, and rows of several inputs come together in it.
    fn begin_write(&mut self, output: &ParquetOutput) {
        if self.stages.is_empty() {
            self.stages.push(StagePlan::new());
        }
        let rows = output.min_rows_per_file.unwrap_or(0);
        let mut write = StagePlan {
            window_rows: usize::try_from(rows).unwrap_or(usize::MAX),
            is_apart: true,
            ..StagePlan::new()
        };
        write.compute.max_workers = output.max_writers;
        self.stages.push(write);
    }

    fn end_with(&mut self, sink: &Sink) {
        if let Sink::Parquet(output) = sink
            && (output.min_rows_per_file.is_some() || output.max_writers.is_some())
        {
            self.begin_write(output);
        }
        match lower::sink_kind(sink) {
            Some(kind) => self.stage().sink = Some(SinkSpec { kind: Some(kind) }),
            // Even a bare source has somebody who reads it.
            None if self.stages.is_empty() => self.stages.push(StagePlan::new()),
            None => {}
        }
    }
}

fn unparse(expression: &Expr) -> Result<String, PlanError> {
    expressions::unparse(expression).map_err(PlanError::planner)
}

fn unsupported(plan: &LogicalPlan) -> PlanError {
    PlanError::InvalidArgument(format!("this step cannot be run yet: {}", plan.display()))
}

impl StagePlan {
    /// Its steps for workers, and the objects that a worker is made with: those that hold references of functions.
    pub(crate) fn to_steps(&self) -> (Vec<Step>, Vec<BlockHandle>) {
        let (mut steps, mut captured) = (Vec::with_capacity(self.steps.len()), Vec::new());
        for step in &self.steps {
            let mut kind = step.kind.clone();
            if let (StepKind::Map(map), Some(handle)) = (&mut kind, &step.captured) {
                captured.push(handle.clone());
                map.captured = u32::try_from(captured.len()).expect("a stage has few steps");
            }
            steps.push(Step { kind: Some(kind) });
        }
        (steps, captured)
    }
}
