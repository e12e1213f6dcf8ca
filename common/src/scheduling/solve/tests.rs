use std::collections::BTreeMap;

use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::resources::{CPU, GPU, GpuDevice, NodeResources, ResourceRequest, ResourceSet};

fn id(n: u8) -> NodeId {
    NodeId::new([n; 16])
}

fn node(n: u8, cpus: i64, gpus: u32) -> NodeView {
    let devices = (0..gpus).map(|id| GpuDevice::new(id, 24 << 30)).collect();
    let resources = NodeResources::new(ResourceSet::of_cpus(cpus), devices, BTreeMap::new());
    NodeView {
        id: id(n),
        resources,
    }
}

fn asking(numbers: &[(&str, f64)]) -> PlacementRequest {
    let resources = ResourceRequest::from_numbers(numbers.iter().copied(), 0).unwrap();
    PlacementRequest {
        resources,
        ..PlacementRequest::default()
    }
}

fn take(view: &mut ClusterView, n: u8, cpus: f64) {
    let request = ResourceRequest::from_numbers([(CPU, cpus)], 0).unwrap();
    view.node_mut(id(n))
        .unwrap()
        .resources
        .allocate(&request)
        .unwrap();
}

fn missing(view: &ClusterView, request: &PlacementRequest) -> String {
    match solve(view, request) {
        Placement::Infeasible { missing } => missing,
        other => panic!("expected infeasible, got {other:?}"),
    }
}

#[test]
fn infeasible_request_names_what_is_missing() {
    let view = ClusterView::new(vec![node(1, 4, 1), node(2, 8, 0)]);
    assert_eq!(
        missing(&view, &asking(&[(GPU, 2.0)])),
        r#"needs {"GPU": 2}, but the largest node has {"GPU": 1}"#
    );
    assert_eq!(
        missing(&view, &asking(&[(CPU, 1.0), ("tpu", 1.0)])),
        r#"needs {"tpu": 1}, but the largest node has {"tpu": 0}"#
    );
    assert_eq!(
        missing(&view, &asking(&[(CPU, 8.0), (GPU, 1.0)])),
        r#"needs {"CPU": 8, "GPU": 1} on one node, but the nodes are 1 x {"CPU": 4, "GPU": 1}, 1 x {"CPU": 8, "GPU": 0}"#
    );
    let memory = ResourceRequest::new(ResourceSet::new(), 40 << 30).unwrap();
    assert_eq!(
        missing(
            &view,
            &PlacementRequest {
                resources: memory,
                ..Default::default()
            }
        ),
        "needs 40 GiB of GPU memory, but the largest GPU has 24 GiB"
    );
    let empty = ClusterView::default();
    assert!(missing(&empty, &asking(&[(CPU, 1.0)])).ends_with("the cluster has no nodes"));
}

#[test]
fn booking_fills_a_view_until_there_is_no_room_and_an_emptied_one_has_all_of_it() {
    let mut view = ClusterView::new(vec![node(1, 2, 0), node(2, 1, 1)]);
    let whole = view.clone();
    let one = asking(&[(CPU, 1.0)]);
    let booked: Vec<_> = std::iter::from_fn(|| view.book(&one)).collect();
    assert_eq!(booked, [id(1), id(1), id(2)], "the GPU's node comes last");
    assert_eq!(view.book(&asking(&[(GPU, 0.5)])), Some(id(2)));
    assert_ne!(view, whole);
    assert_eq!(view.emptied(), whole);
}

#[test]
fn full_cluster_waits_and_says_what_is_free() {
    let mut view = ClusterView::new(vec![node(1, 2, 0)]);
    take(&mut view, 1, 1.5);
    assert_eq!(
        solve(&view, &asking(&[(CPU, 1.0)])),
        Placement::Wait {
            reason: r#"needs {"CPU": 1}; free on the best node: {"CPU": 0.5}"#.to_owned()
        }
    );
}

#[test]
fn local_node_is_filled_to_half_before_others_are_used() {
    let mut view = ClusterView::new(vec![node(1, 4, 0), node(2, 4, 0)]);
    let request = PlacementRequest {
        local_node: Some(id(2)),
        ..asking(&[(CPU, 1.0)])
    };
    assert_eq!(solve(&view, &request), Placement::Node(id(2)));
    take(&mut view, 2, 2.0);
    assert_eq!(solve(&view, &request), Placement::Node(id(1)));
}

#[test]
fn work_without_gpus_avoids_gpu_nodes_while_others_have_room() {
    let mut view = ClusterView::new(vec![node(1, 4, 1), node(2, 2, 0)]);
    let request = PlacementRequest {
        local_node: Some(id(1)),
        ..asking(&[(CPU, 1.0)])
    };
    for _ in 0..2 {
        assert_eq!(solve(&view, &request), Placement::Node(id(2)));
        take(&mut view, 2, 1.0);
    }
    assert_eq!(solve(&view, &request), Placement::Node(id(1)));
}

