//! Where jobs are cut into legs.

use super::legs::{KeptFunctions, LegTable, Legs};
use super::{JobPlan, StagePlan, plan_job, plan_outputs, plan_to_identify};
use crate::graph::{JobOutput, JoinKind, RangeKey};
use crate::plan::{
    Compute, Dataset, Expectation, Expression, FailurePolicy, MapSpec, MostViolations,
    RepartitionBy,
};
use crate::sinks::{ParquetOutput, Sink};
use crate::testing::test_map;

const EXPENSIVE: KeptFunctions = KeptFunctions::Expensive;

fn numbers() -> Dataset {
    Dataset::range(100).expect("plans")
}

fn model(dataset: &Dataset, name: &str) -> Dataset {
    let compute = Compute::actors();
    let map = MapSpec {
        compute,
        ..test_map(name)
    };
    dataset.map(map).expect("plans")
}

fn cheap(dataset: &Dataset) -> Dataset {
    dataset.map(test_map("cheap")).expect("plans")
}

fn sorted(dataset: &Dataset) -> Dataset {
    let key = RangeKey {
        column: "id".to_owned(),
        is_descending: false,
        has_nulls_first: false,
    };
    dataset.sort(vec![key]).expect("plans")
}

fn job(dataset: &Dataset) -> JobPlan {
    plan_job(dataset, &sink()).expect("can be cut")
}

fn sink() -> Sink {
    Sink::Parquet(ParquetOutput::new("/out", "p"))
}

fn legs(dataset: &Dataset, kept: KeptFunctions) -> Option<Legs> {
    checked(&job(dataset), kept)
}

fn checked(job: &JobPlan, kept: KeptFunctions) -> Option<Legs> {
    let legs = job.legs(kept, false).ok()?;
    let last = &legs.last.job;
    last.check().expect("can be carried out");
    Some(legs)
}

/// The stages of each leg, and which legs it reads.
fn layout(dataset: &Dataset, kept: KeptFunctions) -> Vec<(String, Vec<usize>)> {
    legs(dataset, kept).map_or_else(Vec::new, |legs| layout_of(&legs))
}

fn layout_of(legs: &Legs) -> Vec<(String, Vec<usize>)> {
    let all = legs.before.iter().chain([&legs.last]);
    all.map(|leg| {
        let names: Vec<String> = leg.job.stages.iter().map(StagePlan::name).collect();
        (names.join(" + "), leg.reads.iter().copied().collect())
    })
    .collect()
}

fn leg(stages: &str, reads: &[usize]) -> (String, Vec<usize>) {
    (stages.to_owned(), reads.to_vec())
}

#[test]
fn models_before_and_behind_a_sort_have_legs_of_their_own() {
    let ds = model(&sorted(&model(&numbers(), "first")), "second");
    let wanted = [
        leg("Read->first", &[]),
        leg("Read + Sort", &[0]),
        leg("Read->second->Write", &[1]),
    ];
    assert_eq!(layout(&ds, EXPENSIVE), wanted);
}

#[test]
fn where_no_model_is_nothing_is_kept_unless_somebody_wants_it() {
    let ds = sorted(&cheap(&numbers()));
    assert_eq!(layout(&ds, EXPENSIVE), []);
    assert_eq!(layout(&sorted(&numbers()), KeptFunctions::All), []);
    let wanted = [leg("Read->cheap", &[]), leg("Read + Sort->Write", &[0])];
    assert_eq!(layout(&ds, KeptFunctions::All), wanted);
    // Nothing meets.
    assert_eq!(layout(&model(&numbers(), "first"), EXPENSIVE), []);
}

#[test]
fn cheap_functions_behind_a_meeting_are_called_again() {
    let ds = model(&cheap(&sorted(&numbers())), "second");
    let first = layout(&ds, EXPENSIVE).swap_remove(0);
    assert_eq!(first, leg("Read + Sort", &[]));
}

