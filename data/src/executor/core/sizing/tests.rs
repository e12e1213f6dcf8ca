//! Sizes of pools on clusters of all kinds.

use proptest::prelude::*;

use aktis_common::ids::NodeId;
use aktis_common::resources::{GPU, GpuDevice, NodeResources, ResourceSet};

use super::*;

fn resources(cpus: f64, gpus: f64) -> ResourceSet {
    ResourceSet::from_numbers([(CPU, cpus), (GPU, gpus)]).expect("are quantities")
}

fn node(id: u8, total: ResourceSet, gpus: Vec<GpuDevice>) -> NodeView {
    NodeView {
        id: NodeId::new([id; 16]),
        resources: NodeResources::new(total, gpus, [].into()),
    }
}

fn view(nodes: &[(f64, f64)]) -> ClusterView {
    let nodes = (1..).zip(nodes);
    let node = |(id, &(cpus, gpus))| node(id, resources(cpus, gpus), Vec::new());
    ClusterView::new(nodes.map(node).collect())
}

fn stage(cpus: f64, gpus: f64, min: usize, max: usize, cost: Option<f64>) -> StageDemand {
    StageDemand {
        pools: vec![pool(cpus, gpus, min, max, cost)],
        useful_workers: None,
        is_done: false,
        first_kinds: Vec::new(),
    }
}

fn pool(cpus: f64, gpus: f64, min: usize, max: usize, cost: Option<f64>) -> PoolDemand {
    PoolDemand {
        resources: ResourceRequest::new(resources(cpus, gpus), 0).expect("makes sense"),
        min_workers: min,
        initial_workers: None,
        max_workers: Some(max),
        cost,
    }
}

/// Of stages whose workers are all alike.
fn sizes_of(stages: &[StageDemand], view: &ClusterView) -> Vec<usize> {
    pool_sizes(stages, view).concat()
}

/// A stage with a fast kind on GPUs, and a slow one on processors.
fn mixed(fast: Option<f64>, slow: Option<f64>) -> StageDemand {
    StageDemand {
        pools: vec![pool(0.0, 1.0, 1, 2, fast), pool(2.0, 0.0, 1, 8, slow)],
        useful_workers: None,
        is_done: false,
        first_kinds: Vec::new(),
    }
}

#[test]
fn kinds_that_do_not_compete_get_all_that_they_may_have() {
    let view = view(&[(8.0, 2.0)]);
    assert_eq!(pool_sizes(&[mixed(None, None)], &view), [[2, 4]]);
    assert_eq!(pool_sizes(&[mixed(Some(1.0), None)], &view), [[2, 4]]);
}

#[test]
fn kind_that_no_node_can_take_gets_nothing_while_another_works() {
    let stages = [mixed(None, None)];
    assert_eq!(pool_sizes(&stages, &view(&[(8.0, 0.0)])), [[0, 4]]);
    assert_eq!(pool_sizes(&stages, &view(&[(1.0, 1.0)])), [[1, 0]]);
    // If there is none for any, one is waited for that could be.
    let mut reading = stage(8.0, 0.0, 1, 1, None);
    assert_eq!(
        pool_sizes(&[reading.clone(), stages[0].clone()], &view(&[(8.0, 0.0)])),
        [vec![1], vec![0, 1]]
    );
    reading.is_done = true;
    assert_eq!(
        pool_sizes(&[reading, stages[0].clone()], &view(&[(8.0, 0.0)])),
        [vec![0], vec![0, 4]]
    );
}

#[test]
fn kind_that_something_waits_for_comes_first() {
    let mut stage = mixed(Some(1.0), Some(9.0));
    stage.first_kinds = vec![1];
    let sizes = |stage: &StageDemand, view| pool_sizes(std::slice::from_ref(stage), &view);
    assert_eq!(sizes(&stage, view(&[(2.0, 1.0)])), [[1, 1]]);
    for pool in &mut stage.pools {
        pool.resources = ResourceRequest::new(resources(2.0, 0.0), 0).expect("makes sense");
    }
    assert_eq!(sizes(&stage, view(&[(2.0, 0.0)])), [[0, 1]]);
    stage.first_kinds.clear();
    assert_eq!(sizes(&stage, view(&[(2.0, 0.0)])), [[1, 0]]);
}

