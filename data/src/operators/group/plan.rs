//! The plan of a group: of every stage the engine's operators, put on those of the stages before it.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::SchemaRef;
use datafusion_common::{DataFusionError, Result, plan_err};
use datafusion_physical_expr::{LexOrdering, Partitioning, PhysicalExpr};
use datafusion_physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::repartition::RepartitionExec;
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion_physical_plan::union::UnionExec;
use datafusion_physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::hold::Holding;
use super::leaf::{self, Splits, external, formed};
use super::meeting::KeyedJoin;
use super::meters::GroupMeters;
use super::row_bytes;
use super::{STEP, failure};
use crate::graph::{
    AggregatePhase, EdgeKind, Fragment, GroupMember, GroupTask, Join, Operator, Sort,
};
use crate::operators::expect::Judge;
use crate::operators::failing::FailingInput;
use crate::operators::fragment::{
    Environment, How, Layout, aggregated, folded, folded_columns, key, nullable, order_of, windowed,
};
use crate::operators::node::{each_batch, each_batch_and_end};
use crate::operators::packed;
use crate::operators::relational::bind_step;
use crate::plan::Expectation;
use crate::sources::{self, Opened};

/// A plan, and what counts in it.
pub(super) struct Planned {
    pub(super) root: Arc<dyn ExecutionPlan>,
    pub(super) meters: GroupMeters,
    sources: Vec<(Arc<Splits>, SchemaRef)>,
}

impl Planned {
    /// Bytes of the longest rows that there may be, about: those of a join have all columns.
    pub(super) fn row_bytes(&self) -> Result<u64, TaskFailure> {
        row_bytes::of_all(&self.sources)
    }
}

/// The plan that gives the rows of the last member, in one partition.
pub(super) fn planned(
    group: &GroupTask,
    inputs: Vec<VecDeque<Opened>>,
    environment: &Environment,
    failing: Option<&Arc<FailingInput>>,
) -> Result<Planned, TaskFailure> {
    let mut planner = GroupPlanner {
        threads: group.threads.max(1) as usize,
        piece_bytes: environment.piece_bytes() / u64::from(group.threads.max(1)),
        window_bytes: environment.window_bytes(group.threads as usize),
        holding: Holding::new(environment.memory() as u64),
        givers: Vec::with_capacity(group.members.len()),
        sources: Vec::new(),
        meters: GroupMeters::default(),
        failing,
    };
    for (index, (member, splits)) in group.members.iter().zip(inputs).enumerate() {
        let edges = group.edges.iter().filter(|edge| edge.to == index);
        let edges: Vec<(usize, EdgeKind)> = edges.map(|edge| (edge.from, edge.kind)).collect();
        let plan = planner.member(member, &edges, splits)?;
        planner.givers.push(Some((plan, &member.keys)));
    }
    let last = planner.givers.pop().flatten();
    let last = last.ok_or_else(|| TaskFailure::new(ErrorCode::Internal, "a group has no stage"))?;
    Ok(Planned {
        root: in_one_partition(last.0),
        meters: planner.meters,
        sources: planner.sources,
    })
}

/// Rows of a member, and the columns that tell them apart.
type Giver<'a> = (Arc<dyn ExecutionPlan>, &'a [String]);

struct GroupPlanner<'a> {
    threads: usize,
    /// The largest batch that operators get.
    piece_bytes: u64,
    /// What each partition of a window is sure to have.
    window_bytes: usize,
    holding: Arc<Holding>,
    /// Of each member so far, until somebody takes its rows.
    givers: Vec<Option<Giver<'a>>>,
    sources: Vec<(Arc<Splits>, SchemaRef)>,
    meters: GroupMeters,
    failing: Option<&'a Arc<FailingInput>>,
}

