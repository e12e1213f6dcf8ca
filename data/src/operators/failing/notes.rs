//! Where a worker leaves a note of what it has begun: somebody finds it there when the worker has died of that.

use std::time::Duration;

use aktis_worker::{Runtime, TaskFailure};
use bytes::Bytes;
use prost::Message;

use crate::wire::failing::NotedCall;

/// What ends a process does not wait longer than this for its note to be kept.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Keeps notes by key, beyond the life of this process.
pub(crate) trait Notes: Send + Sync {
    /// Puts the note in the place of the one before. Blocks until it is kept.
    fn note(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure>;

    /// The same, of a process that ends then: for some seconds at most, and without a question to Python, whose lock the call may
    /// have.
    fn note_last(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure>;
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

    fn note_last(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
        self.0
            .kv_set_within(key.clone(), call.encode_to_vec(), LAST_PATIENCE)
    }
}

/// No notes: of workers whose process is the driver's too.
pub(crate) struct NoNotes;

impl Notes for NoNotes {
    fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn note_last(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }
}
