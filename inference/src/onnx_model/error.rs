//! Why an ONNX model could not be run over rows. Every `Display` fits after "failed to".

use std::sync::Arc;

use crate::error::{BoxError, list};
use crate::memory::says_out_of_memory;

/// Rows could not be given to the model, or it failed for them.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The record batch has no such column.
    #[error("feed the input `{input}` from the column `{column}`: the input of the step has the columns {}; name another by {setting}", list(.available))]
    ColumnMissing {
        /// The graph's input.
        input: String,
        /// The column asked for.
        column: String,
        /// The columns there are.
        available: Vec<String>,
        /// What names it.
        setting: String,
    },
    /// What the column has is not what the input takes.
    #[error(
        "feed the input `{input}`, which takes {expected}, from the column `{column}`: it has {found}{fix}"
    )]
    Unfit {
        /// The graph's input.
        input: String,
        /// The column.
        column: String,
        /// What the input takes.
        expected: String,
        /// What the column has.
        found: String,
        /// What to do.
        fix: &'static str,
    },
    /// A column is not one of images.
    #[error(
        "read the column `{column}` as images: it has {found}, and uint8 tensors of height, width and channels are needed{fix}"
    )]
    Images {
        /// The column.
        column: String,
        /// What it has.
        found: String,
        /// What to do.
        fix: &'static str,
    },
    /// Images of a column could not be decoded.
    #[error("decode the images of the column `{column}`: {message}")]
    Decode {
        /// The column.
        column: String,
        /// Why.
        message: String,
        /// Whether those of other rows may be.
        is_of_rows: bool,
    },
    /// ONNX Runtime failed.
    #[error("run the graph on {rows} rows{}", shapes_text(.shapes))]
    Run {
        /// Rows of the batch.
        rows: usize,
        /// The inputs and their shapes.
        shapes: Vec<(String, Vec<usize>)>,
        /// Why.
        source: BoxError,
    },
    /// The graph gave something else than its file says.
    #[error(
        "use the output `{output}`: it has shape {found:?} for {rows} rows, and the graph's file says {expected}; the first axis must be that of the rows"
    )]
    Answer {
        /// The graph's output.
        output: String,
        /// Rows of the batch.
        rows: usize,
        /// The shape that came.
        found: Vec<i64>,
        /// The shape that was due.
        expected: String,
    },
    /// Arrow refused the result.
    #[error("assemble the output")]
    Assemble {
        /// Why.
        source: Arc<arrow::error::ArrowError>,
    },
    /// A thread of the model panicked.
    #[error("go on after a thread of the model panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The model was closed while this batch was in it.
    #[error("finish the batch: the model was closed")]
    Closed,
}

impl RunError {
    /// Whether other rows may fare better: the model and its device work.
    pub fn is_of_rows(&self) -> bool {
        match self {
            Self::ColumnMissing { .. } | Self::Unfit { .. } | Self::Images { .. } => true,
            Self::Decode { is_of_rows, .. } => *is_of_rows,
            Self::Run { source, .. } => {
                let said = source.to_string();
                let is_broken = ["CUDA failure", "CUDA error", "CUBLAS", "CUDNN"]
                    .iter()
                    .any(|broken| said.contains(broken));
                !is_broken || says_out_of_memory(&said)
            }
            Self::Answer { .. } | Self::Assemble { .. } | Self::Panicked { .. } | Self::Closed => {
                false
            }
        }
    }
}

fn shapes_text(shapes: &[(String, Vec<usize>)]) -> String {
    let each: Vec<String> = shapes
        .iter()
        .map(|(input, shape)| format!("`{input}` {shape:?}"))
        .collect();
    format!(" ({})", each.join(", "))
}
