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
    let legs = job.legs(kept, false)?;
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

/// What comes first is something else in every run: so it is kept, whether functions are before or behind it.
#[test]
fn rows_that_a_limit_lets_through_are_a_leg() {
    let few = |dataset: &Dataset, rows| dataset.limit(rows).expect("plans");
    let filtered = numbers().filter("id > 3").expect("plans");
    let before = leg("Read->first + Pass", &[]);
    let sort = sorted(&few(&model(&numbers(), "first"), 5));
    let wanted = [before.clone(), leg("Read + Sort->Write", &[0])];
    assert_eq!(layout(&sort, EXPENSIVE), wanted);
    let twice = few(&model(&few(&model(&numbers(), "first"), 5), "second"), 3);
    let wanted = [before.clone(), leg("Read->second + Write", &[0])];
    assert_eq!(layout(&twice, EXPENSIVE), wanted);
    let behind = model(&few(&filtered, 5), "second");
    let wanted = [
        leg("Read->Filter + Pass", &[]),
        leg("Read->second->Write", &[0]),
    ];
    assert_eq!(layout(&behind, EXPENSIVE), wanted);
    let shuffled = few(&model(&numbers(), "first"), 5).shuffle(None);
    let found = layout(&shuffled.expect("plans"), EXPENSIVE);
    assert_eq!(found[0], before);
    // Both sides of a union: each has a limit of its own.
    let side = |name| few(&model(&numbers(), name), 5);
    let union = side("left").union(&[&side("right")]).expect("plans");
    let found = layout(&union, EXPENSIVE);
    let sides = ["left", "right"].map(|name| leg(&format!("Read->{name} + Pass"), &[]));
    assert_eq!(found[..2], sides);
    // Those of files count against the limit, and cheap ones are made again.
    assert_eq!(layout(&few(&model(&numbers(), "first"), 5), EXPENSIVE), []);
    assert_eq!(layout(&sorted(&few(&cheap(&filtered), 5)), EXPENSIVE), []);
}

/// A leg behind whose limit nothing is but its files goes on where it was.
#[test]
fn leg_of_a_limit_goes_on_by_its_inputs() {
    let filtered = numbers().filter("id > 3").expect("plans");
    let limited = model(&filtered, "first").limit(5).expect("plans");
    let mut legs = legs(&sorted(&limited), EXPENSIVE).expect("is cut");
    let leg = &mut legs.before[0].job;
    assert_eq!(leg.fault(false), None);
    assert!(!leg.lower_limit(3));
    assert_eq!(leg.stages[0].row_limit, Some(2));
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
fn expectations_are_judged_in_the_legs_that_they_are_in() {
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
    let legs = legs(&sorted(&expected(&second)), EXPENSIVE).expect("is cut");
    let first_leg = &legs.before[0].job;
    assert_eq!((first_leg.stages.len(), first_leg.fault(false)), (2, None));
    // Behind the meeting it is judged in the leg that makes that.
    let found = layout(&sorted(&second), EXPENSIVE);
    let behind = layout(&expected(&sorted(&second)), EXPENSIVE);
    assert_eq!((found.len(), behind.len()), (2, 2));
}
