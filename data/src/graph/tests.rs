//! Tests of cutting, splitting and fitting, on plans alone.

use std::sync::Arc;

use aktis_common::ids::NodeId;
use aktis_common::resources::{
    CPU, GPU, GpuDevice, NodeResources, Quantity, ResourceRequest, ResourceSet,
};
use aktis_common::scheduling::{ClusterView, NodeView};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use prost::Message;

use super::*;
use crate::plan::{
    Batching, Compute, Dataset, FailurePolicy, Kept, MapFunction, MapSpec, Produces, PythonFunction,
};
use crate::sinks::{ParquetOutput, Sink};
use crate::sources::parquet::spec::FilesPosition;
use crate::sources::{ParquetTable, RangeTable, RowWork, Split, SplitOptions, of_table};

use crate::storage::{DataFile, FileFooter, PathColumns, RowGroupInfo, StoreSpec};

fn map(name: &str, compute: Compute) -> MapSpec {
    MapSpec {
        name: name.to_owned(),
        function: MapFunction::Python(PythonFunction {
            definition: Bytes::new(),
            captured: None,
        }),
        reads: None,
        keeps: Kept::Nothing,
        produces: Produces::Unknown,
        keeps_rows: false,
        batch_rows: None,
        window_rows: 0,
        compute,
        failures: FailurePolicy::default(),
        cache: None,
        batching: Batching::default(),
    }
}

fn units(cpus: i64, gpus: i64) -> ResourceSet {
    let gpus = Quantity::from_whole(gpus);
    ResourceSet::new()
        .with(CPU, Quantity::from_whole(cpus))
        .with(GPU, gpus)
}

fn request(cpus: i64, gpus: i64) -> ResourceRequest {
    ResourceRequest::new(units(cpus, gpus), 0).expect("makes sense")
}

fn gpu_actors() -> Compute {
    Compute::actors().with_resources(request(0, 1))
}

fn chain(maps: Vec<MapSpec>) -> Dataset {
    maps.into_iter()
        .fold(Dataset::range(1000).expect("plans"), |dataset, map| {
            dataset.map(map).expect("maps")
        })
}

fn stage_names(dataset: &Dataset, sink: &Sink) -> Vec<String> {
    let job = plan_job(dataset, sink).expect("plans");
    job.check().expect("can be carried out");
    job.stages.iter().map(StagePlan::name).collect()
}

fn folder() -> Sink {
    Sink::Parquet(ParquetOutput::new("/out", "p"))
}

#[test]
fn reading_mapping_and_writing_are_one_stage() {
    let dataset = chain(vec![map("A", Compute::tasks()), map("B", Compute::tasks())]);
    assert_eq!(stage_names(&dataset, &folder()), ["Read->A->B->Write"]);
    let model = chain(vec![map("Model", gpu_actors())]);
    assert_eq!(stage_names(&model, &folder()), ["Read->Model->Write"]);
}

#[test]
fn function_joins_a_model_of_the_same_resources_but_models_stay_apart() {
    let dataset = chain(vec![
        map("Prepare", Compute::tasks()),
        map("Small", Compute::actors()),
        map("Large", gpu_actors()),
        map("Tidy", Compute::tasks()),
    ]);
    let names = stage_names(&dataset, &Sink::Consumer);
    assert_eq!(names, ["Read->Prepare->Small", "Large", "Tidy"]);
}

#[test]
fn limit_that_only_the_executor_can_count_ends_a_stage() {
    let dataset = chain(vec![map("A", Compute::tasks())])
        .limit(10)
        .expect("limits");
    let dataset = dataset.map(map("B", Compute::tasks())).expect("maps");
    let job = plan_job(&dataset, &folder()).expect("plans");
    assert_eq!(job.stages.len(), 2);
    assert_eq!(job.stages[0].row_limit, Some(10));
}

#[test]
fn limit_over_a_source_is_cut_from_the_splits() {
    let dataset = Dataset::range(1000)
        .expect("plans")
        .limit(10)
        .expect("limits");
    let job = plan_job(&dataset, &Sink::Consumer).expect("plans");
    assert_eq!(
        (
            job.stages.len(),
            job.stages[0].row_limit,
            job.outputs[0].known_rows
        ),
        (1, None, Some(10))
    );
    let source = job.stages[0].source.as_ref().expect("begins here");
    assert_eq!((source.row_limit, source.filters.len()), (Some(10), 0));
    let table = source.table.as_deref().expect("has rows");
    let splits = of_table(table)
        .expect("is registered")
        .splits(10, options(2));
    assert_eq!(splits.iter().map(|split| split.rows).sum::<u64>(), 10);
}

