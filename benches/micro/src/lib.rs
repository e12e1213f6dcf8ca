//! Criterion micro-benchmarks.
