//! See `tests/waiting.rs`.
