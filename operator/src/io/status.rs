//! Writes a status.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::ApiError;
use super::carry_out::Made;
use crate::FIELD_MANAGER;

/// Makes `status` the status of `object`, whose other parts stay as they are.
///
/// # Errors
/// When the API does not answer, or refuses. That the object is gone is none.
pub async fn write_status<K: Made>(
    client: &Client,
    object: &K,
    status: &impl Serialize,
) -> Result<(), ApiError> {
    let name = object.name_any();
    let namespace = object.namespace().unwrap_or_default();
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "uid": object.uid() },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = Api::<K>::namespaced(client.clone(), &namespace)
        .patch_status(&name, &params, &Patch::Apply(patch))
        .await;
    match written {
        Err(error) if super::has_code(&error, 404) => Ok(()),
        Err(error) => Err(ApiError::new("write the status of", name, &error)),
        Ok(_) => Ok(()),
    }
}
