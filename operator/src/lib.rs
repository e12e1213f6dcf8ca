//! The Kubernetes operator of Aktis.
//!
//! Owns: the custom resources of `aktis.dev/v1`, and the pods, services, Secrets, clusters and jobs made for them. Does
//! not own: what runs inside the pods; nothing here talks to an Aktis head.
//!
//! ```text
//!  Kubernetes API ──watch──► controllers ──observe──► core (pure): resource + observed + now ──► Plan
//!        ▲                       │                                                                │
//!        └───────────────────── io: status first, then the actions in their order ◄───────────────┘
//!
//!  AktisCronJob ──makes──► AktisJob ──makes──► AktisCluster ──makes──► head and worker pods, service, Secret
//!                             └──makes──► pod that runs the entrypoint
//! ```
//! Everything that was made has its maker as owner: what is deleted takes along what was made for it, by Kubernetes'
//! garbage collector. No finalizers are needed, and none hang when the operator is away.
//!
//! # Invariants
//! - `OPR-1 (one-head)`, `OPR-2 (bounded)`, `OPR-3 (settles)`, `OPR-5 (own-only)`: [`core::cluster`]
//! - `OPR-4 (names-fit)`: [`core::names`]
//! - `OPR-6 (counted-attempts)`: [`core::job`]
//! - `OPR-7 (once-per-time)`: [`core::cron_job`]
//! - `OPR-8 (never-overwritten)`: [`io::carry_out`]

pub mod api;
pub mod controllers;
pub mod core;
pub mod io;

/// The owner of fields that the operator applies, and the value of its `managed-by` label.
pub const FIELD_MANAGER: &str = "aktis-operator";
