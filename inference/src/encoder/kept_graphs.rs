//! Graphs as ONNX Runtime has them in memory, kept in files of the node, so that all processes map the same weights.
//!
//! ```text
//!  model.onnx ─ first session of the node ─► <folder>/<sign>/model.onnx     optimised: nothing is left to do
//!                                                        └─ weights.bin     laid out for the products of this processor
//!                                                              └─ mapped by every session, in all processes
//! ```
//! A graph's own file is a message that is read into memory of the process, and is then laid out again: two copies in each session.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, TryLockError};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use parking_lot::Mutex;

use super::onnx_session::SessionOptions;
use crate::config::Device;
use crate::onnx_model::file::Interface;

const GRAPH: &str = "model.onnx";
const WEIGHTS: &str = "weights.bin";
/// Smaller constants stay in the graph.
const LEAST_WEIGHT_BYTES: &str = "1024";
/// What is smaller is not worth a file.
const LEAST_BYTES: u64 = 4 << 20;
/// Files may be so much larger than the graph: products want weights in blocks of full width.
const GROWTH: u64 = 2;
/// How long a session waits for another one that makes the files, before it is content with the graph itself.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

static FOLDER: Mutex<Option<KeptGraphs>> = Mutex::new(None);

/// Where a node keeps graphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptGraphs {
    /// A folder that ends with the node.
    pub folder: PathBuf,
    /// The most that files of one graph may take.
    pub most_bytes: u64,
}

/// Sessions on CPUs that this process opens from now on keep their graphs there.
pub fn keep_graphs(kept: KeptGraphs) {
    *FOLDER.lock() = Some(kept);
}

/// The kept form of a graph, which `open` makes if nobody has: it opens a session as told, and drops it. `None`: there is none, so the graph itself is
/// to be loaded.
pub(super) fn find(
    options: &SessionOptions,
    open: impl FnOnce(SessionBuilderChange<'_>) -> Result<(), String>,
) -> Option<PathBuf> {
    let kept = FOLDER.lock().clone()?;
    if options.device != Device::Cpu {
        return None;
    }
    let (sign, bytes) = sign_of(options)?;
    if bytes < LEAST_BYTES || bytes.saturating_mul(GROWTH) > kept.most_bytes {
        return None;
    }
    let folder = kept.folder.join(&sign);
    made(&folder).or_else(|| {
        let making = kept.folder.join(format!("{sign}.new"));
        alone(&kept.folder, &sign, || {
            made(&folder).map_or_else(|| make(&folder, &making, open), Ok)
        })
        .inspect_err(|reason| {
            let _ = fs::remove_dir_all(&making);
            tracing::warn!(graph = %options.graph.display(), reason, "its weights are not shared with other processes");
        })
        .ok()
    })
}

/// What is asked of a session besides.
pub(super) type SessionBuilderChange<'a> =
    &'a dyn Fn(SessionBuilder) -> Result<SessionBuilder, String>;

/// Opens sessions of a kept graph: it is optimised.
pub(super) fn as_it_is(builder: SessionBuilder) -> Result<SessionBuilder, String> {
    let changed = builder.with_optimization_level(GraphOptimizationLevel::Disable);
    changed.map_err(refused)
}

/// Why ONNX Runtime does not take an option.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
pub(super) fn refused(error: ort::Error<SessionBuilder>) -> String {
    error.to_string()
}

fn made(folder: &Path) -> Option<PathBuf> {
    let graph = folder.join(GRAPH);
    graph.is_file().then_some(graph)
}

/// The files under names of their own first, so that none is found that is not whole.
fn make(
    folder: &Path,
    making: &Path,
    open: impl FnOnce(SessionBuilderChange<'_>) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let told = |error: io::Error| error.to_string();
    let _ = fs::remove_dir_all(making);
    fs::create_dir_all(making).map_err(told)?;
    let graph = making.join(GRAPH);
    let entries = [
        (
            "session.optimized_model_external_initializers_file_name",
            WEIGHTS,
        ),
        (
            "session.optimized_model_external_initializers_min_size_in_bytes",
            LEAST_WEIGHT_BYTES,
        ),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ];
    open(&|builder| {
        let builder = builder.with_optimized_model_path(&graph).map_err(refused)?;
        entries.iter().try_fold(builder, |builder, (key, value)| {
            builder.with_config_entry(key, value).map_err(refused)
        })
    })?;
    fs::rename(making, folder).map_err(told)?;
    made(folder).ok_or_else(|| "it wrote no graph".to_owned())
}

/// What a kept graph is of: files of the graph and of the library, as they are now; and the bytes of the former.
fn sign_of(options: &SessionOptions) -> Option<(String, u64)> {
    let graph = fs::canonicalize(&options.graph).ok()?;
    let beside = Interface::read(&options.graph).ok()?.weight_files;
    let weights = beside.iter().map(|file| options.graph.with_file_name(file));
    let mut hasher = DefaultHasher::new();
    let mut bytes = 0;
    for path in [graph].into_iter().chain(weights) {
        bytes += add(&path, &mut hasher).ok()?;
    }
    add(&options.library, &mut hasher).ok()?;
    Some((format!("{:016x}", hasher.finish()), bytes))
}

fn add(path: &Path, hasher: &mut DefaultHasher) -> io::Result<u64> {
    let about = fs::metadata(path)?;
    (path, about.len(), about.modified()?).hash(hasher);
    Ok(about.len())
}

/// Does `work` while no other process of the node does the same.
fn alone<T>(
    folder: &Path,
    sign: &str,
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let told = |error: io::Error| error.to_string();
    fs::create_dir_all(folder).map_err(told)?;
    let lock = File::create(folder.join(format!("{sign}.lock"))).map_err(told)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return work(),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
            Err(TryLockError::WouldBlock) => {
                return Err("another process makes the files, and does not end".to_owned());
            }
            Err(TryLockError::Error(error)) => return Err(told(error)),
        }
    }
}
