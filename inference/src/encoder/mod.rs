//! One trait, two backends: token ids in, one vector per text out.

pub mod candle;
pub mod classifier_head;
pub mod dense;
pub mod kept_graphs;
mod layer;
pub mod onnx;
pub mod onnx_library;
pub mod onnx_session;
mod safetensors_files;

// The numbers of the candle backend, exactly as it computes them.
#[allow(
    dead_code,
    reason = "one text for both sides, of which this one uses a part"
)]
#[path = "../../candle/src/math.rs"]
mod math;

use crate::core::token_batch::TokenBatch;
use crate::error::EncodeError;

/// A loaded model on one device. `tests/encoder_conformance.rs` holds every implementation to the same behaviour:
///
/// - INF-3 (padding-is-invisible): a row's vector does not depend on the other rows of its batch, but for rounding.
/// - INF-4 (any-shape): any number of rows of any width up to the model's positions works, in any order, zero rows too.
pub trait Encoder: Send {
    /// The backend's name, for messages: `onnxruntime` or `candle`.
    fn name(&self) -> &'static str;

    /// Length of the vectors.
    fn dim(&self) -> usize;

    /// Writes one pooled vector per row of `batch` into `pooled`, which has `rows x dim` places, row after row.
    ///
    /// Vectors are not scaled to length 1 here.
    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError>;
}
