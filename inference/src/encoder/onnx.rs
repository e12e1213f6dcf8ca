//! The ONNX Runtime backend: runs `model.onnx` through a library loaded at run time.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};

use super::dense::Dense;
use super::onnx_session::SessionOptions;
use super::{Encoder, onnx_session};
use crate::config::{Head, Pooling};
use crate::core::pooling::pool;
use crate::core::token_batch::TokenBatch;
use crate::error::{EncodeError, LoadError};

const NAME: &str = "onnxruntime";
/// The output that a text's vector is, whatever is behind pooling.
const FINISHED: &str = "sentence_embedding";

/// What one encoder is made of.
#[derive(Debug, Clone)]
pub struct OnnxOptions {
    /// The graph, and where it runs.
    pub session: SessionOptions,
    /// Length of the states of tokens, or how many numbers a head gives.
    pub dim: usize,
    /// What pooled states go through; a graph that pools by itself has done that.
    pub dense: Option<Arc<Dense>>,
    /// What the vectors are.
    pub head: Head,
    /// How token states become a vector.
    pub pooling: Pooling,
    /// Whether that was asked for, so that what the graph pools by itself is none.
    pub is_pooling_named: bool,
}

/// A text encoder run by ONNX Runtime.
pub struct OnnxEncoder {
    session: Session,
    inputs: Vec<InputKind>,
    output: Output,
    dim: usize,
    dense: Option<Arc<Dense>>,
    pooling: Pooling,
}

/// What the graph asks for, in its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputKind {
    InputIds,
    AttentionMask,
    TokenTypeIds,
}

#[derive(Debug, Clone)]
struct Output {
    name: String,
    kind: OutputKind,
    numbers: Numbers,
}

/// What an output is made of. Pooling is in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Float32,
    Float16,
}

type Half = <Float16Type as ArrowPrimitiveType>::Native;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    /// `(rows, width, dim)`, to be pooled here.
    TokenStates,
    /// `(rows, dim)`, pooled in the graph.
    Pooled,
}

impl OnnxEncoder {
    /// Loads the library if need be, then the graph.
    pub fn load(options: &OnnxOptions) -> Result<Self, LoadError> {
        let session = onnx_session::open(&options.session)?;
        let unsuitable = |reason| LoadError::OnnxSignature {
            path: options.session.graph.clone(),
            reason,
        };
        let inputs = read_inputs(session.inputs()).map_err(unsuitable)?;
        let output = read_output(session.outputs(), options).map_err(unsuitable)?;
        Ok(Self {
            session,
            inputs,
            output,
            dim: options.dim,
            dense: options.dense.clone(),
            pooling: options.pooling,
        })
    }

    /// Whether states of tokens are pooled here, and not in the graph.
    pub(crate) fn is_pooled_here(&self) -> bool {
        self.output.kind == OutputKind::TokenStates
    }
}

fn read_inputs(inputs: &[Outlet]) -> Result<Vec<InputKind>, String> {
    let kinds = inputs
        .iter()
        .map(|input| {
            if !matches!(input.dtype(), ValueType::Tensor { ty: TensorElementType::Int64, .. }) {
                return Err(format!("its input `{}` is {} and not a tensor of int64", input.name(), input.dtype()));
            }
            match input.name() {
                "input_ids" => Ok(InputKind::InputIds),
                "attention_mask" => Ok(InputKind::AttentionMask),
                "token_type_ids" => Ok(InputKind::TokenTypeIds),
                other => Err(format!(
                    "it has an input `{other}`, and only input_ids, attention_mask and token_type_ids are known"
                )),
            }
        })
        .collect::<Result<Vec<_>, String>>()?;
    for (kind, name) in [
        (InputKind::InputIds, "input_ids"),
        (InputKind::AttentionMask, "attention_mask"),
    ] {
        if !kinds.contains(&kind) {
            return Err(format!("it has no input `{name}`"));
        }
    }
    Ok(kinds)
}

/// The pooled output if the graph has one, else the token states.
fn read_output(outputs: &[Outlet], options: &OnnxOptions) -> Result<Output, String> {
    let (dim, head) = (options.dim, options.head);
    let pooled = options.dense.as_ref().map_or(dim, |dense| dense.outputs());
    let must_pool = options.is_pooling_named && head == Head::Vector;
    let mut candidates: Vec<Output> = outputs
        .iter()
        .filter_map(|output| classify(output, dim, pooled))
        .filter(|output| head == Head::Vector || output.kind == OutputKind::Pooled)
        .filter(|output| !must_pool || output.kind == OutputKind::TokenStates)
        // What else is pooled has not been through the layers behind that.
        .filter(|output| {
            options.dense.is_none()
                || output.kind == OutputKind::TokenStates
                || output.name == FINISHED
        })
        .collect();
    candidates.sort_by_key(|output| match (output.kind, output.name.as_str()) {
        (OutputKind::Pooled, FINISHED | "logits") => 0,
        (OutputKind::TokenStates, _) => 1,
        // Some exports also give BERT's own pooler, which is not a sentence embedding.
        (OutputKind::Pooled, _) => 2,
    });
    candidates.into_iter().next().ok_or_else(|| {
        format!(
            "none of its outputs {:?} is a float32 or float16 tensor of shape {}",
            outputs.iter().map(Outlet::name).collect::<Vec<_>>(),
            match head {
                Head::Vector if must_pool =>
                    format!("(batch, sequence, {dim}), which pooling= needs"),
                Head::Vector => format!("(batch, sequence, {dim}) or (batch, {pooled})"),
                Head::Logits => format!("(batch, {dim}), one number for each label of config.json"),
            }
        )
    })
}