impl GroupPlanner<'_> {
    fn member(
        &mut self,
        member: &GroupMember,
        edges: &[(usize, EdgeKind)],
        splits: VecDeque<Opened>,
    ) -> Result<Arc<dyn ExecutionPlan>, TaskFailure> {
        if let Some((source, columns)) = &member.source {
            let reader = sources::reader_of(source)?;
            let columns = nullable(columns);
            let splits = Splits::new(reader, splits, self.piece_bytes);
            let (rows, bytes_read) = leaf::leaf(&splits, &columns, self.threads);
            self.sources.push((splits, columns));
            self.meters.reads(&rows, bytes_read);
            return self
                .steps(member, &member.steps, rows)
                .map_err(|error| failure(&error));
        }
        let planned = self.received(member, edges);
        planned.map_err(|error| failure(&error))
    }

    /// What comes along the edges, and the steps.
    fn received(
        &mut self,
        member: &GroupMember,
        edges: &[(usize, EdgeKind)],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut inputs = Vec::with_capacity(edges.len());
        for &(from, kind) in edges {
            let Some((rows, keys)) = self.givers.get_mut(from).and_then(Option::take) else {
                return plan_err!("{STEP}: rows of a stage are taken twice");
            };
            inputs.push((rows, keys, kind));
        }
        let givers = inputs.iter().map(|(rows, ..)| Arc::clone(rows));
        self.meters.receives(givers.collect());
        if let [Operator::Relational(Fragment::Join(join)), steps @ ..] = member.steps.as_slice() {
            let sides = inputs.into_iter().map(|(rows, _, kind)| (rows, kind));
            let joined = self.join(join, sides.collect())?;
            self.meters.step(&joined);
            return self.steps(member, steps, joined);
        }
        let mut parts = Vec::with_capacity(inputs.len());
        for (rows, keys, kind) in inputs {
            let is_cut = !keys.is_empty() && matches!(kind, EdgeKind::Exchange { .. });
            parts.push(if is_cut {
                self.by_names(rows, keys)?
            } else {
                rows
            });
        }
        let rows = if parts.len() == 1 {
            parts.remove(0)
        } else {
            let schema = parts[0].schema();
            UnionExec::try_new(
                parts
                    .into_iter()
                    .map(|rows| in_form(rows, &schema))
                    .collect(),
            )?
        };
        self.steps(member, &member.steps, rows)
    }

    fn steps(
        &mut self,
        member: &GroupMember,
        steps: &[Operator],
        mut rows: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        for step in steps {
            rows = match step {
                Operator::Relational(work) => fragment(work, rows, self.window_bytes)?,
                Operator::Expect(expectation) => self.judged(expectation, rows)?,
                batchwise => batch_by_batch(batchwise, rows)?,
            };
            self.meters.step(&rows);
        }
        if let Some(limit) = member.row_limit {
            let first = usize::try_from(limit).ok();
            rows = Arc::new(GlobalLimitExec::new(in_one_partition(rows), 0, first));
        }
        Ok(rows)
    }

    /// The same rows, judged as they pass by.
    fn judged(
        &self,
        expectation: &Expectation,
        rows: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(failing) = self.failing else {
            return plan_err!("{STEP}: nobody hears what expectations find");
        };
        let judge = Judge::new(failing, self.meters.count(), expectation, None, &[]);
        let judge = Arc::new(judge.in_any_order(rows.output_partitioning().partition_count()));
        let schema = rows.schema();
        let bound = judge.bind(&schema).map_err(external)?;
        let over = Arc::clone(&judge);
        let judged = move |batch| {
            judge.judge(&batch, &bound, 0).map_err(external)?;
            Ok(batch)
        };
        let ended = move || over.ended();
        Ok(each_batch_and_end("Expect", rows, &schema, judged, ended))
    }

    fn by_names(
        &self,
        rows: Arc<dyn ExecutionPlan>,
        keys: &[String],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = rows.schema();
        let keys = keys.iter().map(|name| key(name, &schema));
        self.by_hash(rows, keys.collect::<Result<_>>()?)
    }

    /// Rows with equal keys in one partition.
    fn by_hash(
        &self,
        rows: Arc<dyn ExecutionPlan>,
        keys: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.threads == 1 {
            return Ok(in_one_partition(rows));
        }
        let by = Partitioning::Hash(keys, self.threads);
        Ok(Arc::new(RepartitionExec::try_new(rows, by)?))
    }

    fn join(
        &mut self,
        join: &Join,
        inputs: Vec<(Arc<dyn ExecutionPlan>, EdgeKind)>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let kinds: Vec<EdgeKind> = inputs.iter().map(|(_, kind)| *kind).collect();
        let Ok([left, right]) = <[_; 2]>::try_from(inputs) else {
            return plan_err!("{STEP}: a join has other than two sides");
        };
        let layout = Layout::of(
            join,
            &nullable(&left.0.schema()),
            &nullable(&right.0.schema()),
        );
        let layout = layout.map_err(|why| DataFusionError::Plan(format!("join: {why}")))?;
        let [left_form, right_form] = layout.sides();
        let (left, right) = (in_form(left.0, &left_form), in_form(right.0, &right_form));
        let holds_left = kinds[0] == EdgeKind::Broadcast;
        if join.is_not_in {
            // The operator that knows of `NOT IN` holds the left, and sees all of the right at once.
            let how = How::Hash { is_left_held: true };
            return layout.plan(join, how, in_one_partition(left), in_one_partition(right));
        }
        if join.keys.is_empty() || kinds.contains(&EdgeKind::Broadcast) {
            let is_gathered = !kinds.contains(&EdgeKind::Broadcast);
            let gathered = |rows, is_held: bool| match is_held || is_gathered {
                true => in_one_partition(rows),
                false => rows,
            };
            let (left, right) = (gathered(left, holds_left), gathered(right, !holds_left));
            let is_left_held = holds_left;
            let how = match join.keys.is_empty() {
                true => How::Nested { is_left_held },
                false => How::Hash { is_left_held },
            };
            return layout.plan(join, how, left, right);
        }
        let [left_keys, right_keys] = layout.key_columns();
        let sides = vec![
            self.by_hash(left, left_keys)?,
            self.by_hash(right, right_keys)?,
        ];
        let meeting = KeyedJoin {
            join: join.clone(),
            layout,
            holding: Arc::clone(&self.holding),
        };
        Ok(meeting.over(sides, self.threads))
    }
}

