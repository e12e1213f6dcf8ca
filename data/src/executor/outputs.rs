//! The outputs of an execution: what comes to each of them, and how they become visible.

use std::collections::BTreeSet;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use parking_lot::Mutex;

use super::failed_rows::{LetterBlock, read_by_step};
use super::pool::BlockReader;
use crate::graph::{JobPlan, PlannedOutput};
use crate::ledger::{DonePart, FolderOutput, JudgedRows, LeftOut, LegFound, close_together};
use crate::sinks::write_letters;
use crate::stage_worker::SeenColumns;
use crate::wire::spec::WrittenFile;

/// One of them.
pub(crate) struct RunningOutput {
    /// Where its files go, if there are any.
    pub(crate) folder: Option<FolderOutput>,
    /// Where rows go that were put aside on their way, if not beside the output.
    pub(crate) letters: Option<FolderOutput>,
    /// Whether there are any.
    has_letters: bool,
    /// The columns of what came so far.
    pub(crate) seen: Arc<Mutex<SeenColumns>>,
    /// The columns, if they were known before.
    schema: Option<SchemaRef>,
    /// The stages that its rows come through.
    stages: BTreeSet<usize>,
}

/// The folder of an output, and the one for rows that were put aside on their way.
pub(crate) type BegunOutput = (Option<FolderOutput>, Option<FolderOutput>);

/// All of them, in the order of the job.
pub(crate) struct JobOutputs(pub(crate) Vec<RunningOutput>);

impl JobOutputs {
    /// Those of `job`: for each its folder, and the one for rows that were put aside.
    pub(crate) fn new(job: &JobPlan, folders: Vec<BegunOutput>) -> Self {
        let planned = job.outputs.iter().enumerate().zip(folders);
        let outputs = planned.map(|((output, PlannedOutput { schema, .. }), folders)| {
            let (folder, letters) = folders;
            RunningOutput {
                folder,
                letters,
                has_letters: false,
                seen: Arc::new(Mutex::new(SeenColumns::default())),
                schema: schema.clone(),
                stages: job.stages_of(output),
            }
        });
        let mut outputs = Self(outputs.collect());
        // What an earlier run has done is told by the ledger of one.
        let others = outputs.keeper_mut().map(FolderOutput::take_files_of_others);
        outputs.add_files(others.into_iter().flatten());
        outputs
    }

    /// Whether files are written.
    pub(crate) fn have_files(&self) -> bool {
        self.0.iter().any(|output| output.folder.is_some())
    }

    /// The output that knows what is done of the job, if it is files: the only one; of several the first, if they go on together.
    pub(crate) fn keeper(&self) -> Option<&FolderOutput> {
        let first = self.0.first()?.folder.as_ref()?;
        (self.0.len() == 1 || first.is_kept()).then_some(first)
    }

    /// The same, to be written to.
    pub(crate) fn keeper_mut(&mut self) -> Option<&mut FolderOutput> {
        self.keeper()?;
        self.0.first_mut()?.folder.as_mut()
    }

    /// The outputs that are files.
    pub(crate) fn folders(&mut self) -> impl Iterator<Item = &mut FolderOutput> {
        self.0
            .iter_mut()
            .filter_map(|output| output.folder.as_mut())
    }

    /// Takes what a worker has told of the columns of an output.
    pub(crate) fn hear(&self, output: usize, columns: &Bytes) {
        self.0[output].seen.lock().hear(columns);
    }

    /// Files of an input that is used up, what expectations have found in it, and what was left out of it.
    pub(crate) fn add(
        &mut self,
        output: usize,
        place: u64,
        files: Vec<WrittenFile>,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOut>,
    ) {
        if let Some(folder) = &mut self.0[output].folder {
            folder.add(place, files, judged, left_out);
        }
    }

    /// Files that are all that becomes of rows of the source, in a job of several stages (`LED-2`), and what was found on the way.
    pub(crate) fn add_part(
        &mut self,
        part: DonePart,
        files: Vec<WrittenFile>,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOut>,
    ) {
        if let Some(keeper) = self.keeper_mut() {
            keeper.add_part(part, &files, judged, left_out);
        }
        self.add_files(files);
    }

    /// Files that become visible, each in its output.
    pub(crate) fn add_files(&mut self, files: impl IntoIterator<Item = WrittenFile>) {
        for file in files {
            let output = usize::try_from(file.output).ok();
            let output = output.and_then(|output| self.0.get_mut(output));
            if let Some(folder) = output.and_then(|output| output.folder.as_mut()) {
                folder.add_file(file);
            }
        }
    }

    /// The outputs that rows of the stage go to.
    pub(crate) fn behind(&self, stage: usize) -> Vec<usize> {
        let outputs = self.0.iter().enumerate();
        let behind = outputs.filter(|(_, output)| output.stages.contains(&stage));
        behind.map(|(index, _)| index).collect()
    }

    /// Writes rows that were put aside beside every output that they were on the way to. Their files are hidden, as all are, until
    /// [`close`](Self::close).
    pub(crate) fn write_letters(
        &mut self,
        letters: &[LetterBlock],
        reader: &BlockReader,
    ) -> Result<(), TaskFailure> {
        for output in &mut self.0 {
            let of_output = letters.iter();
            let of_output = of_output.filter(|block| output.stages.contains(&block.stage));
            output.write_letters(&of_output.cloned().collect::<Vec<_>>(), reader)?;
        }
        Ok(())
    }

    /// Keeps what a leg has found, if this is one.
    pub(crate) fn keep_found(&mut self, found: &LegFound) -> Result<(), TaskFailure> {
        self.folders()
            .try_for_each(|folder| folder.keep_found(found))
    }

