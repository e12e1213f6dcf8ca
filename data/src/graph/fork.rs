//! What plans say more than once after the rules is done once: its rows go along several edges.
//!
//! A dataset that is joined with itself, a table or a `WITH` that a query names twice, a function whose rows two branches filter
//! and a union brings together: as long as the rules of the engine leave both occurrences alike, they are one stage. Where they push
//! other filters or columns into two readings of a file, these stay two, since each reads less than both together.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use datafusion_common::tree_node::TreeNode;
use datafusion_expr::{LogicalPlan, TableSource};

use crate::plan::{has_work, is_by_chance};

/// The parts of a plan that it has more than once, and what has become of them.
#[derive(Default)]
pub(super) struct Forks {
    parts: Vec<SharedPart>,
}

struct SharedPart {
    plan: LogicalPlan,
    /// The stage that gives its rows, and their number; `None`: it was not cut yet.
    made: Option<(usize, Option<u64>)>,
}

impl Forks {
    /// Those of `plans`: the largest, and of these no parts.
    pub(super) fn of(plans: &[&LogicalPlan]) -> Self {
        let (mut seen, mut forks) = (Vec::new(), Self::default());
        plans.iter().for_each(|plan| forks.look(plan, &mut seen));
        forks
    }

    fn look<'a>(&mut self, plan: &'a LogicalPlan, seen: &mut Vec<(u64, &'a LogicalPlan)>) {
        if is_worth_it(plan) {
            let hash = hash(plan);
            let mut alike = seen.iter().filter(|(other, _)| *other == hash);
            if alike.any(|(_, other)| are_alike(plan, other)) {
                if self.part(plan).is_none() {
                    let plan = plan.clone();
                    self.parts.push(SharedPart { plan, made: None });
                }
                return;
            }
            seen.push((hash, plan));
        }
        for input in plan.inputs() {
            self.look(input, seen);
        }
    }

    /// Which of its parts the plan is.
    pub(super) fn part(&self, plan: &LogicalPlan) -> Option<usize> {
        self.parts
            .iter()
            .position(|part| are_alike(&part.plan, plan))
    }

    /// The stage that gives the rows of a part, and their number, if there is one.
    pub(super) fn made(&self, part: usize) -> Option<(usize, Option<u64>)> {
        self.parts[part].made
    }

    pub(super) fn set_made(&mut self, part: usize, stage: usize, rows: Option<u64>) {
        self.parts[part].made = Some((stage, rows));
    }

    /// Whether others get the rows of the stage too.
    pub(super) fn has(&self, stage: usize) -> bool {
        let mut made = self.parts.iter().filter_map(|part| part.made);
        made.any(|(one, _)| one == stage)
    }
}

fn hash(plan: &LogicalPlan) -> u64 {
    let mut hasher = DefaultHasher::new();
    plan.hash(&mut hasher);
    hasher.finish()
}

/// Plans are equal by the names of their tables; these must be the same, too.
fn are_alike(one: &LogicalPlan, other: &LogicalPlan) -> bool {
    let (tables, others) = (tables_of(one), tables_of(other));
    let are_same = tables.len() == others.len()
        && tables
            .iter()
            .zip(&others)
            .all(|(one, other)| Arc::ptr_eq(one, other));
    are_same && one == other
}

fn tables_of(plan: &LogicalPlan) -> Vec<Arc<dyn TableSource>> {
    match plan {
        LogicalPlan::TableScan(scan) => vec![Arc::clone(&scan.source)],
        other => other.inputs().into_iter().flat_map(tables_of).collect(),
    }
}

