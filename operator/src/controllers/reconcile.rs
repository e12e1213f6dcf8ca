//! One round for one object.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{Lookup, ObjectRef};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::Backoff;
use crate::core::Plan;
use crate::core::conditions::{Verdict, note};
use crate::io::carry_out::{Made, carry_out};
use crate::io::{ApiError, write_status};

/// Condition: the operator cannot do what it has to.
const DEGRADED: &str = "Degraded";

/// A custom resource with a plan.
pub trait Reconciled: Made + Lookup<DynamicType = ()> + Send + Sync + 'static {
    /// What its plan depends on.
    type Observed: Send + Sync;
    /// Its status.
    type Status: Clone + Default + PartialEq + Serialize + Send + Sync;

    /// Looks at what there is.
    fn observe(
        &self,
        client: &Client,
    ) -> impl Future<Output = Result<Self::Observed, ApiError>> + Send;
    /// Decides what to do.
    fn plan(&self, observed: &Self::Observed, now: Timestamp) -> Plan<Self::Status>;
    /// The status that it has.
    fn status(&self) -> Option<&Self::Status>;
    /// The conditions of a status.
    fn conditions(status: &mut Self::Status) -> &mut Vec<Condition>;
}

/// What rounds need.
pub struct Context {
    client: Client,
    clock: fn() -> Timestamp,
    backoff: Backoff,
}

impl Context {
    /// With the clock of this machine.
    pub fn new(client: Client) -> Self {
        Self::with_clock(client, Timestamp::now)
    }

    /// With another clock, for tests.
    pub fn with_clock(client: Client, clock: fn() -> Timestamp) -> Self {
        Self {
            client,
            clock,
            backoff: Backoff::default(),
        }
    }
}

/// Reads the object anew, looks at what there is, carries the plan out and writes the status.
///
/// The actions come before the status: a status that says "done" of what failed would never be corrected, while an
/// action whose status is missing is found again by its name.
///
/// # Errors
/// When the API does not answer, or refuses; the condition `Degraded` says so too, if it can be written.
pub async fn reconcile<K: Reconciled>(
    seen: Arc<K>,
    context: Arc<Context>,
) -> Result<Action, ApiError> {
    let name = seen.name_any();
    let namespace = seen.namespace().unwrap_or_default();
    let client = &context.client;
    // What woke us may be old, and a job must not be started twice.
    let found = Api::<K>::namespaced(client.clone(), &namespace)
        .get_opt(&name)
        .await;
    let found = found.map_err(|error| ApiError::new("read", name.clone(), &error))?;
    let Some(object) = found.filter(|object| object.meta().deletion_timestamp.is_none()) else {
        context.backoff.succeeded(&key(&*seen));
        return Ok(Action::await_change());
    };
    let now = (context.clock)();
    let (status, result) = match round(&object, client, &namespace, now).await {
        Ok(plan) => (
            well::<K>(plan.status, object.meta().generation, now),
            Ok(plan.requeue_after),
        ),
        Err(error) => (degraded(&object, &error, now), Err(error)),
    };
    if object.status() != Some(&status) {
        let written = write_status(client, &object, &status).await;
        if result.is_ok() {
            written?;
        }
    }
    let requeue_after = result?;
    context.backoff.succeeded(&key(&object));
    Ok(requeue_after.map_or_else(Action::await_change, Action::requeue))
}

async fn round<K: Reconciled>(
    object: &K,
    client: &Client,
    namespace: &str,
    now: Timestamp,
) -> Result<Plan<K::Status>, ApiError> {
    let observed = object.observe(client).await?;
    let mut plan = object.plan(&observed, now);
    let actions = std::mem::take(&mut plan.actions);
    carry_out(client, namespace, actions).await?;
    Ok(plan)
}

/// When to try again after an error.
pub(super) fn again_after<K: Reconciled>(
    object: Arc<K>,
    _: &ApiError,
    context: Arc<Context>,
) -> Action {
    Action::requeue(context.backoff.failed(&key(&*object)))
}

/// The plan's status, without an earlier trouble.
fn well<K: Reconciled>(
    mut status: K::Status,
    generation: Option<i64>,
    now: Timestamp,
) -> K::Status {
    let conditions = K::conditions(&mut status);
    if conditions.iter().any(|known| known.type_ == DEGRADED) {
        let verdict = Verdict::no("AsExpected", "");
        note(conditions, DEGRADED, verdict, generation, now);
    }
    status
}

/// The status as it was, with the trouble.
fn degraded<K: Reconciled>(object: &K, error: &ApiError, now: Timestamp) -> K::Status {
    let mut status = object.status().cloned().unwrap_or_default();
    let verdict = Verdict {
        holds: true,
        reason: match error.is_refusal {
            true => "ApiRefused",
            false => "ApiUnavailable",
        },
        message: error.to_string(),
    };
    let generation = object.meta().generation;
    note(
        K::conditions(&mut status),
        DEGRADED,
        verdict,
        generation,
        now,
    );
    status
}

fn key<K: Reconciled>(object: &K) -> String {
    ObjectRef::from_obj(object).to_string()
}
