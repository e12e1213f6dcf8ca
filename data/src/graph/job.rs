//! A job as a graph of stages.
//!
//! A stage is a chain of steps that run in one worker without moving a block. Its rows come from a source or along edges of
//! other stages, and go along edges or end in a sink. Free of messages: how a stage travels is the business of `wire`.
//!
//! Not every graph can be carried out: [`JobPlan::check`] says which can.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use datafusion_expr::{Expr, TableSource};

use super::edge::{Edge, EdgeKind};
use super::group::StageGroup;
use super::operator::{Function, MapCall, Operator, block_rows_of};
use super::output::{PlannedOutput, StageEnd};
use super::partition::{PartitionBy, Partitioner};
use super::size;
use aktis_common::resources::ResourceRequest;

use crate::block::BlockHandle;
use crate::executor::core::skew::Spread;
use crate::plan::{Batching, Compute, ComputeKind, MapFunction, MapSpec, OtherWorkers};
use crate::registered::Registered;
use crate::stats::givers_text;

/// Where workers are of several kinds and nobody says how many rows a call has, what comes out goes on in so many.
const EVEN_ROWS: usize = 1024;

/// A step and its name for people.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// For messages and statistics.
    pub name: String,
    pub(crate) operator: Operator,
    /// The object that holds the references of its function.
    pub(crate) captured: Option<BlockHandle>,
}

impl PlannedStep {
    /// The same in workers of another kind.
    fn of_other(mut self, other: &OtherWorkers) -> Self {
        let Operator::Map(call) = &mut self.operator else {
            return self;
        };
        call.batch_rows = other.batch_rows.map(|rows| rows as u64);
        if let Some(function) = &other.function {
            (call.function, self.captured) = Function::of(function);
        }
        self
    }
}

/// Where the rows of a stage begin.
#[derive(Clone)]
pub(crate) struct SourcePlan {
    /// `None`: there are no rows.
    pub(crate) table: Option<Arc<dyn TableSource>>,
    pub(crate) columns: Vec<usize>,
    /// Only rows for which all of these are true.
    pub(crate) filters: Vec<Expr>,
    /// Most rows that the source needs to give.
    pub(crate) row_limit: Option<u64>,
    /// How many inputs it is cut into, if somebody has said so.
    pub(crate) parts: Option<u64>,
    /// Each of its files is one input.
    pub(crate) is_by_file: bool,
}

impl fmt::Debug for SourcePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourcePlan")
            .field("columns", &self.columns)
            .field("filters", &self.filters)
            .field("row_limit", &self.row_limit)
            .finish_non_exhaustive()
    }
}

/// What one kind of worker does.
#[derive(Debug, Clone)]
pub struct StagePlan {
    /// Where its rows begin; `None`: they come along edges.
    pub(crate) source: Option<SourcePlan>,
    /// In order.
    pub steps: Vec<PlannedStep>,
    /// Where and how wide.
    pub compute: Compute,
    /// Whether a function runs here; if not, it is only reading, relational work and writing.
    pub has_map: bool,
    /// Whether the map is a native model.
    pub is_native: bool,
    /// Rows of the first map's batches.
    pub batch_rows: Option<usize>,
    /// Rows that an input should have at least.
    pub window_rows: usize,
    /// With so many bytes an input needs no more rows; 0: it does.
    pub(crate) window_bytes: u64,
    /// Whether calls of a function overlap, within an input: at the end of each, fewer and fewer are under way.
    pub(crate) overlaps: bool,
    /// Most rows that leave as a whole.
    pub row_limit: Option<u64>,
    /// Where its rows end; `None`: they go along edges.
    pub(crate) end: Option<StageEnd>,
    /// Its inputs must be put together of those of the stage before, so it never becomes one with that.
    pub(crate) is_apart: bool,
    /// Which partition a row that leaves belongs to, where an exchange comes next; `None`: all rows belong to the first.
    pub(crate) partitioner: Option<Partitioner>,
    /// Rows leave in the order of the inputs, whatever the options of the run say: they were sorted.
    pub(crate) is_ordered: bool,
    /// Each partition is an input of its own, however small it is.
    pub(crate) keeps_partitions: bool,
    /// Somebody has said how its feeds meet, and what it holds may be large.
    pub(crate) is_hinted: bool,
    /// What may be done with a partition that is too large for one worker; `None`: nothing.
    pub(crate) spread: Option<Spread>,
    /// Stages that run in one worker of this one, in the place of a source.
    pub(crate) group: Option<StageGroup>,
}

