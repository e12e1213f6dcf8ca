//! Cutting what several outputs share, and what each of them has for itself.

use datafusion_expr::{LogicalPlan, TableScan, TableSource};

use super::cut::{End, StageCutter};
use super::fork::Forks;
use super::job::JobPlan;
use super::operator::Operator;
use super::output::{JobOutput, PlannedOutput, StageEnd, labels};
use crate::error::PlanError;
use crate::plan::{CommonPart, Dataset, FailurePolicy, PartTable, SharedPlans, part_of};
use crate::sinks::Sink;

/// Stands for the seeds of shuffles that nobody has given one.
const ANY_SHUFFLE: u64 = 0x616b_7469_735f_6c65;

/// Optimises `dataset` and cuts it. What it says more than once is done once.
pub fn plan_job(dataset: &Dataset, sink: &Sink) -> Result<JobPlan, PlanError> {
    let output = JobOutput::new(dataset.clone(), sink.clone());
    plan_outputs(std::slice::from_ref(&output), &FailurePolicy::default())
}

/// The same of several outputs: what they have in common is done once for all of them. `failures`: what becomes of rows that
/// functions fail for, where these do not say.
pub fn plan_outputs(outputs: &[JobOutput], failures: &FailurePolicy) -> Result<JobPlan, PlanError> {
    cut(outputs, failures, Forks::of, None)
}

/// The same, where shuffles without a seed are always the same one: what tells the job from others.
pub fn plan_to_identify(
    outputs: &[JobOutput],
    failures: &FailurePolicy,
) -> Result<JobPlan, PlanError> {
    cut(outputs, failures, Forks::of, Some(ANY_SHUFFLE))
}

/// The job of one output, where every stage gives its rows to one other: what is said twice is done twice.
pub(crate) fn plan_job_apart(
    output: &JobOutput,
    failures: &FailurePolicy,
) -> Result<JobPlan, PlanError> {
    let output = std::slice::from_ref(output);
    cut(output, failures, |_| Forks::default(), None)
}

fn cut(
    outputs: &[JobOutput],
    failures: &FailurePolicy,
    forks: fn(&[&LogicalPlan]) -> Forks,
    chance: Option<u64>,
) -> Result<JobPlan, PlanError> {
    let shared = shared(outputs, failures)?;
    // A part comes after those that it is made of.
    let parts = shared.parts.iter().rev();
    let all: Vec<&LogicalPlan> = parts.map(|part| &part.plan).chain(&shared.plans).collect();
    let mut cutter = StageCutter {
        forks: forks(&all),
        chance,
        ..StageCutter::default()
    };
    for (number, part) in shared.parts.iter().enumerate().rev() {
        let users = part.users.iter().map(|&user| outputs[user].parts);
        cutter.begin(users.max().flatten());
        cutter.visit(&part.plan)?;
        cutter.end_part(number, part);
    }
    let mut planned = Vec::with_capacity(outputs.len());
    for ((index, output), label) in outputs.iter().enumerate().zip(labels(outputs)) {
        cutter.begin(output.parts);
        cutter.visit(&shared.plans[index])?;
        cutter.end_with(StageEnd {
            sink: output.sink.clone(),
            output: index,
            label,
        });
        planned.push(PlannedOutput {
            schema: output.dataset.schema(),
            known_rows: cutter.known_rows,
        });
    }
    Ok(JobPlan {
        stages: cutter.stages,
        edges: cutter.edges,
        outputs: planned,
    })
}