fn options(workers: usize) -> SplitOptions {
    SplitOptions {
        workers,
        batch_rows: None,
        window_rows: 0,
        parts: None,
        is_spread: false,
        work: RowWork::Function,
    }
}

fn files(groups: &[(u64, u64)]) -> ParquetTable {
    let footer = |index: usize| FileFooter {
        file: DataFile {
            path: format!("/data/{index}.parquet"),
            size_bytes: 1,
            version: 0,
        },
        schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)])),
        row_groups: groups
            .iter()
            .map(|&(rows, bytes)| RowGroupInfo {
                rows,
                bytes,
                start: 0,
                end: 0,
            })
            .collect(),
    };
    ParquetTable::new(
        StoreSpec::default(),
        vec![footer(0), footer(1)],
        PathColumns::default(),
    )
    .expect("one schema")
}

fn cut_splits(table: &ParquetTable, options: SplitOptions) -> Vec<Split> {
    of_table(table)
        .expect("is registered")
        .splits(u64::MAX, options)
}

/// Every row of every row group once, in order.
fn assert_complete(splits: &[Split], groups: &[(u64, u64)]) {
    let mut expected = Vec::new();
    for file in 0..2 {
        for (group, &(rows, _)) in groups.iter().enumerate() {
            expected
                .extend((0..rows).map(|row| (format!("/data/{file}.parquet"), group as u32, row)));
        }
    }
    let parts = splits.iter().flat_map(|split| {
        let position = FilesPosition::decode(split.position.clone());
        position.expect("was encoded by the source").parts
    });
    let actual: Vec<_> = parts
        .flat_map(|part| {
            (part.first_row..part.first_row + part.rows)
                .map(move |row| (part.path.clone(), part.row_group, row))
        })
        .collect();
    assert_eq!(actual, expected);
}

#[test]
fn splits_cover_every_row_once_and_keep_all_workers_busy() {
    for groups in [
        vec![(100, 100 << 20)],
        vec![(1000, 1000), (7, 7)],
        vec![(10_000, 30 << 20); 4],
        vec![(3, 1), (0, 0), (5, 1)],
    ] {
        for workers in [1, 2, 7] {
            let splits = cut_splits(&files(&groups), options(workers));
            assert_complete(&splits, &groups);
            let rows: u64 = groups.iter().map(|group| 2 * group.0).sum();
            assert!(
                splits.len() as u64 >= rows.min(workers as u64),
                "{} splits",
                splits.len()
            );
        }
    }
}

#[test]
fn splits_hold_whole_batches() {
    let wanted = SplitOptions {
        batch_rows: Some(64),
        ..options(2)
    };
    let groups = [(1000, 1000)];
    let splits = cut_splits(&files(&groups), wanted);
    assert_complete(&splits, &groups);
    let (last, others) = splits.split_last().expect("there are splits");
    assert!(
        others.iter().all(|split| split.rows % 64 == 0),
        "{splits:?}"
    );
    assert!(last.rows <= others[0].rows);
}

/// The last one of a worker that is ten times slower than the others is a small part of its share. Row groups are not cut more
/// finely than for functions: whoever reads the middle passes over what comes before.
#[test]
fn models_get_smaller_splits_than_functions_where_that_costs_nothing() {
    let of_model = |workers| SplitOptions {
        work: RowWork::Model,
        ..options(workers)
    };
    let rows = |splits: Vec<Split>| splits.iter().map(|split| split.rows).max();
    let numbers = RangeTable::new(800);
    let of_range = |options| {
        of_table(&numbers)
            .expect("is registered")
            .splits(u64::MAX, options)
    };
    assert_eq!(rows(of_range(of_model(8))), Some(4));
    assert_eq!(rows(of_range(options(8))), Some(25));
    let large = files(&[(400, 1 << 20)]);
    assert_eq!(
        rows(cut_splits(&large, of_model(8))),
        rows(cut_splits(&large, options(8)))
    );
    let small = files(&[(5, 1 << 10); 80]);
    assert_eq!(rows(cut_splits(&small, of_model(8))), Some(5));
    assert_eq!(rows(cut_splits(&small, options(8))), Some(25));
}

