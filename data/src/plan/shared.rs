//! What several plans have in common, so that it is done once for all of them.
//!
//! ```text
//!  Filter A   Filter B            Filter A   Filter B     a leaf in the place of what is common
//!     │          │                   │          │
//!    Map        Map        ►       leaf 0     leaf 0
//!     │          │
//!    Scan       Scan               part 0: Scan ─ Map     with the columns and rows that any of them wants
//! ```
//! It is found before the planner's rules: these would push other filters and columns below it for each of them, and what was
//! one would be read and computed as often as there are plans. What they push as far as a leaf is what a plan wants of the part.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, DataFusionError, Result, TableReference};
use datafusion_expr::utils::{conjunction, disjunction};
use datafusion_expr::{
    Expr, Extension, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableScan,
    TableSource,
};

use super::dataset::with_failures;
use super::failing::FailurePolicy;
use super::nodes::map::MapNode;
use super::nodes::openness::is_open;
use super::nodes::part::PartNode;
use super::nodes::relation::{Relation, RelationNode, RepartitionBy};
use super::planner::planner;
use crate::error::PlanError;
use crate::graph::names_of;
use crate::sources;

/// Plans after the planner's rules, and what they have in common.
pub(crate) struct SharedPlans {
    /// In the place of what is common they have leaves.
    pub(crate) plans: Vec<LogicalPlan>,
    /// What is common, after the rules too. A part has leaves of those behind it alone.
    pub(crate) parts: Vec<CommonPart>,
}

/// Columns that come out, if they are known: by their places among all that there are, and their names.
pub(crate) type KnownColumns = Option<Vec<(usize, String)>>;

/// What is done once for several plans.
pub(crate) struct CommonPart {
    /// With what any of them wants.
    pub(crate) plan: LogicalPlan,
    /// By their places among all that it has.
    pub(crate) columns: KnownColumns,
    /// The plans that need it.
    pub(crate) users: BTreeSet<usize>,
}

/// What is wanted of a part.
#[derive(Default)]
struct Wishes {
    columns: BTreeSet<usize>,
    /// Of each leaf: the rows that it wants.
    rows: Vec<Option<Expr>>,
    users: BTreeSet<usize>,
}

impl SharedPlans {
    /// Finds what is common to two of them at least, and makes all plans better by the rules. `failures`: what becomes of rows that
    /// functions fail for, where these do not say.
    pub(crate) fn of(plans: Vec<LogicalPlan>, failures: &FailurePolicy) -> Result<Self, PlanError> {
        let found = Self::find(plans, |plan| with_failures(plan, failures));
        found.map_err(PlanError::planner)
    }

    /// `told`: a plan that has been told what holds for the whole job; that makes it anew.
    fn find(
        plans: Vec<LogicalPlan>,
        told: impl Fn(LogicalPlan) -> Result<LogicalPlan>,
    ) -> Result<Self> {
        let count = plans.len();
        let mut trees = plans;
        while let Some(common) = largest_common(&trees) {
            let leaf = leaf(trees.len() - count, &common)?;
            for tree in &mut trees {
                *tree = with_leaf(tree, &common, &leaf)?;
            }
            trees.push(common);
        }
        let found = trees.split_off(count);
        let mut wanted: Vec<Wishes> = found.iter().map(|_| Wishes::default()).collect();
        let mut plans = Vec::with_capacity(count);
        for (user, tree) in trees.into_iter().enumerate() {
            let plan = planner().optimize(&told(tree)?)?;
            want(&plan, &BTreeSet::from([user]), &mut wanted);
            plans.push(plan);
        }
        let mut parts = Vec::with_capacity(found.len());
        for (index, plan) in found.iter().enumerate() {
            let Wishes {
                columns,
                rows,
                users,
            } = std::mem::take(&mut wanted[index]);
            let (plan, columns) = wanted_of(plan, columns, rows)?;
            let plan = planner().optimize(&told(plan)?)?;
            want(&plan, &users, &mut wanted);
            parts.push(CommonPart {
                plan,
                columns,
                users,
            });
        }
        Ok(Self { plans, parts })
    }
}

