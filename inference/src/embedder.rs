//! A loaded text embedder: a tokenizer and one or more encoders.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use arrow::array::{Array, FixedSizeListArray};
use parking_lot::Mutex;

use crate::config::{
    Backend, CPU_TOKEN_BUDGET, CUDA_TOKEN_BUDGET, Device, Head, TextEmbedderConfig,
};
use crate::core::bucket::BucketPlan;
use crate::core::pooling::normalize;
use crate::core::token_batch::{TextTokens, TokenBatch};
use crate::embedding_array::embedding_array;
use crate::encoder::Encoder;
use crate::encoder::candle::{self, Behind, CandleEncoder, CandleOptions};
use crate::encoder::classifier_head::ClassifierHead;
use crate::encoder::dense::Dense;
use crate::encoder::onnx::{OnnxEncoder, OnnxOptions};
use crate::encoder::onnx_session::SessionOptions;
use crate::encoder::{onnx_library, onnx_session};
use crate::error::{EmbedError, EncodeError, LoadError};
use crate::model_folder::ModelFolder;
use crate::placement::at_least_one;
use crate::text_column::TextColumn;
use crate::tokenize::TextTokenizer;

/// Name of the text column in messages about an array that has none.
const UNNAMED_COLUMN: &str = "text";

/// Turns texts into vectors.
///
/// ```no_run
/// use aktis_inference::{TextEmbedder, TextEmbedderConfig};
/// use arrow::array::StringArray;
///
/// let mut embedder = TextEmbedder::load(TextEmbedderConfig::new(".models/all-MiniLM-L6-v2"))?;
/// let vectors = embedder.embed(&StringArray::from(vec!["a ray of light", "ein Lichtstrahl"]))?;
/// assert_eq!(vectors.value_length() as usize, embedder.dim());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TextEmbedder {
    config: TextEmbedderConfig,
    backend: Backend,
    device: Device,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) encoders: Vec<Box<dyn Encoder>>,
    pub(crate) settings: EncodeSettings,
}

/// What the loops around an encoder need to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeSettings {
    pub(crate) dim: usize,
    pub(crate) pad_id: u32,
    pub(crate) token_budget: usize,
    pub(crate) normalize: bool,
}

impl TextEmbedder {
    /// Opens the model folder, loads tokenizer and model, and runs the model once, so that a model that cannot compute
    /// is found here and not in the middle of a job.
    pub fn load(config: TextEmbedderConfig) -> Result<Self, LoadError> {
        let folder = config.folder()?;
        let max_tokens = folder.max_tokens(config.max_tokens)?;
        let prompt = config.prompt_of(&folder)?;
        let tokenizer =
            TextTokenizer::from_file(&folder.tokenizer_path(), max_tokens, folder.end_token()?)?
                .with_prompt(prompt.as_deref())
                .with_segments(folder.has_segments());
        let loaded = load_encoders(&config, &folder)?;
        let default_budget = match loaded.device {
            Device::Cuda(_) => CUDA_TOKEN_BUDGET,
            Device::Cpu | Device::Auto => CPU_TOKEN_BUDGET,
        };
        let settings = EncodeSettings {
            dim: config.width(&folder)?,
            pad_id: folder.config().pad_id(),
            token_budget: at_least_one(
                "token_budget",
                config.token_budget.unwrap_or(default_budget),
            )?,
            normalize: config.normalize,
        };
        let mut embedder = Self {
            backend: loaded.backend,
            device: loaded.device,
            encoders: loaded.encoders,
            config,
            tokenizer,
            settings,
        };
        embedder.run_once()?;
        tracing::debug!(
            model = %embedder.config.model_dir.display(),
            backend = %embedder.backend,
            device = %embedder.device,
            replicas = embedder.encoders.len(),
            token_budget = embedder.settings.token_budget,
            "text embedder loaded"
        );
        Ok(embedder)
    }