/// A job.
#[derive(Debug, Clone)]
pub struct JobPlan {
    /// Each after those that its rows come from.
    pub stages: Vec<StagePlan>,
    /// Those to one stage are in the order of its feeds.
    pub edges: Vec<Edge>,
    /// What comes out, in the order in which it was asked for.
    pub outputs: Vec<PlannedOutput>,
}

impl StagePlan {
    /// A stage that does nothing yet.
    pub(crate) fn new(source: Option<SourcePlan>) -> Self {
        Self {
            source,
            steps: Vec::new(),
            compute: Compute::tasks(),
            has_map: false,
            is_native: true,
            batch_rows: None,
            window_rows: 0,
            window_bytes: 0,
            overlaps: false,
            row_limit: None,
            end: None,
            is_apart: false,
            partitioner: None,
            is_ordered: false,
            keeps_partitions: false,
            is_hinted: false,
            spread: None,
            group: None,
        }
    }

    /// Whether the columns that come out are known where no row comes in: no function is called then, and none but one that only
    /// chooses rows gives out what it got.
    pub(crate) fn tells_columns(&self) -> bool {
        let is_plain = |step: &PlannedStep| match &step.operator {
            Operator::Map(call) => call.is_mask,
            _ => true,
        };
        self.compute.kind == ComputeKind::Tasks && self.steps.iter().all(is_plain)
    }

    /// Whether it sorts, groups or joins rows, or prepares that for others.
    pub(crate) fn is_relational(&self) -> bool {
        let is_relational = |step: &PlannedStep| matches!(step.operator, Operator::Relational(_));
        self.group.is_some() || self.steps.iter().any(is_relational)
    }

    /// Whether rows that leave are told apart by bounds.
    pub(crate) fn cuts_ranges(&self) -> bool {
        let by = self.partitioner.as_ref().map(|partitioner| &partitioner.by);
        matches!(by, Some(PartitionBy::Range { .. }))
    }

    /// Whether it holds rows meanwhile.
    pub(crate) fn holds_rows(&self) -> bool {
        let holds_rows = |step: &PlannedStep| matches!(&step.operator, Operator::Relational(work) if work.holds_rows());
        self.group.is_some() || self.steps.iter().any(holds_rows)
    }

    /// For messages: the names of its maps, or what else it does.
    pub fn name(&self) -> String {
        let end = self.end.as_ref().and_then(StageEnd::step);
        let mut names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        if self.source.is_some() {
            names.insert(0, "Read");
        }
        let whole = self.group.as_ref().map(StageGroup::name);
        names.splice(0..0, whole.as_deref());
        names.extend(end.as_deref());
        if names.is_empty() {
            if self.cuts_ranges() { "Range" } else { "Pass" }.to_owned()
        } else {
            names.join("->")
        }
    }

