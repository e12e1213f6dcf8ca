//! What one placement costs, by the number of nodes.
#![allow(
    missing_docs,
    reason = "criterion's macros generate undocumented items"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::collections::BTreeMap;
use std::hint::black_box;

use aktis_common::ids::NodeId;
use aktis_common::resources::{CPU, GPU, GpuDevice, NodeResources, ResourceRequest, ResourceSet};
use aktis_common::scheduling::{ClusterView, NodeView, PlacementRequest, Strategy, solve};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Nodes of 16 CPUs, every fourth with 8 GPUs, each with some of its CPUs taken.
fn view(nodes: u32) -> ClusterView {
    let node = |number: u32| {
        let gpus = if number.is_multiple_of(4) { 8 } else { 0 };
        let devices = (0..gpus).map(|gpu| GpuDevice::new(gpu, 24 << 30)).collect();
        let mut resources = NodeResources::new(ResourceSet::of_cpus(16), devices, BTreeMap::new());
        resources
            .allocate(&request(&[(CPU, f64::from(number % 16))]).resources)
            .unwrap();
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        NodeView {
            id: NodeId::new(id),
            resources,
        }
    };
    ClusterView::new((0..nodes).map(node).collect())
}

fn request(numbers: &[(&str, f64)]) -> PlacementRequest {
    PlacementRequest {
        resources: ResourceRequest::from_numbers(numbers.iter().copied(), 0).unwrap(),
        ..PlacementRequest::default()
    }
}

fn placements(criterion: &mut Criterion) {
    let requests = [
        ("one CPU", request(&[(CPU, 1.0)])),
        ("half a GPU", request(&[(CPU, 1.0), (GPU, 0.5)])),
        (
            "spread",
            PlacementRequest {
                strategy: Strategy::Spread,
                ..request(&[(CPU, 1.0)])
            },
        ),
        ("more than any node has", request(&[(CPU, 32.0)])),
    ];
    let mut group = criterion.benchmark_group("solve");
    for nodes in [1, 10, 100, 1000] {
        let view = view(nodes);
        for (name, request) in &requests {
            group.bench_function(BenchmarkId::new(*name, nodes), |bencher| {
                bencher.iter(|| solve(black_box(&view), black_box(request)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, placements);
criterion_main!(benches);
