//! Lazy datasets over DataFusion, run by a streaming executor on tasks and actors.