    /// Whether `map` may join this stage.
    pub(super) fn takes(&self, map: &MapSpec) -> bool {
        if !self.has_map {
            return true;
        }
        if self.compute.is_mixed() || map.compute.is_mixed() {
            return false;
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

    /// Adds a step that calls no function.
    pub(super) fn push(&mut self, name: &str, operator: Operator) {
        self.steps.push(PlannedStep {
            name: name.to_owned(),
            operator,
            captured: None,
        });
    }

    /// How many rows somebody wants in a block of what leaves; `None`: nobody has said so.
    pub(crate) fn block_rows(&self) -> Option<NonZeroU64> {
        block_rows_of(self.steps.iter().map(|step| &step.operator))
    }

    /// Adds a call of a function. `block_rows`: how many rows the blocks have that it gets.
    pub(super) fn push_map(&mut self, map: &MapSpec, block_rows: Option<NonZeroU64>) {
        self.is_native &= matches!(map.function, MapFunction::Model(_));
        self.compute = map.compute.clone();
        let mut call = MapCall::of(map);
        if matches!(map.function, MapFunction::Python(_)) && map.batching == Batching::default() {
            let rows = block_rows.map(NonZeroU64::get);
            call.batch_rows = call.batch_rows.or(rows);
            let rows = rows.and_then(|rows| usize::try_from(rows).ok());
            for other in &mut self.compute.others {
                other.batch_rows = other.batch_rows.or(rows);
            }
        }
        if !self.has_map {
            let batch_rows = call.batch_rows.and_then(|rows| usize::try_from(rows).ok());
            self.batch_rows = self.compute.most_batch_rows(batch_rows);
        }
        self.window_rows = self.window_rows.max(map.window_rows);
        self.overlaps |= map.window_rows > 0 && matches!(map.function, MapFunction::Python(_));
        self.has_map = true;
        let (_, captured) = Function::of(&map.function);
        self.steps.push(PlannedStep {
            name: map.name.clone(),
            operator: Operator::Map(call),
            captured,
        });
    }

    /// Two stages as one, where there is no room for both; `None`: nobody could serve both requests at once, or those of one are of
    /// several kinds.
    fn merged(mut self, next: Self) -> Option<Self> {
        if self.compute.is_mixed() || next.compute.is_mixed() {
            return None;
        }
        let (one, other) = (&self.compute.resources, &next.compute.resources);
        let mut resources = one.resources().clone();
        for (name, amount) in other.resources().iter() {
            let most = resources.get(name).max(amount);
            resources.set(name, most);
        }
        let gpu_memory_bytes = one.gpu_memory_bytes().max(other.gpu_memory_bytes());
        let resources = ResourceRequest::new(resources, gpu_memory_bytes).ok()?;
        let wider = if next.has_map {
            next.compute.clone()
        } else {
            self.compute.clone()
        };
        self.compute = Compute { resources, ..wider };
        self.batch_rows = self.batch_rows.or(next.batch_rows);
        self.window_rows = self.window_rows.max(next.window_rows);
        self.overlaps |= next.overlaps;
        self.has_map |= next.has_map;
        self.is_native &= next.is_native;
        self.steps.extend(next.steps);
        self.row_limit = next.row_limit;
        self.end = next.end;
        self.partitioner = next.partitioner;
        self.is_ordered |= next.is_ordered;
        Some(self)
    }

    /// Whether the size of batches of one of its functions is to be found.
    pub(crate) fn is_sized(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(&step.operator, Operator::Map(call) if call.batching.is_auto))
    }

    /// Rows of the first function's calls, in workers of this kind.
    pub(crate) fn batch_rows_of(&self, kind: usize) -> Option<u64> {
        if let Some(other) = kind.checked_sub(1) {
            return self.compute.others[other]
                .batch_rows
                .map(|rows| rows as u64);
        }
        let mut calls = self.steps.iter().filter_map(|step| match &step.operator {
            Operator::Map(call) => Some(call.batch_rows),
            _ => None,
        });
        calls.next().flatten()
    }

    /// Whether its rows leave as blocks.
    pub(crate) fn makes_blocks(&self) -> bool {
        self.sink_settings().is_none()
    }

    /// How its workers write; `None`: they give blocks.
    pub(crate) fn sink_settings(&self) -> Option<Registered> {
        self.end.as_ref().and_then(|end| end.sink.settings())
    }

    /// What workers of a kind run, and the objects that one is made with: those that hold references of functions.
    pub(crate) fn to_steps(&self, kind: usize) -> (Vec<Operator>, Vec<BlockHandle>) {
        let (mut steps, mut captured) = (Vec::with_capacity(self.steps.len()), Vec::new());
        let other = kind.checked_sub(1).map(|other| &self.compute.others[other]);
        for step in &self.steps {
            let step = other.map_or_else(|| step.clone(), |other| step.clone().of_other(other));
            let mut operator = step.operator;
            if let (Operator::Map(call), Some(handle)) = (&mut operator, step.captured) {
                call.captured = u32::try_from(captured.len()).ok();
                captured.push(handle);
            }
            steps.push(operator);
        }
        (steps, captured)
    }

    /// In how many rows at once what comes out goes on, so that blocks are the same whatever kind of worker has made them: calls of
    /// different kinds have different numbers of rows. 0: as it comes.
    pub(crate) fn even_rows(&self) -> u64 {
        if !self.compute.is_mixed() {
            return 0;
        }
        self.batch_rows.unwrap_or(EVEN_ROWS).max(1) as u64
    }
}

impl JobPlan {
    /// Where rows of the stage come from.
    pub(crate) fn edges_to(&self, stage: usize) -> impl Iterator<Item = &Edge> + Clone {
        self.edges.iter().filter(move |edge| edge.to == stage)
    }

