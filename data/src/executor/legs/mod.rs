//! Jobs in legs: executions one after the other on one thread, behind one handle.
//!
//! The output of the job is begun first, and locked until the end: legs lie in its folder. Those that an earlier run has finished are
//! not run again, nor are those that only these read.

mod finished;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use parking_lot::Mutex;

use finished::{FinishedLeg, NotTold};

use super::failed_rows::LetterBlock;
use super::launch::{self, Launched};
use super::outputs::{BegunOutput, given_up};
use super::pool::StagePool;
use super::prepare::{lost_nodes, ready};
use super::{Delivery, ExecuteError, Execution, ExecutionOptions, RunningLoop};
use crate::error::PlanError;
use crate::graph::{JobPlan, Leg, LegTable, Legs, StageEnd, fit_with_lost};
use crate::ledger::{
    FolderOutput, JobIdentity, LEG_PREFIX, LegFolders, LegState, UNFINISHED, close_together,
};
use crate::panics;
use crate::sinks::{ParquetOutput, ParquetWriting, Sink};
use crate::sources::ParquetTable;
use crate::storage::{PathColumns, StoreSpec, read_footers_here};

/// The number of the system's error for a disk without room.
const NO_SPACE: i32 = 28;

/// Begins the job with the first of its legs that is to be done. `begin`: begins its outputs.
pub(super) fn start(
    legs: Legs,
    identity: &JobIdentity,
    begin: impl FnOnce() -> Result<Vec<BegunOutput>, PlanError>,
    pool: Box<dyn StagePool>,
    options: &ExecutionOptions,
) -> Result<Execution, ExecuteError> {
    let view = pool.look()().map_err(ExecuteError::Failed)?;
    for leg in legs.before.iter().chain([&legs.last]) {
        let lost = lost_nodes(&leg.job, pool.as_ref())?;
        fit_with_lost(leg.job.clone(), view.clone(), &lost).map_err(ExecuteError::Fit)?;
    }
    let outputs = begin().map_err(ExecuteError::Plan)?;
    let mut chain = JobInLegs::begin(legs, identity, outputs, pool, options)?;
    let first = chain.next()?;
    let (delivered, of_job) = channel();
    let (reader, held) = (Arc::clone(&first.reader), Arc::clone(&first.held));
    let job = Execution::new(chain.running(&first), of_job, reader, held);
    let running = Arc::clone(&job.running);
    launch::start_thread(move || {
        let run = || {
            chain.run(first, &running, &delivered);
            Ok(())
        };
        if let Err(failure) = panics::caught(|text| panics::defect("the executor", text), run) {
            // The consumer may have gone away.
            let _ = delivered.send(Delivery::End(Err(failure)));
        }
    })?;
    Ok(job)
}

/// What is left to do of a job in legs.
struct JobInLegs {
    legs: Legs,
    /// The legs that are to be run, in order.
    open: Vec<usize>,
    /// Those whose files nobody needs any more.
    used: BTreeSet<usize>,
    /// Those that an earlier run has finished, if something is counted in them.
    finished: BTreeMap<usize, FinishedLeg>,
    /// Rows that legs have put aside which are finished.
    letters: BTreeMap<usize, Vec<LetterBlock>>,
    folders: LegFolders,
    identity: JobIdentity,
    /// The outputs of the job; `None`: the last leg has them.
    outputs: Option<Vec<BegunOutput>>,
    /// The leg that runs; `None`: the last one does.
    current: Option<usize>,
    pool: Box<dyn StagePool>,
    options: ExecutionOptions,
}

