//! Conditions of a job.

use super::super::cluster::{SpecError, check_spec};
use super::super::conditions::{Verdict, note};
use super::JobPlanner;
use crate::api::{AktisJob, JobStatus, TemplateError};

/// A specification that makes no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum JobProblem {
    #[error("exactly one of clusterSpec and clusterSelector is needed")]
    WhichCluster,
    #[error("entrypoint is empty")]
    NoEntrypoint,
    #[error("clusterSpec: {0}")]
    Cluster(SpecError),
    #[error("submitterPodTemplate: {0}")]
    Template(TemplateError),
}

pub(super) fn check(job: &AktisJob) -> Result<(), JobProblem> {
    if job.spec.entrypoint.trim().is_empty() {
        return Err(JobProblem::NoEntrypoint);
    }
    if job.spec.cluster_spec.is_some() == job.spec.cluster_selector.is_some() {
        return Err(JobProblem::WhichCluster);
    }
    if let Some(spec) = &job.spec.cluster_spec {
        check_spec(spec).map_err(JobProblem::Cluster)?;
    }
    if let Some(template) = &job.spec.submitter_pod_template {
        let parts = template.typed().and_then(super::super::pods::split);
        parts.map_err(JobProblem::Template)?;
    }
    Ok(())
}

impl JobPlanner<'_> {
    pub(super) fn note_valid(&mut self) {
        self.note("SpecValid", Verdict::yes("Checked"));
    }

    pub(super) fn note_invalid(&mut self, problem: &JobProblem) {
        self.note("SpecValid", Verdict::no("InvalidSpec", problem.to_string()));
    }

    pub(super) fn note_cluster(
        &mut self,
        is_ready: bool,
        reason: &'static str,
        message: impl FnOnce() -> String,
    ) {
        let verdict = match is_ready {
            true => Verdict::yes("ClusterReady"),
            false => Verdict::no(reason, message()),
        };
        self.note("ClusterReady", verdict);
    }

    pub(super) fn note_finished(&mut self) {
        let reason = match self.status.job_status {
            Some(JobStatus::Succeeded) => "Succeeded",
            Some(JobStatus::Stopped) => "Stopped",
            _ => "Failed",
        };
        let message = self.status.message.clone().unwrap_or_default();
        let verdict = Verdict {
            holds: true,
            reason,
            message,
        };
        self.note("Finished", verdict);
    }

    fn note(&mut self, kind: &str, verdict: Verdict) {
        let generation = self.job.metadata.generation;
        note(
            &mut self.status.conditions,
            kind,
            verdict,
            generation,
            self.now,
        );
    }
}
