//! The operator's process.

use std::process::ExitCode;

use aktis_operator::controllers;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Runs Aktis clusters, jobs and scheduled jobs on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "aktis-operator", version, about)]
struct Arguments {
    /// Look after this namespace only; all of them by default.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// What is logged: error, warn, info, debug, or a filter such as aktis_operator=debug.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log_level: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = match EnvFilter::try_new(&arguments.log_level) {
        Ok(filter) => filter,
        Err(error) => return fail(&format!("--log-level {:?}: {error}", arguments.log_level)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start a runtime: {error}")),
    };
    runtime.block_on(async {
        let client = match kube::Client::try_default().await {
            Ok(client) => client,
            Err(error) => return fail(&format!("no way to the Kubernetes API: {error}")),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            namespace = arguments.namespace.as_deref().unwrap_or("all"),
            "started"
        );
        controllers::run(client, arguments.namespace).await;
        ExitCode::SUCCESS
    })
}

fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
