//! The library inside every driver and worker process: ownership, submission, execution.
