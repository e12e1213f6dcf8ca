//! Rows of two feeds side by side: which columns come out, and by which of DataFusion's operators.
//!
//! The rows of both feeds lie in blocks, so their number and size are known. A hash table is made of the smaller side where it
//! fits into the memory: it is not spilled. Otherwise both sides are sorted, which spills, and merged.

use std::collections::HashSet;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{JoinSide, JoinType, NullEquality, Result, internal_err, plan_err};
use datafusion_physical_expr::expressions::{Column, case, is_not_null};
use datafusion_physical_expr::projection::ProjectionExpr;
use datafusion_physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion_physical_plan::joins::{
    HashJoinExecBuilder, JoinOn, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion_physical_plan::projection::ProjectionExec;

use super::drive::{Run, leaf};
use super::environment::Environment;
use super::failure;
use super::feed::{FragmentFeed, nullable};
use super::keys::{key_type, keys_like, place_of};
use super::suffixes::tell_apart;
use crate::graph::{Join, JoinKind, JoinNaming};
use crate::operators::comparable::comparable_key;
use crate::operators::packed;
use crate::plan::Expression;

const STEP: &str = "Join";

/// What is known of a join when the columns of both sides are.
pub(crate) struct Layout {
    /// The columns of each side, with keys of the same types.
    left: SchemaRef,
    right: SchemaRef,
    /// Where the keys are in them.
    pub(super) keys: Vec<(usize, usize)>,
    pub(super) outputs: Vec<JoinedColumn>,
}

/// A column that comes out.
#[derive(Clone)]
pub(super) struct JoinedColumn {
    pub(super) field: FieldRef,
    pub(super) place: Place,
}

/// Where its values are.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Left(usize),
    Right(usize),
    /// On the left; where the left has no row, on the right.
    Either(usize, usize),
    Mark,
}

/// The columns that come out of sides with these, or why they cannot be joined.
pub(crate) fn output_of(
    join: &Join,
    left: &SchemaRef,
    right: &SchemaRef,
) -> std::result::Result<SchemaRef, String> {
    Layout::of(join, left, right).map(|layout| layout.schema())
}

/// Begins to join the two feeds of an input; `None`: there are no rows, and nobody has told a column.
pub(super) fn begin(
    join: &Join,
    feeds: &mut [FragmentFeed],
    environment: &Environment,
) -> std::result::Result<Option<Run>, TaskFailure> {
    begin_by(join, feeds, environment, How::choose)
}

/// The same, with both sides sorted whatever their size is.
#[cfg(test)]
pub(super) fn begin_merging(
    join: &Join,
    feeds: &mut [FragmentFeed],
    environment: &Environment,
) -> std::result::Result<Option<Run>, TaskFailure> {
    begin_by(join, feeds, environment, |_, _, _, _| How::Merge)
}

/// Chooses by the join, the rows and bytes of the left and of the right, and what there is room for.
type Choice = fn(&Join, (u64, u64), (u64, u64), &Environment) -> How;

fn begin_by(
    join: &Join,
    feeds: &mut [FragmentFeed],
    environment: &Environment,
    choose: Choice,
) -> std::result::Result<Option<Run>, TaskFailure> {
    let [left, right] = feeds else {
        let text = format!("a join has got {} feeds", feeds.len());
        return Err(TaskFailure::new(ErrorCode::Internal, text));
    };
    let (left_columns, right_columns) = match (left.whole()?, right.whole()?) {
        (None, None) => return Ok(None),
        (Some(one), None) => {
            let keys = join.keys.iter().map(|(key, other)| (key, other));
            let other = keys_like(&one, keys);
            (one, other)
        }
        (None, Some(other)) => {
            let keys = join.keys.iter().map(|(other, key)| (key, other));
            let one = keys_like(&other, keys);
            (one, other)
        }
        (Some(one), Some(other)) => (one, other),
    };
    let layout = Layout::of(join, &left_columns, &right_columns)
        .map_err(|why| TaskFailure::new(ErrorCode::InvalidArgument, format!("{STEP}: {why}")))?;
    left.bring_into(&layout.left);
    right.bring_into(&layout.right);
    let (left_held, right_held) = (left.held(), right.held());
    if let Some(hot) = &environment.hot_keys {
        let is_left = left_held.1 >= right_held.1;
        let keys = join
            .keys
            .iter()
            .map(|(one, other)| if is_left { one } else { other });
        hot.look_for(keys.collect(), if is_left { left } else { right });
    }
    let how = choose(join, left_held, right_held, environment);
    layout
        .begin(join, how, environment)
        .map(Some)
        .map_err(|error| failure(STEP, &error))
}

