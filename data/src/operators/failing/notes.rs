//! Where a worker leaves a note of what it has begun: somebody finds it there when the worker has died of that.

use std::time::Duration;

use aktis_worker::{Runtime, TaskFailure};
use bytes::Bytes;
use prost::Message;

use crate::wire::failing::NotedCall;

/// Who notes something beside a call does not wait longer than this for it to be kept.
const PATIENCE_BESIDE: Duration = Duration::from_secs(5);

/// Keeps notes by key, beyond the life of this process.
pub(crate) trait Notes: Send + Sync {
    /// Puts the note in the place of the one before. Blocks until it is kept.
    fn note(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure>;

    /// The same on a thread beside the call: for some seconds at most, and without a question to Python, whose lock the call may have.
    fn note_beside(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure>;
}

/// Notes among the keys of the cluster's head, which go with the job.
pub(crate) struct HeadNotes(pub(crate) Runtime);

impl Notes for HeadNotes {
    fn note(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
        self.0.kv_set(key.clone(), self.with_node(call))
    }

    fn note_beside(&self, key: &Bytes, call: &NotedCall) -> Result<(), TaskFailure> {
        let call = self.with_node(call);
        self.0.kv_set_within(key.clone(), call, PATIENCE_BESIDE)
    }
}

impl HeadNotes {
    /// Whoever finds the note must know whether it was the process that died, or all of its node.
    fn with_node(&self, call: &NotedCall) -> Vec<u8> {
        let call = NotedCall {
            node: Bytes::copy_from_slice(&self.0.greeting().node_id),
            ..call.clone()
        };
        call.encode_to_vec()
    }
}

/// No notes: of workers whose process is the driver's too.
pub(crate) struct NoNotes;

impl Notes for NoNotes {
    fn note(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }

    fn note_beside(&self, _key: &Bytes, _call: &NotedCall) -> Result<(), TaskFailure> {
        Ok(())
    }
}
