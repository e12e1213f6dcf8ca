//! What `config.json` says about a decoder that is used as an embedder, and whether this implementation can do it.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::attention::Sight;
use crate::config::refused;
use crate::error::LoadError;
use crate::modern_config::{DEFAULT_ROPE, GLOBAL, LOCAL, is_default};
use crate::ops::Activation;

/// Decoders that are made of the same parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecoderFamily {
    Llama,
    /// Some or all layers see near tokens alone.
    Mistral,
    /// Queries, keys and values have a bias.
    Qwen2,
    /// Queries and keys have a norm.
    Qwen3,
    /// As Qwen3, with norms behind attention and behind the layers inside, too.
    Gemma3,
}

impl DecoderFamily {
    pub(crate) fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "llama" => Some(Self::Llama),
            "mistral" => Some(Self::Mistral),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            "gemma3_text" => Some(Self::Gemma3),
            _ => None,
        }
    }
}

/// The shape of the decoder; names as in `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DecoderConfig {
    #[serde(default)]
    model_type: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_rms_norm_eps")]
    pub(crate) rms_norm_eps: f32,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    /// Whether a token sees those before it alone.
    is_causal: Option<bool>,
    use_bidirectional_attention: Option<bool>,
    /// Code of its own, by the class that it takes the place of.
    auto_map: Option<Map<String, Value>>,
    use_sliding_window: Option<bool>,
    /// None where it is null, which is not the same as not to be there.
    #[serde(default = "default_sliding_window")]
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    /// So many layers, of which the last sees all.
    sliding_window_pattern: Option<usize>,
    query_pre_attn_scalar: Option<f32>,
    attn_logit_softcapping: Option<f32>,
    rope_theta: Option<f32>,
    rope_local_base_freq: Option<f32>,
    rope_scaling: Option<Value>,
    /// The same, as newer versions write it: for all layers, or for each kind of them.
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f32>,
}

fn default_rms_norm_eps() -> f32 {
    1e-6
}

fn default_sliding_window() -> Option<usize> {
    Some(4096)
}

const OTHER_GRAPH: &str = "use an ONNX graph with backend=\"onnx\"";

impl DecoderConfig {
    /// Its family, as checked.
    pub(crate) fn family(&self) -> DecoderFamily {
        DecoderFamily::of(&self.model_type).unwrap_or(DecoderFamily::Llama)
    }

    /// Refuses what would load and then compute something else.
    pub(crate) fn check(&self, path: &Path) -> Result<(), LoadError> {
        let refuse = |setting, value: &str| refused(path, setting, value, OTHER_GRAPH);
        let (name, wanted) = match self.family() {
            DecoderFamily::Gemma3 => ("hidden_activation", "gelu_pytorch_tanh"),
            _ => ("hidden_act", "silu"),
        };
        let told = [&self.hidden_act, &self.hidden_activation];
        if let Some(other) = told.into_iter().flatten().find(|told| *told != wanted) {
            return refuse(name, other);
        }
        if self.attention_bias {
            return refuse("attention_bias", "true");
        }
        if self.mlp_bias {
            return refuse("mlp_bias", "true");
        }
        if let Some(most) = self.attn_logit_softcapping {
            return refuse("attn_logit_softcapping", &most.to_string());
        }
        self.check_heads(path)?;
        self.check_direction(path)?;
        self.check_windows(path)?;
        self.check_ropes(path)
    }

    fn check_heads(&self, path: &Path) -> Result<(), LoadError> {
        let (heads, key_heads) = (self.num_attention_heads, self.key_heads());
        if heads == 0 || self.head_dim.is_none() && !self.hidden_size.is_multiple_of(heads) {
            let fix = "it must divide hidden_size";
            return refused(path, "num_attention_heads", &heads.to_string(), fix);
        }
        if key_heads == 0 || !heads.is_multiple_of(key_heads) {
            let fix = "it must divide num_attention_heads";
            return refused(path, "num_key_value_heads", &key_heads.to_string(), fix);
        }
        if self.head_size() == 0 || !self.head_size().is_multiple_of(2) {
            let fix = "it must be even";
            return refused(path, "head_dim", &self.head_size().to_string(), fix);
        }
        Ok(())
    }

