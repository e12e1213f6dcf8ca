//! How many rows come to an expectation: whether no more than the sources have, and whether those that a limit takes.

use super::operators_of;
use crate::graph::{Fragment, JobPlan, Operator, StagePlan};

/// Whether none of the steps before makes more rows of those that it gets.
pub(super) fn never_more_than_read(job: &JobPlan, stage: usize, operator: u32) -> bool {
    let before = usize::try_from(operator).unwrap_or(usize::MAX);
    let own = &job.stages[stage];
    let is_first = match &own.group {
        // Its stages run in one plan: those before are among them.
        Some(group) => group
            .stages
            .iter()
            .flat_map(operators_of)
            .flatten()
            .all(never_multiplies),
        None => operators_of(own)
            .take(before)
            .flatten()
            .all(never_multiplies),
    };
    is_first
        && job
            .edges_to(stage)
            .all(|edge| gives_no_more(job, edge.from))
}

/// The same of all steps of a stage and of those before it, whose rows go one way only.
fn gives_no_more(job: &JobPlan, stage: usize) -> bool {
    let own = &job.stages[stage];
    let all: Vec<&StagePlan> = match &own.group {
        Some(group) => group.stages.iter().collect(),
        None => vec![own],
    };
    all.into_iter()
        .flat_map(operators_of)
        .flatten()
        .all(never_multiplies)
        && job.edges_from(stage).count() == 1
        && job
            .edges_to(stage)
            .all(|edge| gives_no_more(job, edge.from))
}

/// So many rows leave the stage at most, and every row that comes to the expectation: it has come to its end with the last one of them.
pub(super) fn most_taken(stage: &StagePlan, operator: u32) -> Option<u64> {
    // Threads of stages that run together read on.
    let is_alone = stage.group.is_none();
    let behind = usize::try_from(operator).unwrap_or(usize::MAX);
    let mut behind = stage.steps.iter().skip(behind);
    stage
        .row_limit
        .filter(|_| is_alone && behind.all(|step| step.operator.keeps_rows()))
}

fn never_multiplies(operator: &Operator) -> bool {
    match operator {
        Operator::Map(call) => call.keeps_rows || call.is_mask,
        Operator::Relational(work) => !matches!(work, Fragment::Join(_)),
        Operator::Unnest(_) => false,
        _ => true,
    }
}
