//! Cluster tests with real processes.
