//! A pod template as it was written.
//!
//! The schema of the whole of `PodTemplateSpec` would make each definition larger than `kubectl apply` takes, and a
//! typed field that does not read would stop the watch of all clusters. So a template stays JSON until it is used.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A pod template (`metadata` and `spec`). Its first container is the one that Aktis runs in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

/// A template that makes no pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not read as a pod template.
    #[error("it is no pod template: {cause}")]
    Malformed {
        /// What the parser said.
        cause: String,
    },
    /// It has a field that pods do not have, or not in the Kubernetes versions that this operator knows.
    #[error("there is no field {path}")]
    UnknownField {
        /// Where, such as `spec.containers[0].imagee`.
        path: String,
    },
    /// There is no container for Aktis.
    #[error("spec.containers is empty; the first container is the one that Aktis runs in")]
    NoContainer,
    /// The user and the operator want to decide the same thing.
    #[error("{path} is the operator's to set")]
    Reserved {
        /// Where.
        path: String,
    },
}

impl PodTemplate {
    /// The typed template.
    ///
    /// # Errors
    /// When it does not read as one, has fields that would be ignored, or has no container.
    pub fn typed(&self) -> Result<PodTemplateSpec, TemplateError> {
        let raw = Value::Object(self.0.clone());
        let malformed = |error: serde_json::Error| TemplateError::Malformed {
            cause: error.to_string(),
        };
        let typed: PodTemplateSpec = serde_json::from_value(raw.clone()).map_err(malformed)?;
        let understood = serde_json::to_value(&typed).map_err(malformed)?;
        if let Some(path) = unknown_field(&raw, &understood, "") {
            return Err(TemplateError::UnknownField { path });
        }
        if typed
            .spec
            .as_ref()
            .is_none_or(|spec| spec.containers.is_empty())
        {
            return Err(TemplateError::NoContainer);
        }
        Ok(typed)
    }
}

/// The first field of `raw` that got lost on the way through the types.
fn unknown_field(raw: &Value, understood: &Value, path: &str) -> Option<String> {
    match (raw, understood) {
        (Value::Object(raw), Value::Object(understood)) => raw.iter().find_map(|(key, value)| {
            let path = match path {
                "" => key.clone(),
                _ => format!("{path}.{key}"),
            };
            match understood.get(key) {
                Some(understood) => unknown_field(value, understood, &path),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(raw), Value::Array(understood)) => raw
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(index, (raw, understood))| {
                unknown_field(raw, understood, &format!("{path}[{index}]"))
            }),
        _ => None,
    }
}

/// The types leave out what says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A pod template (core/v1 PodTemplateSpec). Its first container is the one that Aktis runs \
                            in; the operator sets that container's command and args.",
            "x-kubernetes-preserve-unknown-fields": true,
            "required": ["spec"],
            "properties": {
                "spec": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                    "required": ["containers"],
                    "properties": {
                        "containers": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": true,
                                "required": ["name", "image"],
                                "properties": {
                                    "name": { "type": "string" },
                                    "image": { "type": "string" },
                                },
                            },
                        },
                    },
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplate {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn template_of_known_fields_is_read() {
        let typed = template(json!({
            "metadata": { "labels": { "team": "a" }, "creationTimestamp": null },
            "spec": { "containers": [{ "name": "c", "image": "i", "resources": { "limits": { "cpu": 2 } }, "env": [] }] },
        }))
        .typed()
        .unwrap();
        assert_eq!(typed.spec.unwrap().containers[0].name, "c");
    }

    #[test]
    fn misspelt_field_is_named_with_its_place() {
        let error = template(json!({
            "spec": { "containers": [{ "name": "c", "image": "i" }, { "name": "d", "imagePullpolicy": "Always" }] },
        }))
        .typed()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no field spec.containers[1].imagePullpolicy"
        );
    }

    #[test]
    fn wrong_type_and_missing_container_are_said() {
        let error = template(json!({ "spec": { "containers": "x" } }))
            .typed()
            .unwrap_err();
        assert!(matches!(error, TemplateError::Malformed { .. }), "{error}");
        let error = template(json!({ "spec": { "containers": [] } }))
            .typed()
            .unwrap_err();
        assert_eq!(error, TemplateError::NoContainer);
    }
}
