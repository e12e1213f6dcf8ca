//! What executions have cost, kept by the head: see [`job_costs`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aktis_common::ids::{JobId, WorkerId};
use aktis_common::job_costs::{self, RECORDS, RECORDS_KEPT};
use aktis_worker::{Runtime, TaskFailure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::operators::failing::now_micros;

/// Whoever waits for the end of a dataset waits no longer than this for its record.
const PATIENCE: Duration = Duration::from_secs(2);

/// Of so many executions of a process, the first looks whether there are too many records: their keys are many, and a short query waits for them.
const LOOKS_EVERY: u32 = 64;

/// Executions of this process that were over.
static OVER: Mutex<u32> = Mutex::new(0);

/// The record of one execution.
pub(super) struct KeptCosts {
    began_millis: u64,
    run: WorkerId,
    tags: OnceLock<Value>,
}

impl Default for KeptCosts {
    fn default() -> Self {
        Self {
            began_millis: now_millis(),
            run: WorkerId::random(),
            tags: OnceLock::new(),
        }
    }
}

impl KeptCosts {
    /// Keeps the record in the place of the one before.
    pub(super) fn keep(&self, runtime: &Runtime, record: Value) {
        if let Err(failure) = self.try_to_keep(runtime, record) {
            tracing::debug!(%failure, "what a dataset has cost is not kept");
        }
    }

    fn try_to_keep(&self, runtime: &Runtime, mut record: Value) -> Result<(), TaskFailure> {
        let job = runtime.job();
        let deadline = Instant::now() + PATIENCE;
        record["job"] = json!(job.to_string());
        record["tags"] = self.tags(runtime, job, deadline)?;
        record["began_unix_millis"] = json!(self.began_millis);
        record["kept_unix_millis"] = json!(now_millis());
        let is_done = record["is_done"] == json!(true);
        let key = job_costs::record_key(self.began_millis, job, &self.run.to_string());
        runtime.kv_keep(key, record.to_string(), until(deadline))?;
        if is_done && looks() {
            forget_the_oldest(runtime, deadline)?;
        }
        Ok(())
    }

    fn tags(&self, runtime: &Runtime, job: JobId, deadline: Instant) -> Result<Value, TaskFailure> {
        if let Some(tags) = self.tags.get() {
            return Ok(tags.clone());
        }
        let text = runtime.kv_get_within(job_costs::tags_key(job), until(deadline))?;
        let tags = text.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(self
            .tags
            .get_or_init(|| tags.unwrap_or_else(|| json!({})))
            .clone())
    }
}

/// Whether this execution is the one that looks.
fn looks() -> bool {
    let mut over = OVER.lock();
    *over += 1;
    *over % LOOKS_EVERY == 1
}

fn forget_the_oldest(runtime: &Runtime, deadline: Instant) -> Result<(), TaskFailure> {
    let keys = runtime.kv_keys(RECORDS, until(deadline))?;
    let surplus = keys.len().saturating_sub(RECORDS_KEPT);
    let mut oldest = keys.into_iter().take(surplus);
    oldest.try_for_each(|key| runtime.kv_delete(key, until(deadline)))
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn now_millis() -> u64 {
    u64::try_from(now_micros() / 1000).unwrap_or(0)
}
