//! How far the entrypoint is, by its pods.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::super::names;
use super::super::pods::PodFacts;
use crate::api::{AktisJob, AktisJobStatus};

const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Where the attempts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The pod of this number is to be made, after a pause.
    Next {
        number: i32,
        pause: Duration,
        message: Option<String>,
    },
    UnderWay {
        pod: String,
        is_running: bool,
    },
    Succeeded {
        pod: String,
    },
    GivenUp {
        failed: i32,
        message: String,
    },
}

impl Attempt {
    /// `OPR-6 (counted-attempts)`.
    pub(super) fn find<'a>(
        job: &AktisJob,
        status: &AktisJobStatus,
        pods: impl Iterator<Item = PodFacts<'a>>,
        now: Timestamp,
    ) -> Self {
        let pods: Vec<PodFacts<'a>> = pods.collect();
        let with_number = |number: i32| {
            let name = pod_name(job, number);
            let pod = pods.iter().copied().find(|pod| pod.name() == name);
            (pod, name)
        };
        let (pod, name) = with_number(status.failed);
        let was_seen = status.submitter_pod_name.as_deref() == Some(&*name);
        let (message, ended) = match pod {
            // Of a run before the job was suspended: its name is not free yet.
            Some(pod) if pod.is_leaving() && !was_seen => {
                return Self::Next {
                    number: status.failed,
                    pause: FIRST_PAUSE,
                    message: None,
                };
            }
            Some(pod) if pod.phase() == "Succeeded" => return Self::Succeeded { pod: name },
            Some(pod) if pod.phase() == "Failed" => (
                format!("pod {name} failed: {}", pod.ending()),
                ended_at(pod),
            ),
            Some(pod) => {
                let is_running = pod.phase() == "Running";
                return Self::UnderWay {
                    pod: name,
                    is_running,
                };
            }
            None if was_seen => (format!("pod {name} is gone"), None),
            None => {
                let last = (status.failed > 0).then(|| with_number(status.failed - 1).0);
                return Self::Next {
                    number: status.failed,
                    pause: pause(status.failed, last.flatten().and_then(ended_at), now),
                    message: None,
                };
            }
        };
        let failed = status.failed + 1;
        if failed > job.spec.backoff_limit {
            return Self::GivenUp { failed, message };
        }
        Self::Next {
            number: failed,
            pause: pause(failed, ended, now),
            message: Some(message),
        }
    }
}

/// Name of the pod of an attempt.
pub(super) fn pod_name(job: &AktisJob, number: i32) -> String {
    names::name(&job.name_any(), &format!("-submit-{number}"))
}

/// When the first container of a pod ended.
fn ended_at(pod: PodFacts<'_>) -> Option<Timestamp> {
    let statuses = pod.0.status.as_ref()?.container_statuses.as_ref()?;
    let ended = statuses.first()?.state.as_ref()?.terminated.as_ref()?;
    ended.finished_at.as_ref().map(|time| time.0)
}

/// 10, 20, 40 ... 300 seconds after the last end; nothing when that is not known.
fn pause(failed: i32, ended: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(ended), Ok(failed)) = (ended, u32::try_from(failed)) else {
        return Duration::ZERO;
    };
    let doublings = failed.saturating_sub(1).min(16);
    let whole = (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE);
    let since = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
    whole.saturating_sub(since)
}
