//! A model on the CPU with threads of its own.

use std::path::Path;

use candle_core::{Device as CandleDevice, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bert::{Bert, Tokens};
use crate::config::{ModelConfig, Positions};
use crate::decoder::Decoder;
use crate::error::LoadError;
use crate::matrix::Numbers;
use crate::modern_bert::ModernBert;
use crate::weights::Weights;

/// A model and the threads it computes on.
///
/// Its matrix products run on a thread pool of its own, so that models side by side do not wait for each other.
pub(crate) struct Model {
    encoder: Encoder,
    positions: Positions,
    pool: ThreadPool,
    dim: usize,
}

/// The families that are implemented. Cloning shares the weights.
#[derive(Clone)]
enum Encoder {
    Bert(Bert),
    ModernBert(ModernBert),
    Decoder(Decoder),
}

impl Encoder {
    fn new(config: &ModelConfig, weights: &Weights) -> candle_core::Result<Self> {
        Ok(match config {
            ModelConfig::Bert(config) => Self::Bert(Bert::new(config, weights)?),
            ModelConfig::ModernBert(config) => Self::ModernBert(ModernBert::new(config, weights)?),
            ModelConfig::Decoder(config) => Self::Decoder(Decoder::new(config, weights)?),
        })
    }
}

/// A padded batch, row after row.
pub(crate) struct TokenRows<'batch> {
    /// Token ids, `rows x width`.
    pub(crate) ids: &'batch [i64],
    /// Segments, `rows x width`.
    pub(crate) segments: &'batch [i64],
    /// Tokens of each row that are not padding.
    pub(crate) tokens: &'batch [usize],
    /// Tokens per row, padding included.
    pub(crate) width: usize,
}

impl Model {
    /// Reads the configuration and the weights.
    pub(crate) fn load(
        config_path: &Path,
        weights_path: &Path,
        numbers: Numbers,
        threads: usize,
    ) -> Result<Self, LoadError> {
        let config = ModelConfig::read(config_path)?;
        let weights = Weights::read(weights_path, numbers)?;
        let encoder = Encoder::new(&config, &weights).map_err(|source| LoadError::Weights {
            path: weights_path.to_owned(),
            source,
        })?;
        Ok(Self {
            encoder,
            positions: config.positions(),
            pool: start_pool(threads)?,
            dim: config.hidden_size(),
        })
    }

    /// One more model that shares the weights in memory.
    pub(crate) fn share(&self, threads: usize) -> Result<Self, LoadError> {
        Ok(Self {
            encoder: self.encoder.clone(),
            positions: self.positions,
            pool: start_pool(threads)?,
            dim: self.dim,
        })
    }

    /// Length of the vectors.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// The state of every token, `(rows x width, dim)`.
    pub(crate) fn states(&self, rows: &TokenRows<'_>) -> candle_core::Result<Vec<f32>> {
        self.pool.install(|| self.states_of(rows))
    }

    fn states_of(&self, rows: &TokenRows<'_>) -> candle_core::Result<Vec<f32>> {
        // Ids and segments are far below 2^32.
        let narrow = |cells: &[i64]| cells.iter().map(|&cell| cell as u32).collect::<Vec<_>>();
        let tensor = |cells: Vec<u32>| {
            let count = cells.len();
            Tensor::from_vec(cells, count, &CandleDevice::Cpu)
        };
        let ids = narrow(rows.ids);
        let tokens = Tokens {
            positions: tensor(self.positions.of(&ids, rows.width))?,
            ids: tensor(ids)?,
            segments: tensor(narrow(rows.segments))?,
            counts: rows.tokens.into(),
            width: rows.width,
        };
        let states = match &self.encoder {
            Encoder::Bert(bert) => bert.forward(&tokens)?,
            Encoder::ModernBert(modern) => modern.forward(&tokens)?,
            Encoder::Decoder(decoder) => decoder.forward(&tokens)?,
        };
        states.flatten_all()?.to_vec1::<f32>()
    }
}

fn start_pool(threads: usize) -> Result<ThreadPool, LoadError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("aktis-candle-{index}"))
        .build()
        .map_err(|source| LoadError::Threads { threads, source })
}
