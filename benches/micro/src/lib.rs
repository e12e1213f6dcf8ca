//! Criterion micro-benchmarks: `cargo bench -p aktis-benches`. The benchmarks are in `benches/`, one file per part.
