//! One controller for each custom resource: which changes wake it, and what it looks at.
//!
//! ```text
//!  watch: the resource, and what it owns ──► reconcile: read ──► observe ──► core::plan ──► carry out ──► status
//!                                               ▲                                              │ failed
//!                                               └── back-off: 1 s, 2 s ... 5 min ◄─────────────┴─► Degraded=True
//! ```

mod backoff;
mod kinds;
mod reconcile;

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::controller::Controller;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};

use crate::FIELD_MANAGER;
use crate::api::{AktisCluster, AktisCronJob, AktisJob};
pub use backoff::Backoff;
pub use reconcile::{Context, Reconciled, reconcile};

/// Runs all controllers until a signal ends the process; `namespace`: only what is in it.
pub async fn run(client: Client, namespace: Option<String>) {
    let watched = Watched { client, namespace };
    let clusters = watched
        .controller::<AktisCluster>()
        .owns(watched.api::<Pod>(), made_here())
        .owns(watched.api::<Service>(), made_here());
    let jobs = watched
        .controller::<AktisJob>()
        .owns(watched.api::<Pod>(), made_here())
        .owns(watched.api::<AktisCluster>(), made_here());
    let cron_jobs = watched
        .controller::<AktisCronJob>()
        .owns(watched.api::<AktisJob>(), made_here());
    tokio::join!(
        drive(clusters, &watched.client),
        drive(jobs, &watched.client),
        drive(cron_jobs, &watched.client),
    );
}

struct Watched {
    client: Client,
    namespace: Option<String>,
}

impl Watched {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn controller<K: Reconciled>(&self) -> Controller<K> {
        Controller::new(self.api::<K>(), watcher::Config::default()).shutdown_on_signal()
    }
}

fn made_here() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER}"))
}

async fn drive<K: Reconciled>(controller: Controller<K>, client: &Client) {
    let context = Arc::new(Context::new(client.clone()));
    controller
        .run(reconcile, reconcile::again_after, context)
        .for_each(|result| async move {
            match result {
                Ok((object, _)) => tracing::debug!(%object, "reconciled"),
                Err(error) => tracing::warn!(%error, "not reconciled"),
            }
        })
        .await;
}