#[test]
fn rows_for_one_window_are_not_cut_further() {
    let wanted = SplitOptions {
        batch_rows: Some(512),
        window_rows: 4096,
        ..options(1)
    };
    assert_eq!(cut_splits(&files(&[(1000, 1 << 20)]), wanted).len(), 1);
}

fn node(cpus: i64, gpus: i64) -> NodeView {
    NodeView {
        id: NodeId::random(),
        resources: NodeResources::new(units(cpus, gpus), Vec::new(), [].into()),
    }
}

fn view(cpus: i64, gpus: i64) -> ClusterView {
    ClusterView::new(vec![node(cpus, gpus)])
}

#[test]
fn impossible_request_names_what_is_missing() {
    let dataset = chain(vec![map(
        "Model",
        Compute::actors().with_resources(request(1, 2)),
    )]);
    let job = plan_job(&dataset, &Sink::Consumer).expect("plans");
    let error = fit(job, &view(8, 1)).expect_err("there is one GPU");
    let text = error.to_string();
    assert!(
        text.contains("Model")
            && text.contains("2 GPU")
            && text.contains("no node has more than 1"),
        "{text}"
    );
}

#[test]
fn stage_for_a_node_that_was_lost_lately_is_planned_with_it() {
    let gpu = map("Model", Compute::actors().with_resources(request(1, 1)));
    let job = plan_job(&chain(vec![gpu]), &Sink::Consumer).expect("plans");
    let alive = view(8, 0);
    let (_, planned) =
        fit_with_lost(job.clone(), alive.clone(), &[node(4, 2)]).expect("it may come back");
    assert_eq!(planned.nodes().len(), 2);
    let error = fit_with_lost(job, alive.clone(), &[node(4, 0)]).expect_err("never there");
    assert!(
        error.to_string().contains("no node has more than 0"),
        "{error}"
    );
    let cpu = map("Model", Compute::actors().with_resources(request(1, 0)));
    let job = plan_job(&chain(vec![cpu]), &Sink::Consumer).expect("plans");
    let (_, planned) = fit_with_lost(job, alive.clone(), &[node(4, 2)]).expect("fits");
    assert_eq!(planned, alive, "what fits now waits for nobody");
}

#[test]
fn job_that_waits_for_the_impossible_is_planned_with_a_node_that_can_take_it() {
    let gpu = map("Model", Compute::actors().with_resources(request(1, 1)));
    let job = plan_job(&chain(vec![gpu]), &Sink::Consumer).expect("plans");
    let awaited = awaited_nodes(&job.stages);
    let (_, planned) = fit_with_lost(job, view(8, 0), &awaited).expect("it waits");
    assert_eq!(planned.nodes().len(), 2);
}

#[test]
fn device_memory_that_no_gpu_has_is_named() {
    let wanted = ResourceRequest::new(ResourceSet::new(), 24 << 30).expect("makes sense");
    let model = map("Model", Compute::actors().with_resources(wanted));
    let job = plan_job(&chain(vec![model]), &Sink::Consumer).expect("plans");
    let with_gpu = |bytes| {
        let gpus = vec![GpuDevice::new(0, bytes)];
        let resources = NodeResources::new(units(8, 1), gpus, [].into());
        ClusterView::new(vec![NodeView {
            id: NodeId::random(),
            resources,
        }])
    };
    let error = fit(job.clone(), &with_gpu(16 << 30)).expect_err("is too small");
    assert_eq!(
        error.to_string(),
        "Read->Model: each worker needs 24 GiB of GPU memory, but no GPU has more than 16 GiB"
    );
    fit(job.clone(), &with_gpu(24 << 30)).expect("fits");
    let awaited = awaited_nodes(&job.stages);
    fit_with_lost(job, with_gpu(16 << 30), &awaited).expect("it waits for a larger one");
}

#[test]
fn neighbours_share_workers_where_there_is_no_room_for_both() {
    let dataset = chain(vec![
        map("A", Compute::actors()),
        map("B", Compute::actors()),
    ]);
    let job = plan_job(&dataset, &Sink::Consumer).expect("plans");
    assert_eq!(job.stages.len(), 2);
    assert_eq!(fit(job.clone(), &view(2, 0)).expect("fits").stages.len(), 2);
    let merged = fit(job, &view(1, 0)).expect("fits");
    merged.check().expect("can be carried out");
    assert_eq!(merged.stages.len(), 1);
    assert_eq!(merged.stages[0].steps.len(), 2);
}