/// By which operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// A hash table of one side is held.
    Hash { is_left_held: bool },
    /// Both sides are sorted by the keys.
    Merge,
    /// Every row with every row; one side is held.
    Nested { is_left_held: bool },
}

impl How {
    fn choose(join: &Join, left: (u64, u64), right: (u64, u64), environment: &Environment) -> Self {
        let is_left_held = left.1 <= right.1;
        if join.keys.is_empty() {
            return Self::Nested { is_left_held };
        }
        let smaller = if is_left_held { left } else { right };
        if join.is_not_in {
            // The operator that knows of `NOT IN` holds the left.
            Self::Hash { is_left_held: true }
        } else if environment.can_hold(smaller) {
            Self::Hash { is_left_held }
        } else {
            Self::Merge
        }
    }

    /// Operators hold their left side.
    fn is_swapped(self) -> bool {
        match self {
            Self::Hash { is_left_held } | Self::Nested { is_left_held } => !is_left_held,
            Self::Merge => false,
        }
    }
}

impl Layout {
    /// The columns that both sides are to have, those of the left first.
    pub(crate) fn sides(&self) -> [SchemaRef; 2] {
        [Arc::clone(&self.left), Arc::clone(&self.right)]
    }

    /// What tells rows of each side apart.
    pub(crate) fn key_columns(&self) -> [Vec<Arc<dyn PhysicalExpr>>; 2] {
        let pairs = self.keys.iter().map(|&pair| self.pair(pair));
        let (ones, others) = pairs.unzip();
        [ones, others]
    }

