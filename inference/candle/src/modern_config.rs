//! What `config.json` says about a ModernBERT, and whether this implementation can do it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::config::refused;
use crate::error::LoadError;

/// The shape of the encoder; names as in `config.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModernBertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "default_norm_eps")]
    pub(crate) norm_eps: f32,
    #[serde(default = "default_local_attention")]
    pub(crate) local_attention: usize,
    hidden_activation: Option<String>,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    /// Every so many layers look at all tokens.
    global_attn_every_n_layers: Option<usize>,
    /// The same, layer by layer, as newer versions write it.
    layer_types: Option<Vec<String>>,
    global_rope_theta: Option<f32>,
    local_rope_theta: Option<f32>,
    /// The same, as newer versions write it.
    rope_parameters: Option<RopeParameters>,
    /// Goes over what all layers have.
    rope_scaling: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RopeParameters {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
    /// What stands there without saying of which layers.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// The same, as older versions write it.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f32>,
}

impl Rope {
    fn other_type(&self) -> Option<&str> {
        let told = [&self.rope_type, &self.kind].into_iter().flatten();
        told.map(String::as_str).find(|kind| *kind != DEFAULT_ROPE)
    }
}

pub(crate) const DEFAULT_ROPE: &str = "default";
/// Angles are kept of every position: many more than models have, and a number with a typo takes no memory.
const MOST_POSITIONS: usize = 1 << 17;
pub(crate) const LOCAL: &str = "sliding_attention";
pub(crate) const GLOBAL: &str = "full_attention";

fn default_norm_eps() -> f32 {
    1e-5
}

fn default_local_attention() -> usize {
    128
}

impl ModernBertConfig {
    /// Refuses what would load and then compute something else.
    pub(crate) fn check(&self, path: &Path) -> Result<(), LoadError> {
        let fix = "use an ONNX graph with backend=\"onnx\"";
        let is_gelu = |name: &String| name == "gelu";
        if let Some(other) = self
            .hidden_activation
            .as_ref()
            .filter(|name| !is_gelu(name))
        {
            return refused(path, "hidden_activation", other, fix);
        }
        let biases = [
            ("norm_bias", self.norm_bias),
            ("attention_bias", self.attention_bias),
            ("mlp_bias", self.mlp_bias),
        ];
        if let Some((setting, _)) = biases.into_iter().find(|(_, is_set)| *is_set) {
            return refused(path, setting, "true", fix);
        }
        if self.max_position_embeddings > MOST_POSITIONS {
            let count = self.max_position_embeddings.to_string();
            return refused(
                path,
                "max_position_embeddings",
                &count,
                "use 131072 at most",
            );
        }
        self.check_ropes(path, fix)?;
        if let Some(types) = &self.layer_types {
            let known = |kind: &&String| [LOCAL, GLOBAL].contains(&kind.as_str());
            if let Some(other) = types.iter().find(|kind| !known(kind)) {
                return refused(path, "layer_types", other, fix);
            }
            if types.len() != self.num_hidden_layers {
                let count = types.len().to_string();
                return refused(path, "layer_types", &count, "it needs one for each layer");
            }
        }
        if self.global_attn_every_n_layers == Some(0) {
            return refused(path, "global_attn_every_n_layers", "0", "use 1 or more");
        }
        let heads = self.num_attention_heads;
        if heads == 0 || !self.hidden_size.is_multiple_of(2 * heads) {
            let fix = "it must divide hidden_size into even parts";
            return refused(path, "num_attention_heads", &heads.to_string(), fix);
        }
        Ok(())
    }

    fn check_ropes(&self, path: &Path, fix: &'static str) -> Result<(), LoadError> {
        let other = |rope: &&Rope| rope.other_type().map(str::to_owned);
        if let Some(kind) = self.ropes().iter().flatten().find_map(other) {
            return refused(path, "rope_type", &kind, fix);
        }
        if let Some(scaling) = self.rope_scaling.as_ref().filter(|told| !is_default(told)) {
            return refused(path, "rope_scaling", &scaling.to_string(), fix);
        }
        let others = self.rope_parameters.iter().flat_map(|told| &told.others);
        if let Some((name, value)) = others
            .into_iter()
            .find(|(_, value)| !value.is_null() && **value != DEFAULT_ROPE)
        {
            let value = format!("{name}: {value}");
            let fix = "put it into full_attention and sliding_attention";
            return refused(path, "rope_parameters", &value, fix);
        }
        Ok(())
    }