impl JobInLegs {
    fn begin(
        legs: Legs,
        identity: &JobIdentity,
        mut outputs: Vec<BegunOutput>,
        pool: Box<dyn StagePool>,
        options: &ExecutionOptions,
    ) -> Result<Self, ExecuteError> {
        let Some((Some(main), _)) = outputs.first_mut() else {
            let nothing = "the output is no folder here".to_owned();
            return Err(ExecuteError::Plan(PlanError::InvalidArgument(nothing)));
        };
        main.begin_legs(legs.before.len() as u64)
            .map_err(ExecuteError::Plan)?;
        let mut chain = Self {
            open: Vec::new(),
            used: BTreeSet::new(),
            finished: BTreeMap::new(),
            letters: BTreeMap::new(),
            folders: main.legs(),
            identity: JobIdentity {
                together: None,
                ..identity.clone()
            },
            outputs: None,
            current: None,
            pool,
            options: options.clone(),
            legs,
        };
        chain.look(main).map_err(ExecuteError::Plan)?;
        chain.read_finished()?;
        if chain.legs.last.job.fault(options.keep_order).is_some() {
            let mut folders = outputs.iter_mut().filter_map(|(folder, _)| folder.as_mut());
            folders
                .try_for_each(FolderOutput::make_whole_each_time)
                .map_err(ExecuteError::Plan)?;
        }
        chain.outputs = Some(outputs);
        Ok(chain)
    }

    /// Reads what legs have found that are not run again.
    fn read_finished(&mut self) -> Result<(), ExecuteError> {
        for (number, leg) in self.legs.before.iter().enumerate() {
            if self.open.contains(&number) || !leg.job.counts_rows() {
                continue;
            }
            let read = FinishedLeg::read(number, &leg.job, &self.folders, self.pool.as_ref());
            let mut leg = read.map_err(|why| match why {
                NotTold::Gone => ExecuteError::Plan(self.gone()),
                NotTold::Failed(failure) => ExecuteError::Failed(failure),
            })?;
            self.letters
                .insert(number, std::mem::take(&mut leg.letters));
            self.finished.insert(number, leg);
        }
        Ok(())
    }

    /// Which legs are to be run: those whose files somebody needs and that are not there.
    fn look(&mut self, main: &FolderOutput) -> Result<(), PlanError> {
        let count = self.legs.before.len();
        let states: Result<Vec<LegState>, PlanError> = (0..count)
            .map(|leg| self.folders.look(leg, &self.identity.traits))
            .collect();
        let states = states?;
        let mut needed = self.legs.last.reads.clone();
        let is_missing = |leg: &usize| states[*leg] != LegState::Done;
        if main.has_own_rows() && needed.iter().any(is_missing) {
            return Err(self.gone());
        }
        for leg in (0..count).rev() {
            if !needed.contains(&leg) || states[leg] == LegState::Done {
                continue;
            }
            let reads = &self.legs.before[leg].reads;
            let has_begun = states[leg] == LegState::Begun;
            if states[leg] == LegState::Used || (has_begun && reads.iter().any(is_missing)) {
                return Err(self.gone());
            }
            needed.extend(reads);
            self.open.insert(0, leg);
        }
        Ok(())
    }

    fn gone(&self) -> PlanError {
        PlanError::InvalidArgument(format!(
            "what an earlier run of this job had kept in {} is not all there any more: somebody has removed a part of it; resume=False \
             begins anew",
            self.folders
                .path(0)
                .parent()
                .unwrap_or(&self.folders.path(0))
                .display()
        ))
    }

    /// Makes the next leg ready.
    fn next(&mut self) -> Result<Launched, ExecuteError> {
        let pool = self.pool.another();
        let options = self.options.clone();
        self.current = (!self.open.is_empty()).then(|| self.open.remove(0));
        match self.current {
            Some(leg) => {
                let (job, sink) = self.leg(leg).map_err(ExecuteError::Plan)?;
                let folders = self.folders.clone();
                let begin = |_: &JobPlan| begun(&sink, &folders);
                ready(job, None, begin, pool, &options)
            }
            None => {
                let job = self.filled(&self.legs.last).map_err(ExecuteError::Plan)?;
                let outputs = self.outputs.take().unwrap_or_default();
                let last = ready(job, None, |_| Ok(outputs), pool, &options)?;
                self.give_letters(&last);
                Ok(last)
            }
        }
    }