    /// Code of a model's own may make it look in both directions, as that of gte-Qwen2 does.
    fn check_direction(&self, path: &Path) -> Result<(), LoadError> {
        let code = self.auto_map.as_ref().and_then(|map| map.get("AutoModel"));
        match code {
            Some(code) if self.is_causal.is_none() => refused(
                path,
                "auto_map",
                &code.to_string(),
                "if that code differs from transformers' own in no more than the direction in which tokens look, write \"is_causal\": false for both \
                 directions, or true, beside it",
            ),
            _ => Ok(()),
        }
    }

    fn check_windows(&self, path: &Path) -> Result<(), LoadError> {
        let Some(types) = &self.layer_types else {
            return match self.sliding_window_pattern {
                Some(0) => refused(path, "sliding_window_pattern", "0", "use 1 or more"),
                _ => Ok(()),
            };
        };
        let known = |kind: &&String| [LOCAL, GLOBAL].contains(&kind.as_str());
        if let Some(other) = types.iter().find(|kind| !known(kind)) {
            return refused(path, "layer_types", other, OTHER_GRAPH);
        }
        if types.len() != self.num_hidden_layers {
            let count = types.len().to_string();
            return refused(path, "layer_types", &count, "it needs one for each layer");
        }
        let is_local = (0..types.len()).any(|layer| self.is_local(layer));
        match is_local && self.window().is_none() {
            true => refused(path, "layer_types", LOCAL, "it needs a sliding_window"),
            false => Ok(()),
        }
    }