    /// The stage, for people: where its rows come from, who else gets them, and how many are read at most.
    pub(crate) fn line(&self, index: usize) -> String {
        let stage = &self.stages[index];
        let compute = stage.compute.kinds_text(stage.batch_rows_of(0));
        let mut line = format!("  {index}: {} ({compute})", stage.name());
        let givers: Vec<usize> = self.edges_to(index).map(|edge| edge.from).collect();
        line.push_str(&givers_text(&givers));
        let takers: Vec<usize> = self.edges_from(index).map(|edge| edge.to).collect();
        if takers.len() > 1 {
            let takers: Vec<String> = takers.iter().map(usize::to_string).collect();
            line.push_str(&format!(", once for {}", takers.join(" and ")));
        }
        if let Some(estimate) = stage.source.as_ref().and_then(size::estimate) {
            line.push_str(&format!(", {estimate}"));
        }
        if self.outputs.len() > 1
            && let Some(place) = stage.end.as_ref().and_then(|end| end.sink.place())
        {
            line.push_str(&format!(", into {place}"));
        }
        line
    }

    /// Where rows of the stage go.
    pub(crate) fn edges_from(&self, stage: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.from == stage)
    }

    /// Both ends of an edge as one stage; `None`: they cannot be one, because others read from or write to them, or because
    /// something between them must stay between them.
    pub(super) fn merged(&self, edge: Edge) -> Option<StagePlan> {
        let (from, to) = (&self.stages[edge.from], &self.stages[edge.to]);
        let are_alone = edge.kind == EdgeKind::Forward
            && self.edges_from(edge.from).count() == 1
            && self.edges_to(edge.to).count() == 1
            && to.source.is_none()
            && from.end.is_none();
        // A limit between two stages keeps them apart.
        let may_join = from.row_limit.is_none() && !to.is_apart;
        if !are_alone || !may_join {
            return None;
        }
        from.clone().merged(to.clone())
    }

    /// Puts `stage` in the place of both ends of an edge.
    pub(super) fn merge(&mut self, edge: Edge, stage: StagePlan) {
        self.stages[edge.from] = stage;
        self.stages.remove(edge.to);
        self.edges.retain(|other| *other != edge);
        for other in &mut self.edges {
            for end in [&mut other.from, &mut other.to] {
                if *end == edge.to {
                    *end = edge.from;
                } else if *end > edge.to {
                    *end -= 1;
                }
            }
        }
    }
}
