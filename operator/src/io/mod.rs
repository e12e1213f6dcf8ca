//! Talks to the Kubernetes API: looks, and carries plans out. Decides nothing.

pub mod carry_out;
mod credentials;
mod observe;
mod status;

pub use credentials::{Credentials, VALIDITY_YEARS};
pub use observe::{observe_cluster, observe_job, observe_jobs_of};
pub use status::write_status;

/// A call of the Kubernetes API that did not go well.
#[derive(Debug, thiserror::Error)]
#[error("{step} {object}: {message}")]
pub struct ApiError {
    /// What was tried: `list`, `create`, ...
    pub step: &'static str,
    /// Kind and name.
    pub object: String,
    /// What the API said, in one line.
    pub message: String,
    /// Whether the API has understood and refused, rather than not answered.
    pub is_refusal: bool,
}

impl ApiError {
    pub(crate) fn new(step: &'static str, object: impl Into<String>, error: &kube::Error) -> Self {
        let (message, is_refusal) = match error {
            kube::Error::Api(status) => (status.message.clone(), (400..500).contains(&status.code)),
            other => (other.to_string(), false),
        };
        Self {
            step,
            object: object.into(),
            message,
            is_refusal,
        }
    }
}

/// Whether the error is an answer of the API with this HTTP code.
fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