fn classify(output: &Outlet, dim: usize, pooled: usize) -> Option<Output> {
    let ValueType::Tensor { ty, shape, .. } = output.dtype() else {
        return None;
    };
    let numbers = match ty {
        TensorElementType::Float32 => Numbers::Float32,
        TensorElementType::Float16 => Numbers::Float16,
        _ => return None,
    };
    let (kind, wanted) = match shape.len() {
        2 => (OutputKind::Pooled, pooled),
        3 => (OutputKind::TokenStates, dim),
        _ => return None,
    };
    let last = *shape.last()?;
    if last >= 0 && last as usize != wanted {
        return None;
    }
    Some(Output {
        name: output.name().to_owned(),
        kind,
        numbers,
    })
}

impl Encoder for OnnxEncoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dense
            .as_ref()
            .map_or(self.dim, |dense| dense.outputs())
    }

    fn encode(&mut self, batch: &TokenBatch, pooled: &mut [f32]) -> Result<(), EncodeError> {
        if batch.cells() == 0 {
            pooled.fill(0.0);
            return Ok(());
        }
        let fail = |source: ort::Error| EncodeError::Backend {
            backend: NAME,
            rows: batch.rows(),
            width: batch.width(),
            source: source.into(),
        };
        let dim = self.dim();
        let values = input_values(&self.inputs, batch).map_err(fail)?;
        let outputs = self.session.run(values).map_err(fail)?;
        let output = outputs
            .get(&self.output.name)
            .expect("the session has this output, as checked at load");
        let (found, data) = numbers(output, self.output.numbers).map_err(fail)?;
        let expected = match self.output.kind {
            OutputKind::TokenStates => vec![batch.rows(), batch.width(), self.dim],
            OutputKind::Pooled => vec![batch.rows(), dim],
        };
        if found != expected {
            return Err(EncodeError::Shape {
                backend: NAME,
                found,
                expected,
            });
        }
        match (self.output.kind, &self.dense) {
            (OutputKind::TokenStates, None) => pool(self.pooling, &data, batch, self.dim, pooled),
            (OutputKind::TokenStates, Some(dense)) => {
                let mut inner = vec![0.0; batch.rows() * self.dim];
                pool(self.pooling, &data, batch, self.dim, &mut inner);
                dense.apply(&inner, self.dim, pooled);
            }
            (OutputKind::Pooled, _) => pooled.copy_from_slice(&data),
        }
        Ok(())
    }
}

/// The shape and the numbers of an output; those of float32 are read in place.
fn numbers(output: &DynValue, kind: Numbers) -> ort::Result<(Vec<usize>, Cow<'_, [f32]>)> {
    let (shape, numbers) = match kind {
        Numbers::Float32 => {
            let (shape, numbers) = output.try_extract_tensor::<f32>()?;
            (shape, Cow::Borrowed(numbers))
        }
        Numbers::Float16 => {
            let (shape, numbers) = output.try_extract_tensor::<Half>()?;
            (shape, numbers.iter().map(|half| half.to_f32()).collect())
        }
    };
    let shape = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0));
    Ok((shape.collect(), numbers))
}

type NamedValues<'batch> = Vec<(Cow<'static, str>, SessionInputValue<'batch>)>;

/// The inputs in the graph's order. They are read in place: no copy is made.
fn input_values<'batch>(
    kinds: &[InputKind],
    batch: &'batch TokenBatch,
) -> ort::Result<NamedValues<'batch>> {
    let shape = [batch.rows(), batch.width()];
    kinds
        .iter()
        .map(|kind| {
            let (name, data) = match kind {
                InputKind::InputIds => ("input_ids", batch.input_ids()),
                InputKind::AttentionMask => ("attention_mask", batch.attention_mask()),
                InputKind::TokenTypeIds => ("token_type_ids", batch.token_type_ids()),
            };
            Ok((
                Cow::Borrowed(name),
                TensorRef::from_array_view((shape, data))?.into(),
            ))
        })
        .collect()
}
