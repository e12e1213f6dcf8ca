//! What a frame costs: encoding and decoding it, and carrying it over a socket to another thread and back.
#![allow(
    missing_docs,
    reason = "criterion's macros generate undocumented items"
)]
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first error")]

use std::hint::black_box;

use aktis_lane::testing::{FrameStream, LanePair};
use aktis_lane::{PayloadParts, encode_whole};
use aktis_proto::v1::{LaneFrame, TaskDone, TaskResult, ValueLayout, lane_frame, task_result};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PAYLOAD_BYTES: [usize; 3] = [10, 1 << 10, 64 << 10];
const STREAM_FRAMES: usize = 1000;

/// What a worker answers to a call with one small result.
fn task_done() -> LaneFrame {
    let result = TaskResult {
        place: Some(task_result::Place::Inline(ValueLayout::default())),
    };
    LaneFrame {
        kind: Some(lane_frame::Kind::TaskDone(TaskDone {
            results: vec![result],
            execution_micros: 12,
            ..TaskDone::default()
        })),
    }
}

fn payload(bytes: usize) -> PayloadParts {
    PayloadParts::from(vec![7; bytes])
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for bytes in PAYLOAD_BYTES {
        let (header, payload) = (task_done(), payload(bytes));
        let encoded = encode_whole(&header, &payload);
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(BenchmarkId::new("encode", bytes), |bencher| {
            bencher.iter(|| encode_whole(black_box(&header), black_box(&payload)));
        });
        group.bench_function(BenchmarkId::new("decode", bytes), |bencher| {
            let mut stream = FrameStream::default();
            bencher.iter(|| stream.feed::<LaneFrame>(black_box(&encoded)));
        });
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane round trip");
    for bytes in PAYLOAD_BYTES {
        let pair = LanePair::new(task_done(), payload(bytes)).unwrap();
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| pair.round_trip());
        });
    }
    group.finish();
}

fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lane stream");
    group.throughput(Throughput::Elements(STREAM_FRAMES as u64));
    for bytes in [10, 1 << 10] {
        let pair = LanePair::new(task_done(), payload(bytes)).unwrap();
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| pair.stream(STREAM_FRAMES));
        });
    }
    group.finish();
}

criterion_group!(benches, frames, round_trip, stream);
criterion_main!(benches);