/// The first worker of every stage comes before the second kind of any.
#[test]
fn second_kind_takes_no_room_from_the_first_worker_of_another_stage() {
    let stages = [mixed(None, None), stage(1.0, 0.0, 1, 1, None)];
    assert_eq!(
        pool_sizes(&stages, &view(&[(2.0, 1.0)])),
        [vec![1, 0], vec![1]]
    );
}

/// What both kinds do together is what the stage does.
#[test]
fn bottleneck_is_found_by_what_all_kinds_do() {
    let other = stage(1.0, 0.0, 1, 100, Some(1.0));
    // Two GPUs do a row in a tenth of what one worker of the other stage takes: all processors are for that.
    let fast = [mixed(Some(0.2), Some(100.0)), other.clone()];
    assert_eq!(
        pool_sizes(&fast, &view(&[(8.0, 2.0)])),
        [vec![2, 1], vec![6]]
    );
    let slow = [mixed(Some(20.0), Some(20.0)), other];
    assert_eq!(
        pool_sizes(&slow, &view(&[(8.0, 2.0)])),
        [vec![2, 3], vec![2]]
    );
}

#[test]
fn fastest_kind_grows_first() {
    let both = |fast, slow| StageDemand {
        pools: vec![
            pool(1.0, 0.0, 1, 8, Some(slow)),
            pool(1.0, 0.0, 1, 8, Some(fast)),
        ],
        useful_workers: None,
        is_done: false,
        first_kinds: Vec::new(),
    };
    let view = view(&[(6.0, 0.0)]);
    assert_eq!(pool_sizes(&[both(1.0, 3.0)], &view), [[1, 5]]);
    assert_eq!(pool_sizes(&[both(3.0, 1.0)], &view), [[5, 1]]);
}

#[test]
fn one_stage_fills_the_machine() {
    assert_eq!(
        sizes_of(
            &[stage(1.0, 0.0, 1, 100, None)],
            &view(&[(2.0, 0.0), (4.0, 0.0)])
        ),
        [6]
    );
}

#[test]
fn pool_begins_with_its_first_size_and_grows_when_its_cost_is_known() {
    let mut pool = stage(1.0, 0.0, 1, 100, None);
    pool.pools[0].initial_workers = Some(2);
    assert_eq!(
        sizes_of(std::slice::from_ref(&pool), &view(&[(8.0, 0.0)])),
        [2]
    );
    pool.pools[0].cost = Some(1.0);
    assert_eq!(sizes_of(&[pool], &view(&[(8.0, 0.0)])), [8]);
}

#[test]
fn bottleneck_gets_the_workers() {
    let stages = [
        stage(1.0, 0.0, 1, 100, Some(1.0)),
        stage(1.0, 0.0, 1, 100, Some(3.0)),
    ];
    assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
}

#[test]
fn workers_are_as_many_as_have_memory() {
    let of = |cpus, memory_mib: i64| {
        let total = resources(cpus, 0.0).with(MEMORY, Quantity::from_whole(memory_mib << 20));
        ClusterView::new(vec![node(1, total, Vec::new())])
    };
    let untold = stage(1.0, 0.0, 1, 100, None);
    assert_eq!(sizes_of(std::slice::from_ref(&untold), &of(8.0, 350)), [3]);
    assert_eq!(sizes_of(std::slice::from_ref(&untold), &of(8.0, 8000)), [8]);
    // One is owed to each stage, whatever there is.
    let stages = [untold.clone(), untold.clone()];
    assert_eq!(sizes_of(&stages, &of(8.0, 10)), [1, 1]);
    let mut told = untold;
    let asked = told.pools[0].resources.resources().clone();
    let asked = asked.with(MEMORY, Quantity::from_whole(200 << 20));
    told.pools[0].resources = ResourceRequest::new(asked, 0).expect("makes sense");
    assert_eq!(sizes_of(&[told], &of(8.0, 1000)), [5]);
}

#[test]
fn fractions_never_straddle_devices() {
    let stages = [stage(0.0, 0.6, 1, 100, None)];
    assert_eq!(sizes_of(&stages, &view(&[(8.0, 3.0)])), [3]);
}

