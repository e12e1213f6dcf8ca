//! What crosses the border between the embedder and the library `libaktis_candle.so`: plain C, a table of functions.
//!
//! This one text is compiled into both sides. Nothing is allocated on one side and freed on the other; texts of errors go
//! into a buffer of the caller.

use std::ffi::c_void;

/// Grows with every change of the table. A library of another version is refused by name.
pub const ABI_VERSION: u32 = 2;

/// The one symbol of the library: a function without arguments that returns the table, which lives as long as the library.
pub const TABLE_SYMBOL: &[u8] = b"aktis_candle_table";

/// Weights of linear layers as they are, in float32.
pub const FLOAT32: u32 = 0;
/// Weights of linear layers as whole numbers of 8 bits.
pub const INT8: u32 = 1;

/// A loaded model on the other side.
pub type Model = c_void;

/// Bytes that the caller gives to be read.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    /// The first one.
    pub start: *const u8,
    /// Their number.
    pub length: usize,
}

/// A place of the caller for the text of an error, who frees it as well (`CDL-2`).
#[repr(C)]
#[derive(Debug)]
pub struct ErrorText {
    /// Where to write, `capacity` bytes.
    pub start: *mut u8,
    /// Room at `start`.
    pub capacity: usize,
    /// Bytes that were written: UTF-8.
    pub length: usize,
}

/// A padded batch of token ids, row after row.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Token ids, `rows x width`.
    pub ids: *const i64,
    /// Segments, `rows x width`.
    pub segments: *const i64,
    /// Tokens of each row that are not padding, `rows`.
    pub tokens: *const usize,
    /// Number of texts.
    pub rows: usize,
    /// Tokens per row, padding included.
    pub width: usize,
}

/// What the library can do. Every function may be called from any thread, one at a time for each model.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// [`ABI_VERSION`] of the library; the rest of the table is only read if it is the caller's.
    pub version: u32,
    /// Reads a model: paths of `config.json` and of `model.safetensors` or its index, [`FLOAT32`] or [`INT8`], threads inside one batch. Null on an error.
    pub load: unsafe extern "C" fn(Bytes, Bytes, u32, usize, *mut ErrorText) -> *mut Model,
    /// One more model with the same weights and threads of its own. Null on an error.
    pub share: unsafe extern "C" fn(*const Model, usize, *mut ErrorText) -> *mut Model,
    /// Length of the vectors.
    pub dim: unsafe extern "C" fn(*const Model) -> usize,
    /// Writes the state of every token, `rows x width x dim`. Not 0 on an error.
    pub states: unsafe extern "C" fn(*mut Model, Batch, *mut f32, *mut ErrorText) -> i32,
    /// Ends a model.
    pub drop: unsafe extern "C" fn(*mut Model),
}
