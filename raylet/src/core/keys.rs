//! Numbers under which this raylet knows connections, calls, leases and workers being started.

macro_rules! define_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

define_key!(
    /// A process's connection to the node socket. Never used twice.
    ConnectionId
);
define_key!(
    /// A gRPC call that this raylet is answering. Never used twice.
    CallId
);
define_key!(
    /// A lease of a worker of this node. Never used twice.
    LeaseId
);
define_key!(
    /// A worker that was asked of the zygote. Never used twice.
    StartupToken
);

/// Who waits for the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplyTo {
    /// A process of this node, under the number it chose.
    Process {
        /// Its connection.
        connection: ConnectionId,
        /// Its number for the request.
        request_id: u64,
    },
    /// Another raylet or the gcs.
    Call(CallId),
}

impl ReplyTo {
    /// The connection that waits, if it is one of this node.
    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Process { connection, .. } => Some(connection),
            Self::Call(_) => None,
        }
    }
}