#[test]
fn both_sides_of_a_join_are_legs() {
    let (left, right) = (model(&numbers(), "left"), model(&numbers(), "right"));
    let union = left.union(&[&right]).expect("plans");
    let found = layout(&union, EXPENSIVE);
    assert_eq!(
        found[..2],
        [leg("Read->left", &[]), leg("Read->right", &[])]
    );
    assert_eq!(found[2].1, [0, 1]);
    assert_eq!(JoinKind::parse("inner"), Some(JoinKind::Inner));
}

#[test]
fn partitions_that_somebody_wants_are_inputs_as_a_whole() {
    let ds = numbers()
        .repartition(4, RepartitionBy::Place)
        .expect("plans");
    let legs = legs(&model(&ds, "second"), EXPENSIVE).expect("is cut");
    let tables: Vec<bool> = legs
        .last
        .job
        .stages
        .iter()
        .filter_map(LegTable::of)
        .map(|table| table.is_by_file)
        .collect();
    assert_eq!(tables, [true]);
}

#[test]
fn limit_on_the_way_is_no_leg() {
    let ds = sorted(&model(&numbers(), "first").limit(5).expect("plans"));
    assert_eq!(layout(&ds, EXPENSIVE), []);
}

#[test]
fn shuffles_without_a_seed_are_the_same_job_and_samples_are_not() {
    let identity = |dataset: &Dataset| {
        let output = JobOutput::new(dataset.clone(), sink());
        let job = plan_to_identify(&[output], &FailurePolicy::default()).expect("can be cut");
        job.identity(false, EXPENSIVE).expect("is known")
    };
    let mapped = model(&numbers(), "first");
    let shuffled = |seed| identity(&mapped.shuffle(seed).expect("plans"));
    assert_eq!(shuffled(None), shuffled(None));
    assert_ne!(shuffled(None), shuffled(Some(1)));
    let sampled = || identity(&sorted(&mapped.sample(0.5, None).expect("plans")));
    assert_ne!(sampled(), sampled());
}

fn legs_together(datasets: &[Dataset]) -> Vec<(String, Vec<usize>)> {
    let outputs = datasets.iter().enumerate().map(|(number, dataset)| {
        let output = ParquetOutput::new(format!("/out/{number}"), "p");
        JobOutput::new(dataset.clone(), Sink::Parquet(output))
    });
    let outputs: Vec<JobOutput> = outputs.collect();
    let job = plan_outputs(&outputs, &FailurePolicy::default()).expect("can be cut");
    checked(&job, EXPENSIVE).map_or_else(Vec::new, |legs| layout_of(&legs))
}

/// What is for one of them alone is a leg, too: all of them are written as a whole.
#[test]
fn outputs_that_share_a_model_read_its_leg() {
    let first = model(&numbers(), "first");
    let found = legs_together(&[sorted(&first), model(&first, "second")]);
    let [shared, own, last] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(*shared, leg("Read->first", &[]));
    assert_eq!(*own, leg("Read->second", &[0]));
    assert_eq!(last.1, [0, 1], "{found:?}");
    // Nothing meets: they go on together as they are.
    assert_eq!(legs_together(&[first.clone(), model(&first, "second")]), []);
}

#[test]
fn expectations_are_judged_in_legs_but_for_those_behind_the_first_stage() {
    let expected = |dataset: &Dataset| {
        let expectation = Expectation {
            name: "few".to_owned(),
            expression: Expression::from("id >= 0"),
            most: MostViolations::Rows(0),
            only_warns: false,
        };
        dataset.expect(expectation).expect("plans")
    };
    let first = model(&numbers(), "first");
    let found = layout(&expected(&sorted(&expected(&first))), EXPENSIVE);
    assert_eq!(found.len(), 2, "{found:?}");
    let second = model(&first, "second");
    let refused = job(&sorted(&expected(&second))).legs(EXPENSIVE, false);
    let why = refused.err().flatten().expect("is told");
    assert!(why.contains("it has several stages, and expect()"), "{why}");
    // Behind the meeting it is judged in the leg that makes that.
    let found = layout(&sorted(&second), EXPENSIVE);
    let behind = layout(&expected(&sorted(&second)), EXPENSIVE);
    assert_eq!((found.len(), behind.len()), (2, 2));
}
