//! A few threads that do one job after the other.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use aktis_common::ids::ObjectId;

use super::pages::IdlePages;
use super::spill::{SpillError, SpillFolder};
use crate::arena::MappedMemory;
use crate::core::{Extent, FileLocation, RestoreFailure, SpillFileId, SpillSlot};
use crate::ranges::{CreatingRange, SealedRange};

/// What keeps an object in place that is being spilled: its state in the table, which ends with the outcome.
#[derive(Debug)]
pub(crate) struct HeldByTable;

/// Work for a thread.
#[derive(Debug)]
pub(crate) enum IoJob {
    WriteSpillFile {
        file: SpillFileId,
        parts: Vec<SealedRange<HeldByTable>>,
    },
    RestoreObject {
        oid: ObjectId,
        slot: SpillSlot,
        place: CreatingRange,
    },
    CreateFile {
        file: SpillFileId,
        len: u64,
    },
    CheckObject {
        oid: ObjectId,
        place: FileLocation,
        checksum: Option<u64>,
    },
    DeleteSpillFile {
        file: SpillFileId,
    },
    PopulatePages {
        extent: Extent,
    },
    DiscardPages {
        pages: IdlePages,
    },
}

/// What came of it. A deleted file has no outcome.
#[derive(Debug)]
pub(crate) enum IoOutcome {
    SpillWritten {
        file: SpillFileId,
        result: Result<Vec<SpillSlot>, String>,
    },
    ObjectRestored {
        oid: ObjectId,
        result: Result<(), RestoreFailure>,
    },
    FileCreated {
        file: SpillFileId,
        result: Result<(), String>,
    },
    ObjectChecked {
        oid: ObjectId,
        result: Result<u64, RestoreFailure>,
    },
    PagesPopulated {
        extent: Extent,
    },
    PagesDiscarded {
        extent: Extent,
    },
}

/// Where jobs are done: the arena, and the spill folder if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Workplace {
    pub(crate) memory: Arc<MappedMemory>,
    pub(crate) folder: Option<SpillFolder>,
}

/// The threads. Dropping it finishes the jobs that were submitted.
#[derive(Debug)]
pub(crate) struct IoPool {
    jobs: Option<Sender<IoJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl IoPool {
    /// Starts `threads` threads; `done` is called on them.
    pub(crate) fn start(
        name: &str,
        threads: usize,
        workplace: &Workplace,
        done: &Arc<dyn Fn(IoOutcome) + Send + Sync>,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let spawn = |index: usize| {
            let (receiver, workplace, done) =
                (Arc::clone(&receiver), workplace.clone(), Arc::clone(done));
            thread::Builder::new()
                .name(format!("{name}-{index}"))
                .spawn(move || work(&receiver, &workplace, &*done))
        };
        let threads = (0..threads).map(spawn).collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            jobs: Some(sender),
            threads,
        })
    }

    /// Hands a job to the threads.
    pub(crate) fn submit(&self, job: IoJob) {
        let jobs = self.jobs.as_ref().expect("the sender lives until drop");
        if jobs.send(job).is_err() {
            tracing::error!("all input/output threads of the object store have died");
        }
    }

    /// Waits until all submitted jobs are done, and ends the threads.
    pub(crate) fn finish(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic in `done` was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for IoPool {
    fn drop(&mut self) {
        self.finish();
    }
}

fn work(
    jobs: &Mutex<Receiver<IoJob>>,
    workplace: &Workplace,
    done: &(dyn Fn(IoOutcome) + Send + Sync),
) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if let Some(outcome) = workplace.do_job(job) {
            done(outcome);
        }
    }
}

impl Workplace {
    /// The ranges of a job are gone when this returns: the table, which is told then, may do with them as it likes.
    fn do_job(&self, job: IoJob) -> Option<IoOutcome> {
        match job {
            IoJob::WriteSpillFile { file, parts } => {
                let result = self
                    .with_folder(|folder| folder.write(file, &parts))
                    .map_err(|error| error.chain());
                Some(IoOutcome::SpillWritten { file, result })
            }
            IoJob::RestoreObject { oid, slot, place } => {
                let result = self
                    .with_folder(|folder| folder.read(slot, place))
                    .map_err(SpillError::into_restore_failure);
                Some(IoOutcome::ObjectRestored { oid, result })
            }
            IoJob::CreateFile { file, len } => {
                let result = self
                    .with_folder(|folder| folder.create(file, len))
                    .map_err(|error| error.chain());
                Some(IoOutcome::FileCreated { file, result })
            }
            IoJob::CheckObject {
                oid,
                place,
                checksum,
            } => {
                let result = self
                    .with_folder(|folder| folder.checksum(place, checksum))
                    .map_err(SpillError::into_restore_failure);
                Some(IoOutcome::ObjectChecked { oid, result })
            }
            IoJob::DeleteSpillFile { file } => {
                if let Err(error) = self.with_folder(|folder| folder.delete(file)) {
                    tracing::warn!(
                        ?file,
                        error = error.chain(),
                        "a spill file stays behind until the store ends"
                    );
                }
                None
            }
            IoJob::PopulatePages { extent } => {
                if let Err(error) = self.memory.prefault(extent.offset, extent.len) {
                    tracing::debug!(?extent, %error, "pages will be made when they are used");
                }
                Some(IoOutcome::PagesPopulated { extent })
            }
            IoJob::DiscardPages { pages } => {
                let extent = pages.extent();
                if let Err(error) = pages.discard() {
                    tracing::debug!(?extent, %error, "idle memory could not be given back");
                }
                Some(IoOutcome::PagesDiscarded { extent })
            }
        }
    }

    /// A job must have an outcome, or its objects would be stuck: a panic becomes an error.
    fn with_folder<T>(
        &self,
        operation: impl FnOnce(&SpillFolder) -> Result<T, SpillError>,
    ) -> Result<T, SpillError> {
        let folder = self.folder.as_ref().ok_or(SpillError::NoFolder)?;
        catch_unwind(AssertUnwindSafe(|| operation(folder))).unwrap_or(Err(SpillError::Panicked))
    }
}