    /// The job of a leg, and where it writes.
    fn leg(&self, leg: usize) -> Result<(JobPlan, Sink), PlanError> {
        let mut job = self.filled(&self.legs.before[leg])?;
        let path = self.folders.path(leg).display().to_string();
        let goes_on = job.fault(self.options.keep_order).is_none();
        let takes_up = goes_on && self.folders.look(leg, &self.identity.traits)? == LegState::Begun;
        let sink = Sink::Parquet(ParquetOutput {
            writing: writing(),
            identity: goes_on.then(|| JobIdentity {
                takes_up,
                ..self.identity.clone()
            }),
            ..ParquetOutput::new(path, LEG_PREFIX)
        });
        if let Some(last) = job.stages.last_mut() {
            last.end = Some(StageEnd {
                sink: sink.clone(),
                output: 0,
                label: Some(format!("leg {}", leg + 1)),
            });
        }
        Ok((job, sink))
    }

    /// The job of a leg, with the files of those that it reads as its sources.
    fn filled(&self, leg: &Leg) -> Result<JobPlan, PlanError> {
        let mut job = leg.job.clone();
        for stage in &mut job.stages {
            let Some(&LegTable { leg, is_by_file }) = LegTable::of(stage) else {
                continue;
            };
            let files = self.folders.files(leg);
            let path = self.folders.path(leg).display().to_string();
            let files = files.map_err(|error| PlanError::storage(&path, &error))?;
            let told = PathColumns {
                is_hive: false,
                has_path: false,
            };
            let footers = read_footers_here(&files)?;
            let table = ParquetTable::new(StoreSpec::default(), footers, told)?;
            if let Some(source) = &mut stage.source {
                source.columns = (0..table.schema.fields().len()).collect();
                source.is_by_file = is_by_file;
                source.table = Some(Arc::new(table));
            }
        }
        Ok(job)
    }

    /// Runs one after the other, and tells how the job has ended.
    fn run(mut self, first: Launched, running: &Mutex<RunningLoop>, delivered: &Sender<Delivery>) {
        let finished = self.finished.values_mut();
        let mut next = match finished.into_iter().find_map(|leg| leg.broken.take()) {
            Some(failure) => {
                // Lets go of what it would have written, before anybody hears of this.
                drop(first);
                Err(ExecuteError::Failed(failure))
            }
            None => Ok(first),
        };
        let outcome = loop {
            let outcome = match next {
                Ok(leg) => self.run_one(leg),
                Err(error) => Err(failure_of(error)),
            };
            let is_last = self.current.is_none() && outcome.is_ok();
            if is_last || outcome.is_err() {
                break outcome;
            }
            self.let_go();
            next = self.next();
            if let Ok(leg) = &next
                && !self.take_turn(running, leg)
            {
                break Err(given_up());
            }
        };
        let outcome = outcome.map_err(|failure| match self.current {
            Some(leg) => {
                self.tell_failed(leg, running);
                failure_of_leg(failure)
            }
            None => failure,
        });
        let outcome = self.close(outcome);
        // The consumer may have gone away.
        let _ = delivered.send(Delivery::End(outcome));
    }

    fn run_one(&mut self, leg: Launched) -> Result<(), TaskFailure> {
        let Launched {
            execution, outbox, ..
        } = leg;
        let letters = Arc::clone(&execution.letters);
        launch::run(execution);
        let ends = outbox.iter().find_map(|delivery| match delivery {
            Delivery::End(outcome) => Some(outcome),
            Delivery::Block(_) => None,
        });
        if let Some(leg) = self.current {
            self.letters.insert(leg, letters.lock().blocks().to_vec());
        }
        ends.unwrap_or_else(|| {
            let silent = "the executor ended silently";
            Err(TaskFailure::new(ErrorCode::Internal, silent))
        })
    }

