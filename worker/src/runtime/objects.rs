//! Objects of the node's store: their values, and what becomes of them when no copy is found.

use aktis_common::error::ErrorCode;
use aktis_common::ids::ObjectId;
use aktis_proto::v1 as wire;
use bytes::Bytes;

use super::Runtime;
use crate::error::TaskFailure;
use crate::reference::ProcessAddress;
use crate::store::client::Missed;
use crate::store::layout::read_stored;
use crate::value::Value;

impl Runtime {
    /// Reads a stored object's value; references in it count as held by this process.
    pub(super) fn value_of(&self, object: &Bytes) -> Result<Value, TaskFailure> {
        let broken = |error: String| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("an object in the store is broken: {error}"),
            )
        };
        let (mut value, refs) = read_stored(object).map_err(|error| broken(error.to_string()))?;
        value.contained = self.import_refs(&refs, false).map_err(broken)?;
        Ok(value)
    }

    /// None of these nodes has a copy: the owner is to make another, if no other reader has seen to that meanwhile.
    pub(super) fn report_lost(&self, object: ObjectId, owner: ProcessAddress, missed: &Missed) {
        let Missed {
            nodes,
            making,
            reason,
        } = missed;
        if owner.worker != self.0.me.worker {
            for node in nodes {
                let lost = wire::ObjectLost {
                    object_id: object.to_wire(),
                    node_id: node.to_wire(),
                    making: *making,
                };
                self.tell_peer(owner, wire::lane_frame::Kind::ObjectLost(lost));
            }
        }
        self.with_core(|core, effects| {
            if !reason.is_empty() {
                core.objects.note_loss(object, reason.clone());
            }
            for node in nodes {
                core.objects.copy_lost(object, *node, *making, effects);
            }
        });
    }
}

#[cfg(test)]
mod tests;
