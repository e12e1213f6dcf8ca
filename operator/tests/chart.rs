//! The chart and the examples, as far as they can be checked without Helm.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::PathBuf;

use aktis_operator::api::{AktisCluster, AktisCronJob, AktisJob};
use aktis_operator::core::{cluster, cron_job, job};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

/// Asked when the test runs: a build folder may have been filled from another clone.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("..")
        .join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

fn example<K: serde::de::DeserializeOwned>(file: &str, kind: &str) -> K {
    let text = read(&format!("examples/kubernetes/{file}"));
    let document = text
        .split("\n---\n")
        .find(|part| part.contains(&format!("kind: {kind}\n")));
    serde_saphyr::from_str(document.unwrap()).unwrap()
}

fn holds(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .any(|known| known.type_ == kind && known.status == "True")
}

#[test]
fn examples_are_valid() {
    let now = Timestamp::UNIX_EPOCH;
    let cluster: AktisCluster = example("cluster.yaml", "AktisCluster");
    let plan = cluster::plan(&cluster, &cluster::ObservedCluster::default(), now);
    assert!(
        holds(&plan.status.conditions, "SpecValid"),
        "{:?}",
        plan.status
    );
    let job: AktisJob = example("job.yaml", "AktisJob");
    let plan = job::plan(&job, &job::ObservedJob::default(), now);
    assert!(
        holds(&plan.status.conditions, "SpecValid"),
        "{:?}",
        plan.status
    );
    let cron_job: AktisCronJob = example("cron_job.yaml", "AktisCronJob");
    let plan = cron_job::plan(&cron_job, &[], now);
    assert!(
        holds(&plan.status.conditions, "ScheduleValid"),
        "{:?}",
        plan.status
    );
}

/// A value that no template uses, or that the schema does not know, is a promise that is not kept.
#[test]
fn every_value_of_the_chart_is_used_and_in_the_schema() {
    let values: Value = serde_saphyr::from_str(&read("helm/aktis-operator/values.yaml")).unwrap();
    let schema: Value =
        serde_json::from_str(&read("helm/aktis-operator/values.schema.json")).unwrap();
    let folder = repository("helm/aktis-operator/templates");
    let templates: String = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for (key, value) in values.as_object().unwrap() {
        let known = &schema["properties"][key];
        assert!(known.is_object(), "{key} is not in the schema");
        assert!(
            templates.contains(&format!(".Values.{key}")),
            "{key} is not used"
        );
        let is_closed = known["additionalProperties"] == false;
        for inner in value
            .as_object()
            .filter(|_| is_closed)
            .into_iter()
            .flat_map(|map| map.keys())
        {
            assert!(
                known["properties"][inner].is_object(),
                "{key}.{inner} is not in the schema"
            );
            assert!(
                templates.contains(&format!(".Values.{key}.{inner}")),
                "{key}.{inner} is not used"
            );
        }
    }
}

#[test]
fn chart_has_the_version_of_the_operator() {
    let chart: Value = serde_saphyr::from_str(&read("helm/aktis-operator/Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
