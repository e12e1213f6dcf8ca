//! The candle backend: runs BERT from `model.safetensors`, in this process, with nothing to install.

mod bert;
mod config;
mod math;
mod ops;
mod weights;

use std::path::{Path, PathBuf};

use candle_core::{Device as CandleDevice, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use self::bert::{Bert, Tokens};
use self::config::BertConfig;
use self::weights::Weights;
use super::Encoder;
use crate::core::pooling::mean_pool;
use crate::core::token_batch::TokenBatch;
use crate::error::{EncodeError, LoadError};
use crate::model_folder::read_json;

const NAME: &str = "candle";

/// A text encoder run by candle on the CPU.
///
/// Its matrix products run on a thread pool of its own, so that encoders side by side do not wait for each other.
pub struct CandleEncoder {
    model: Bert,
    pool: ThreadPool,
    dim: usize,
}

/// What one encoder is made of.
#[derive(Debug, Clone)]
pub struct CandleOptions {
    /// `config.json`.
    pub config: PathBuf,
    /// `model.safetensors`.
    pub weights: PathBuf,
    /// Threads inside one batch.
    pub intra_threads: usize,
}

impl CandleEncoder {
    /// Reads the configuration and the weights.
    pub fn load(options: &CandleOptions) -> Result<Self, LoadError> {
        let config: BertConfig = read_json(&options.config)?;
        config.check(&options.config)?;
        let weights = Weights::read(&options.weights)?;
        Self::from_weights(&config, &weights, &options.weights, options.intra_threads)
    }

    /// Several encoders that share the weights in memory.
    pub fn load_replicas(options: &CandleOptions, replicas: usize) -> Result<Vec<Self>, LoadError> {
        let first = Self::load(options)?;
        let mut encoders = Vec::with_capacity(replicas);
        for _ in 1..replicas {
            encoders.push(Self {
                model: first.model.clone(),
                pool: start_pool(options.intra_threads)?,
                dim: first.dim,
            });
        }
        encoders.push(first);
        Ok(encoders)
    }

    fn from_weights(
        config: &BertConfig,
        weights: &Weights,
        path: &Path,
        intra_threads: usize,
    ) -> Result<Self, LoadError> {
        let model = Bert::new(config, weights).map_err(|source| LoadError::Weights {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Self {
            model,
            pool: start_pool(intra_threads)?,
            dim: config.hidden_size,
        })
    }
}

fn start_pool(threads: usize) -> Result<ThreadPool, LoadError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("aktis-candle-{index}"))
        .build()
        .map_err(|source| LoadError::Thread {
            name: "aktis-candle".to_owned(),
            source: Box::new(source),
        })
}

impl Encoder for CandleEncoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError> {
        if batch.cells() == 0 {
            pooled.fill(0.0);
            return Ok(());
        }
        let states = self
            .pool
            .install(|| token_states(&self.model, batch))
            .map_err(|source| EncodeError::Backend {
                backend: NAME,
                rows: batch.rows(),
                width: batch.width(),
                source: Box::new(source),
            })?;
        mean_pool(&states, batch, self.dim, pooled);
        Ok(())
    }
}

fn token_states(model: &Bert, batch: &TokenBatch) -> candle_core::Result<Vec<f32>> {
    let tensor = |cells: &[i64]| {
        // Ids and segments are far below 2^32.
        let cells: Vec<u32> = cells.iter().map(|&cell| cell as u32).collect();
        let count = cells.len();
        Tensor::from_vec(cells, count, &CandleDevice::Cpu)
    };
    let tokens = Tokens {
        ids: tensor(batch.input_ids())?,
        segments: tensor(batch.token_type_ids())?,
        counts: (0..batch.rows()).map(|row| batch.row_tokens(row)).collect(),
        width: batch.width(),
    };
    model.forward(&tokens)?.flatten_all()?.to_vec1::<f32>()
}
