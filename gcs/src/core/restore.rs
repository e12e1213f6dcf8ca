//! The state of a head that comes back.

use std::time::Duration;

use aktis_common::ids::{ActorId, InvalidId, JobId, NodeId};
use aktis_proto::v1::{JobInfo, NodeInfo};
use bytes::Bytes;
use prost::Message;

use super::actors::table::{ActorRecord, Phase, StoredActor};
use super::jobs::table::Away;
use super::keys::events::split_claim;
use super::{GcsCore, NodeTimeouts, Table, Turn};

/// Key of the session id in [`Table::Meta`].
const SESSION_KEY: &[u8] = b"session_id";

/// A row that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which table.
    pub table: Table,
    /// Its key.
    pub key: Bytes,
    /// Its content.
    pub value: Bytes,
}

/// A row that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The key is no id.
    #[error("a row of table {table:?} has a broken id: {cause}")]
    Id {
        /// Which table.
        table: Table,
        /// What is wrong.
        cause: InvalidId,
    },
    /// The content is no message.
    #[error("row {key:02x?} of table {table:?} is broken: {cause}")]
    Message {
        /// Which table.
        table: Table,
        /// Which row.
        key: Bytes,
        /// What is wrong.
        cause: prost::DecodeError,
    },
}

impl GcsCore {
    /// The state that these rows describe (`GCS-2`). Without rows: a new session of this id.
    ///
    /// # Errors
    /// At the first row that makes no sense.
    pub fn restore(
        session_id: String,
        timeouts: NodeTimeouts,
        rows: Vec<Row>,
        now: Duration,
    ) -> Result<Self, RestoreError> {
        let mut core = Self::new(session_id, timeouts);
        for row in rows {
            core.restore_row(row, now)?;
        }
        Ok(core)
    }

    fn restore_row(&mut self, row: Row, now: Duration) -> Result<(), RestoreError> {
        let Row { table, key, value } = row;
        let id_error = |cause: InvalidId| RestoreError::Id { table, cause };
        match table {
            Table::Meta if key == SESSION_KEY => {
                self.session_id = String::from_utf8_lossy(&value).into_owned();
            }
            Table::Meta => {}
            Table::Nodes => {
                let id = NodeId::from_bytes(&key).map_err(id_error)?;
                self.nodes
                    .restore(id, decode::<NodeInfo>(table, &key, value)?, now);
            }
            Table::Jobs => {
                let id = JobId::from_bytes(&key).map_err(id_error)?;
                self.jobs
                    .restore(id, decode::<JobInfo>(table, &key, value)?);
            }
            Table::Actors => {
                let id = ActorId::from_bytes(&key).map_err(id_error)?;
                let stored = decode::<StoredActor>(table, &key, value)?;
                self.actors
                    .insert(ActorRecord::from_stored(id, stored).map_err(id_error)?);
            }
            Table::KeyValues => {
                self.kv.put(key, value, true);
            }
            Table::KeyJobs => {
                if let Some((job, key)) = split_claim(&key) {
                    self.kv.claim(&key, job);
                }
            }
        }
        Ok(())
    }

    /// Takes up what was under way when the head went down; to be called once, before anything else.
    pub fn resume(&mut self, turn: &mut Turn) {
        turn.keep_bytes(
            Table::Meta,
            Bytes::from_static(SESSION_KEY),
            Bytes::from(self.session_id.clone()),
        );
        let phases: Vec<(ActorId, Phase)> = self
            .actors
            .iter()
            .map(|record| (record.id, record.phase))
            .collect();
        // The last head's own node was in its process, and this process's has not registered yet.
        for node in self.nodes.of_heads() {
            let cause = "the head that it was part of has ended";
            self.node_died(node, cause, Duration::ZERO, turn);
        }
        self.nodes.resume(turn.now, turn.unix_millis);
        let nodes = &self.nodes;
        for (job, node) in self
            .jobs
            .on_nodes_where(|node| nodes.living(node).is_none())
        {
            let away = Away {
                node,
                cause: "it was dead when the head was started again".to_owned(),
                until: turn.now + self.timeouts.driver_grace,
            };
            self.jobs.set_away(job, away);
        }
        for (actor, phase) in phases {
            // What that node's death changed has been seen to.
            if self.actors.get(actor).map(|record| record.phase) != Some(phase) {
                continue;
            }
            match phase {
                Phase::Queued => self.queue_again(actor, turn),
                // The raylet says what became of it before it registers, and is then asked again to start it (`start_held`).
                Phase::Starting { node, .. }
                | Phase::Alive { node, .. }
                | Phase::Ending { node, .. }
                    if self.nodes.living(node).is_some() => {}
                Phase::Starting { .. } | Phase::Alive { .. } | Phase::Ending { .. }
                    if self.is_held(actor) => {}
                Phase::Starting { .. } | Phase::Alive { .. } | Phase::Ending { .. } => {
                    self.incarnation_lost(actor, "its node died", turn);
                }
                Phase::Dead => {}
            }
        }
        self.is_placing_due = true;
    }
}

fn decode<M: Message + Default>(
    table: Table,
    key: &Bytes,
    value: Bytes,
) -> Result<M, RestoreError> {
    M::decode(value).map_err(|cause| RestoreError::Message {
        table,
        key: key.clone(),
        cause,
    })
}