/// What several outputs are made of, as text: their plans after the rules, what they share, and the stages.
pub fn explain_outputs(outputs: &[JobOutput]) -> Result<String, PlanError> {
    let failures = FailurePolicy::default();
    let shared = shared(outputs, &failures)?;
    let mut text = String::new();
    for (index, (plan, output)) in shared.plans.iter().zip(outputs).enumerate() {
        let place = output.sink.place().unwrap_or("the consumer");
        let plan = plan.display_indent();
        text.push_str(&format!("Output {index}, into {place}:\n{plan}\n"));
    }
    for (number, part) in shared.parts.iter().enumerate() {
        let users: Vec<String> = part.users.iter().map(usize::to_string).collect();
        let (users, plan) = (users.join(" and "), part.plan.display_indent());
        text.push_str(&format!("Part {number}, once for {users}:\n{plan}\n"));
    }
    let job = plan_outputs(outputs, &failures)?;
    let stages: Vec<String> = (0..job.stages.len()).map(|stage| job.line(stage)).collect();
    Ok(format!("{text}Stages:\n{}", stages.join("\n")))
}

/// The plans after the planner's rules, and what they have in common. A query is planned when it is written, too, to tell what is wrong
/// with it: that is not done anew.
fn shared(outputs: &[JobOutput], failures: &FailurePolicy) -> Result<SharedPlans, PlanError> {
    let wanted: Result<Vec<Dataset>, PlanError> = outputs.iter().map(wanted_of).collect();
    let wanted = wanted?;
    match wanted.as_slice() {
        [alone] if !alone.has_functions() => Ok(SharedPlans {
            plans: vec![alone.optimized()?],
            parts: Vec::new(),
        }),
        _ => {
            let plans = wanted.iter().map(|dataset| dataset.plan().clone());
            SharedPlans::of(plans.collect(), failures)
        }
    }
}

/// What the sink wants of the rows: who only counts wants no columns.
fn wanted_of(output: &JobOutput) -> Result<Dataset, PlanError> {
    let JobOutput { dataset, sink, .. } = output;
    if sink.wants_columns() || dataset.is_open() {
        return Ok(dataset.clone());
    }
    dataset.select(&[])
}

/// The stage that gives the rows of what several outputs share.
pub(super) struct CutPart {
    stage: usize,
    known_rows: Option<u64>,
    /// Its columns, if they are known: their places among all that there were, and their names.
    columns: Option<Vec<(usize, String)>>,
}

impl StageCutter {
    /// What is visited next begins with sources of its own, or with what has been cut.
    fn begin(&mut self, parts_wanted: Option<u64>) {
        (self.end, self.known_rows) = (End::Nothing, None);
        self.parts_wanted = parts_wanted;
    }

    /// What was visited is a part that several outputs share.
    fn end_part(&mut self, number: usize, part: &CommonPart) {
        let cut = CutPart {
            stage: self.giver(),
            known_rows: self.known_rows,
            columns: part.columns.clone(),
        };
        self.parts.insert(number, cut);
    }

    /// The rows are those of such a part.
    pub(super) fn go_on_with(&mut self, number: usize) {
        let part = &self.parts[&number];
        (self.end, self.known_rows) = (End::Stage(part.stage), part.known_rows);
    }

    /// Columns of such a part.
    pub(super) fn columns_of_part(&mut self, scan: &TableScan, table: &PartTable) {
        self.go_on_with(table.part);
        let all = self.parts[&table.part].columns.clone().unwrap_or_default();
        let Some(wanted) = &scan.projection else {
            return;
        };
        if !all.iter().map(|(place, _)| place).eq(wanted) {
            let names = wanted
                .iter()
                .map(|&place| table.schema().field(place).name().clone());
            self.step("Select", Operator::Select(names.collect()));
        }
    }

    /// Whether others get the rows of the stage too.
    pub(super) fn is_shared(&self, stage: usize) -> bool {
        self.forks.has(stage) || self.parts.values().any(|part| part.stage == stage)
    }
}

/// Whether the input is a part with just these columns.
pub(super) fn is_all_of_part(input: &LogicalPlan, names: &[String]) -> bool {
    let LogicalPlan::TableScan(scan) = input else {
        return false;
    };
    let fields = scan.projected_schema.fields().iter();
    part_of(scan).is_some() && fields.map(|field| field.name()).eq(names)
}
