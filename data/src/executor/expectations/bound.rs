//! Whether no more rows come to an expectation than the sources have.

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

fn never_multiplies(operator: &Operator) -> bool {
    match operator {
        Operator::Map(call) => call.keeps_rows || call.is_mask,
        Operator::Relational(work) => !matches!(work, Fragment::Join(_)),
        _ => true,
    }
}
