//! Carries effects out: tables to disk, publications to subscribers, requests to raylets.

pub(crate) mod publish;
pub(crate) mod raylets;
pub mod storage;
