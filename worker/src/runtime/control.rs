//! Questions to the raylet and, through it, to the gcs.

use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_lane::Urgency;
use aktis_proto::v1 as wire;
use prost::Message;
use wire::node_frame::Kind;

use super::Runtime;
use crate::error::TaskFailure;

/// How long a question to the raylet itself may take before it counts as failed.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

impl Runtime {
    /// Tells the node of Python modules that workers of this job are likely to need, more than were known when the job began.
    pub fn preload(&self, modules: Vec<String>) {
        let preload = wire::Preload { modules };
        self.0.node.tell(Kind::Preload(preload), Urgency::Now);
    }

    /// The nodes of the cluster, with totals and what is free.
    pub fn nodes(&self) -> Result<Vec<wire::NodeInfo>, TaskFailure> {
        Ok(self.cluster()?.nodes)
    }

    /// What nodes had that were lost lately, and may come back or be replaced.
    pub fn lost_nodes(&self) -> Result<Vec<wire::NodeInfo>, TaskFailure> {
        Ok(self.cluster()?.lost)
    }

    fn cluster(&self) -> Result<wire::ClusterReply, TaskFailure> {
        self.check_open()?;
        let query = Kind::ClusterQuery(wire::ClusterQuery {});
        let (reply, _) = self.0.node.request(
            self.reactor(),
            query,
            Some(Instant::now() + CONTROL_TIMEOUT),
            self.0.interrupt,
        )?;
        match reply {
            Kind::ClusterReply(reply) => Ok(reply),
            _ => Err(TaskFailure::new(
                ErrorCode::Internal,
                "the raylet answered a query with another frame",
            )),
        }
    }

    /// Waits until everything that workers of this node have printed until now has come to this driver, or `patience` is over.
    pub fn await_output(&self, patience: Duration) {
        let flush = Kind::LogFlush(wire::LogFlush {});
        let deadline = Some(Instant::now() + patience);
        let flushed = self
            .0
            .node
            .request(self.reactor(), flush, deadline, || false);
        if let Err(failure) = flushed {
            tracing::debug!(%failure, "the last lines of workers may be missing");
        }
    }

    /// Calls a method of the gcs through the raylet.
    pub fn call_gcs<Request: Message, Reply: Message + Default>(
        &self,
        method: &str,
        request: &Request,
    ) -> Result<Reply, TaskFailure> {
        // The raylet answers as soon as it knows, or has waited for the head for as long as it is told to.
        let deadline = None;
        self.call_gcs_until(method, request, deadline, self.0.interrupt)
    }

    fn call_gcs_until<Request: Message, Reply: Message + Default>(
        &self,
        method: &str,
        request: &Request,
        deadline: Option<Instant>,
        interrupt: fn() -> bool,
    ) -> Result<Reply, TaskFailure> {
        self.check_open()?;
        let call = wire::GcsCall {
            method: method.to_owned(),
            body: request.encode_to_vec().into(),
        };
        match self
            .0
            .node
            .request(self.reactor(), Kind::GcsCall(call), deadline, interrupt)?
            .0
        {
            Kind::GcsReply(reply) => Reply::decode(reply.body).map_err(|error| {
                TaskFailure::new(
                    ErrorCode::Internal,
                    format!("cannot read the gcs's answer to {method}: {error}"),
                )
            }),
            _ => Err(TaskFailure::new(
                ErrorCode::Internal,
                "the raylet answered a gcs call with another frame",
            )),
        }
    }

    /// Exports a definition under the hash of its bytes, for as long as this process's job needs it.
    pub fn kv_put(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
    ) -> Result<(), TaskFailure> {
        self.put_key(key.into(), value.into(), false)
    }

    /// As [`Self::kv_set`], for so long at most, whatever holds the head up, and without asking for signals.
    pub fn kv_set_within(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
        patience: Duration,
    ) -> Result<(), TaskFailure> {
        let request = self.to_put(key.into(), value.into(), true);
        let deadline = Some(Instant::now() + patience);
        self.call_gcs_until::<_, wire::KvPutReply>("KvPut", &request, deadline, || false)
            .map(drop)
    }

