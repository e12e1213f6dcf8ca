//! How many rows come to an expectation at most, and whether those that a limit takes.

use super::kept_rows::FunctionKey;
use super::operators_of;
use crate::graph::{Fragment, JobPlan, Operator, StagePlan};

/// No more rows come than these, if these functions give no more rows than they get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowBound {
    pub(super) rows: RowSource,
    pub(super) functions: Vec<FunctionKey>,
}

/// Where rows come from that nothing on the way makes more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowSource {
    /// All sources of the job.
    Sources,
    /// Limits, which let so many pass.
    Limits(u64),
}

/// What is known of the rows that come to an operator of a stage; nothing where a step before may make more rows of those that it gets,
/// and no function that may be seen not to.
pub(super) fn most_before(job: &JobPlan, stage: usize, operator: u32) -> Vec<RowBound> {
    let own = &job.stages[stage];
    let before = usize::try_from(operator).unwrap_or(usize::MAX);
    let functions = match &own.group {
        // Its stages run in one plan: those before are among them.
        Some(_) => functions_of_group(own),
        None => functions_among(stage, operators_of(own).take(before)),
    };
    with_functions(coming(job, stage), functions)
}

/// The same of what leaves a stage. Rows that go several ways may meet again.
fn most_behind(job: &JobPlan, stage: usize) -> Vec<RowBound> {
    let own = &job.stages[stage];
    let functions = match &own.group {
        Some(_) => functions_of_group(own),
        None => functions_among(stage, operators_of(own)),
    };
    let mut all = with_functions(coming(job, stage), functions);
    if job.edges_from(stage).count() != 1 {
        all.retain(|most| most.rows != RowSource::Sources);
    }
    if let Some(limit) = own.row_limit {
        all.retain(|most| most.rows == RowSource::Sources);
        all.push(RowBound {
            rows: RowSource::Limits(limit),
            functions: Vec::new(),
        });
    }
    all
}

/// The same of what comes to a stage.
fn coming(job: &JobPlan, stage: usize) -> Vec<RowBound> {
    let feeds: Vec<Vec<RowBound>> = job
        .edges_to(stage)
        .map(|edge| most_behind(job, edge.from))
        .collect();
    let of = |is_it: fn(&RowSource) -> bool| -> Option<Vec<RowBound>> {
        let feeds = feeds.iter();
        let found = feeds.map(|feed| feed.iter().find(|most| is_it(&most.rows)).cloned());
        found.collect()
    };
    let functions = |feeds: Vec<RowBound>| -> Vec<FunctionKey> {
        feeds.into_iter().flat_map(|most| most.functions).collect()
    };
    let from_sources = of(|rows| *rows == RowSource::Sources).map(|feeds| RowBound {
        rows: RowSource::Sources,
        functions: functions(feeds),
    });
    let from_limits = of(|rows| *rows != RowSource::Sources).filter(|feeds| !feeds.is_empty());
    let from_limits = from_limits.map(|feeds| {
        let limits = feeds.iter().map(|most| match most.rows {
            RowSource::Limits(rows) => rows,
            RowSource::Sources => u64::MAX,
        });
        RowBound {
            rows: RowSource::Limits(limits.fold(0, u64::saturating_add)),
            functions: functions(feeds),
        }
    });
    from_sources.into_iter().chain(from_limits).collect()
}

fn with_functions(mut all: Vec<RowBound>, functions: Option<Vec<FunctionKey>>) -> Vec<RowBound> {
    let Some(functions) = functions else {
        return Vec::new();
    };
    for most in &mut all {
        most.functions.extend(&functions);
    }
    all
}

/// The functions among operators that may make more rows; `None`: another step may.
fn functions_among<'a>(
    stage: usize,
    operators: impl Iterator<Item = Option<&'a Operator>>,
) -> Option<Vec<FunctionKey>> {
    let mut functions = Vec::new();
    for (number, operator) in (0..).zip(operators) {
        match operator {
            Some(operator) if !never_multiplies(operator) => {
                let is_function = matches!(operator, Operator::Map(_));
                is_function.then(|| functions.push((stage, number)))?;
            }
            _ => {}
        }
    }
    Some(functions)
}

/// None, as what its threads have in work is not told apart by inputs; `None`: a step may make more rows.
fn functions_of_group(stage: &StagePlan) -> Option<Vec<FunctionKey>> {
    let stages = stage.group.iter().flat_map(|group| &group.stages);
    let mut operators = stages.flat_map(operators_of).flatten();
    operators.all(never_multiplies).then(Vec::new)
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