    /// The columns that come out.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields = self.outputs.iter().map(|output| Arc::clone(&output.field));
        nullable(&Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The join of two sides that have the columns of [`Self::sides`].
    pub(crate) fn plan(
        &self,
        join: &Join,
        how: How,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [ones, others] = self.looked_at(join);
        let left = packed::packed(left, |place| ones.contains(&place));
        let right = packed::packed(right, |place| others.contains(&place));
        let plan = self.operator(join, how, left, right)?;
        let plan = self.projected(join.kind, how.is_swapped(), plan)?;
        Ok(packed::unpacked(plan, &self.schema()))
    }

    /// The columns of each side that are read to find what goes together.
    fn looked_at(&self, join: &Join) -> [HashSet<usize>; 2] {
        let named = join
            .condition
            .iter()
            .flat_map(Expression::columns)
            .flatten();
        let named: HashSet<&str> = named.collect();
        let of_side = |schema: &SchemaRef, keys: Vec<usize>| {
            let fields = schema.fields().iter().enumerate();
            let named = fields.filter(|(_, field)| named.contains(field.name().as_str()));
            named.map(|(place, _)| place).chain(keys).collect()
        };
        let (ones, others) = self.keys.iter().copied().unzip();
        [of_side(&self.left, ones), of_side(&self.right, others)]
    }

    /// Fails in words where the sides cannot be joined.
    pub(crate) fn of(
        join: &Join,
        left: &SchemaRef,
        right: &SchemaRef,
    ) -> std::result::Result<Self, String> {
        let (mut left_fields, mut right_fields) = (left.fields().to_vec(), right.fields().to_vec());
        let mut keys = Vec::with_capacity(join.keys.len());
        for (left_key, right_key) in &join.keys {
            let one = place_of(left_key, left, "left")?;
            let other = place_of(right_key, right, "right")?;
            let kind = key_type(&left_fields[one], &right_fields[other])?;
            for field in [&mut left_fields[one], &mut right_fields[other]] {
                *field = Arc::new(Field::clone(field).with_data_type(kind.clone()));
            }
            keys.push((one, other));
        }
        let mut layout = Self {
            left: nullable(&Schema::new(left_fields)),
            right: nullable(&Schema::new(right_fields)),
            keys,
            outputs: Vec::new(),
        };
        layout.outputs = layout.outputs(join)?;
        let mut seen = HashSet::new();
        let mut names = layout.outputs.iter().map(|output| output.field.name());
        match names.find(|name| !seen.insert(name.as_str())) {
            Some(name) => Err(format!(
                "there would be two columns named '{name}': give other suffixes, or another name to one of them"
            )),
            None => Ok(layout),
        }
    }

    fn outputs(&self, join: &Join) -> std::result::Result<Vec<JoinedColumn>, String> {
        let (has_left, has_right) = join.kind.gives();
        let fields = |schema: &SchemaRef, is_there: bool, place: fn(usize) -> Place| {
            let fields = schema.fields().iter().enumerate().filter(|_| is_there);
            let output = |(index, field): (usize, &FieldRef)| JoinedColumn {
                field: Arc::clone(field),
                place: place(index),
            };
            fields.map(output).collect::<Vec<JoinedColumn>>()
        };
        let mut left = fields(&self.left, has_left, Place::Left);
        let mut right = fields(&self.right, has_right, Place::Right);
        if join.kind == JoinKind::LeftMark {
            right.push(JoinedColumn {
                field: Arc::new(Field::new(JoinKind::MARK, DataType::Boolean, true)),
                place: Place::Mark,
            });
        }
        if let JoinNaming::KeysOnce {
            left_suffix,
            right_suffix,
        } = &join.naming
        {
            self.keep_keys_once(join.kind, &mut left, &mut right);
            tell_apart(
                &mut left,
                &mut right,
                left_suffix.as_deref(),
                right_suffix.as_deref(),
            )?;
        }
        left.extend(right);
        Ok(left)
    }

    /// Of the two columns of a key one comes out: that of the side all of whose rows come out, or the values of both.
    fn keep_keys_once(
        &self,
        kind: JoinKind,
        left: &mut Vec<JoinedColumn>,
        right: &mut Vec<JoinedColumn>,
    ) {
        let is_left_key = |index| self.keys.iter().any(|&(one, _)| one == index);
        let is_right_key = |index| self.keys.iter().any(|&(_, other)| other == index);
        match kind {
            JoinKind::RightOuter => {
                left.retain(
                    |output| !matches!(output.place, Place::Left(index) if is_left_key(index)),
                );
            }
            JoinKind::Inner | JoinKind::LeftOuter | JoinKind::FullOuter => {
                right.retain(
                    |output| !matches!(output.place, Place::Right(index) if is_right_key(index)),
                );
            }
            _ => {}
        }
        if kind == JoinKind::FullOuter {
            for &(one, other) in &self.keys {
                left[one].place = Place::Either(one, other);
            }
        }
    }

    fn begin(&self, join: &Join, how: How, environment: &Environment) -> Result<Run> {
        let (left_slot, left) = leaf(&self.left)?;
        let (right_slot, right) = leaf(&self.right)?;
        let plan = self.plan(join, how, left, right)?;
        Run::new(STEP, &plan, vec![left_slot, right_slot], environment)
    }

    fn operator(
        &self,
        join: &Join,
        how: How,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let kind = join_type(join.kind);
        let nulls = if join.has_equal_nulls {
            NullEquality::NullEqualsNull
        } else {
            NullEquality::NullEqualsNothing
        };
        let filter = self.condition(join)?;
        let on: JoinOn = self.keys.iter().map(|&pair| self.pair(pair)).collect();
        Ok(match how {
            How::Nested { is_left_held: true } => Arc::new(NestedLoopJoinExec::try_new(
                left, right, filter, &kind, None,
            )?),
            How::Nested {
                is_left_held: false,
            } => {
                let filter = filter.map(|filter| filter.swap());
                let kind = kind.swap();
                let nested = NestedLoopJoinExec::try_new(right, left, filter, &kind, None);
                Arc::new(nested?)
            }
            How::Merge => {
                let (ones, others): (Vec<_>, Vec<_>) = on.iter().cloned().unzip();
                let (left, right) = (sorted(left, ones)?, sorted(right, others)?);
                let order = vec![SortOptions::default(); on.len()];
                let merge = SortMergeJoinExec::try_new(left, right, on, filter, kind, order, nulls);
                Arc::new(merge?)
            }
            How::Hash { is_left_held } => {
                let builder = if is_left_held {
                    HashJoinExecBuilder::new(left, right, on, kind).with_filter(filter)
                } else {
                    let on = on.into_iter().map(|(one, other)| (other, one)).collect();
                    let filter = filter.map(|filter| filter.swap());
                    HashJoinExecBuilder::new(right, left, on, kind.swap()).with_filter(filter)
                };
                let builder = builder
                    .with_partition_mode(PartitionMode::CollectLeft)
                    .with_null_equality(nulls)
                    .with_null_aware(join.is_not_in);
                Arc::new(builder.build()?)
            }
        })
    }

    fn pair(&self, (one, other): (usize, usize)) -> (Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>) {
        let key = |schema: &SchemaRef, index| {
            let field = schema.field(index);
            comparable_key(
                Arc::new(Column::new(field.name(), index)),
                field.data_type(),
            )
        };
        (key(&self.left, one), key(&self.right, other))
    }

    /// What must be true besides, over just the columns that it names.
    fn condition(&self, join: &Join) -> Result<Option<JoinFilter>> {
        let Some(condition) = &join.condition else {
            return Ok(None);
        };
        let Some(names) = condition.columns() else {
            return internal_err!("the condition of a join is text");
        };
        let names: HashSet<&str> = names.into_iter().collect();
        let mut fields = Vec::new();
        let mut indices = Vec::new();
        for (schema, side) in [(&self.left, JoinSide::Left), (&self.right, JoinSide::Right)] {
            for (index, field) in schema.fields().iter().enumerate() {
                if names.contains(field.name().as_str()) {
                    fields.push(Arc::clone(field));
                    indices.push(ColumnIndex { index, side });
                }
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let bound = condition.bind(&schema)?;
        Ok(Some(JoinFilter::new(bound, indices, schema)))
    }

    /// The columns that come out, by their names.
    fn projected(
        &self,
        kind: JoinKind,
        is_swapped: bool,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (has_left, has_right) = kind.gives();
        let (left, right) = match (has_left && has_right, is_swapped) {
            (true, true) => (self.right.fields().len(), 0),
            (true, false) => (0, self.left.fields().len()),
            (false, _) => (0, 0),
        };
        let column = |index: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(Column::new(plan.schema().field(index).name(), index))
        };
        let expression = |output: &JoinedColumn| -> Result<ProjectionExpr> {
            let expr = match output.place {
                Place::Left(index) => column(left + index),
                Place::Right(index) => column(right + index),
                Place::Mark => column(self.left.fields().len()),
                Place::Either(one, other) => {
                    let (one, other) = (column(left + one), column(right + other));
                    case(
                        None,
                        vec![(is_not_null(Arc::clone(&one))?, one)],
                        Some(other),
                    )?
                }
            };
            let alias = output.field.name().clone();
            Ok(ProjectionExpr { expr, alias })
        };
        let outputs: Result<Vec<ProjectionExpr>> = self.outputs.iter().map(expression).collect();
        Ok(Arc::new(ProjectionExec::try_new(outputs?, plan)?))
    }
}

fn sorted(
    rows: Arc<dyn ExecutionPlan>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let keys = keys.into_iter().map(PhysicalSortExpr::new_default);
    match LexOrdering::new(keys) {
        Some(order) => Ok(packed::sorted(&order, rows)),
        None => plan_err!("there is no key to join by"),
    }
}

fn join_type(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::LeftOuter => JoinType::Left,
        JoinKind::RightOuter => JoinType::Right,
        JoinKind::FullOuter => JoinType::Full,
        JoinKind::LeftSemi => JoinType::LeftSemi,
        JoinKind::RightSemi => JoinType::RightSemi,
        JoinKind::LeftAnti => JoinType::LeftAnti,
        JoinKind::RightAnti => JoinType::RightAnti,
        JoinKind::LeftMark => JoinType::LeftMark,
    }
}