    /// Puts a value in the place of what the key had, for as long as this process's job needs it.
    pub fn kv_set(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
    ) -> Result<(), TaskFailure> {
        self.put_key(key.into(), value.into(), true)
    }

    fn put_key(
        &self,
        key: bytes::Bytes,
        value: bytes::Bytes,
        overwrite: bool,
    ) -> Result<(), TaskFailure> {
        let request = self.to_put(key, value, overwrite);
        self.call_gcs::<_, wire::KvPutReply>("KvPut", &request)
            .map(drop)
    }

    fn to_put(
        &self,
        key: bytes::Bytes,
        value: bytes::Bytes,
        overwrite: bool,
    ) -> wire::KvPutRequest {
        wire::KvPutRequest {
            key,
            value,
            overwrite,
            job_id: self.job().to_wire(),
        }
    }

    /// Puts a value that stays until somebody removes it, whatever becomes of this process's job. For so long at most.
    pub fn kv_keep(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
        patience: Duration,
    ) -> Result<(), TaskFailure> {
        let request = wire::KvPutRequest {
            job_id: bytes::Bytes::new(),
            ..self.to_put(key.into(), value.into(), true)
        };
        let deadline = Some(Instant::now() + patience);
        self.call_gcs_until::<_, wire::KvPutReply>("KvPut", &request, deadline, || false)
            .map(drop)
    }

    /// The keys of the gcs table that begin so, in order. For so long at most.
    pub fn kv_keys(
        &self,
        prefix: impl Into<bytes::Bytes>,
        patience: Duration,
    ) -> Result<Vec<bytes::Bytes>, TaskFailure> {
        let request = wire::KvKeysRequest {
            prefix: prefix.into(),
        };
        let deadline = Some(Instant::now() + patience);
        let reply: wire::KvKeysReply =
            self.call_gcs_until("KvKeys", &request, deadline, || false)?;
        Ok(reply.keys)
    }

    /// Removes a key of the gcs table. For so long at most.
    pub fn kv_delete(
        &self,
        key: impl Into<bytes::Bytes>,
        patience: Duration,
    ) -> Result<(), TaskFailure> {
        let request = wire::KvGetRequest { key: key.into() };
        let deadline = Some(Instant::now() + patience);
        self.call_gcs_until::<_, wire::Empty>("KvDelete", &request, deadline, || false)
            .map(drop)
    }

    /// Reads a key of the gcs table.
    pub fn kv_get(
        &self,
        key: impl Into<bytes::Bytes>,
    ) -> Result<Option<bytes::Bytes>, TaskFailure> {
        let request = wire::KvGetRequest { key: key.into() };
        Ok(self
            .call_gcs::<_, wire::KvGetReply>("KvGet", &request)?
            .value)
    }

    /// The same, for so long at most, whatever holds the head up.
    pub fn kv_get_within(
        &self,
        key: impl Into<bytes::Bytes>,
        patience: Duration,
    ) -> Result<Option<bytes::Bytes>, TaskFailure> {
        let request = wire::KvGetRequest { key: key.into() };
        let deadline = Some(Instant::now() + patience);
        let reply: wire::KvGetReply = self.call_gcs_until("KvGet", &request, deadline, || false)?;
        Ok(reply.value)
    }

    pub(super) fn check_open(&self) -> Result<(), TaskFailure> {
        if self.is_closed() {
            Err(crate::node_link::raylet_gone())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PretendedRaylet;

    #[test]
    fn key_that_nobody_keeps_is_given_up_at_its_deadline() {
        let folder = tempfile::tempdir().expect("a folder");
        let node = PretendedRaylet::new(folder.path()).expect("a raylet");
        let (runtime, _silent) = node.join().expect("joined");
        let patience = Duration::from_millis(50);
        let kept = runtime.kv_set_within("key", "value", patience);
        assert_eq!(kept.expect_err("nobody answers").code, ErrorCode::Timeout);
        let read = runtime.kv_get_within("key", patience);
        assert_eq!(read.expect_err("nobody answers").code, ErrorCode::Timeout);
    }
}