    /// A leg is finished: what it has read is needed by nobody, unless others read it too.
    fn let_go(&mut self) {
        let Some(current) = self.current else { return };
        let before = &self.legs.before;
        let to_come = self.open.iter().map(|&leg| &before[leg]);
        let to_come = to_come.chain([&self.legs.last]);
        let still: BTreeSet<usize> = to_come.flat_map(|leg| &leg.reads).copied().collect();
        for &leg in before[current].reads.difference(&still) {
            if self.used.insert(leg)
                && let Err(error) = self.folders.set_used(leg)
            {
                tracing::warn!(%error, leg, "files that nobody needs any more are kept until the job ends");
            }
        }
    }

    /// If the job has not come to its last leg: leaves what is kept to whoever runs it again.
    fn close(&mut self, outcome: Result<(), TaskFailure>) -> Result<(), TaskFailure> {
        let Some(outputs) = self.outputs.take() else {
            return outcome;
        };
        let folders = outputs.into_iter().filter_map(|(folder, _)| folder);
        let folders = folders.map(|folder| (folder, None)).collect();
        close_together(folders, outcome).map_err(|failed| failed.failure)
    }
}

/// The folder of a leg.
fn begun(sink: &Sink, folders: &LegFolders) -> Result<Vec<BegunOutput>, PlanError> {
    let mut folder = sink.begin()?;
    folder.iter_mut().for_each(FolderOutput::set_leg);
    let synced = folders.sync();
    let path = sink.place().unwrap_or_default();
    synced.map_err(|error| PlanError::not_writable(path, &error))?;
    Ok(vec![(folder, None)])
}

/// Quickly written, and read once.
fn writing() -> ParquetWriting {
    ParquetWriting {
        compression: "lz4".to_owned(),
        has_dictionary: false,
        has_statistics: false,
        ..ParquetWriting::default()
    }
}

/// The same, with what the user should know of files that are not the output.
fn failure_of_leg(failure: TaskFailure) -> TaskFailure {
    let is_of_file = failure.message.contains(UNFINISHED);
    let help = match (failure.os_error(), failure.code) {
        (Some(NO_SPACE), _) => {
            "Make room there and run the job again, which goes on with what is kept"
        }
        (None, ErrorCode::InvalidArgument) if is_of_file => {
            "They are Parquet files, which have no place for all types: make other columns of these"
        }
        _ => return failure,
    };
    let message = format!(
        "{}. This is a file of rows that functions have made before others meet them in a sort, a join, a group or a shuffle: it is kept beside \
         the output until the job has ended. {help}; resume=False keeps nothing on the way",
        failure.message
    );
    TaskFailure { message, ..failure }
}

fn failure_of(error: ExecuteError) -> TaskFailure {
    match error {
        ExecuteError::Failed(failure) => failure,
        ExecuteError::Plan(error) => match error.os_error() {
            Some(number) => TaskFailure::of_os(number, error.to_string()),
            None => TaskFailure::new(ErrorCode::InvalidArgument, error.to_string()),
        },
        ExecuteError::Fit(error) => TaskFailure::new(ErrorCode::InvalidArgument, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_names_what_fills_it_and_what_helps() {
        let full = TaskFailure::of_os(NO_SPACE, "write /out/x: No space left on device");
        let told = failure_of_leg(full);
        assert_eq!(told.os_error(), Some(NO_SPACE));
        assert!(told.message.contains("write /out/x") && told.message.contains("Make room there"));
        let empty = "write_parquet(): write /out/.unfinished-1/legs/0/leg: empty structs";
        let told = failure_of_leg(TaskFailure::new(ErrorCode::InvalidArgument, empty));
        assert!(told.message.contains("make other columns"), "{told}");
        let other = TaskFailure::new(ErrorCode::Application, "no");
        assert_eq!(failure_of_leg(other).message, "no");
    }
}
