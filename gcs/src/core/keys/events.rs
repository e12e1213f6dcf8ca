//! Events of the key-value table.

use aktis_common::ids::JobId;
use aktis_proto::v1::KvPutRequest;
use bytes::Bytes;

use crate::core::keys::table::PutOutcome;
use crate::core::{GcsCore, Table, Turn};

impl GcsCore {
    /// Puts a row; gives whether the key is new.
    pub fn kv_put(&mut self, request: KvPutRequest, turn: &mut Turn) -> bool {
        let KvPutRequest {
            key,
            value,
            overwrite,
            job_id,
        } = request;
        let outcome = self.kv.put(key.clone(), value.clone(), overwrite);
        if outcome != PutOutcome::Kept {
            turn.keep_bytes(Table::KeyValues, key.clone(), value);
        }
        let is_anybodys = outcome == PutOutcome::Added
            || self.kv.row(&key).is_some_and(|row| !row.jobs.is_empty());
        if let Some(job) = JobId::from_bytes(&job_id).ok().filter(|_| is_anybodys)
            && self.kv.claim(&key, job)
        {
            turn.keep_bytes(Table::KeyJobs, claim_key(job, &key), Bytes::new());
            // A straggler of a job that is over leaves nothing behind.
            if self.jobs.is_over(job) {
                self.release_keys(job, turn);
            }
        }
        outcome == PutOutcome::Added
    }

    /// Removes a row.
    pub fn kv_delete(&mut self, key: Bytes, turn: &mut Turn) {
        if let Some(row) = self.kv.delete(&key) {
            for job in row.jobs {
                turn.forget(Table::KeyJobs, claim_key(job, &key));
            }
            turn.forget(Table::KeyValues, key);
        }
    }

    /// Removes what a job put, once nobody needs it: the job is over, and so are its detached actors, which may be restarted
    /// from what it put (`KV-1`).
    pub(in crate::core) fn release_keys(&mut self, job: JobId, turn: &mut Turn) {
        let is_needed = |job| {
            let mut actors = self.actors.iter();
            actors.any(|record| record.job == job && !record.is_dead())
        };
        // One that is over for long is not on the list any more.
        if self.jobs.is_running(job) || is_needed(job) {
            return;
        }
        for (key, is_gone) in self.kv.release(job) {
            turn.forget(Table::KeyJobs, claim_key(job, &key));
            if is_gone {
                turn.forget(Table::KeyValues, key);
            }
        }
    }
}

/// Key of a row of [`Table::KeyJobs`].
pub(in crate::core) fn claim_key(job: JobId, key: &[u8]) -> Bytes {
    [job.as_bytes(), key].concat().into()
}

/// The job and the key that [`claim_key`] joined.
pub(in crate::core) fn split_claim(claim: &Bytes) -> Option<(JobId, Bytes)> {
    let job = JobId::from_bytes(claim.get(..JobId::LEN)?).ok()?;
    Some((job, claim.slice(JobId::LEN..)))
}