/// The part that a table stands for, in plans that use it.
#[derive(Debug)]
pub(crate) struct PartTable {
    pub(crate) part: usize,
    schema: SchemaRef,
}

impl TableSource for PartTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Others may want rows that this plan does not, so it chooses its own among those that come.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// The part that a scan stands for.
pub(crate) fn part_of(scan: &TableScan) -> Option<&PartTable> {
    scan.source.downcast_ref::<PartTable>()
}

/// The largest that two plans have.
fn largest_common(trees: &[LogicalPlan]) -> Option<LogicalPlan> {
    if trees.len() < 2 {
        return None;
    }
    let mut seen: HashMap<u64, Vec<(usize, &LogicalPlan)>> = HashMap::new();
    let mut largest: Option<(usize, &LogicalPlan)> = None;
    for (tree, plan) in trees.iter().enumerate() {
        let mut open = vec![plan];
        while let Some(node) = open.pop() {
            if !has_work(node) {
                continue;
            }
            open.extend(node.inputs());
            let others = seen.entry(hash(node)).or_default();
            let is_common = || {
                let mut others = others.iter();
                others.any(|(other, one)| *other != tree && are_same(one, node))
            };
            let size = size(node);
            if largest.is_none_or(|(most, _)| size > most) && is_common() {
                largest = Some((size, node));
            }
            others.push((tree, node));
        }
    }
    largest.map(|(_, plan)| plan.clone())
}

fn hash(plan: &LogicalPlan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.hash(&mut hasher);
    hasher.finish()
}

fn size(plan: &LogicalPlan) -> usize {
    1 + plan.inputs().into_iter().map(size).sum::<usize>()
}

/// The same rows: of the same tables, and, where chance chooses without a seed, chosen at the same time.
fn are_same(one: &LogicalPlan, other: &LogicalPlan) -> bool {
    one == other && are_made_of_the_same(one, other)
}

fn are_made_of_the_same(one: &LogicalPlan, other: &LogicalPlan) -> bool {
    let is_same = match (one, other) {
        (LogicalPlan::TableScan(one), LogicalPlan::TableScan(other)) => {
            Arc::ptr_eq(&one.source, &other.source)
        }
        (LogicalPlan::Extension(one), LogicalPlan::Extension(other)) => {
            !is_by_chance(one) || ptr::addr_eq(Arc::as_ptr(&one.node), Arc::as_ptr(&other.node))
        }
        _ => true,
    };
    let inputs = one.inputs().into_iter().zip(other.inputs());
    is_same
        && inputs
            .into_iter()
            .all(|(one, other)| are_made_of_the_same(one, other))
}

/// Whether something is read or computed for its rows.
pub(crate) fn has_work(plan: &LogicalPlan) -> bool {
    // The walk itself cannot fail.
    plan.exists(|node| Ok(is_work(node))).unwrap_or(false)
}

fn is_work(node: &LogicalPlan) -> bool {
    match node {
        LogicalPlan::TableScan(scan) => {
            let source = sources::of_table(scan.source.as_ref());
            source.is_some_and(|source| !source.files().is_empty() || source.is_open())
        }
        LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) => true,
        LogicalPlan::Extension(extension) => {
            let node = extension.node.as_any();
            node.is::<MapNode>() || node.is::<RelationNode>()
        }
        _ => false,
    }
}

/// Two that nobody gave a seed are not the same, though they look so.
pub(crate) fn is_by_chance(extension: &Extension) -> bool {
    let node = extension.node.as_any().downcast_ref::<RelationNode>();
    node.is_some_and(|node| match &node.relation {
        Relation::Shuffle(seed) | Relation::Sample { seed, .. } => seed.is_none(),
        Relation::Repartition(repartition) => repartition.by == RepartitionBy::Chance,
        _ => false,
    })
}

