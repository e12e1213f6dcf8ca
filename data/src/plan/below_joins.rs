//! Filters behind `join()` are done before it, where they look at one side alone.
//!
//! The engine has a rule for its own node of a join, which a query in SQL becomes. A method makes a node of ours, which the engine
//! knows nothing of: whatever it lets through would go to both sides.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, Extension, Filter, LogicalPlan};
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};

use super::nodes::relation::{Joining, Relation, RelationNode, columns_of};
use crate::graph::{Join, JoinKind};
use crate::operators::fragment::{JoinedSide, Layout};

/// The rule.
#[derive(Debug)]
pub(super) struct PushFilterBelowJoin;

impl OptimizerRule for PushFilterBelowJoin {
    fn name(&self) -> &'static str {
        "push_filter_below_join_of_datasets"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else {
            return Ok(Transformed::no(plan));
        };
        match pushed(filter)? {
            Some(pushed) => Ok(Transformed::yes(pushed)),
            None => Ok(Transformed::no(plan)),
        }
    }
}

/// The plan with as much of the filter below the join as may be there; `None`: nothing of it may, or it is over no join.
fn pushed(filter: &Filter) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = filter.input.as_ref() else {
        return Ok(None);
    };
    let node = extension.node.as_any().downcast_ref::<RelationNode>();
    let Some((node, Relation::Join(Joining { join, .. }))) =
        node.map(|node| (node, &node.relation))
    else {
        return Ok(None);
    };
    if node.is_open {
        return Ok(None);
    }
    let Some(sides) = Sides::of(join, node.sources()) else {
        return Ok(None);
    };
    let (mut below, mut kept) = ([Vec::new(), Vec::new()], Vec::new());
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        let own = sides
            .names
            .each_ref()
            .map(|names| names.renamed(&condition));
        let own = [own[0].as_ref(), own[1].as_ref()];
        if !(0..2).any(|side| sides.decides[side] && own[side].is_some()) {
            kept.push(condition);
            continue;
        }
        // If the other side knows it, too, it is of keys, and there it leaves out what would find no partner.
        for (conditions, own) in below.iter_mut().zip(own) {
            conditions.extend(own.cloned());
        }
    }
    if below.iter().all(Vec::is_empty) {
        return Ok(None);
    }
    let inputs = node.sources().iter().zip(below);
    let inputs = inputs.map(|(input, conditions)| filtered(input.clone(), conditions));
    let inputs: Vec<LogicalPlan> = inputs.collect::<Result<_>>()?;
    let node = RelationNode::try_new(node.relation.clone(), inputs)?;
    let joined = LogicalPlan::Extension(Extension {
        node: Arc::new(node),
    });
    filtered(joined, kept).map(Some)
}

fn filtered(input: LogicalPlan, conditions: Vec<Expr>) -> Result<LogicalPlan> {
    match conjunction(conditions) {
        Some(condition) => Ok(LogicalPlan::Filter(Filter::try_new(
            condition,
            Arc::new(input),
        )?)),
        None => Ok(input),
    }
}

/// What the columns of a join are called on each side, where a condition on them is the same there.
struct Sides {
    names: [Names; 2],
    /// Whether all that is missing behind the join, if rows of the side are left out, is what was made of these.
    decides: [bool; 2],
}

/// From the names behind the join to columns of a side.
#[derive(Default)]
struct Names(HashMap<String, Column>);

impl Sides {
    fn of(join: &Join, inputs: &[LogicalPlan]) -> Option<Self> {
        let [left, right] = inputs else { return None };
        let (left_goes, right_goes) = join.kind.goes_by_parts();
        if join.condition.is_some() || join.kind == JoinKind::FullOuter {
            return None;
        }
        let layout = Layout::of(join, &columns_of(left), &columns_of(right)).ok()?;
        let mut names = [Names::default(), Names::default()];
        for (name, kind, side, place) in layout.origins() {
            let (own, other) = match side {
                JoinedSide::Left => (0, 1),
                JoinedSide::Right => (1, 0),
            };
            names[own].add(&name, &kind, &inputs[own], place);
            // One zero is equal to another, and may be told from it.
            if let Some(place) = layout.partner(side, place).filter(|_| !kind.is_floating()) {
                names[other].add(&name, &kind, &inputs[other], place);
            }
        }
        Some(Self {
            names,
            decides: [left_goes, right_goes],
        })
    }
}

