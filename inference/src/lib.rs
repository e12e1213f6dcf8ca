//! Native model actors: embedders of texts and images, classifiers, rerankers and ONNX graphs in Rust, with no Python on the data path.
//!
//! Owns: model folders, tokenising, batches, the two model backends. Does not own: where batches come from and go to
//! (`aktis-data`), which process runs a model and on which GPU (`aktis-raylet`), calls of the GPU's driver (`aktis-cuda`).
//!
//! ```text
//!  TextEmbedderSpec (JSON, travels) ──start──► stream::BucketingEmbedder
//!
//!  TextEmbedderConfig ──load──► TextEmbedder ── embed(array) ──► FixedSizeList<f32>
//!                                   │
//!                                   └─► stream::BucketingEmbedder ── submit(RecordBatch) ──► PendingBatch
//!
//!  text_column ─► tokenize ─► core::window ─► core::bucket ─► encoder::Encoder ─► core::pooling ─► embedding_array
//!                                                                ├─ onnx    ONNX Runtime, loaded at run time
//!                                                                └─ candle  BERT, its kin and decoders in Rust, a library of its own (crate candle)
//! ```
//!
//! `classifier` reads what comes out of the stream as labels or scores, where a model has a head for that ([`Head`]).
//! `onnx_model` runs any ONNX graph over columns, through the same sessions ([`encoder::onnx_session`]); `image_embedder` prepares pixels before one.
//!
//! Invariants, where they are kept, and who tests them:
//!
//! | label | says | kept in |
//! |---|---|---|
//! | INF-1 (every-row-once) | a plan's batches hold every row once | [`core::bucket`] |
//! | INF-2 (budget-holds) | a batch of several rows stays within the token budget, padding included | [`core::bucket`] |
//! | INF-3 (padding-is-invisible) | a row's vector does not depend on its neighbours | [`encoder`] |
//! | INF-4 (any-shape) | an encoder takes any number of rows of any width it has positions for | [`encoder`] |
//! | INF-5 (no-row-starves) | no row waits longer than one generation of the window | [`core::window`] |
//! | INF-6 (never-waits-for-more) | no row waits for others to fill a window | [`core::window`] |
//! | INF-7 (rows-stay-put) | output rows are the input rows, in their order | [`stream`] |
//! | INF-8 (bounded) | rows under way are bounded; `submit` blocks | [`stream`] |
//! | INF-9 (one-batch-fails-alone) | an error ends the batches concerned, not the stream | [`stream`] |
//! | INF-10 (nobody-waits-for-ever) | dropping the stream ends every wait | [`stream`] |

pub mod classifier;
pub mod config;
pub mod core;
pub mod embedder;
pub mod embedding_array;
pub mod encoder;
pub mod error;
pub mod image_embedder;
pub mod memory;
pub mod model_folder;
pub mod onnx_model;
mod placement;
mod sentence_modules;
pub mod spec;
pub mod stream;
pub mod tensor_type;
pub mod testing;
pub mod text_column;
pub mod tokenize;

pub use crate::classifier::{RerankerSpec, Scoring, TextClassifierSpec};
pub use crate::config::{Backend, Device, Dtype, Head, Pooling, TextEmbedderConfig};
pub use crate::embedder::TextEmbedder;
pub use crate::embedding_array::embedding_type;
pub use crate::encoder::kept_graphs::{KeptGraphs, keep_graphs};
pub use crate::error::{EmbedError, LoadError, explain};
pub use crate::image_embedder::{ImageDecoder, ImageEmbedderSpec, NotDecoded};
pub use crate::memory::says_out_of_memory;
pub use crate::onnx_model::{OnnxModel, OnnxModelSpec, PendingRun, RunError};
pub use crate::spec::{HubFile, HubModel, ModelKind, ModelSpec, TextEmbedderSpec};
pub use crate::stream::{BucketingEmbedder, EmbedStream, PendingBatch, StreamOptions, StreamStats};