/// What stands for the part in plans that use it: its columns, of the tables that they are of there.
fn leaf(part: usize, plan: &LogicalPlan) -> Result<LogicalPlan> {
    let schema = plan.schema();
    if is_open(plan) {
        let node = Arc::new(PartNode::new(part, Arc::clone(schema)));
        return Ok(LogicalPlan::Extension(Extension { node }));
    }
    let names = names_of(schema);
    let field = |(field, name): (&FieldRef, &String)| Field::clone(field).with_name(name);
    let fields: Vec<Field> = schema.fields().iter().zip(&names).map(field).collect();
    let schema_of_table = Arc::new(Schema::new(fields));
    let table = PartTable {
        part,
        schema: schema_of_table,
    };
    let reference = TableReference::bare(format!("part{part}"));
    let columns = schema.iter().zip(&names).map(|((of, field), name)| {
        let column = Column::new(Some(reference.clone()), name);
        Expr::Column(column).alias_qualified(of.cloned(), field.name())
    });
    LogicalPlanBuilder::scan(reference.clone(), Arc::new(table), None)?
        .project(columns)?
        .build()
}

/// The tree with the leaf in the place of what is common. What is not above that stays just what it was: what chance chooses there may
/// be common to others, too.
fn with_leaf(tree: &LogicalPlan, common: &LogicalPlan, leaf: &LogicalPlan) -> Result<LogicalPlan> {
    if are_same(tree, common) {
        return Ok(leaf.clone());
    }
    let has_common = |plan: &LogicalPlan| plan.exists(|node| Ok(are_same(node, common)));
    if !has_common(tree)? {
        return Ok(tree.clone());
    }
    let inputs = tree.inputs().into_iter();
    let inputs: Result<_> = inputs.map(|input| with_leaf(input, common, leaf)).collect();
    tree.with_new_exprs(tree.expressions(), inputs?)
}

/// Adds what the plan of these users wants of parts.
fn want(plan: &LogicalPlan, users: &BTreeSet<usize>, wanted: &mut [Wishes]) {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let Some(table) = part_of(scan) else { return };
            let all = || (0..table.schema.fields().len()).collect();
            let wanted = &mut wanted[table.part];
            let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
            wanted.columns.extend(columns);
            wanted.rows.push(conjunction(scan.filters.clone()));
            wanted.users.extend(users);
        }
        LogicalPlan::Extension(extension) => {
            if let Some(node) = extension.node.as_any().downcast_ref::<PartNode>() {
                wanted[node.part].users.extend(users);
            }
        }
        _ => {}
    }
    for input in plan.inputs() {
        want(input, users, wanted);
    }
}

/// The plan with nothing but what is wanted of it, and the columns that come out.
fn wanted_of(
    plan: &LogicalPlan,
    mut columns: BTreeSet<usize>,
    rows: Vec<Option<Expr>>,
) -> Result<(LogicalPlan, KnownColumns)> {
    if is_open(plan) {
        return Ok((plan.clone(), None));
    }
    let (schema, names) = (plan.schema(), names_of(plan.schema()));
    if columns.is_empty() {
        // Rows are counted, and a block without columns has none.
        columns.extend((0..names.len()).take(1));
    }
    let mut builder = LogicalPlanBuilder::from(plan.clone());
    let rows: Option<Vec<Expr>> = rows.into_iter().collect();
    if let Some(any) = rows.and_then(disjunction) {
        builder = builder.filter(below(any, schema, &names)?)?;
    }
    if columns.len() < names.len() {
        let column = |&index: &usize| {
            let column = Expr::Column(Column::from(schema.qualified_field(index)));
            if *schema.field(index).name() == names[index] {
                column
            } else {
                column.alias(&names[index])
            }
        };
        builder = builder.project(columns.iter().map(column))?;
    }
    let columns = columns.into_iter();
    let columns = columns.map(|index| (index, names[index].clone())).collect();
    Ok((builder.build()?, Some(columns)))
}