    fn check_ropes(&self, path: &Path) -> Result<(), LoadError> {
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|told| !is_default(told)) {
            return refused(path, "rope_scaling", &scaling.to_string(), OTHER_GRAPH);
        }
        if let Some(part) = self.partial_rotary_factor.filter(|part| *part != 1.0) {
            let part = part.to_string();
            return refused(path, "partial_rotary_factor", &part, OTHER_GRAPH);
        }
        let flat = self
            .rope_parameters
            .as_ref()
            .and_then(|all| all.get("rope_theta"));
        if let Some(theta) = flat.filter(|_| self.family() == DecoderFamily::Gemma3) {
            let fix = "put it into full_attention and sliding_attention";
            return refused(
                path,
                "rope_parameters",
                &format!("rope_theta: {theta}"),
                fix,
            );
        }
        let is_known = |(name, value): &(&String, &Value)| match name.as_str() {
            "rope_theta" => value.is_number(),
            "rope_type" | "type" => **value == DEFAULT_ROPE,
            _ => value.is_null(),
        };
        let all = [GLOBAL, LOCAL].map(|kind| self.rope_of(kind));
        for rope in all.into_iter().flatten() {
            let others = rope
                .iter()
                .filter(|(name, _)| ![GLOBAL, LOCAL].contains(&name.as_str()));
            if let Some((name, value)) = others.into_iter().find(|field| !is_known(field)) {
                let value = format!("{name}: {value}");
                return refused(path, "rope_parameters", &value, OTHER_GRAPH);
            }
        }
        Ok(())
    }

    /// What stands there about layers of a kind, or about all.
    fn rope_of(&self, kind: &str) -> Option<&Map<String, Value>> {
        let all = self.rope_parameters.as_ref()?;
        let own = all.get(kind).and_then(Value::as_object);
        Some(own.unwrap_or(all))
    }

    /// Heads that are asked.
    pub(crate) fn key_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Length of the vectors of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(match self.family() {
            DecoderFamily::Qwen3 => 128,
            DecoderFamily::Gemma3 => 256,
            _ => self.hidden_size / self.num_attention_heads,
        })
    }

    /// What the scores are multiplied by.
    pub(crate) fn scale(&self) -> f32 {
        let divided_by = match self.family() {
            DecoderFamily::Gemma3 => self.query_pre_attn_scalar.unwrap_or(256.0),
            _ => self.head_size() as f32,
        };
        1.0 / divided_by.sqrt()
    }

    /// What embeddings are multiplied by.
    pub(crate) fn embedding_scale(&self) -> Option<f64> {
        let is_scaled = self.family() == DecoderFamily::Gemma3;
        is_scaled.then(|| (self.hidden_size as f64).sqrt())
    }

    pub(crate) fn activation(&self) -> Activation {
        match self.family() {
            DecoderFamily::Gemma3 => Activation::GeluByTanh,
            _ => Activation::Silu,
        }
    }

    /// Whether a token sees those behind it, too.
    fn is_bidirectional(&self) -> bool {
        let family = self.family();
        let own = family == DecoderFamily::Gemma3 && self.use_bidirectional_attention == Some(true);
        own || self.is_causal == Some(false)
    }

    /// How many tokens near ones are, in layers that see these alone.
    fn window(&self) -> Option<usize> {
        let is_used = match self.family() {
            DecoderFamily::Llama => false,
            DecoderFamily::Mistral | DecoderFamily::Gemma3 => true,
            DecoderFamily::Qwen2 | DecoderFamily::Qwen3 => self.use_sliding_window == Some(true),
        };
        self.sliding_window.filter(|_| is_used)
    }

    /// Whether a layer sees near tokens alone.
    pub(crate) fn is_local(&self, layer: usize) -> bool {
        let family = self.family();
        match (&self.layer_types, family) {
            (_, DecoderFamily::Llama) => false,
            (_, DecoderFamily::Mistral) => self.window().is_some(),
            (Some(types), _) => types[layer] == LOCAL,
            (None, DecoderFamily::Gemma3) => {
                !(layer + 1).is_multiple_of(self.sliding_window_pattern.unwrap_or(6))
            }
            (None, _) => self.window().is_some() && layer >= self.max_window_layers.unwrap_or(28),
        }
    }

    /// What the tokens of a layer see, as the masks of `transformers` have it.
    pub(crate) fn sight(&self, layer: usize) -> Sight {
        let window = self.window().filter(|_| self.is_local(layer));
        match (self.is_bidirectional(), window) {
            (false, window) => Sight::back(window.map(|window| window.saturating_sub(1))),
            (true, None) => Sight::ALL,
            (true, Some(window)) if self.is_causal == Some(false) => Sight::around(window),
            // Half of the window on each side.
            (true, Some(window)) => Sight::around(window / 2),
        }
    }

    /// The base of the angles in layers that see near tokens alone, or in the others.
    pub(crate) fn theta(&self, is_local: bool) -> f32 {
        let is_gemma = self.family() == DecoderFamily::Gemma3;
        let kind = if is_local && is_gemma { LOCAL } else { GLOBAL };
        let told = self.rope_of(kind).and_then(|rope| rope.get("rope_theta"));
        let told = told.and_then(Value::as_f64).map(|theta| theta as f32);
        let older = match is_local && is_gemma {
            true => self.rope_local_base_freq.or(Some(10_000.0)),
            false => self.rope_theta,
        };
        let default = if is_gemma { 1_000_000.0 } else { 10_000.0 };
        told.or(older).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn config(model_type: &str, more: &str) -> DecoderConfig {
        let text = format!(
            r#"{{"model_type": "{model_type}", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2,
                "intermediate_size": 16, "head_dim": 4, "max_position_embeddings": 64 {more}}}"#
        );
        match ModelConfig::parse(&text).unwrap() {
            ModelConfig::Decoder(config) => config,
            other => panic!("{other:?}"),
        }
    }

    fn sights(config: &DecoderConfig) -> [Sight; 4] {
        assert!(config.check(Path::new("config.json")).is_ok());
        [0, 1, 2, 3].map(|layer| config.sight(layer))
    }

    #[test]
    fn windows_are_those_of_the_family() {
        let all = Sight::back(None);
        let near = |window: usize| Sight::back(Some(window - 1));
        assert_eq!(
            sights(&config("llama", r#", "sliding_window": 8"#)),
            [all; 4]
        );
        assert_eq!(sights(&config("mistral", "")), [near(4096); 4]);
        assert_eq!(
            sights(&config("mistral", r#", "sliding_window": null"#)),
            [all; 4]
        );
        assert_eq!(
            sights(&config("qwen2", r#", "sliding_window": 8"#)),
            [all; 4]
        );
        let some = r#", "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3"#;
        assert_eq!(sights(&config("qwen3", some)), [all, all, all, near(8)]);
        let types = r#", "sliding_window": 8, "use_sliding_window": true,
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]"#;
        assert_eq!(sights(&config("qwen2", types)), [all, near(8), all, all]);
        let gemma = r#", "sliding_window": 8, "sliding_window_pattern": 2"#;
        assert_eq!(
            sights(&config("gemma3_text", gemma)),
            [near(8), all, near(8), all]
        );
        let both = r#", "sliding_window": 9, "sliding_window_pattern": 2, "use_bidirectional_attention": true"#;
        let (around, everything) = (Sight::around(4), Sight::ALL);
        let expected = [around, everything, around, everything];
        assert_eq!(sights(&config("gemma3_text", both)), expected);
        assert_eq!(
            sights(&config("qwen2", r#", "is_causal": false"#)),
            [Sight::ALL; 4]
        );
        let near = r#", "is_causal": false, "sliding_window": 8"#;
        assert_eq!(sights(&config("mistral", near)), [Sight::around(8); 4]);
    }

    #[test]
    fn bases_of_angles_are_read_where_old_and_new_versions_write_them() {
        for (family, more, expected) in [
            ("qwen3", "", [1e4, 1e4]),
            (
                "qwen3",
                r#", "rope_theta": 5.0, "rope_scaling": null"#,
                [5.0, 5.0],
            ),
            (
                "qwen3",
                r#", "rope_parameters": {"rope_theta": 6, "rope_type": "default"}"#,
                [6.0, 6.0],
            ),
            ("gemma3_text", "", [1e6, 1e4]),
            (
                "gemma3_text",
                r#", "rope_theta": 5.0, "rope_local_base_freq": 7.0"#,
                [5.0, 7.0],
            ),
            (
                "gemma3_text",
                r#", "rope_parameters": {"full_attention": {"rope_theta": 5.0, "rope_type": "default"}, "sliding_attention": {"rope_theta": 7.0}}"#,
                [5.0, 7.0],
            ),
        ] {
            let config = config(family, more);
            assert!(config.check(Path::new("config.json")).is_ok(), "{more}");
            assert_eq!(
                [config.theta(false), config.theta(true)],
                expected,
                "{family} {more}"
            );
        }
    }

    /// A family, what its file says more, and what is said of that. What the file says twice counts as it is said last.
    fn assert_refused(cases: &[[&str; 3]]) {
        for [family, more, said] in cases {
            let error = config(family, more)
                .check(Path::new("config.json"))
                .unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn layers_that_would_be_computed_otherwise_are_refused_by_name() {
        let types = r#", "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]"#;
        let code = r#", "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model"}"#;
        let gelu = r#", "hidden_act": "gelu""#;
        let silu = r#", "hidden_activation": "silu""#;
        let cap = r#", "attn_logit_softcapping": 50.0"#;
        assert_refused(&[
            ["qwen3", gelu, "hidden_act `gelu`"],
            ["gemma3_text", silu, "hidden_activation `silu`"],
            ["qwen3", r#", "attention_bias": true"#, "attention_bias `"],
            ["llama", r#", "mlp_bias": true"#, "mlp_bias `true`"],
            ["gemma3_text", cap, "attn_logit_softcapping `50`"],
            ["qwen2", code, "write \"is_causal\": false"],
            ["qwen2", r#", "num_key_value_heads": 3"#, "value_heads `3`"],
            ["qwen2", r#", "head_dim": 5"#, "head_dim `5`"],
            ["qwen3", r#", "layer_types": ["full_attention"]"#, "`1`"],
            ["qwen3", types, "it needs a sliding_window"],
            ["gemma3_text", r#", "sliding_window_pattern": 0"#, "`0`"],
        ]);
        let told = format!(r#"{code}, "is_causal": false"#);
        let told = config("qwen2", &told).check(Path::new("config.json"));
        assert!(told.is_ok());
    }

    #[test]
    fn positions_that_would_turn_otherwise_are_refused_by_name() {
        let llama3 = r#", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}"#;
        let yarn = r#", "rope_parameters": {"rope_type": "yarn", "rope_theta": 5.0}"#;
        let more = r#", "rope_parameters": {"rope_theta": 5.0, "factor": 2.0}"#;
        let near =
            r#", "rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}"#;
        let flat = r#", "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}"#;
        let part = r#", "partial_rotary_factor": 0.5"#;
        assert_refused(&[
            ["llama", llama3, "rope_scaling `{"],
            ["qwen3", yarn, "rope_parameters `rope_type: \"yarn\""],
            ["qwen3", more, "rope_parameters `factor: 2.0`"],
            ["gemma3_text", near, "rope_parameters `"],
            ["gemma3_text", flat, "put it into full_attention"],
            ["llama", part, "partial_rotary_factor `0.5`"],
        ]);
    }
}
