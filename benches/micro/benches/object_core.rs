//! The pure parts of the object store: the allocator when the arena is in pieces, the table when it is full of objects.
#![allow(
    missing_docs,
    reason = "criterion's macros generate undocumented items"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::time::Duration;

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::ClientId;
use aktis_object_store::core::{Allocator, Extent, ObjectTable, TableConfig};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const PAGE_BYTES: u64 = 4096;
const LIVE: [usize; 3] = [100, 10_000, 100_000];

/// Sizes and victims that look random and are the same in every run (Lehmer's generator).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % limit
    }

    fn size_bytes(&mut self) -> u64 {
        64 + self.below(256 << 10)
    }
}

/// An arena in which so many extents are used, with holes of all sizes between them.
fn fragmented(live: usize, sequence: &mut Sequence) -> (Allocator, Vec<Extent>) {
    let mut allocator = Allocator::new(1 << 40, PAGE_BYTES);
    let mut extents: Vec<Extent> = (0..2 * live)
        .map(|_| allocator.allocate(sequence.size_bytes()).unwrap())
        .collect();
    for index in (0..live).rev() {
        allocator.free(extents.swap_remove(2 * index), Duration::ZERO);
    }
    (allocator, extents)
}

fn allocator(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("allocator: free one, allocate one");
    for live in LIVE {
        let mut sequence = Sequence(1);
        let (mut allocator, mut extents) = fragmented(live, &mut sequence);
        group.bench_function(BenchmarkId::from_parameter(live), |bencher| {
            bencher.iter(|| {
                let victim = usize::try_from(sequence.below(live as u64)).unwrap();
                allocator.free(extents[victim], Duration::ZERO);
                extents[victim] = allocator.allocate(sequence.size_bytes()).unwrap();
            });
        });
    }
    group.finish();
}

fn table(live: usize) -> ObjectTable {
    let mut table = ObjectTable::new(TableConfig {
        capacity_bytes: 1 << 40,
        page_bytes: PAGE_BYTES,
        spill_limit_bytes: None,
        min_spill_batch_bytes: 64 << 20,
        max_spill_file_bytes: 256 << 20,
        full_grace: Duration::from_secs(10),
        idle_discard_after: Duration::from_secs(10),
        max_prefault_bytes: 0,
    });
    for _ in 0..live {
        sealed(&mut table);
    }
    table
}

fn sealed(table: &mut ObjectTable) -> ObjectId {
    let object = ObjectId::for_put();
    table
        .create(ClientId(1), object, WorkerId::NIL, 4096, true)
        .unwrap();
    table.seal(ClientId(1), object).unwrap();
    object
}

fn object_table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("object table: one object's whole life");
    for live in LIVE {
        let mut table = table(live);
        group.bench_function(BenchmarkId::new("among", live), |bencher| {
            bencher.iter(|| {
                let object = sealed(&mut table);
                table.get(ClientId(2), object).unwrap();
                table.release(ClientId(2), object).unwrap();
                table.free(object);
                table.drain_effects()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, allocator, object_table);
criterion_main!(benches);
