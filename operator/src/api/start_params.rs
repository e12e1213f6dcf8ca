//! Flags of `aktis start`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Flags that the operator sets itself.
pub const RESERVED_START_PARAMS: [&str; 5] =
    ["address", "block", "head", "node-ip-address", "port"];

/// Flags of `aktis start` without their dashes, such as `num-cpus: "4"`. An empty value gives a flag without one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartParams(pub BTreeMap<String, String>);

impl JsonSchema for StartParams {
    fn schema_name() -> Cow<'static, str> {
        "StartParams".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let reserved = RESERVED_START_PARAMS
            .map(|name| format!("'{name}'"))
            .join(", ");
        json_schema!({
            "type": "object",
            "description": "Flags of `aktis start` without their dashes, such as `num-cpus: \"4\"`. \
                            An empty value gives a flag without one.",
            "additionalProperties": { "type": "string", "maxLength": 4096 },
            "maxProperties": 32,
            "x-kubernetes-validations": [{
                "rule": format!("self.all(name, !(name in [{reserved}]))"),
                "message": format!("the operator sets {} itself", RESERVED_START_PARAMS.join(", ")),
            }],
        })
    }
}
