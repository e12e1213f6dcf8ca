//! The closed set of failures that cross processes.
//!
//! Each crate has its own error enums; where a failure leaves the process it becomes one [`ErrorCode`] with a message.
//! The Python package maps every code to one exception class, the gRPC services to one status code.

/// What went wrong, as every process and every language understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// A defect in Aktis itself or a broken peer; never the user's mistake.
    Internal = 1,
    /// The user's function raised. Carries the pickled exception and the remote traceback.
    Application = 2,
    /// The worker process died while it ran the task.
    WorkerCrashed = 3,
    /// The actor is dead for good.
    ActorDied = 4,
    /// The actor cannot be reached now, but may come back.
    ActorUnavailable = 5,
    /// The node that ran the task died.
    NodeDied = 6,
    /// No copy of the object is left and it cannot be recomputed.
    ObjectLost = 7,
    /// The object could not be recomputed; the message says which limit or missing lineage stopped it.
    ReconstructionFailed = 8,
    /// The process that owned the object died.
    OwnerDied = 9,
    /// The object store has no room and nothing can be spilled.
    ObjectStoreFull = 10,
    /// The disk for spilled objects is full.
    OutOfDisk = 11,
    /// A wait ended at its deadline.
    Timeout = 12,
    /// The task was cancelled.
    Cancelled = 13,
    /// No node can ever satisfy the request; the message names what is missing.
    Unschedulable = 14,
    /// Too many calls wait for the actor (`max_pending_calls`).
    PendingCallsLimit = 15,
    /// A name, key or id that does not exist.
    NotFound = 16,
    /// A name that is taken.
    AlreadyExists = 17,
    /// An argument that makes no sense; the message names it.
    InvalidArgument = 18,
    /// The session is over or was never begun.
    NotConnected = 19,
    /// A value could not be serialised or deserialised.
    Serialization = 20,
    /// The runtime environment of the task could not be set up.
    RuntimeEnv = 21,
    /// The worker was ended because the node ran out of memory.
    OutOfMemory = 22,
    /// The operating system refused something: a missing right, a full disk. Carries its error number.
    Os = 23,
    /// The bytes of an object are there, and cannot be read now: a disk that does not answer, or a limit of open files.
    ObjectUnreadable = 24,
}

impl ErrorCode {
    const ALL: [Self; 24] = [
        Self::Internal,
        Self::Application,
        Self::WorkerCrashed,
        Self::ActorDied,
        Self::ActorUnavailable,
        Self::NodeDied,
        Self::ObjectLost,
        Self::ReconstructionFailed,
        Self::OwnerDied,
        Self::ObjectStoreFull,
        Self::OutOfDisk,
        Self::Timeout,
        Self::Cancelled,
        Self::Unschedulable,
        Self::PendingCallsLimit,
        Self::NotFound,
        Self::AlreadyExists,
        Self::InvalidArgument,
        Self::NotConnected,
        Self::Serialization,
        Self::RuntimeEnv,
        Self::OutOfMemory,
        Self::Os,
        Self::ObjectUnreadable,
    ];

    /// The number that travels.
    pub const fn as_u32(self) -> u32 {
        self as u32
    }

    /// Reads a number from the wire; an unknown one (a newer peer) counts as [`Self::Internal`].
    pub fn from_u32(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|code| code.as_u32() == number)
            .unwrap_or(Self::Internal)
    }

    /// Whether running the task again may help: the failure was the system's, not the application's.
    pub const fn is_system_failure(self) -> bool {
        matches!(
            self,
            Self::WorkerCrashed
                | Self::NodeDied
                | Self::ObjectLost
                | Self::ActorUnavailable
                | Self::OutOfMemory
                | Self::ObjectUnreadable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_u32(code.as_u32()), code);
        }
        assert_eq!(ErrorCode::from_u32(9999), ErrorCode::Internal);
    }
}
