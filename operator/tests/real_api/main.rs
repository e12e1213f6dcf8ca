//! The controllers against a real API server and etcd, without kubelets: the test says what becomes of pods.
//!
//! Runs when `KUBEBUILDER_ASSETS` names a folder with `kube-apiserver` and `etcd`; passes without them. The operator has
//! the rights of the chart's role and no more.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod kubelet;
mod scenarios;
mod server;

use aktis_operator::controllers;

#[test]
fn controllers_work_with_a_real_api() {
    let Some(assets) = aktis_common::config::environment("KUBEBUILDER_ASSETS") else {
        eprintln!("skipped: KUBEBUILDER_ASSETS is not set");
        return;
    };
    let server = server::Server::start(assets.as_ref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let admin = server.client("admin");
        server::ready(&admin).await;
        server::install(&admin).await;
        let operator = tokio::spawn(controllers::run(server.client("operator"), None));
        let kubelet = tokio::spawn(kubelet::run(admin.clone()));
        let schedule = scenarios::begin_schedule(&admin).await;
        scenarios::wrong_specifications_are_refused(&admin).await;
        scenarios::cluster_comes_scales_and_heals(&admin).await;
        scenarios::job_runs_and_its_cluster_goes(&admin).await;
        scenarios::trouble_is_said(&admin).await;
        scenarios::schedule_has_made_a_job(&admin, schedule).await;
        assert!(!operator.is_finished(), "the operator has ended");
        operator.abort();
        kubelet.abort();
    });
}
