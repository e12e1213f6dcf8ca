//! Where a worker leaves a note of what it has begun: somebody finds it there when the worker has died of that.

use aktis_worker::{Runtime, TaskFailure};
use bytes::Bytes;
use prost::Message;

use crate::wire::failing::NotedCall;

/// Keeps notes by key, beyond the life of this process.
pub(crate) trait Notes: Send + Sync {
    /// Puts the note in the place of the one before. Blocks until it is kept.
    fn note(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure>;
}

/// Notes among the keys of the cluster's head, which go with the job.
pub(crate) struct HeadNotes(pub(crate) Runtime);

impl Notes for HeadNotes {
    fn note(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
        // Whoever finds the note must know whether it was the process that died, or all of its node.
        let call = NotedCall {
            node: Bytes::copy_from_slice(&self.0.greeting().node_id),
            ..call.clone()
        };
        self.0.kv_set(key.clone(), call.encode_to_vec())
    }
}

/// No notes: of workers whose process is the driver's too.
pub(crate) struct NoNotes;

impl Notes for NoNotes {
    fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }
}