    /// All files become visible, those of rows that were put aside elsewhere too, or none does: then tells which output was at fault,
    /// if one was. Those come last, so that an output that may be gone on with decides for them.
    pub(crate) fn close(
        &mut self,
        outcome: Result<(), TaskFailure>,
    ) -> Result<(), (Option<usize>, TaskFailure)> {
        let mut folders = Vec::with_capacity(self.0.len());
        let mut outputs = Vec::with_capacity(self.0.len());
        for (index, output) in self.0.iter_mut().enumerate() {
            if let Some(folder) = output.folder.take() {
                // If nobody ever told columns, there are none: what was written can be read all the same.
                let seen = output.seen.lock().schema();
                let schema = output.schema.clone().or(seen);
                let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
                folders.push((folder, Some(schema)));
                outputs.push(index);
            }
        }
        for (index, output) in self.0.iter_mut().enumerate() {
            // Where none were put aside, nothing is there afterwards.
            if let Some(folder) = output.letters.take().filter(|_| output.has_letters) {
                folders.push((folder, None));
                outputs.push(index);
            }
        }
        close_together(folders, outcome)
            .map_err(|failed| (failed.output.map(|index| outputs[index]), failed.failure))
    }
}

impl RunningOutput {
    fn write_letters(
        &mut self,
        letters: &[LetterBlock],
        reader: &BlockReader,
    ) -> Result<(), TaskFailure> {
        let (folder, is_apart) = match (&mut self.letters, &mut self.folder) {
            (Some(folder), _) => (folder, true),
            (None, Some(folder)) => (folder, false),
            (None, None) => return Ok(()),
        };
        let Some(place) = folder
            .letters_place(is_apart)
            .filter(|_| !letters.is_empty())
        else {
            return Ok(());
        };
        let files = write_letters(&place, &read_by_step(letters, reader)?)?;
        self.has_letters = true;
        if is_apart {
            folder.add(0, files, Vec::new(), Vec::new());
        } else {
            folder.add_letters(files);
        }
        Ok(())
    }
}

/// Nobody wants the rest of what was to be written.
pub(crate) fn given_up() -> TaskFailure {
    TaskFailure::new(ErrorCode::Cancelled, "the job was given up before its end")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::Execution;
    use crate::executor::ExecutionOptions;
    use crate::executor::pool::InProcessPool;
    use crate::graph::{EdgeKind, JobOutput, JobPlan, StagePlan, plan_outputs};
    use crate::plan::{Dataset, FailurePolicy};
    use crate::sinks::{ParquetOutput, Sink};
    use crate::testing::{ids, test_map};

    fn mapped() -> Dataset {
        let numbers = Dataset::range(100).expect("plans");
        numbers.map(test_map("same")).expect("plans")
    }

    fn parquet(folder: &std::path::Path) -> Sink {
        Sink::Parquet(ParquetOutput::new(folder.display().to_string(), "p"))
    }

    fn planned(outputs: &[JobOutput]) -> JobPlan {
        let job = plan_outputs(outputs, &FailurePolicy::default()).expect("can be cut");
        job.check().expect("can be carried out");
        job
    }

    #[test]
    fn outputs_of_all_kinds_share_what_they_have_in_common() {
        let folder = tempfile::tempdir().expect("a folder");
        let mapped = mapped();
        let small = mapped.filter("id < 10").expect("plans");
        let outputs = [
            JobOutput::new(small, Sink::Consumer),
            JobOutput::new(mapped.clone(), Sink::Count),
            JobOutput::new(mapped, parquet(&folder.path().join("out"))),
        ];
        let job = planned(&outputs);
        let names: Vec<String> = job.stages.iter().map(StagePlan::name).collect();
        assert_eq!(names, ["Read->same", "Filter", "Count", "Write(out)"]);
        assert!(job.edges.iter().all(|edge| edge.kind == EdgeKind::Forward));
        assert_eq!(job.stages_of(2), BTreeSet::from([0, 3]));
        let options = ExecutionOptions::default();
        let pool = Box::new(InProcessPool::of_cpus(2));
        let execution = Execution::start_all(&outputs, pool, &options).expect("starts");
        let rows = execution.collect().expect("runs");
        assert_eq!(ids(&rows), (0..10).collect::<Vec<_>>());
        let stats = execution.stats();
        let sunk = [0, 1, 2].map(|output| stats.rows_sunk(output));
        assert_eq!(sunk, [0, 100, 100]);
        assert_eq!((stats.delivered_rows, stats.rows_out()), (10, 210));
        assert_eq!(stats.stages[0].operators[1].rows_in, 100, "it ran once");
        assert!(execution.seen_schema(2).is_some());
    }

    #[test]
    fn one_consumer_cannot_tell_the_rows_of_two_outputs_apart() {
        let outputs = [(); 2].map(|()| JobOutput::new(mapped(), Sink::Consumer));
        let job = plan_outputs(&outputs, &FailurePolicy::default()).expect("can be cut");
        let refusal = job.check().expect_err("has one consumer").to_string();
        assert!(refusal.contains("it has one consumer"), "{refusal}");
    }

    #[test]
    fn failure_names_the_outputs_behind_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mapped = mapped();
        let broken = mapped.map(test_map("fail at 7")).expect("plans");
        let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
        let outputs = [
            JobOutput::new(mapped, parquet(&good)),
            JobOutput::new(broken.clone(), parquet(&bad)),
            JobOutput::new(broken, Sink::Count),
        ];
        let pool = Box::new(InProcessPool::of_cpus(2));
        let options = ExecutionOptions::default();
        let execution = Execution::start_all(&outputs, pool, &options).expect("starts");
        execution.wait().expect_err("fails");
        assert_eq!(execution.stats().failed_outputs, [1, 2]);
        assert!(!good.exists() && !bad.exists());
    }
}
