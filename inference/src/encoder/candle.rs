//! The candle backend's near side: finds and loads `libaktis_candle.so`, and calls it.
//!
//! The library is built by `make candle`, and lies in a folder of the Python package.
//! `unsafe` is allowed in this file alone of the encoders: it is the border to C.

#[allow(
    unreachable_pub,
    reason = "one text for both sides, and public on the other"
)]
#[path = "../../candle/src/abi.rs"]
mod abi;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::{Library, Symbol};

use self::abi::{ABI_VERSION, Batch, Bytes, ErrorText, FLOAT32, INT8, Model, TABLE_SYMBOL, Table};
use super::Encoder;
use super::classifier_head::ClassifierHead;
use super::dense::Dense;
use crate::config::{Dtype, Pooling};
use crate::core::pooling::pool;
use crate::core::token_batch::TokenBatch;
use crate::error::{EncodeError, LoadError};

const NAME: &str = "candle";
/// Room for the text of an error.
const ERROR_BYTES: usize = 4096;

/// A text encoder run by candle on the CPU.
pub struct CandleEncoder {
    model: *mut Model,
    table: Table,
    /// Length of the token vectors.
    dim: usize,
    pooling: Pooling,
    behind: Behind,
    tokens: Vec<usize>,
    states: Vec<f32>,
}

/// What the states of a text go through.
#[derive(Debug, Clone, Default)]
pub enum Behind {
    /// Pooling alone.
    #[default]
    Nothing,
    /// Pooling, and then layers.
    Dense(Arc<Dense>),
    /// The head of a classifier, which pools by itself.
    Head(Arc<ClassifierHead>),
}

/// What one encoder is made of.
#[derive(Debug, Clone)]
pub struct CandleOptions {
    /// `libaktis_candle.so`; see [`find`].
    pub library: PathBuf,
    /// `config.json`.
    pub config: PathBuf,
    /// `model.safetensors`, or its index.
    pub weights: PathBuf,
    /// What the weights of linear layers become; `None`: float32.
    pub dtype: Option<Dtype>,
    /// Threads inside one batch.
    pub intra_threads: usize,
    /// How token states become a vector.
    pub pooling: Pooling,
    /// What the states go through.
    pub behind: Behind,
}

/// Where the library is: `configured`, if something is there.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, LoadError> {
    match configured {
        Some(path) if path.is_file() => Ok(path.to_owned()),
        Some(path) => Err(LoadError::CandleNotFound {
            place: format!("candle_path is `{}`, which is no file", path.display()),
        }),
        None => Err(LoadError::CandleNotFound {
            place: "candle_path is not set".to_owned(),
        }),
    }
}

// SAFETY: the table's functions may be called from any thread, one at a time for each model, and `encode` has `&mut`.
#[allow(unsafe_code, reason = "the border to C")]
unsafe impl Send for CandleEncoder {}

impl CandleEncoder {
    /// Loads the library, and reads the configuration and the weights.
    pub fn load(options: &CandleOptions) -> Result<Self, LoadError> {
        let table = open(&options.library)?;
        let bytes = |path: &Path| {
            let bytes = path.as_os_str().as_bytes();
            Bytes {
                start: bytes.as_ptr(),
                length: bytes.len(),
            }
        };
        let (config, weights) = (bytes(&options.config), bytes(&options.weights));
        let numbers = match options.dtype {
            None | Some(Dtype::Float32) => FLOAT32,
            Some(Dtype::Int8) => INT8,
        };
        let model = with_error_text(|error| {
            // SAFETY: the paths and the place for the text live for this call.
            #[allow(unsafe_code, reason = "the border to C")]
            let model =
                unsafe { (table.load)(config, weights, numbers, options.intra_threads, error) };
            (!model.is_null()).then_some(model)
        })
        .map_err(|message| LoadError::CandleModel { message })?;
        Ok(Self::around(model, table, options))
    }

    /// Several encoders that share the weights in memory.
    pub fn load_replicas(options: &CandleOptions, replicas: usize) -> Result<Vec<Self>, LoadError> {
        let first = Self::load(options)?;
        let mut encoders = Vec::with_capacity(replicas);
        for _ in 1..replicas {
            let model = with_error_text(|error| {
                // SAFETY: `first` is alive, and the place for the text lives for this call.
                #[allow(unsafe_code, reason = "the border to C")]
                let model =
                    unsafe { (first.table.share)(first.model, options.intra_threads, error) };
                (!model.is_null()).then_some(model)
            })
            .map_err(|message| LoadError::CandleModel { message })?;
            encoders.push(Self::around(model, first.table, options));
        }
        encoders.push(first);
        Ok(encoders)
    }

