//! Under which keys the head has what jobs have cost: who runs them writes, `aktis cost` reads.
//!
//! Records belong to no job, so that they stay when their job is over; whoever writes one removes the oldest when there are too many. Their
//! keys begin with the time, so the oldest come first.

use crate::ids::JobId;

/// What keys of records begin with.
pub const RECORDS: &str = "cost/";

/// Records that stay; a process that writes them looks now and then.
pub const RECORDS_KEPT: usize = 2000;

/// The key of a record. `began`: milliseconds since 1970; `run`: no two runs of a job have the same.
#[must_use]
pub fn record_key(began: u64, job: JobId, run: &str) -> String {
    format!("{RECORDS}{began:014}/{job}/{run}")
}

/// The key of a job's tags, a JSON object of texts; it goes with the job.
#[must_use]
pub fn tags_key(job: JobId) -> String {
    format!("job-tags/{job}")
}