    fn run_once(&mut self) -> Result<(), LoadError> {
        let path: PathBuf = self.config.model_dir.clone();
        let tokens = self
            .tokenizer
            .tokens("a", None)
            .map_err(|source| LoadError::Tokenizer {
                path: path.join("tokenizer.json"),
                source,
            })?;
        for encoder in &mut self.encoders {
            embed_rows(
                encoder.as_mut(),
                &mut TokenBatch::default(),
                &[&tokens],
                self.settings,
            )
            .map_err(|source| LoadError::FirstRun {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Length of the vectors.
    pub fn dim(&self) -> usize {
        self.settings.dim
    }

    /// The configuration it was loaded with.
    pub fn config(&self) -> &TextEmbedderConfig {
        &self.config
    }

    /// What runs the model: never `Auto`.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Where it runs: never `Auto`.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Tokens that a text is cut to.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// Batches that are computed side by side.
    pub fn replicas(&self) -> usize {
        self.encoders.len()
    }

    /// Embeds a string array (Utf8, LargeUtf8 or Utf8View) and returns when all of it is done. Rows stay in order; a
    /// null gives a null.
    ///
    /// For a stream of record batches, [`BucketingEmbedder`](crate::stream::BucketingEmbedder) is faster: it tokenises
    /// while the model runs, and mixes the rows of several batches.
    pub fn embed(&mut self, texts: &dyn Array) -> Result<FixedSizeListArray, EmbedError> {
        let column = TextColumn::from_array(UNNAMED_COLUMN, texts)?;
        let rows = tokenize_all(&self.tokenizer, &column, self.encoders.len())?;
        let present: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].is_some()).collect();
        let tokens: Vec<&TextTokens> = rows.iter().flatten().collect();
        let lengths: Vec<u32> = tokens.iter().map(|row| row.ids.len() as u32).collect();
        let plan = BucketPlan::cut(&lengths, self.settings.token_budget);
        let settings = self.settings;
        let values = Mutex::new(vec![0.0f32; column.len() * settings.dim]);
        let next = Mutex::new(plan.batches());
        let encode_batches =
            |encoder: &mut dyn Encoder| -> Result<(), EmbedError> {
                let mut scratch = TokenBatch::default();
                while let Some(batch) = { next.lock().next() } {
                    let batch_rows: Vec<&TextTokens> =
                        batch.iter().map(|&index| tokens[index as usize]).collect();
                    let vectors = embed_rows(encoder, &mut scratch, &batch_rows, settings)
                        .map_err(|source| EmbedError::Encode {
                            rows: batch.len(),
                            source: Arc::new(source),
                        })?;
                    let mut values = values.lock();
                    for (&index, vector) in batch.iter().zip(vectors.chunks_exact(settings.dim)) {
                        let start = present[index as usize] * settings.dim;
                        values[start..start + settings.dim].copy_from_slice(vector);
                    }
                }
                Ok(())
            };
        in_parallel(&mut self.encoders, |encoder| {
            encode_batches(encoder.as_mut())
        })?;
        embedding_array(values.into_inner(), settings.dim, column.validity())
    }
}

/// Runs and finishes one batch: `rows x dim` numbers, in the order of `rows`.
pub(crate) fn embed_rows<R: AsRef<TextTokens>>(
    encoder: &mut dyn Encoder,
    scratch: &mut TokenBatch,
    rows: &[R],
    settings: EncodeSettings,
) -> Result<Vec<f32>, EncodeError> {
    scratch.refill(rows, settings.pad_id);
    let width = encoder.dim();
    let mut vectors = vec![0.0; scratch.rows() * width];
    encoder.encode(scratch, &mut vectors)?;
    if width > settings.dim {
        let kept = vectors.chunks_exact(width);
        vectors = kept
            .flat_map(|vector| &vector[..settings.dim])
            .copied()
            .collect();
    }
    if settings.normalize {
        normalize(&mut vectors, settings.dim);
    }
    Ok(vectors)
}

/// The ids of every row, `None` for nulls.
fn tokenize_all(
    tokenizer: &TextTokenizer,
    column: &TextColumn,
    threads: usize,
) -> Result<Vec<Option<TextTokens>>, EmbedError> {
    let mut rows: Vec<Option<TextTokens>> = vec![None; column.len()];
    let share = column.len().div_ceil(threads.max(1)).max(1);
    let mut parts: Vec<(usize, &mut [Option<TextTokens>])> = rows
        .chunks_mut(share)
        .enumerate()
        .map(|(part, rows)| (part * share, rows))
        .collect();
    in_parallel(&mut parts, |(first, rows)| {
        for (offset, slot) in rows.iter_mut().enumerate() {
            let row = *first + offset;
            let Some(text) = column.text(row) else {
                continue;
            };
            let tokens = tokenizer
                .tokens(text, None)
                .map_err(|source| EmbedError::Tokenize {
                    row,
                    source: Arc::new(source),
                })?;
            *slot = Some(tokens);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Threads of one call, which go on side by side.
const SIDE_BY_SIDE: &str = "aktis-embed";

/// Runs `work` on every item, each on a thread of its own, and returns the first error.
fn in_parallel<T: Send>(
    items: &mut [T],
    work: impl Fn(&mut T) -> Result<(), EmbedError> + Sync,
) -> Result<(), EmbedError> {
    if let [item] = items {
        return work(item);
    }
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter_mut()
            .map(|item| {
                let thread = thread::Builder::new().name(SIDE_BY_SIDE.to_owned());
                thread.spawn_scoped(scope, move || work(item))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| match thread.map(|thread| thread.join()) {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(source) => Err(EmbedError::Thread {
                    thread: SIDE_BY_SIDE,
                    source: Arc::new(source),
                }),
            })
    })
}

struct LoadedEncoders {
    backend: Backend,
    device: Device,
    encoders: Vec<Box<dyn Encoder>>,
}

fn load_encoders(
    config: &TextEmbedderConfig,
    folder: &ModelFolder,
) -> Result<LoadedEncoders, LoadError> {
    match config.backend {
        Backend::Onnx => match config.dtype {
            Some(dtype) => Err(LoadError::DtypeOfGraph {
                path: folder.path().to_owned(),
                dtype,
            }),
            None => load_onnx(config, folder),
        },
        Backend::Candle => load_candle(config, folder),
        Backend::Auto if config.dtype.is_some() => load_candle(config, folder),
        Backend::Auto => {
            let has_library = onnx_library::find(config.onnxruntime_path.as_deref());
            // A graph that was named is meant, whatever else is there.
            let has_weights = folder.weights().is_some() && config.onnx_file.is_none();
            match (folder.graph().is_some(), has_library, has_weights) {
                (true, Ok(_), _) | (true, Err(_), false) => load_onnx(config, folder),
                // A library that was named and is not there is a mistake, not a wish for candle.
                (true, Err(error @ LoadError::RuntimePathIsNoFile { .. }), true) => Err(error),
                _ => load_candle(config, folder),
            }
        }
    }
}

fn load_onnx(
    config: &TextEmbedderConfig,
    folder: &ModelFolder,
) -> Result<LoadedEncoders, LoadError> {
    let Some(graph) = folder.graph() else {
        return Err(LoadError::NoWeightsForBackend {
            path: folder.path().to_owned(),
            backend: Backend::Onnx,
            missing: "model.onnx",
            fix: "write one with `python -m aktis.models.export_onnx`, or use backend=\"candle\"",
        });
    };
    let library = onnx_library::find(config.onnxruntime_path.as_deref())?;
    let device = onnx_session::resolved(config.device, &library)?;
    let placement = config.placement();
    let dense = dense_of(folder);
    let options = OnnxOptions {
        session: SessionOptions {
            graph: graph.to_owned(),
            library,
            device,
            intra_threads: placement.intra_threads()?,
        },
        dim: match config.head {
            Head::Vector => folder.config().hidden_size,
            Head::Logits => config.head.width(folder)?,
        },
        dense: match config.head {
            Head::Vector => dense.as_ref().ok().cloned().flatten(),
            Head::Logits => None,
        },
        head: config.head,
        pooling: folder.modules().pooling(config.pooling)?,
        is_pooling_named: config.pooling.is_some(),
    };
    let encoders = (0..placement.replicas(device)?)
        .map(|_| OnnxEncoder::load(&options))
        .collect::<Result<Vec<_>, LoadError>>()?;
    // A graph that pools by itself has done what comes behind that.
    if config.head == Head::Vector && encoders.iter().any(OnnxEncoder::is_pooled_here) {
        dense?;
    }
    let encoders = encoders.into_iter();
    let encoders = encoders.map(|encoder| Box::new(encoder) as Box<dyn Encoder>);
    Ok(LoadedEncoders {
        backend: Backend::Onnx,
        device,
        encoders: encoders.collect(),
    })
}

fn load_candle(
    config: &TextEmbedderConfig,
    folder: &ModelFolder,
) -> Result<LoadedEncoders, LoadError> {
    let Some(weights) = folder.weights() else {
        return Err(LoadError::NoWeightsForBackend {
            path: folder.path().to_owned(),
            backend: Backend::Candle,
            missing: "model.safetensors",
            fix: "use backend=\"onnx\"",
        });
    };
    if let Device::Cuda(_) = config.device {
        return Err(LoadError::Device {
            device: config.device,
            backend: Backend::Candle,
            reason: "this build of candle runs on the CPU; use backend=\"onnx\" with `pip install onnxruntime-gpu`"
                .to_owned(),
        });
    }
    let placement = config.placement();
    let options = CandleOptions {
        library: candle::find(config.candle_path.as_deref())?,
        config: folder.config_path(),
        weights: weights.to_owned(),
        intra_threads: placement.intra_threads()?,
        dtype: config.dtype,
        pooling: folder.modules().pooling(config.pooling)?,
        behind: match config.head {
            Head::Vector => dense_of(folder)?.map_or(Behind::Nothing, Behind::Dense),
            Head::Logits => {
                let labels = config.head.width(folder)?;
                let head = ClassifierHead::read(weights, folder.config(), labels)?;
                Behind::Head(Arc::new(head))
            }
        },
    };
    let encoders = CandleEncoder::load_replicas(&options, placement.replicas(Device::Cpu)?)?
        .into_iter()
        .map(|encoder| Box::new(encoder) as Box<dyn Encoder>)
        .collect();
    Ok(LoadedEncoders {
        backend: Backend::Candle,
        device: Device::Cpu,
        encoders,
    })
}

/// What vectors go through behind pooling.
fn dense_of(folder: &ModelFolder) -> Result<Option<Arc<Dense>>, LoadError> {
    let dense = Dense::read(folder.modules().dense()?, folder.config().hidden_size)?;
    Ok(dense.map(Arc::new))
}