impl Names {
    fn add(&mut self, name: &str, kind: &DataType, input: &LogicalPlan, place: usize) {
        let (table, field) = input.schema().qualified_field(place);
        // Of another type, equal values may look different: a condition was made for one of them.
        if field.data_type() == kind {
            let column = Column::new(table.cloned(), field.name());
            self.0.insert(name.to_owned(), column);
        }
    }

    /// The condition over the columns of the side; `None`: it looks at others too, or at more than values.
    fn renamed(&self, condition: &Expr) -> Option<Expr> {
        let columns = condition.column_refs();
        let knows = |column: &&Column| self.0.contains_key(&column.name);
        if columns.is_empty() || !columns.iter().all(knows) || condition.is_volatile() {
            return None;
        }
        let renamed = condition.clone().transform(|part| {
            let own = match &part {
                Expr::Column(column) => self.0.get(&column.name).cloned(),
                _ => None,
            };
            Ok(own.map_or_else(
                || Transformed::no(part),
                |own| Transformed::yes(Expr::Column(own)),
            ))
        });
        // The walk itself cannot fail.
        renamed.ok().map(|renamed| renamed.data)
    }
}

#[cfg(test)]
mod tests {
    use datafusion_expr::{col, lit};

    use crate::graph::{Join, JoinKind, JoinNaming};
    use crate::plan::{Dataset, Expression, Joining};

    fn joined(kind: JoinKind) -> Dataset {
        let numbers = Dataset::range(10).expect("plans");
        let column = |name: &str, more: i64| {
            let sum = Expression::Planned(col("id") + lit(more));
            numbers
                .with_columns(&[(name.to_owned(), sum)])
                .expect("plans")
        };
        let (left, right) = (column("l", 1), column("r", 2));
        let joining = Joining {
            join: Join {
                kind,
                keys: vec![("id".to_owned(), "id".to_owned())],
                has_equal_nulls: false,
                condition: None,
                is_not_in: false,
                naming: JoinNaming::KeysOnce {
                    left_suffix: None,
                    right_suffix: None,
                },
            },
            partitions: 2,
            hint: None,
        };
        left.join(&right, joining).expect("plans")
    }

    /// How many conditions the optimised plan has behind the join, before it on the left, and on the right.
    fn conditions(kind: JoinKind, filter: &str) -> [usize; 3] {
        let filtered = joined(kind).filter(filter).expect("plans");
        let plan = filtered.optimized().expect("can be optimised");
        let text = plan.display_indent().to_string();
        let (behind, before) = text.split_once("Join: ").expect("is a join");
        let (left, right) = before.split_once("TableScan: ").expect("reads twice");
        [behind, left, right].map(|part| part.matches("Filter: ").count())
    }

    #[test]
    fn filters_go_to_the_side_whose_columns_they_look_at() {
        use JoinKind::{FullOuter, Inner, LeftAnti, LeftOuter, RightOuter, RightSemi};
        for (kind, filter, expected) in [
            (Inner, "l > 3", [0, 1, 0]),
            (Inner, "r > 3", [0, 0, 1]),
            (Inner, "id > 3", [0, 1, 1]),
            (Inner, "l > r", [1, 0, 0]),
            (Inner, "l > 3 AND r < 7 AND l > r", [1, 1, 1]),
            (LeftOuter, "l > 3", [0, 1, 0]),
            (LeftOuter, "r > 3", [1, 0, 0]),
            (LeftOuter, "id > 3", [0, 1, 1]),
            (RightOuter, "l IS NULL", [1, 0, 0]),
            (RightOuter, "id > 3", [0, 1, 1]),
            (LeftAnti, "id > 3", [0, 1, 1]),
            (RightSemi, "r > 3", [0, 0, 1]),
            (FullOuter, "id > 3", [1, 0, 0]),
            (Inner, "monotonically_increasing_id() > id", [1, 0, 0]),
        ] {
            assert_eq!(conditions(kind, filter), expected, "{kind:?}: {filter}");
        }
    }
}
