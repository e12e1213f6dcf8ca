//! Any ONNX graph over columns: inputs are columns of a record batch, outputs become columns.
//!
//! ```text
//!  OnnxModelSpec (JSON, travels) ──plan──► OnnxPlan: inputs, outputs, their types (from the file, nothing is loaded)
//!        └──start──► OnnxModel ── submit(RecordBatch) ──► PendingRun ── wait ──► RecordBatch of the outputs
//!                       └─ aktis-onnx-N: a session each (run)
//! ```

mod answer;
pub(crate) mod element;
mod error;
pub(crate) mod feed;
pub(crate) mod file;
mod plan;
mod run;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use self::error::RunError;
pub use self::plan::{GraphInput, GraphOutput, OnnxPlan};

pub(crate) use self::run::Replica;
use crate::config::Device;
use crate::encoder::onnx_session::SessionOptions;
use crate::encoder::{onnx_library, onnx_session};
use crate::error::LoadError;
use crate::placement::{Placement, at_least_one};

/// Rows of a batch, where nobody says how many.
pub const BATCH_ROWS: usize = 32;

/// What to load and which columns to use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxModelSpec {
    /// The graph, or a folder with `model.onnx`.
    pub path: PathBuf,
    /// The columns of inputs that are not called as their columns are.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// The outputs that are wanted, each with its column; `None`: all, under their own names.
    #[serde(default)]
    pub outputs: Option<Vec<(String, String)>>,
    /// Most rows of a run; `None`: that is found while the job runs.
    #[serde(default = "default_batch_rows")]
    pub batch_size: Option<usize>,
    /// Most bytes of a batch's inputs.
    #[serde(default)]
    pub byte_budget: Option<u64>,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// Threads that one batch is computed with; `None`: 1.
    #[serde(default)]
    pub intra_threads: Option<usize>,
    /// Copies of the model that compute side by side; `None`: as many as fill the cores, on a GPU one.
    #[serde(default)]
    pub replicas: Option<usize>,
    /// So many actors share the cores of a machine.
    #[serde(default)]
    pub sharing: Option<usize>,
    /// The ONNX Runtime library. `None`: the variable `ORT_DYLIB_PATH`.
    #[serde(default)]
    pub onnxruntime_path: Option<PathBuf>,
}

#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn default_batch_rows() -> Option<usize> {
    Some(BATCH_ROWS)
}

impl OnnxModelSpec {
    /// The defaults, for the graph at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            inputs: BTreeMap::new(),
            outputs: None,
            batch_size: default_batch_rows(),
            byte_budget: None,
            device: Device::Auto,
            intra_threads: None,
            replicas: None,
            sharing: None,
            onnxruntime_path: None,
        }
    }

    /// What the file says, held against the columns that are named: for planning, without loading the model.
    pub fn plan(&self) -> Result<OnnxPlan, LoadError> {
        if let Some(rows) = self.batch_size {
            at_least_one("batch_size", rows)?;
        }
        OnnxPlan::read(&self.path, &self.inputs, self.outputs.as_deref())
    }

    /// Loads the model and starts the threads.
    pub fn start(self) -> Result<OnnxModel, LoadError> {
        let plan = self.plan()?;
        self.start_with(plan, |mut replica| {
            Box::new(move |batch| replica.run(batch))
        })
    }

    /// Loads the model of this plan and starts the threads, of which each calls for every batch what `around` makes of its replica.
    pub(crate) fn start_with(
        self,
        plan: OnnxPlan,
        around: impl Fn(Replica) -> BatchCall,
    ) -> Result<OnnxModel, LoadError> {
        let plan = Arc::new(plan);
        let library = onnx_library::find(self.onnxruntime_path.as_deref())?;
        let device = onnx_session::resolved(self.device, &library)?;
        let placement = Placement {
            intra_threads: self.intra_threads,
            replicas: self.replicas,
            sharing: self.sharing,
        };
        let options = SessionOptions {
            graph: plan.graph.clone(),
            library,
            device,
            intra_threads: placement.intra_threads()?,
        };
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut model = OnnxModel {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for index in 0..placement.replicas(device)? {
            let replica = Replica::new(onnx_session::open(&options)?, Arc::clone(&plan));
            let name = format!("aktis-onnx-{index}");
            model.spawn(name, around(replica), Arc::clone(&waiting))?;
        }
        Ok(model)
    }
}

/// What a thread does with a batch.
pub(crate) type BatchCall = Box<dyn FnMut(&RecordBatch) -> Result<RecordBatch, RunError> + Send>;

/// A loaded graph, with threads of its own. Batches of several calls compute side by side.
pub struct OnnxModel {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

/// A batch, and where its outputs go.
struct Job {
    batch: RecordBatch,
    answer: SyncSender<Result<RecordBatch, RunError>>,
}

/// A batch under way.
#[must_use = "dropping a pending run gives up on its outputs"]
pub struct PendingRun(Receiver<Result<RecordBatch, RunError>>);

impl PendingRun {
    /// Blocks until the batch is done: the columns of the outputs, with the rows of the batch.
    pub fn wait(self) -> Result<RecordBatch, RunError> {
        self.0.recv().unwrap_or(Err(RunError::Closed))
    }
}

impl OnnxModel {
    fn spawn(
        &mut self,
        name: String,
        call: BatchCall,
        jobs: Arc<Mutex<Receiver<Job>>>,
    ) -> Result<(), LoadError> {
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || work(call, &jobs))
            .map_err(|source| LoadError::Thread {
                name,
                source: Box::new(source),
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Batches that are computed side by side.
    pub fn replicas(&self) -> usize {
        self.threads.len()
    }

    /// Hands a batch in.
    pub fn submit(&self, batch: RecordBatch) -> PendingRun {
        let (answer, pending) = sync_channel(1);
        if let Some(jobs) = &self.jobs {
            // Without a thread that takes it, the sender is dropped, and whoever waits is told that the model was closed.
            let _ = jobs.send(Job { batch, answer });
        }
        PendingRun(pending)
    }
}

impl Drop for OnnxModel {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A panic inside was turned into an error of its batch; what is left is nobody's.
            let _ = thread.join();
        }
    }
}

fn work(mut call: BatchCall, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // One waits for the next job, the others for the lock.
        let job = jobs.lock().recv();
        let Ok(Job { batch, answer }) = job else {
            return;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&batch)))
            .unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
        // Nobody may want it any more.
        let _ = answer.send(outcome);
    }
}

fn panicked(panic: &(dyn Any + Send)) -> RunError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
    RunError::Panicked {
        message: message.unwrap_or_else(|| "no message".to_owned()),
    }
}
