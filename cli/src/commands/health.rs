//! `aktis health-check`.

use aktis_common::config::Settings;
use serde_json::json;

use super::query::Cluster;
use super::{QueryArgs, render};

/// Fails unless the head answers.
pub(super) fn health_check(args: &QueryArgs, settings: &Settings) -> Result<u8, String> {
    let cluster = Cluster::to_join(args.address.as_deref(), settings)?;
    let session = cluster.health()?.session_id;
    let address = cluster.address();
    let text = if args.json {
        render::pretty(&json!({"address": address.to_string(), "session_id": session}))
    } else {
        format!("{address} answers, session {session}")
    };
    render::print_line(&text)?;
    Ok(0)
}
