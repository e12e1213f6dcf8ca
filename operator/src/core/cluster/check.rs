//! Whether a specification makes a cluster.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::api::{
    AktisClusterSpec, PodTemplate, RESERVED_START_PARAMS, StartParams, TemplateError,
};

/// A specification that makes no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A pod template is wrong.
    #[error("{group}: template: {cause}")]
    Template {
        /// `headGroupSpec`, or the worker group.
        group: String,
        /// What is wrong.
        cause: TemplateError,
    },
    /// A flag is the operator's.
    #[error("{group}: startParams: the operator sets {flag:?} itself")]
    Reserved {
        /// `headGroupSpec`, or the worker group.
        group: String,
        /// The flag.
        flag: String,
    },
    /// Bounds that nothing fits.
    #[error("worker group {group}: {problem}")]
    Replicas {
        /// The worker group.
        group: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// A specification that was found right.
pub(super) struct Checked {
    pub(super) head: PodTemplateSpec,
    pub(super) groups: Vec<PodTemplateSpec>,
}

/// Whether `spec` makes a cluster.
///
/// # Errors
/// What is wrong with it.
pub(in crate::core) fn check_spec(spec: &AktisClusterSpec) -> Result<(), SpecError> {
    check(spec).map(|_| ())
}

/// What the schema cannot say, and what it says, for a cluster that holds older objects.
pub(super) fn check(spec: &AktisClusterSpec) -> Result<Checked, SpecError> {
    let head = &spec.head_group_spec;
    let head = check_group("headGroupSpec", &head.start_params, &head.template)?;
    let mut groups = Vec::new();
    for spec in &spec.worker_group_specs {
        let (min, max) = (spec.min_replicas, spec.max_replicas.unwrap_or(i32::MAX));
        let replicas = spec.replicas.unwrap_or(min);
        let problem = match () {
            () if min > max => Some("minReplicas is larger than maxReplicas"),
            () if replicas < min || replicas < 0 => Some("replicas is smaller than minReplicas"),
            () if replicas > max => Some("replicas is larger than maxReplicas"),
            () => None,
        };
        if let Some(problem) = problem {
            let group = spec.group_name.clone();
            return Err(SpecError::Replicas { group, problem });
        }
        let name = format!("worker group {}", spec.group_name);
        groups.push(check_group(&name, &spec.start_params, &spec.template)?);
    }
    Ok(Checked { head, groups })
}

fn check_group(
    group: &str,
    params: &StartParams,
    template: &PodTemplate,
) -> Result<PodTemplateSpec, SpecError> {
    if let Some(flag) = RESERVED_START_PARAMS
        .iter()
        .find(|flag| params.0.contains_key(**flag))
    {
        return Err(SpecError::Reserved {
            group: group.to_owned(),
            flag: (*flag).to_owned(),
        });
    }
    let typed = template
        .typed()
        .and_then(|typed| super::super::pods::split(typed.clone()).map(|_| typed));
    typed.map_err(|cause| SpecError::Template {
        group: group.to_owned(),
        cause,
    })
}
