//! Sessions of ONNX Runtime: a graph on a device, ready to run.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::ep::ExecutionProvider;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::kept_graphs::{self, SessionBuilderChange};
use super::onnx_library;
use crate::config::{Backend, Device};
use crate::error::{BoxError, LoadError, explain};

/// What one session is made of.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The graph.
    pub graph: PathBuf,
    /// The ONNX Runtime library; the first one loaded in a process stays.
    pub library: PathBuf,
    /// CPU or one GPU.
    pub device: Device,
    /// Threads inside one batch.
    pub intra_threads: usize,
}

/// Loads the library if need be, then the graph, or what the node keeps of it.
pub(crate) fn open(options: &SessionOptions) -> Result<Session, LoadError> {
    let environment = onnx_library::environment(&options.library)?;
    let all = |builder: SessionBuilder| {
        let changed = builder.with_optimization_level(GraphOptimizationLevel::All);
        changed.map_err(kept_graphs::refused)
    };
    let kept = kept_graphs::find(options, |change| {
        let opened = session_of(&environment, options, &options.graph, &|builder| {
            change(all(builder)?)
        });
        opened.map(drop).map_err(|error| explain(&error))
    });
    if let Some(graph) = kept {
        match session_of(&environment, options, &graph, &kept_graphs::as_it_is) {
            Ok(session) => return Ok(session),
            Err(error) => {
                let reason = explain(&error);
                tracing::warn!(graph = %graph.display(), reason, "what the node keeps of a graph cannot be loaded");
            }
        }
    }
    session_of(&environment, options, &options.graph, &all)
}

fn session_of(
    environment: &Environment,
    options: &SessionOptions,
    graph: &Path,
    change: SessionBuilderChange<'_>,
) -> Result<Session, LoadError> {
    let fail = |source: BoxError| LoadError::OnnxGraph {
        path: graph.to_owned(),
        device: options.device,
        source,
    };
    let builder = Session::builder(environment).map_err(|source| fail(source.into()))?;
    let builder = change(configure(builder, options)?).map_err(|error| fail(error.into()))?;
    let mut builder = builder;
    builder
        .commit_from_file(graph)
        .map_err(|source| fail(source.into()))
}

/// The device that is meant: with `Auto` the first GPU if there is one and the library at `library` can use it.
pub(crate) fn resolved(device: Device, library: &Path) -> Result<Device, LoadError> {
    if device != Device::Auto {
        return Ok(device);
    }
    if !aktis_cuda::is_available() {
        return Ok(Device::Cpu);
    }
    onnx_library::environment(library)?;
    let has_cuda = ort::ep::CUDA::is_available().unwrap_or(false);
    Ok(if has_cuda {
        Device::Cuda(0)
    } else {
        Device::Cpu
    })
}

fn configure(
    builder: SessionBuilder,
    options: &SessionOptions,
) -> Result<SessionBuilder, LoadError> {
    let fail = |message: String| LoadError::OnnxGraph {
        path: options.graph.clone(),
        device: options.device,
        source: message.into(),
    };
    let refused = |error: ort::Error<SessionBuilder>| fail(error.to_string());
    let builder = builder
        .with_intra_threads(options.intra_threads)
        .map_err(refused)?
        .with_inter_threads(1)
        .map_err(refused)?
        // Spinning threads would take the cores of the tokenising threads and of the other actors of the node.
        .with_intra_op_spinning(false)
        .map_err(refused)?
        .with_log_level(LogLevel::Warning)
        .map_err(refused)?;
    let Device::Cuda(ordinal) = options.device else {
        return Ok(builder);
    };
    let ordinal =
        i32::try_from(ordinal).map_err(|_| fail(format!("there is no GPU number {ordinal}")))?;
    // Without `error_on_failure` the session would run on the CPU and say nothing.
    let cuda = ort::ep::CUDA::default()
        .with_device_id(ordinal)
        .build()
        .error_on_failure();
    builder
        .with_execution_providers([cuda])
        .map_err(|error| LoadError::Device {
            device: options.device,
            backend: Backend::Onnx,
            reason: format!(
                "{error}; a GPU needs `pip install onnxruntime-gpu` in place of onnxruntime"
            ),
        })
}