/// Whether something is read or computed for its rows, and both times they would be the same.
fn is_worth_it(plan: &LogicalPlan) -> bool {
    let is_drawn = |node: &LogicalPlan| {
        Ok(matches!(node, LogicalPlan::Extension(extension) if is_by_chance(extension)))
    };
    // The walk itself cannot fail.
    has_work(plan) && !plan.exists(is_drawn).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use crate::graph::{EdgeKind, JobOutput, JobPlan, StagePlan, plan_job, plan_job_apart};
    use crate::plan::{Dataset, FailurePolicy};
    use crate::sinks::Sink;
    use crate::testing::{test_map, write_file};

    fn cut(dataset: &Dataset) -> JobPlan {
        let job = plan_job(dataset, &Sink::Consumer).expect("can be cut");
        job.check().expect("can be carried out");
        job
    }

    fn names(job: &JobPlan) -> Vec<String> {
        job.stages.iter().map(StagePlan::name).collect()
    }

    fn mapped() -> Dataset {
        let numbers = Dataset::range(100).expect("plans");
        numbers.map(test_map("same")).expect("plans")
    }

    #[test]
    fn function_before_two_branches_runs_once() {
        let mapped = mapped();
        let small = mapped.filter("id < 10").expect("plans");
        let large = mapped.filter("id > 90").expect("plans");
        let both = small.union(&[&large]).expect("plans");
        let job = cut(&both);
        assert_eq!(names(&job), ["Read->same", "Filter", "Filter", "Pass"]);
        assert_eq!(job.edges_from(0).count(), 2);
        let output = JobOutput::new(both, Sink::Consumer);
        let apart = plan_job_apart(&output, &FailurePolicy::default()).expect("can be cut");
        assert_eq!(
            names(&apart),
            ["Read->same->Filter", "Read->same->Filter", "Pass"]
        );
    }

    #[test]
    fn files_that_meet_themselves_are_read_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_file(&folder.path().join("a.parquet"), 0, 200, 50);
        let paths = [folder.path().display().to_string()];
        let files = Dataset::read_parquet(&paths).expect("reads footers");
        let tables = [("t".to_owned(), files)];
        let sql = |query: &str| cut(&Dataset::sql(query, &tables).expect("plans"));
        let reads = |job: &JobPlan| {
            job.stages
                .iter()
                .filter(|stage| stage.source.is_some())
                .count()
        };
        let twice = "SELECT a.id FROM t a JOIN t b ON a.id = b.id";
        assert_eq!(reads(&sql(twice)), 1);
        let with = "WITH n AS (SELECT text, count(*) AS c FROM t GROUP BY text) \
                    SELECT x.text FROM n x JOIN n y ON x.c = y.c";
        let job = sql(with);
        let groups = names(&job)
            .iter()
            .filter(|name| name.starts_with("Aggregate"))
            .count();
        assert_eq!((reads(&job), groups), (1, 1), "{:?}", names(&job));
        // Each reads less than both together.
        let other_columns = "SELECT a.id FROM t a JOIN t b ON a.text = b.text AND a.id < 5";
        assert_eq!(reads(&sql(other_columns)), 2);
    }

    #[test]
    fn limit_of_one_branch_is_none_of_the_other() {
        let mapped = mapped();
        let first = mapped.limit(5).expect("plans");
        let job = cut(&mapped.union(&[&first]).expect("plans"));
        assert_eq!(job.stages[0].row_limit, None);
        let limits = job.stages.iter().filter_map(|stage| stage.row_limit);
        assert_eq!(limits.collect::<Vec<_>>(), [5], "{:?}", names(&job));
    }

    #[test]
    fn what_chance_chooses_twice_is_not_the_same() {
        let mapped = mapped();
        let sample = |seed| mapped.sample(0.5, seed).expect("plans");
        let job = cut(&sample(None).union(&[&sample(None)]).expect("plans"));
        assert_eq!(names(&job), ["Read->same", "Sample", "Sample", "Pass"]);
        let job = cut(&sample(Some(1)).union(&[&sample(Some(1))]).expect("plans"));
        assert_eq!(names(&job), ["Read->same->Sample", "Pass"]);
        let kinds: Vec<EdgeKind> = job.edges.iter().map(|edge| edge.kind).collect();
        assert_eq!(kinds, [EdgeKind::Forward; 2]);
    }
}
