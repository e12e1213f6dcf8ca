//! What the numbers of a sequence classifier mean: labels with scores, or how well a text answers a query.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, ListArray, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type};
use serde::{Deserialize, Serialize};

use crate::config::{Head, TextEmbedderConfig};
use crate::embedder::TextEmbedder;
use crate::error::LoadError;
use crate::model_folder::ModelConfig;
use crate::stream::{BucketingEmbedder, StreamOptions};
use crate::tokenize::LEAST_OF_PAIRS;

/// What becomes of the numbers of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activation {
    Softmax,
    Sigmoid,
    Identity,
}

impl Activation {
    /// As the pipelines of `transformers` choose it.
    fn of_classifier(config: &ModelConfig, labels: usize) -> Self {
        match config.problem_type.as_deref() {
            Some("regression") => Self::Identity,
            Some("multi_label_classification") => Self::Sigmoid,
            _ if labels == 1 => Self::Sigmoid,
            _ => Self::Softmax,
        }
    }

    /// As sentence-transformers chooses it for one label.
    fn of_reranker(config: &ModelConfig) -> Result<Self, String> {
        let told = config.sentence_transformers.as_ref();
        let told = told.and_then(|told| told.activation_fn.as_deref());
        let told = told.or(config.sbert_ce_default_activation_function.as_deref());
        match told.map(|class| class.rsplit('.').next().unwrap_or(class)) {
            None | Some("Sigmoid") => Ok(Self::Sigmoid),
            Some("Identity") => Ok(Self::Identity),
            Some(other) => Err(format!(
                "its scores go through `{other}`, and only Sigmoid and Identity are known"
            )),
        }
    }

    fn apply(self, numbers: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Sigmoid => numbers
                .iter_mut()
                .for_each(|number| *number = 1.0 / (1.0 + (-*number).exp())),
            Self::Softmax => {
                let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                numbers
                    .iter_mut()
                    .for_each(|number| *number = (*number - most).exp());
                let sum: f32 = numbers.iter().sum();
                numbers.iter_mut().for_each(|number| *number /= sum);
            }
        }
    }
}

/// A text classifier with its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextClassifierSpec {
    /// The model.
    pub model: TextEmbedderConfig,
    /// The column of texts, and sizes. The output column is that of the labels.
    pub stream: StreamOptions,
    /// The column of the scores.
    pub score_column: String,
    /// How many labels each text gets, the likeliest first; `None`: all.
    pub top_k: Option<usize>,
}

/// A reranker, which is a cross-encoder with one label, with its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RerankerSpec {
    /// The model.
    pub model: TextEmbedderConfig,
    /// The columns of queries and of texts, and sizes. The output column is that of the scores.
    pub stream: StreamOptions,
}

/// The numbers of texts as columns.
#[derive(Debug, Clone)]
pub struct Scoring {
    labels: Vec<String>,
    activation: Activation,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// One label for each text, with its score.
    Best([FieldRef; 2]),
    /// So many labels for each text, with their scores.
    Several(usize, [FieldRef; 2]),
    /// The score of the only label.
    Only(FieldRef),
}

impl TextClassifierSpec {
    /// How texts get labels, from the model folder, without loading the model.
    pub fn scoring(&self) -> Result<Scoring, LoadError> {
        let folder = self.model.folder()?;
        let labels = folder.labels()?;
        let field = |name: &str, kind: DataType| Arc::new(Field::new(name, kind, true));
        let names = [&self.stream.output_column, &self.score_column];
        let kind = match self.top_k {
            Some(1) => Kind::Best([
                field(names[0], DataType::Utf8),
                field(names[1], DataType::Float32),
            ]),
            wanted => Kind::Several(
                wanted.unwrap_or(labels.len()).min(labels.len()),
                [
                    field(names[0], DataType::new_list(DataType::Utf8, true)),
                    field(names[1], DataType::new_list(DataType::Float32, true)),
                ],
            ),
        };
        Ok(Scoring {
            activation: Activation::of_classifier(folder.config(), labels.len()),
            labels,
            kind,
        })
    }

    /// Loads the model and starts the threads.
    pub fn start(self) -> Result<BucketingEmbedder, LoadError> {
        start(self.model, self.stream)
    }
}