    /// Length of the vectors of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Whether a layer looks at near tokens alone.
    pub(crate) fn is_local(&self, layer: usize) -> bool {
        match &self.layer_types {
            Some(types) => types[layer] == LOCAL,
            None => !layer.is_multiple_of(self.global_attn_every_n_layers.unwrap_or(3)),
        }
    }

    fn ropes(&self) -> [Option<&Rope>; 2] {
        let both = self.rope_parameters.as_ref();
        [
            both.and_then(|both| both.full_attention.as_ref()),
            both.and_then(|both| both.sliding_attention.as_ref()),
        ]
    }

    /// The base of the angles in layers that look at all tokens.
    pub(crate) fn global_theta(&self) -> f32 {
        let told = self.ropes()[0].and_then(|rope| rope.rope_theta);
        told.or(self.global_rope_theta).unwrap_or(160_000.0)
    }

    /// And in those that look at near ones.
    pub(crate) fn local_theta(&self) -> f32 {
        let told = self.ropes()[1].and_then(|rope| rope.rope_theta);
        told.or(self.local_rope_theta).unwrap_or(10_000.0)
    }
}

/// Whether it leaves the angles as they are.
pub(crate) fn is_default(scaling: &Value) -> bool {
    let Some(fields) = scaling.as_object() else {
        return false;
    };
    let mut kinds = ["rope_type", "type"]
        .iter()
        .filter_map(|name| fields.get(*name))
        .peekable();
    let is_named = kinds.peek().is_some();
    is_named
        && kinds.all(|kind| kind == DEFAULT_ROPE)
        && fields.keys().all(|name| name != "rope_theta")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> ModernBertConfig {
        let text = format!(
            r#"{{"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16,
                "max_position_embeddings": 64 {more}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn old_and_new_names_mean_the_same() {
        let old = config(
            r#", "global_attn_every_n_layers": 2, "global_rope_theta": 5.0, "local_rope_theta": 7.0"#,
        );
        let new = config(
            r#", "layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
                "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5.0}, "sliding_attention": {"rope_theta": 7.0}}"#,
        );
        for config in [old, new] {
            assert!(config.check(Path::new("config.json")).is_ok());
            let local: Vec<bool> = (0..4).map(|layer| config.is_local(layer)).collect();
            assert_eq!(local, [false, true, false, true]);
            assert_eq!((config.global_theta(), config.local_theta()), (5.0, 7.0));
        }
        let scaling = config(r#", "rope_scaling": {"rope_type": "default", "type": "default"}"#);
        assert!(scaling.check(Path::new("config.json")).is_ok());
        let default = config("");
        assert_eq!(
            (
                default.is_local(0),
                default.is_local(2),
                default.is_local(3)
            ),
            (false, true, false)
        );
    }

    #[test]
    fn what_would_compute_something_else_is_refused_with_its_name() {
        for (more, said) in [
            (
                r#", "hidden_activation": "silu""#,
                "hidden_activation `silu`",
            ),
            (r#", "mlp_bias": true"#, "mlp_bias `true`"),
            (
                r#", "rope_parameters": {"full_attention": {"rope_type": "yarn"}}"#,
                "rope_type `yarn`",
            ),
            (
                r#", "rope_parameters": {"sliding_attention": {"type": "linear"}}"#,
                "rope_type `linear`",
            ),
            (
                r#", "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}"#,
                "rope_parameters `rope_theta: 5.0`",
            ),
            (
                r#", "rope_scaling": {"type": "linear", "factor": 2.0}"#,
                "rope_scaling `{",
            ),
            (r#", "rope_scaling": {"factor": 2.0}"#, "rope_scaling `{"),
            (
                r#", "rope_scaling": {"rope_type": "default", "rope_theta": 5.0}"#,
                "rope_scaling `{",
            ),
            (r#", "layer_types": ["full_attention"]"#, "layer_types `1`"),
        ] {
            let error = config(more).check(Path::new("config.json")).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let long = ModernBertConfig {
            max_position_embeddings: 1 << 20,
            ..config("")
        };
        let error = long.check(Path::new("config.json")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("max_position_embeddings `1048576`"),
            "{error}"
        );
    }
}
