//! Where rows end.

pub(crate) mod parquet;