#[test]
fn processors_and_devices_do_not_compete() {
    let stages = [stage(1.0, 0.0, 1, 100, None), stage(0.0, 0.5, 1, 4, None)];
    assert_eq!(sizes_of(&stages, &view(&[(2.0, 2.0)])), [2, 4]);
}

#[test]
fn finished_stage_leaves_its_room_to_others() {
    let mut stages = [stage(1.0, 0.0, 1, 100, None), stage(1.0, 0.0, 1, 100, None)];
    stages[0].is_done = true;
    assert_eq!(sizes_of(&stages, &view(&[(4.0, 0.0)])), [0, 4]);
}

#[test]
fn stage_leaves_what_it_has_no_work_for_to_others() {
    let mut stages = [stage(1.0, 0.0, 3, 100, None), stage(1.0, 0.0, 1, 100, None)];
    assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [4, 4]);
    stages[0].useful_workers = Some(2);
    assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [2, 6]);
    // Blocks may get lost yet, and be made again.
    stages[0].useful_workers = Some(0);
    assert_eq!(sizes_of(&stages, &view(&[(8.0, 0.0)])), [1, 7]);
}

#[test]
fn every_stage_gets_a_worker_even_without_room() {
    let stages = [stage(2.0, 0.0, 1, 1, None), stage(2.0, 0.0, 1, 1, None)];
    assert_eq!(sizes_of(&stages, &view(&[(2.0, 0.0)])), [1, 1]);
}

/// What only some nodes have is counted there, and nowhere else.
#[test]
fn custom_resources_and_gpu_memory_bound_a_pool() {
    let licences = ResourceSet::of_cpus(8).with("licence", Quantity::from_whole(3));
    let gpus = vec![GpuDevice::new(0, 40 << 30), GpuDevice::new(1, 16 << 30)];
    let nodes = vec![
        node(1, licences, Vec::new()),
        node(2, ResourceSet::of_cpus(8), gpus),
    ];
    let view = ClusterView::new(nodes);
    let one = ResourceSet::new().with("licence", Quantity::ONE);
    let mut licensed = stage(0.0, 0.0, 1, 100, None);
    licensed.pools[0].resources = ResourceRequest::new(one, 0).expect("makes sense");
    let mut model = stage(0.0, 0.0, 1, 100, None);
    model.pools[0].resources =
        ResourceRequest::new(ResourceSet::new(), 12 << 30).expect("makes sense");
    assert_eq!(sizes_of(&[licensed, model], &view), [3, 4]);
}

#[test]
fn stage_that_needs_nothing_is_as_wide_as_the_cluster_has_processors() {
    let mut reading = stage(0.0, 0.0, 1, 1, None);
    reading.pools[0].max_workers = None;
    let sizes = |nodes| sizes_of(std::slice::from_ref(&reading), &view(nodes));
    assert_eq!(sizes(&[(2.0, 0.0)]), [2]);
    assert_eq!(sizes(&[(2.0, 0.0), (4.0, 0.0)]), [6]);
}

proptest! {
    #[test]
    fn sizes_stay_within_bounds_and_room(
        demands in prop::collection::vec((0u8..3, 0u8..3, 1usize..4, 0usize..5, prop::option::of(0.1f64..10.0)), 1..5),
        cpus in 1u8..16,
        gpus in 0u8..4,
    ) {
        let stages: Vec<StageDemand> = demands
            .iter()
            .map(|&(cpu, gpu, min, more, cost)| {
                stage(f64::from(cpu), f64::from(gpu) / 2.0, min, min + more, cost)
            })
            // Without bounds, stages that need nothing would grow to their maximum: they have one here.
            .collect();
        let mut room = view(&[(f64::from(cpus), f64::from(gpus))]);
        let counts = sizes_of(&stages, &room);
        for (stage, &count) in stages.iter().zip(&counts) {
            prop_assert!(count >= 1 && Some(count) <= stage.pools[0].max_workers);
            for _ in 1..count {
                // All but the first, which is owed, have room.
                prop_assert!(room.book(&stage.pools[0].placement(false)).is_some());
            }
        }
    }
}
