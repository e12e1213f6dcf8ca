//! Files that are not local (ADR 130).
//!
//! ```text
//!  worker   rows ──► files in a folder of the job here ──► uploaded, under the names of their attempt, into a hidden folder there
//!  driver   when the job is whole: copied to their names by the store; then the hidden folder goes
//! ```
//! Any sink of files writes as if the folder was here; this brings what it has written there.

use std::fs;
use std::path::Path;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use bytes::Bytes;
use prost::Message;

use super::{OwnStage, Sink, SinkKind, SinkWriter, Written};
use crate::error::PlanError;
use crate::ledger::{FarFolder, FolderOutput, unfinished_folder};
use crate::os_error;
use crate::registered::Registered;
use crate::storage::{StoreSpec, Transfer};
use crate::wire::spec::WrittenFile;

pub(super) const NAME: &str = "far";

/// A folder that is not local.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarOutput {
    /// What is written, as into a folder here.
    pub files: Box<Sink>,
    /// The folder here: empty, and nobody else's.
    pub folder: String,
    /// What the files' names begin with.
    pub prefix: String,
    /// Where the folder lies.
    pub store: StoreSpec,
    /// What it is called there.
    pub target: String,
    /// Whether what is in it goes when the new files are there.
    pub replaces: bool,
    /// Whether it takes files of rows that functions failed for, besides.
    pub holds_letters: bool,
}

impl SinkKind for FarOutput {
    fn step(&self) -> Option<&'static str> {
        self.files.step()
    }

    fn settings(&self) -> Option<Registered> {
        let inner = self.files.settings()?;
        let sink = FarSink {
            kind: inner.kind,
            settings: inner.settings,
            folder: self.folder.clone(),
            prefix: self.prefix.clone(),
            store: self.store.definition.clone(),
            target: self.target.clone(),
        };
        Some(Registered {
            kind: NAME.to_owned(),
            settings: Bytes::from(sink.encode_to_vec()),
        })
    }

    fn wants_columns(&self) -> bool {
        self.files.wants_columns()
    }

    fn own_stage(&self) -> Option<OwnStage> {
        self.files.own_stage()
    }

    fn begin(&self) -> Result<Option<FolderOutput>, PlanError> {
        let files = self.store.files().map_err(PlanError::Store)?;
        let far = FarFolder {
            files,
            target: self.target.clone(),
            replaces: self.replaces,
            holds_letters: self.holds_letters,
        };
        let begun = self.files.begin()?;
        Ok(begun.map(|begun| begun.ending_in(far)))
    }
}

/// What travels to workers.
#[derive(Clone, PartialEq, Message)]
struct FarSink {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    settings: Bytes,
    #[prost(string, tag = "3")]
    folder: String,
    #[prost(string, tag = "4")]
    prefix: String,
    #[prost(bytes = "bytes", tag = "5")]
    store: Bytes,
    #[prost(string, tag = "6")]
    target: String,
}

pub(super) fn open(settings: &Bytes, input: Written) -> Result<Box<dyn SinkWriter>, TaskFailure> {
    let sink: FarSink = super::decode(settings)?;
    // On the driver's machine it is there already.
    let folder = Path::new(&sink.folder).join(unfinished_folder(&sink.prefix));
    fs::create_dir_all(&folder).map_err(|error| {
        let what = format!(
            "write {}: make the folder {}",
            sink.target,
            folder.display()
        );
        os_error::failure(&what, &error, ErrorCode::InvalidArgument)
    })?;
    let inner = Registered {
        kind: sink.kind.clone(),
        settings: sink.settings.clone(),
    };
    let inner = super::open(&inner, input)?;
    Ok(Box::new(Uploading { sink, inner }))
}

/// Writes here, and brings what is whole there.
struct Uploading {
    sink: FarSink,
    inner: Box<dyn SinkWriter>,
}

impl SinkWriter for Uploading {
    fn write(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        self.inner.write(batch)
    }

    fn finish(&mut self) -> Result<Vec<WrittenFile>, TaskFailure> {
        let files = self.inner.finish()?;
        let store = StoreSpec {
            definition: self.sink.store.clone(),
        };
        let transfer = |file: &WrittenFile| Transfer {
            local: file.unfinished.clone(),
            name: FarFolder::name(&self.sink.target, &self.sink.folder, &file.unfinished),
        };
        let transfers: Vec<Transfer> = files.iter().map(transfer).collect();
        let uploaded = store.files()?.upload(&transfers);
        for transfer in &transfers {
            // It has been copied, or the input has failed; the driver removes its folder as well.
            let _ = fs::remove_file(&transfer.local);
        }
        uploaded.map_err(|refused| TaskFailure::of_os(refused.number, refused.text))?;
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use aktis_common::error::ErrorCode;

    use super::*;
    use crate::Execution;
    use crate::executor::ExecutionOptions;
    use crate::executor::pool::InProcessPool;
    use crate::ledger::SaveMode;
    use crate::plan::{Dataset, MapSpec};
    use crate::sinks::ParquetOutput;
    use crate::testing::{ids, install_test_host, test_map};

    fn run(work: &Path, target: &Path, function: &str, replaces: bool) -> Result<(), TaskFailure> {
        install_test_host();
        let folder = work.display().to_string();
        let mode = SaveMode::Append;
        let files = ParquetOutput {
            mode,
            ..ParquetOutput::new(folder.clone(), "job")
        };
        let sink = Sink::Far(FarOutput {
            files: Box::new(Sink::Parquet(files)),
            folder,
            prefix: "job".to_owned(),
            store: StoreSpec {
                definition: "far".into(),
            },
            target: format!("far:{}", target.display()),
            replaces,
            holds_letters: true,
        });
        let spec = MapSpec {
            batch_rows: Some(2),
            ..test_map(function)
        };
        let dataset = Dataset::range(40).expect("plans").map(spec).expect("maps");
        let pool = Box::new(InProcessPool::of_cpus(2));
        let options = ExecutionOptions::default();
        Execution::start(&dataset, &sink, pool, &options)
            .expect("starts")
            .wait()
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).expect("lists").count()
    }

    fn read(folder: &Path) -> Vec<i64> {
        let dataset = Dataset::read_parquet(&[folder.display().to_string()]).expect("is readable");
        let pool = Box::new(InProcessPool::of_cpus(1));
        let options = ExecutionOptions::default();
        let execution = Execution::start(&dataset, &Sink::Consumer, pool, &options);
        ids(&execution.expect("starts").collect().expect("reads"))
    }

    /// SINK-1 (all-or-nothing).
    #[test]
    fn files_are_there_when_the_job_is_whole_and_nothing_is_when_it_fails() {
        let (work, target) = (tempfile::tempdir(), tempfile::tempdir());
        let (work, target) = (work.expect("a folder"), target.expect("a folder"));
        let failure = run(work.path(), target.path(), "fail at 7", false).expect_err("fails");
        assert_eq!(failure.code, ErrorCode::Application);
        assert_eq!(entries(target.path()), 0);
        for replaces in [false, true] {
            run(work.path(), target.path(), "same", replaces).expect("runs");
            assert_eq!(read(target.path()), (0..40).collect::<Vec<_>>());
        }
        assert_eq!(entries(work.path()), 0, "nothing is left here");
    }
}
