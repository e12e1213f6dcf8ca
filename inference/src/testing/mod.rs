//! For tests: a complete model folder small enough to be made in a millisecond.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

/// Length of the tiny model's embeddings.
pub const TINY_DIM: usize = 16;
/// Longest text of the tiny model, in tokens.
pub const TINY_MAX_TOKENS: usize = 48;

const LAYERS: usize = 2;
const HEADS: usize = 4;
const INNER: usize = 32;
const POSITIONS: usize = 64;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The candle backend that `make candle`, or `cargo build --release -p aktis-candle`, has built in the folder in which the
/// running test or example was built.
///
/// # Panics
/// If it was not built.
pub fn candle_library() -> PathBuf {
    let running = std::env::current_exe().expect("a test knows where it lies");
    let library = running
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("libaktis_candle.so"))
        .find(|library| library.is_file());
    library.expect("libaktis_candle.so is not built: run `cargo build --release -p aktis-candle`")
}

/// Writes a BERT with fixed pseudo-random weights into `folder`: `config.json`, `tokenizer.json`,
/// `sentence_bert_config.json` and `model.safetensors`.
///
/// Its tokens are single letters and digits, so that the number of tokens of a text is easy to foresee.
pub fn write_tiny_model(folder: &Path) -> io::Result<()> {
    let vocab = vocabulary();
    let config = json!({
        "model_type": "bert",
        "vocab_size": vocab.len(),
        "hidden_size": TINY_DIM,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "hidden_act": "gelu",
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(
        folder.join("sentence_bert_config.json"),
        json!({"max_seq_length": TINY_MAX_TOKENS}).to_string(),
    )?;
    fs::write(folder.join("tokenizer.json"), tokenizer(&vocab).to_string())?;
    write_weights(&folder.join("model.safetensors"), vocab.len())
}

fn vocabulary() -> Vec<String> {
    let letters: Vec<char> = ('a'..='z').chain('0'..='9').collect();
    let whole = letters.iter().map(char::to_string);
    let inside = letters.iter().map(|letter| format!("##{letter}"));
    SPECIAL
        .iter()
        .map(|&token| token.to_owned())
        .chain(whole)
        .chain(inside)
        .collect()
}

fn tokenizer(vocab: &[String]) -> serde_json::Value {
    let ids: serde_json::Map<String, serde_json::Value> = vocab
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    let added: Vec<serde_json::Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        // As in real folders: both are to be overruled.
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
        },
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids,
        },
    })
}

fn write_weights(path: &Path, vocab_size: usize) -> io::Result<()> {
    let mut noise = Noise(0x5EED);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensor_shapes(vocab_size)
        .into_iter()
        .map(|(name, shape)| {
            let count = shape.iter().product();
            let is_norm_weight = name.ends_with("LayerNorm.weight");
            let bytes = (0..count)
                .flat_map(|_| {
                    let value = noise.next();
                    (if is_norm_weight { 1.0 + value } else { value }).to_le_bytes()
                })
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views: HashMap<&str, TensorView<'_>> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            let view =
                TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(io::Error::other)?;
            Ok((name.as_str(), view))
        })
        .collect::<io::Result<_>>()?;
    safetensors::serialize_to_file(views, None, path).map_err(io::Error::other)
}

fn tensor_shapes(vocab_size: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = vec![
        (
            "embeddings.word_embeddings.weight".to_owned(),
            vec![vocab_size, TINY_DIM],
        ),
        (
            "embeddings.position_embeddings.weight".to_owned(),
            vec![POSITIONS, TINY_DIM],
        ),
        (
            "embeddings.token_type_embeddings.weight".to_owned(),
            vec![2, TINY_DIM],
        ),
        ("embeddings.LayerNorm.weight".to_owned(), vec![TINY_DIM]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![TINY_DIM]),
    ];
    for layer in 0..LAYERS {
        let linears = [
            ("attention.self.query", TINY_DIM, TINY_DIM),
            ("attention.self.key", TINY_DIM, TINY_DIM),
            ("attention.self.value", TINY_DIM, TINY_DIM),
            ("attention.output.dense", TINY_DIM, TINY_DIM),
            ("intermediate.dense", TINY_DIM, INNER),
            ("output.dense", INNER, TINY_DIM),
        ];
        for (name, inputs, outputs) in linears {
            shapes.push((
                format!("encoder.layer.{layer}.{name}.weight"),
                vec![outputs, inputs],
            ));
            shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![outputs]));
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            shapes.push((
                format!("encoder.layer.{layer}.{name}.weight"),
                vec![TINY_DIM],
            ));
            shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![TINY_DIM]));
        }
    }
    shapes
}

/// Numbers between -0.5 and 0.5 from a linear congruential generator: the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}
