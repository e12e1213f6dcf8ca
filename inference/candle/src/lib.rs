//! The candle backend of the models of texts: BERT, RoBERTa, MPNet, ModernBERT and decoders (Llama, Mistral, Qwen2, Qwen3, Gemma3) from
//! `model.safetensors`, on the CPU, with nothing else to install.
//!
//! It is a library of its own, `libaktis_candle.so`, that `aktis-inference` loads when somebody asks for candle: candle and
//! its matrix products are a twentieth of a build and are rarely used, since ONNX Runtime is faster ([ADR 028]).
//!
//! ```text
//!   aktis-inference, encoder::candle  ──dlopen──►  aktis_candle_table ──► Table { load, share, dim, states, drop }
//!                                         └──► Model ──► Bert, ModernBert or Decoder ──► attention, layers, matrix, ops, math
//! ```
//! Owns: the model and its threads. Does not own: tokenising, pooling, batches (`aktis-inference`).
//!
//! `unsafe` is allowed in this file alone: it is the border. Invariants:
//!
//! | label | says | kept in |
//! |---|---|---|
//! | CDL-1 (no-panic-crosses) | a panic ends as an error's text, never as an unwinding through C | [`guarded`] |
//! | CDL-2 (caller-owns-texts) | nothing is freed on another side than it was allocated on | [`abi`] |
//!
//! [ADR 028]: ../../../docs/adr/028-candle-is-loaded-when-asked-for.md

pub mod abi;
mod attention;
mod bert;
mod config;
mod decoder;
mod decoder_config;
mod error;
mod layers;
mod math;
mod matrix;
mod model;
mod modern_bert;
mod modern_config;
mod ops;
mod relative_positions;
#[cfg(test)]
mod testing;
mod weights;

use std::any::Any;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use crate::abi::{ABI_VERSION, Batch, Bytes, ErrorText, Table};
use crate::matrix::Numbers;
use crate::model::{Model, TokenRows};

static TABLE: Table = Table {
    version: ABI_VERSION,
    load,
    share,
    dim,
    states,
    drop: drop_model,
};

/// The table of functions.
#[allow(
    unsafe_code,
    reason = "the symbol that the embedder looks up must have this name"
)]
#[unsafe(no_mangle)]
pub extern "C" fn aktis_candle_table() -> *const Table {
    &raw const TABLE
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe extern "C" fn load(
    config: Bytes,
    weights: Bytes,
    numbers: u32,
    threads: usize,
    error: *mut ErrorText,
) -> *mut abi::Model {
    let loaded = guarded(|| {
        // SAFETY: the caller gives bytes that live for this call.
        let config = unsafe { slice(config.start, config.length) };
        // SAFETY: as above.
        let weights = unsafe { slice(weights.start, weights.length) };
        let path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
        let numbers = match numbers {
            abi::FLOAT32 => Numbers::Float32,
            abi::INT8 => Numbers::Int8,
            other => return Err(format!("there are no weights of the kind {other}")),
        };
        Model::load(path(config), path(weights), numbers, threads)
            .map_err(|error| error.to_string())
    });
    // SAFETY: the caller gives a place for the text.
    unsafe { handed_out(loaded, error) }
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe extern "C" fn share(
    model: *const abi::Model,
    threads: usize,
    error: *mut ErrorText,
) -> *mut abi::Model {
    // SAFETY: the caller got this model from `load` or `share` and has not dropped it.
    let model = unsafe { &*model.cast::<Model>() };
    let shared = guarded(|| model.share(threads).map_err(|error| error.to_string()));
    // SAFETY: the caller gives a place for the text.
    unsafe { handed_out(shared, error) }
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe extern "C" fn dim(model: *const abi::Model) -> usize {
    // SAFETY: the caller got this model from `load` or `share` and has not dropped it.
    unsafe { &*model.cast::<Model>() }.dim()
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe extern "C" fn states(
    model: *mut abi::Model,
    batch: Batch,
    output: *mut f32,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller got this model from `load` or `share` and has not dropped it.
    let model = unsafe { &*model.cast::<Model>() };
    let cells = batch.rows * batch.width;
    let rows = TokenRows {
        // SAFETY: the caller gives `rows x width` ids that live for this call.
        ids: unsafe { slice(batch.ids, cells) },
        // SAFETY: and as many segments.
        segments: unsafe { slice(batch.segments, cells) },
        // SAFETY: and a count for each row.
        tokens: unsafe { slice(batch.tokens, batch.rows) },
        width: batch.width,
    };
    let computed = guarded(|| model.states(&rows).map_err(|error| error.to_string()));
    match computed {
        Ok(states) if states.len() == cells * model.dim() => {
            // SAFETY: the caller gives room for `rows x width x dim` numbers, which `states` are.
            unsafe { ptr::copy_nonoverlapping(states.as_ptr(), output, states.len()) };
            0
        }
        Ok(states) => {
            let text = format!("the model gave {} numbers for {cells} tokens", states.len());
            // SAFETY: the caller gives a place for the text.
            unsafe { write_text(error, &text) };
            1
        }
        Err(text) => {
            // SAFETY: the caller gives a place for the text.
            unsafe { write_text(error, &text) };
            1
        }
    }
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe extern "C" fn drop_model(model: *mut abi::Model) {
    // SAFETY: the caller got this model from `load` or `share`, and drops it once.
    let model = unsafe { Box::from_raw(model.cast::<Model>()) };
    // A panic of a thread pool that ends is nobody's to hear.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(model)));
}

/// CDL-1: runs `work`; a panic becomes an error's text.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(panic.as_ref())))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it does not say why");
    format!("candle panicked: {text}")
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe fn slice<'call, T>(start: *const T, length: usize) -> &'call [T] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller promises `length` values at `start` for the time of the call.
    unsafe { std::slice::from_raw_parts(start, length) }
}

#[allow(unsafe_code, reason = "the border to C")]
unsafe fn handed_out(model: Result<Model, String>, error: *mut ErrorText) -> *mut abi::Model {
    match model {
        Ok(model) => Box::into_raw(Box::new(model)).cast(),
        Err(text) => {
            // SAFETY: the caller gives a place for the text.
            unsafe { write_text(error, &text) };
            ptr::null_mut()
        }
    }
}

/// Writes as much of `text` as there is room for.
#[allow(unsafe_code, reason = "the border to C")]
unsafe fn write_text(place: *mut ErrorText, text: &str) {
    // SAFETY: the caller's place lives for this call, and nobody else looks at it.
    let place = unsafe { &mut *place };
    let length = text.floor_char_boundary(place.capacity);
    // SAFETY: there are `capacity` bytes at `start`, and `length` is no more.
    unsafe { ptr::copy_nonoverlapping(text.as_ptr(), place.start, length) };
    place.length = length;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_becomes_the_text_of_an_error() {
        let ended: Result<(), String> = guarded(|| panic!("matrix of no rows"));
        assert_eq!(
            ended,
            Err("candle panicked: matrix of no rows".to_owned()),
            "CDL-1"
        );
    }

    #[test]
    #[allow(unsafe_code, reason = "the border to C")]
    fn long_text_is_cut_at_a_character() {
        let mut room = [0u8; 5];
        let mut place = ErrorText {
            start: room.as_mut_ptr(),
            capacity: room.len(),
            length: 0,
        };
        // SAFETY: the place describes `room`.
        unsafe { write_text(&raw mut place, "läuft über") };
        let length = place.length;
        assert_eq!(&room[..length], "läuf".as_bytes(), "CDL-2");
    }
}
