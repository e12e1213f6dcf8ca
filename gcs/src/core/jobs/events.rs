//! Events of jobs.

use aktis_common::error::ErrorCode;
use aktis_common::ids::JobId;
use aktis_proto::v1::{
    AddJobRequest, Failure, FinishJobRequest, JobFinished, JobInfo, publication::Kind,
};

use crate::core::jobs::table::Away;
use crate::core::{GcsCore, GcsError, Table, Turn, read_id};

impl GcsCore {
    /// A driver begins.
    ///
    /// # Errors
    /// When the request has no valid job id.
    pub fn add_job(&mut self, request: AddJobRequest, turn: &mut Turn) -> Result<(), GcsError> {
        let id = read_id("job_id", JobId::from_bytes(&request.job_id))?;
        if let Some(job) = self.jobs.add(id, request, turn.unix_millis) {
            turn.keep(Table::Jobs, id.to_wire(), job);
        }
        Ok(())
    }

    /// A driver has ended.
    ///
    /// # Errors
    /// When the request has no valid job id.
    pub fn finish_job(
        &mut self,
        request: &FinishJobRequest,
        turn: &mut Turn,
    ) -> Result<(), GcsError> {
        let id = read_id("job_id", JobId::from_bytes(&request.job_id))?;
        self.end_job(id, &request.cause, turn);
        Ok(())
    }

    /// All jobs.
    pub fn jobs(&self) -> Vec<JobInfo> {
        self.jobs.list()
    }

    /// A job is over: so are its actors, but for the detached ones.
    pub(in crate::core) fn end_job(&mut self, id: JobId, cause: &str, turn: &mut Turn) {
        let Some(job) = self.jobs.finish(id, cause, turn.unix_millis) else {
            return;
        };
        turn.keep(Table::Jobs, id.to_wire(), job);
        for forgotten in self.jobs.prune() {
            turn.forget(Table::Jobs, forgotten.to_wire());
        }
        for actor in self.actors.owned_by(id) {
            let message = "the actor died: the job that made it is over".to_owned();
            self.bury(actor, Failure::of(ErrorCode::ActorDied, message), turn);
        }
        self.release_keys(id, turn);
        turn.publish(Kind::JobFinished(JobFinished {
            job_id: id.to_wire(),
        }));
    }

    /// Ends the jobs whose drivers were away for too long, and gives up the actors that waited with them.
    pub(in crate::core) fn end_overdue_jobs(&mut self, turn: &mut Turn) {
        let now = turn.now;
        self.end_away_jobs(|away| away.until <= now, turn);
    }

    /// The same for those of which `is_meant` says so.
    pub(in crate::core) fn end_away_jobs(
        &mut self,
        is_meant: impl Fn(&Away) -> bool,
        turn: &mut Turn,
    ) {
        let meant = self.jobs.away().filter(|(_, away)| is_meant(away));
        let meant: Vec<JobId> = meant.map(|(job, _)| job).collect();
        for job in meant {
            if let Some(away) = self.jobs.end_away(job) {
                self.end_away_job(job, &away, turn);
            }
        }
    }

    pub(in crate::core) fn end_away_job(&mut self, job: JobId, away: &Away, turn: &mut Turn) {
        let cause = &away.cause;
        self.end_job(job, &format!("the node of its driver died: {cause}"), turn);
        // The detached ones go on without their job, but not without their node.
        for (actor, _) in self.actors.on_node(away.node) {
            if self
                .actors
                .get(actor)
                .is_some_and(|record| record.job == job)
            {
                self.incarnation_lost(actor, &format!("its node died: {cause}"), turn);
            }
        }
    }
}
