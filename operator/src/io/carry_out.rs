//! Carries actions out.
//!
//! `OPR-8 (never-overwritten)`: what has to be new is created, never applied: a name that is taken is an error, and is
//! looked at again. Only services are applied. Deletions name the object's identity, so that they never hit a successor.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ApiError, Credentials, has_code};
use crate::FIELD_MANAGER;
use crate::api::{AktisCluster, AktisJob};
use crate::core::{Action, Target};

/// Carries `actions` out in their order, up to the first that fails.
///
/// # Errors
/// When the API does not answer, or refuses.
pub async fn carry_out(
    client: &Client,
    namespace: &str,
    actions: Vec<Action>,
) -> Result<(), ApiError> {
    for action in actions {
        match action {
            Action::CreateCredentials(order) => {
                let secret = Credentials::make().into_secret(*order);
                create::<Secret>(client, namespace, &secret).await?;
            }
            Action::ApplyService(service) => apply(client, namespace, &service).await?,
            Action::CreatePod(pod) => create::<Pod>(client, namespace, &pod).await?,
            Action::DeletePod(target) => delete::<Pod>(client, namespace, &target).await?,
            Action::CreateCluster(cluster) => {
                create::<AktisCluster>(client, namespace, &cluster).await?;
            }
            Action::DeleteCluster(target) => {
                delete::<AktisCluster>(client, namespace, &target).await?;
            }
            Action::CreateJob(job) => create::<AktisJob>(client, namespace, &job).await?,
            Action::DeleteJob(target) => delete::<AktisJob>(client, namespace, &target).await?,
        }
    }
    Ok(())
}

/// What all kinds have in common that the operator makes.
pub trait Made:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Made for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
{
}

/// A name that is taken is an error (`OPR-8`).
async fn create<K: Made>(client: &Client, namespace: &str, object: &K) -> Result<(), ApiError> {
    let shown = shown::<K>(&object.name_any());
    tracing::info!(namespace, object = shown, "create");
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = Api::<K>::namespaced(client.clone(), namespace)
        .create(&params, object)
        .await;
    created
        .map(|_| ())
        .map_err(|error| ApiError::new("create", shown, &error))
}

async fn apply(client: &Client, namespace: &str, service: &Service) -> Result<(), ApiError> {
    let name = service.name_any();
    tracing::info!(namespace, object = shown::<Service>(&name), "apply");
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let applied = Api::<Service>::namespaced(client.clone(), namespace)
        .patch(&name, &params, &Patch::Apply(service))
        .await;
    applied
        .map(|_| ())
        .map_err(|error| ApiError::new("apply", shown::<Service>(&name), &error))
}

async fn delete<K: Made>(
    client: &Client,
    namespace: &str,
    target: &Target,
) -> Result<(), ApiError> {
    let shown = shown::<K>(&target.name);
    tracing::info!(namespace, object = shown, reason = target.reason, "delete");
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(target.uid.clone()),
            ..Preconditions::default()
        }),
        ..DeleteParams::background()
    };
    let deleted = Api::<K>::namespaced(client.clone(), namespace)
        .delete(&target.name, &params)
        .await;
    match deleted {
        // Gone already, or another one has its name.
        Err(error) if has_code(&error, 404) || has_code(&error, 409) => Ok(()),
        Err(error) => Err(ApiError::new("delete", shown, &error)),
        Ok(_) => Ok(()),
    }
}

fn shown<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{} {name}", K::kind(&()))
}