/// An expression over a leaf as one over what the leaf stands for.
fn below(expr: Expr, schema: &DFSchema, names: &[String]) -> Result<Expr, DataFusionError> {
    let named = expr.transform(|node| {
        Ok(match node {
            Expr::Column(column) => {
                let index = names.iter().position(|name| *name == column.name);
                let own = index.map(|index| Column::from(schema.qualified_field(index)));
                Transformed::yes(Expr::Column(own.unwrap_or(column)))
            }
            other => Transformed::no(other),
        })
    });
    Ok(named?.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Dataset;
    use crate::testing::{test_map, write_file};

    fn shared(datasets: &[&Dataset]) -> SharedPlans {
        let plans = datasets.iter().map(|dataset| dataset.plan().clone());
        SharedPlans::of(plans.collect(), &FailurePolicy::default()).expect("plans")
    }

    fn files() -> (tempfile::TempDir, Dataset) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_file(&folder.path().join("a.parquet"), 0, 200, 50);
        let paths = [folder.path().display().to_string()];
        let files = Dataset::read_parquet(&paths).expect("reads footers");
        (folder, files)
    }

    /// PLAN-1 (projection-prunes) and PLAN-2 hold for what is shared: what anybody wants is read, and nothing else.
    #[test]
    fn files_are_read_once_with_what_anybody_wants() {
        let (_folder, files) = files();
        let small = files.filter("id < 10").expect("plans");
        let small = small.select(&["id".to_owned()]).expect("plans");
        let large = files.filter("id > 190").expect("plans");
        let large = large.select(&["id".to_owned()]).expect("plans");
        let found = shared(&[&small, &large]);
        assert_eq!(found.parts.len(), 1);
        let part = &found.parts[0];
        assert_eq!(part.columns, Some(vec![(0, "id".to_owned())]));
        assert_eq!(part.users, BTreeSet::from([0, 1]));
        let text = part.plan.display_indent().to_string();
        assert!(text.contains("projection=[id]"), "{text}");
        assert!(text.contains("< Int64(10) OR"), "{text}");
        // Whoever takes all takes all.
        let part = &shared(&[&small, &files]).parts[0];
        assert_eq!(part.columns.as_ref().map(Vec::len), Some(3));
        let text = part.plan.display_indent().to_string();
        assert!(!text.contains("Int64(10)"), "{text}");
    }

    #[test]
    fn parts_of_parts_are_found() {
        let (_folder, files) = files();
        let mapped = files.map(test_map("same")).expect("plans");
        let again = mapped.map(test_map("again")).expect("plans");
        let limited = again.limit(3).expect("plans");
        let found = shared(&[&files, &mapped, &again, &limited]);
        let texts: Vec<String> = found
            .parts
            .iter()
            .map(|part| part.plan.display_indent().to_string().replace("\n ", ""))
            .collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(
            texts[0].contains("again") && texts[0].contains("Part 1"),
            "{texts:?}"
        );
        assert!(
            texts[1].contains("same") && texts[1].contains("part2"),
            "{texts:?}"
        );
        assert_eq!(found.parts[2].users, BTreeSet::from([0, 1, 2, 3]));
    }

    #[test]
    fn what_chance_chose_once_is_one_and_what_it_chose_twice_is_two() {
        let (_folder, files) = files();
        let one = files.sample(0.5, None).expect("plans");
        let limited = one.limit(3).expect("plans");
        let part = |found: &SharedPlans| found.parts[0].plan.display_indent().to_string();
        assert!(part(&shared(&[&one, &limited])).contains("Sample"));
        // Also where something larger is found first.
        let mapped = one.map(test_map("same")).expect("plans");
        let limited = mapped.limit(3).expect("plans");
        let found = shared(&[&mapped, &limited, &one]);
        let texts = found
            .parts
            .iter()
            .map(|part| part.plan.display_indent().to_string());
        let with_sample = texts.filter(|text| text.contains("Sample")).count();
        let plans = found
            .plans
            .iter()
            .map(|plan| plan.display_indent().to_string());
        let others = plans.filter(|text| text.contains("Sample")).count();
        assert_eq!((with_sample, others), (1, 0));
        let other = files.sample(0.5, None).expect("plans");
        assert!(!part(&shared(&[&one, &other])).contains("Sample"));
    }

    #[test]
    fn tables_that_only_look_alike_are_two() {
        let (_one, files) = files();
        let (_other, others) = self::files();
        assert_eq!(shared(&[&files, &others]).parts.len(), 0);
        let numbers = Dataset::range(10).expect("plans");
        assert_eq!(
            shared(&[&numbers, &numbers]).parts.len(),
            0,
            "nothing is read"
        );
    }
}
