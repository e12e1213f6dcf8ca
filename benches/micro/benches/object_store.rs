//! What an object costs the node besides its bytes: the store's bookkeeping for one object's whole life.
#![allow(
    missing_docs,
    reason = "criterion's macros generate undocumented items"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first error")]
#![allow(unsafe_code, reason = "vouches for the range that it writes")]

use aktis_common::ids::{ObjectId, WorkerId};
use aktis_object_store::{ArenaMap, ClientId, CreateAnswer, CreatingRange, NodeStore, StoreConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn store() -> NodeStore {
    NodeStore::new(StoreConfig::new(1 << 30), drop, drop).unwrap()
}

fn create(store: &mut NodeStore, client: ClientId, object: ObjectId, bytes: u64) -> u64 {
    match store
        .create(client, object, WorkerId::NIL, bytes, true)
        .unwrap()
    {
        CreateAnswer::Created(place) => place.offset,
        CreateAnswer::Pending => unreachable!("an empty store has room"),
    }
}

fn whole_life(criterion: &mut Criterion) {
    let mut store = store();
    let client = ClientId(1);
    criterion.bench_function("create, seal, get, release, free", |bencher| {
        bencher.iter(|| {
            let object = ObjectId::for_put();
            create(&mut store, client, object, 4096);
            store.seal(client, object).unwrap();
            store.get(client, object).unwrap();
            store.release(client, object).unwrap();
            store.free(object)
        });
    });
}

fn write_warm(criterion: &mut Criterion) {
    const BYTES: usize = 64 << 20;
    let mut store = store();
    let arena = ArenaMap::from_handle(store.arena_handle().unwrap()).unwrap();
    let (client, data) = (ClientId(1), vec![7u8; BYTES]);
    let mut group = criterion.benchmark_group("write 64 MiB");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(10);
    group.bench_function("into warm memory", |bencher| {
        bencher.iter(|| {
            let object = ObjectId::for_put();
            let offset = create(&mut store, client, object, BYTES as u64);
            // SAFETY: the object was just created, and is sealed when it is written.
            let range = unsafe { CreatingRange::new(&arena, offset, BYTES as u64) };
            range.unwrap().write(&[&data]).unwrap();
            store.seal(client, object).unwrap();
            store.free(object)
        });
    });
    group.finish();
}

criterion_group!(benches, whole_life, write_warm);
criterion_main!(benches);