#[test]
fn reading_needs_no_processor_of_its_own() {
    let job = plan_job(&Dataset::range(10).expect("plans"), &folder()).expect("plans");
    let fitted = fit(job, &view(0, 0)).expect("fits");
    assert!(fitted.stages[0].compute.resources.is_empty());
}

#[test]
fn merging_in_the_middle_keeps_the_other_edges() {
    let maps = vec![
        map("A", Compute::actors()),
        map("B", Compute::actors()),
        map("C", gpu_actors()),
    ];
    let job = plan_job(&chain(maps), &Sink::Consumer).expect("plans");
    assert_eq!(job.edges, [Edge::forward(0, 1), Edge::forward(1, 2)]);
    let merged = fit(job, &view(1, 1)).expect("fits");
    merged.check().expect("can be carried out");
    let names: Vec<String> = merged.stages.iter().map(StagePlan::name).collect();
    assert_eq!(names, ["Read->A->B", "C"]);
    assert_eq!(merged.edges, [Edge::forward(0, 1)]);
}

/// A source, something behind it, and a sink.
fn three_stages() -> JobPlan {
    let maps = vec![
        map("A", Compute::actors()),
        map("B", Compute::actors()),
        map("C", gpu_actors()),
    ];
    plan_job(&chain(maps), &Sink::Consumer).expect("plans")
}

fn by_chance(partitions: u32) -> Partitioner {
    let by = PartitionBy::Random { seed: 7 };
    Partitioner { partitions, by }
}

fn edge(from: usize, to: usize, kind: EdgeKind) -> Edge {
    Edge { from, to, kind }
}

/// What makes a graph wrong, and what is said of it.
type Wrong = (fn(&mut JobPlan), &'static str);

#[test]
fn graph_that_is_none_is_refused_by_name() {
    let exchange = |partitions| EdgeKind::Exchange { partitions };
    let cases: [Wrong; 9] = [
        (
            |job| job.stages[0].end = job.stages[2].end.clone(),
            "2 sinks",
        ),
        (|job| job.stages[2].end = None, "0 sinks"),
        (
            |job| job.edges[0] = edge(1, 0, EdgeKind::Forward),
            "Read->A comes before",
        ),
        (
            |job| job.edges.truncate(1),
            "B has neither a sink nor stages",
        ),
        (
            |job| job.edges.push(edge(0, 2, EdgeKind::GATHER)),
            "C has forward edges beside exchanges",
        ),
        (
            |job| job.edges[1].kind = EdgeKind::Broadcast,
            "C has nothing to begin its inputs with",
        ),
        (
            |job| job.stages[1].partitioner = Some(by_chance(0)),
            "B tells rows apart by no partition",
        ),
        (
            |job| {
                job.stages[1].partitioner = Some(by_chance(2));
                job.stages[1].row_limit = Some(7);
            },
            "B has a limit and partitions",
        ),
        (
            |job| {
                let keys = Vec::new();
                let by = PartitionBy::Range {
                    keys,
                    bounds_feed: 0,
                };
                job.stages[1].partitioner = Some(Partitioner { partitions: 3, by });
            },
            "B has no broadcast edge for its bounds",
        ),
    ];
    for (spoil, why) in cases {
        let mut job = three_stages();
        job.check().expect("can be carried out");
        spoil(&mut job);
        let refusal = job.check().expect_err(why).to_string();
        assert!(refusal.contains("this job cannot be run"), "{refusal}");
        assert!(refusal.contains(why), "{refusal}");
    }
    let mut other_number = three_stages();
    other_number.stages[0].partitioner = Some(by_chance(3));
    other_number.edges[0].kind = exchange(4);
    let refusal = other_number.check().expect_err("3 are not 4").to_string();
    assert!(
        refusal.contains("Read->A goes into an exchange of 4 partitions"),
        "{refusal}"
    );
}

#[test]
fn stages_on_both_sides_of_an_exchange_never_become_one() {
    let mut job = three_stages();
    job.edges[0].kind = EdgeKind::GATHER;
    let merged = fit(job, &view(1, 1)).expect("fits");
    let names: Vec<String> = merged.stages.iter().map(StagePlan::name).collect();
    assert_eq!(names, ["Read->A", "B->C"]);
}