#[test]
fn spread_goes_round_the_nodes() {
    let mut view = ClusterView::new(vec![node(1, 4, 0), node(2, 4, 0), node(3, 4, 0)]);
    let request = PlacementRequest {
        strategy: Strategy::Spread,
        ..asking(&[(CPU, 1.0)])
    };
    for _ in 0..3 {
        let Placement::Node(chosen) = solve(&view, &request) else {
            panic!("there is room")
        };
        take(&mut view, chosen.as_bytes()[0], 1.0);
    }
    let used = view
        .nodes()
        .iter()
        .map(|node| node.resources.available().get(CPU));
    assert!(used.into_iter().all(|free| free == Quantity::from_whole(3)));
}

#[test]
fn hard_affinity_waits_and_soft_affinity_moves_on() {
    let mut view = ClusterView::new(vec![node(1, 1, 0), node(2, 1, 0)]);
    take(&mut view, 1, 1.0);
    let to = |n: u8, is_soft: bool| PlacementRequest {
        strategy: Strategy::NodeAffinity {
            node: id(n),
            is_soft,
        },
        ..asking(&[(CPU, 1.0)])
    };
    assert!(matches!(
        solve(&view, &to(1, false)),
        Placement::Wait { .. }
    ));
    assert_eq!(solve(&view, &to(1, true)), Placement::Node(id(2)));
    assert_eq!(solve(&view, &to(2, false)), Placement::Node(id(2)));
    assert_eq!(solve(&view, &to(9, true)), Placement::Node(id(2)));
    assert!(missing(&view, &to(9, false)).ends_with("but no such node is alive"));
}

#[test]
fn large_arguments_draw_the_work_to_their_node() {
    let view = ClusterView::new(vec![node(1, 4, 0), node(2, 4, 0)]);
    let near = |bytes: u64| PlacementRequest {
        local_node: Some(id(1)),
        locality: vec![(id(2), bytes)],
        ..asking(&[(CPU, 1.0)])
    };
    assert_eq!(solve(&view, &near(64 << 20)), Placement::Node(id(2)));
    assert_eq!(solve(&view, &near(100)), Placement::Node(id(1)));
}

fn any_request() -> impl Generator<Value = PlacementRequest> {
    let gpu = prop_oneof![3 => Just(0i64), 3 => 1..=10_000i64, 1 => Just(20_000i64)];
    let strategy = prop_oneof![
        Just(Strategy::Default),
        Just(Strategy::Spread),
        (0..6u8, any::<bool>()).prop_map(|(n, is_soft)| Strategy::NodeAffinity {
            node: id(n),
            is_soft
        }),
    ];
    (1..50_000i64, gpu, strategy, 0..6u8, any::<u64>()).prop_map(
        |(cpu, gpu, strategy, local, seed)| PlacementRequest {
            resources: ResourceRequest::new(ResourceSet::from_units([(CPU, cpu), (GPU, gpu)]), 0)
                .unwrap(),
            strategy,
            local_node: Some(id(local)),
            locality: vec![(id(local), seed % (4 << 20))],
            seed,
        },
    )
}

proptest! {
    #[test]
    fn placements_fit_are_deterministic_and_never_give_up_on_room(
        sizes in prop::collection::vec((1..8i64, 0..3u32), 0..5),
        requests in prop::collection::vec(any_request(), 1..40),
    ) {
        let nodes = sizes.iter().zip(1u8..).map(|((cpus, gpus), n)| node(n, *cpus, *gpus));
        let mut view = ClusterView::new(nodes.collect());
        for request in requests {
            let placement = solve(&view, &request);
            let mut reversed: Vec<_> = view.nodes().to_vec();
            reversed.reverse();
            prop_assert_eq!(&solve(&ClusterView::new(reversed), &request), &placement, "SCH-2");
            let is_bound = matches!(request.strategy, Strategy::NodeAffinity { is_soft: false, .. });
            match placement {
                Placement::Node(chosen) => {
                    let node = view.node_mut(chosen).unwrap();
                    prop_assert!(node.resources.allocate(&request.resources).is_some(), "SCH-1");
                }
                Placement::Wait { .. } => {
                    let has_room = view.nodes().iter().any(|n| n.resources.fits(&request.resources));
                    prop_assert!(is_bound || !has_room);
                    let could = view.nodes().iter().any(|n| n.resources.could_ever_fit(&request.resources));
                    prop_assert!(could, "SCH-3");
                }
                Placement::Infeasible { .. } => {
                    let could = view.nodes().iter().any(|n| n.resources.could_ever_fit(&request.resources));
                    prop_assert!(is_bound || !could, "SCH-3");
                }
            }
        }
    }
}
