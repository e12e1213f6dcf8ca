//! Names and labels of what the operator makes.
//!
//! `OPR-4 (names-fit)`: each is a valid name of its kind with at most 63 characters, and different for different owners.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use sha2::{Digest, Sha256};

/// Label: the cluster that a pod belongs to.
pub const CLUSTER_LABEL: &str = "aktis.dev/cluster";
/// Label: `head`, `worker` or `submitter`.
pub const ROLE_LABEL: &str = "aktis.dev/node-type";
/// Label: the worker group of a pod.
pub const GROUP_LABEL: &str = "aktis.dev/group";
/// Label: the job that a pod or cluster belongs to.
pub const JOB_LABEL: &str = "aktis.dev/job";
/// Label: the schedule that a job belongs to.
pub const CRON_JOB_LABEL: &str = "aktis.dev/cron-job";
/// Annotation: digest of what a pod was made from.
pub const SPEC_HASH: &str = "aktis.dev/spec-hash";
/// Annotation of workers: the head pod they belong to.
pub const HEAD_UID: &str = "aktis.dev/head-uid";
/// Annotation of jobs: the time by the schedule.
pub const SCHEDULED_AT: &str = "aktis.dev/scheduled-at";

/// Longest name of a service, and longest value of a label.
const LONGEST: usize = 63;
const DIGEST: usize = 8;

/// `owner` followed by `suffix` as a DNS label: shortened and made distinct by a digest where it does not fit (`OPR-4`).
pub fn name(owner: &str, suffix: &str) -> String {
    let room = LONGEST.saturating_sub(suffix.len());
    format!("{}{suffix}", stem(owner, room))
}

/// The name of an owner as the value of a label.
pub fn label_value(owner: &str) -> String {
    stem(owner, LONGEST)
}

fn stem(owner: &str, room: usize) -> String {
    let is_label = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if owner.len() <= room && is_label(owner) {
        return owner.to_owned();
    }
    let letters: String = owner
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(room.saturating_sub(DIGEST + 3))
        .collect();
    format!(
        "a-{}-{}",
        letters.to_ascii_lowercase(),
        digest(owner.as_bytes())
    )
}

/// Eight hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..DIGEST].to_owned()
}

/// Metadata of an object that goes when `owner` goes.
pub fn owned_by<K>(owner: &K, name: String, labels: BTreeMap<String, String>) -> ObjectMeta
where
    K: Resource<DynamicType = ()>,
{
    ObjectMeta {
        name: Some(name),
        namespace: owner.namespace(),
        labels: Some(labels),
        owner_references: Some(owner_reference(owner).into_iter().collect()),
        ..ObjectMeta::default()
    }
}

fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner.controller_owner_ref(&())
}

/// Whether `owner` is the controller of the object with this metadata.
pub fn is_owned_by<K: Resource<DynamicType = ()>>(metadata: &ObjectMeta, owner: &K) -> bool {
    let uid = owner.meta().uid.as_deref();
    metadata
        .owner_references
        .iter()
        .flatten()
        .any(|reference| reference.controller == Some(true) && Some(&*reference.uid) == uid)
}

/// Labels of everything the operator makes, followed by `more`.
pub fn labels<const N: usize>(more: [(&str, String); N]) -> BTreeMap<String, String> {
    let common = [
        ("app.kubernetes.io/name", "aktis".to_owned()),
        (
            "app.kubernetes.io/managed-by",
            crate::FIELD_MANAGER.to_owned(),
        ),
    ];
    common
        .into_iter()
        .chain(more)
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_names_stay_readable() {
        assert_eq!(name("demo", "-head-svc"), "demo-head-svc");
        assert_eq!(label_value("demo"), "demo");
    }

    /// OPR-4 (names-fit).
    #[test]
    fn names_that_are_no_labels_are_made_labels_and_stay_distinct() {
        let made = name("9.a", "-head");
        assert!(
            made.starts_with("a-9-a-") && made.ends_with("-head"),
            "{made}"
        );
        assert_ne!(name("9.a", "-head"), name("9-a", "-head"));
        let long = "x".repeat(200);
        assert_ne!(name(&long, ""), name(&format!("{long}y"), ""));
    }

    proptest! {
        /// OPR-4 (names-fit).
        #[test]
        fn every_name_fits(owner in "[a-z0-9][a-z0-9.-]{0,251}[a-z0-9]", suffix in "(-[a-z]{1,40}){0,1}") {
            let name = name(&owner, &suffix);
            prop_assert!(name.len() <= LONGEST, "{name}");
            prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()));
            prop_assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        }
    }
}