/// Work over all rows. `window_bytes`: what each partition of a window can have.
fn fragment(
    work: &Fragment,
    rows: Arc<dyn ExecutionPlan>,
    window_bytes: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    match work {
        Fragment::Sort(sort) => {
            let order = order_of(&sort.keys, &rows.schema())?;
            let sorted = sorted(sort, &order, rows);
            let first = sort.limit.and_then(|rows| usize::try_from(rows).ok());
            Ok(Arc::new(
                SortPreservingMergeExec::new(order, sorted).with_fetch(first),
            ))
        }
        Fragment::First(sort) => {
            let order = order_of(&sort.keys, &rows.schema())?;
            Ok(sorted(sort, &order, rows))
        }
        Fragment::Fold(fold) => {
            let rows = in_form(rows, &folded_columns(fold)?);
            let is_final = fold.phase == AggregatePhase::Final;
            folded(fold, of_groups(rows, is_final && fold.keys.is_empty()))
        }
        Fragment::Window(window) => {
            let rows = in_form(rows, &nullable(&window.rows));
            windowed(window, rows, window_bytes)
        }
        Fragment::Aggregate(aggregate) => {
            let is_final = aggregate.phase == AggregatePhase::Final;
            let schema = nullable(&rows.schema());
            let rows = in_form(rows, &schema);
            aggregated(
                aggregate,
                of_groups(rows, is_final && aggregate.keys.is_empty()),
            )
        }
        Fragment::Skip(count) => {
            let skipped = usize::try_from(*count).unwrap_or(usize::MAX);
            Ok(Arc::new(GlobalLimitExec::new(
                in_one_partition(rows),
                skipped,
                None,
            )))
        }
        Fragment::Join(_)
        | Fragment::Sample(_)
        | Fragment::Bounds(_)
        | Fragment::Shuffle(_)
        | Fragment::Zip => {
            plan_err!("{STEP}: {} does not run together with others", work.step())
        }
    }
}

fn of_groups(rows: Arc<dyn ExecutionPlan>, is_one: bool) -> Arc<dyn ExecutionPlan> {
    if is_one { in_one_partition(rows) } else { rows }
}

/// Every partition in order, or the first rows of it.
fn sorted(
    sort: &Sort,
    order: &LexOrdering,
    rows: Arc<dyn ExecutionPlan>,
) -> Arc<dyn ExecutionPlan> {
    let Some(first) = sort.limit else {
        return packed::sorted(order, rows);
    };
    let sort = SortExec::new(order.clone(), rows).with_preserve_partitioning(true);
    Arc::new(sort.with_fetch(usize::try_from(first).ok()))
}

/// A step that sees one batch after another.
fn batch_by_batch(step: &Operator, rows: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let bound = bind_step(step, &rows.schema()).map_err(external)?;
    if let Some(condition) = bound.condition() {
        return Ok(Arc::new(FilterExec::try_new(condition, rows)?));
    }
    let schema = nullable(&bound.columns().unwrap_or_else(|| rows.schema()));
    let form = Arc::clone(&schema);
    Ok(each_batch("Step", rows, &schema, move |batch| {
        let batch = bound.apply(&batch, 0).map_err(external)?;
        formed(&batch, &form)
    }))
}

/// The rows in the form of these columns.
fn in_form(rows: Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Arc<dyn ExecutionPlan> {
    if rows.schema() == *schema {
        return rows;
    }
    let form = Arc::clone(schema);
    each_batch("Form", rows, schema, move |batch| formed(&batch, &form))
}

fn in_one_partition(rows: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match rows.output_partitioning().partition_count() {
        1 => rows,
        _ => Arc::new(CoalescePartitionsExec::new(rows)),
    }
}
