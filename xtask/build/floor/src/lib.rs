//! Nothing: what the build of this crate costs is what its dependencies cost.
