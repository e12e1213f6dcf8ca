//! Requests that the core refuses.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{ActorId, InvalidId, JobId, WorkerId};
use aktis_proto::convert::{ConvertError, status};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum GcsError {
    /// A field is not what it should be.
    #[error("{field}: {cause}")]
    InvalidId {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        cause: InvalidId,
    },
    /// A field is missing.
    #[error("the request lacks {field}")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// Resources or strategy make no sense.
    #[error("{0}")]
    Resources(ConvertError),
    /// No actor of this id.
    #[error("there is no actor {actor}")]
    UnknownActor {
        /// Which.
        actor: ActorId,
    },
    /// No living actor of this name.
    #[error("there is no living actor named {name:?} in namespace {namespace:?}{hint}")]
    UnknownName {
        /// Which.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Other namespaces that have it, as a sentence, or nothing.
        hint: String,
    },
    /// A living actor has this name.
    #[error(
        "the name {name:?} is taken by a living actor in namespace {namespace:?}; \
         choose another, kill that actor, or pass get_if_exists=True"
    )]
    NameTaken {
        /// Which.
        name: String,
        /// Where.
        namespace: String,
    },
    /// The process that made the actor has ended since (`ACT-5`).
    #[error("process {maker}, which made the actor, has ended")]
    MakerGone {
        /// Which.
        maker: WorkerId,
    },
    /// The job of the request is over.
    #[error("job {job} is over")]
    JobOver {
        /// Which.
        job: JobId,
    },
}

impl GcsError {
    /// What it is for other processes.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidId { .. } | Self::Missing { .. } | Self::Resources(_) => {
                ErrorCode::InvalidArgument
            }
            Self::UnknownActor { .. } | Self::UnknownName { .. } => ErrorCode::NotFound,
            Self::NameTaken { .. } => ErrorCode::AlreadyExists,
            Self::JobOver { .. } | Self::MakerGone { .. } => ErrorCode::Cancelled,
        }
    }
}

impl From<GcsError> for tonic::Status {
    fn from(error: GcsError) -> Self {
        status(error.code(), error.to_string())
    }
}