    fn around(model: *mut Model, table: Table, options: &CandleOptions) -> Self {
        // SAFETY: the model was just made by this table.
        #[allow(unsafe_code, reason = "the border to C")]
        let dim = unsafe { (table.dim)(model) };
        Self {
            model,
            table,
            dim,
            pooling: options.pooling,
            behind: options.behind.clone(),
            tokens: Vec::new(),
            states: Vec::new(),
        }
    }
}

/// The table of the library, if it is of this version. The library stays loaded for the life of the process: threads of a
/// model that was dropped may still be on their way out of its code.
fn open(path: &Path) -> Result<Table, LoadError> {
    let refused = |reason: String| LoadError::CandleLibrary {
        path: path.to_owned(),
        reason,
    };
    // SAFETY: the library's initialisers are those of Rust's standard library alone.
    #[allow(unsafe_code, reason = "the border to C")]
    let library = unsafe { Library::new(path) }.map_err(|error| refused(error.to_string()))?;
    let library = Box::leak(Box::new(library));
    let table = {
        // SAFETY: this symbol has this type in every version of the library.
        #[allow(unsafe_code, reason = "the border to C")]
        let symbol: Symbol<'_, extern "C" fn() -> *const Table> =
            unsafe { library.get(TABLE_SYMBOL) }.map_err(|error| refused(error.to_string()))?;
        symbol()
    };
    // SAFETY: the version is the first field in every version of the table, which lives as long as the library.
    #[allow(unsafe_code, reason = "the border to C")]
    let version = unsafe { (&raw const (*table).version).read() };
    if version != ABI_VERSION {
        return Err(refused(format!(
            "it is of version {version}, and this installation needs {ABI_VERSION}"
        )));
    }
    // SAFETY: a table of this version has all fields.
    #[allow(unsafe_code, reason = "the border to C")]
    let table = unsafe { table.read() };
    Ok(table)
}

/// Runs `call` with a place for the text of an error, and returns that if `call` gives nothing.
fn with_error_text<T>(call: impl FnOnce(*mut ErrorText) -> Option<T>) -> Result<T, String> {
    let mut room = vec![0u8; ERROR_BYTES];
    let mut error = ErrorText {
        start: room.as_mut_ptr(),
        capacity: room.len(),
        length: 0,
    };
    call(&raw mut error).ok_or_else(|| {
        room.truncate(error.length);
        String::from_utf8_lossy(&room).into_owned()
    })
}

impl Drop for CandleEncoder {
    fn drop(&mut self) {
        // SAFETY: the model came from this table, and this is its only end.
        #[allow(unsafe_code, reason = "the border to C")]
        unsafe {
            (self.table.drop)(self.model);
        }
    }
}

impl Encoder for CandleEncoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        match &self.behind {
            Behind::Nothing => self.dim,
            Behind::Dense(dense) => dense.outputs(),
            Behind::Head(head) => head.labels(),
        }
    }

    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError> {
        if batch.cells() == 0 {
            pooled.fill(0.0);
            return Ok(());
        }
        self.tokens.clear();
        self.tokens
            .extend((0..batch.rows()).map(|row| batch.row_tokens(row)));
        self.states.resize(batch.cells() * self.dim, 0.0);
        let rows = Batch {
            ids: batch.input_ids().as_ptr(),
            segments: batch.token_type_ids().as_ptr(),
            tokens: self.tokens.as_ptr(),
            rows: batch.rows(),
            width: batch.width(),
        };
        let output = self.states.as_mut_ptr();
        with_error_text(|error| {
            // SAFETY: `rows` describes `rows x width` ids and segments and a count per row, `output` has `rows x width x dim`
            // places, and all of them live for this call.
            #[allow(unsafe_code, reason = "the border to C")]
            let code = unsafe { (self.table.states)(self.model, rows, output, error) };
            (code == 0).then_some(())
        })
        .map_err(|message| EncodeError::Backend {
            backend: NAME,
            rows: batch.rows(),
            width: batch.width(),
            source: message.into(),
        })?;
        match &self.behind {
            Behind::Nothing => pool(self.pooling, &self.states, batch, self.dim, pooled),
            Behind::Dense(dense) => {
                let mut inner = vec![0.0; batch.rows() * self.dim];
                pool(self.pooling, &self.states, batch, self.dim, &mut inner);
                dense.apply(&inner, self.dim, pooled);
            }
            Behind::Head(head) => head.apply(&self.states, batch, pooled),
        }
        Ok(())
    }
}