impl RerankerSpec {
    /// How pairs get scores, from the model folder, without loading the model.
    pub fn scoring(&self) -> Result<Scoring, LoadError> {
        let folder = self.model.folder()?;
        let labels = folder.labels()?;
        let refused = |reason| LoadError::Labels {
            path: folder.config_path(),
            reason,
        };
        if labels.len() != 1 {
            return Err(refused(format!(
                "a reranker has one, and this model {}; TextClassifier gives labels with scores",
                labels.len()
            )));
        }
        let max_tokens = folder.max_tokens(self.model.max_tokens)?;
        if max_tokens < LEAST_OF_PAIRS {
            return Err(LoadError::Setting {
                setting: "max_tokens",
                value: max_tokens,
                reason: format!("a pair of texts takes {LEAST_OF_PAIRS} at least"),
            });
        }
        let score = Field::new(&self.stream.output_column, DataType::Float32, true);
        Ok(Scoring {
            activation: Activation::of_reranker(folder.config()).map_err(refused)?,
            labels,
            kind: Kind::Only(Arc::new(score)),
        })
    }

    /// Loads the model and starts the threads.
    pub fn start(self) -> Result<BucketingEmbedder, LoadError> {
        start(self.model, self.stream)
    }
}

fn start(model: TextEmbedderConfig, stream: StreamOptions) -> Result<BucketingEmbedder, LoadError> {
    let model = TextEmbedderConfig {
        head: Head::Logits,
        normalize: false,
        ..model
    };
    BucketingEmbedder::start(TextEmbedder::load(model)?, stream)
}

impl Scoring {
    /// The columns that are added.
    pub fn fields(&self) -> Vec<FieldRef> {
        match &self.kind {
            Kind::Best(fields) | Kind::Several(_, fields) => fields.to_vec(),
            Kind::Only(field) => vec![Arc::clone(field)],
        }
    }

    /// Those columns, of the numbers of all texts.
    pub fn columns(&self, logits: &FixedSizeListArray) -> Vec<ArrayRef> {
        let width = self.labels.len();
        let mut numbers = logits
            .values()
            .as_primitive::<Float32Type>()
            .values()
            .to_vec();
        let rows: Vec<&mut [f32]> = numbers.chunks_exact_mut(width).collect();
        let taken = match &self.kind {
            Kind::Several(count, _) => *count,
            Kind::Best(_) | Kind::Only(_) => 1,
        };
        let (mut labels, mut scores) = (Vec::new(), Vec::new());
        for (row, numbers) in rows.into_iter().enumerate() {
            if logits.is_null(row) {
                labels.push(Vec::new());
                scores.push(Vec::new());
                continue;
            }
            self.activation.apply(numbers);
            let mut order: Vec<usize> = (0..width).collect();
            order.sort_by(|&one, &other| numbers[other].total_cmp(&numbers[one]));
            order.truncate(taken);
            scores.push(order.iter().map(|&label| numbers[label]).collect());
            labels.push(
                order
                    .into_iter()
                    .map(|label| self.labels[label].as_str())
                    .collect(),
            );
        }
        let first_scores = || -> ArrayRef {
            Arc::new(Float32Array::from_iter(
                scores
                    .iter()
                    .map(|scores: &Vec<f32>| scores.first().copied()),
            ))
        };
        match &self.kind {
            Kind::Only(_) => vec![first_scores()],
            Kind::Best(_) => {
                let best = labels.iter().map(|labels| labels.first().copied());
                vec![Arc::new(StringArray::from_iter(best)), first_scores()]
            }
            Kind::Several(_, fields) => {
                let offsets = OffsetBuffer::<i32>::from_lengths(scores.iter().map(Vec::len));
                let list = |field: &FieldRef, values: ArrayRef| -> ArrayRef {
                    let item = crate::tensor_type::item(field.data_type()).expect("it is a list");
                    Arc::new(ListArray::new(
                        Arc::clone(item),
                        offsets.clone(),
                        values,
                        logits.nulls().cloned(),
                    ))
                };
                let names: Vec<&str> = labels.into_iter().flatten().collect();
                let numbers: Vec<f32> = scores.iter().flatten().copied().collect();
                let (names, numbers) = (StringArray::from(names), Float32Array::from(numbers));
                vec![
                    list(&fields[0], Arc::new(names)),
                    list(&fields[1], Arc::new(numbers)),
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_large_numbers_are_not_lost() {
        let mut numbers = [1000.0, 999.0, -1000.0];
        Activation::Softmax.apply(&mut numbers);
        assert!((numbers[0] - 0.731_058_6).abs() < 1e-6 && numbers[2] == 0.0);
        let mut numbers = [-200.0, 0.0, 200.0];
        Activation::Sigmoid.apply(&mut numbers);
        assert_eq!(numbers, [0.0, 0.5, 1.0]);
    }
}
