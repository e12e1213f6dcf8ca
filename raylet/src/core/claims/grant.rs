//! A lease: resources of this node, and the worker that uses them.

use std::time::Instant;

use aktis_common::ids::{ActorId, JobId, WorkerId};
use aktis_common::resources::{Allocation, MEMORY, NodeResources, ResourceRequest};

use super::claim::Owner;

/// A process may always hold this: an interpreter alone may need it.
const LEAST_LIMIT_BYTES: u64 = 32 << 20;

/// Who uses a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// An owner, for its tasks.
    Owner(Owner),
    /// An actor.
    Actor(ActorId),
}

/// One lease.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Who uses it.
    pub holder: Holder,
    /// The number under which another raylet forwarded the claim; 0 for one of this node.
    pub claim_id: u64,
    /// For which job.
    pub job: JobId,
    /// What was asked for.
    pub request: ResourceRequest,
    /// What it holds while it lasts.
    pub allocation: Allocation,
    /// What an actor holds in addition until its constructor has ended.
    pub startup_extra: Option<Allocation>,
    /// Its worker, once there is one.
    pub worker: Option<WorkerId>,
    /// When it was granted.
    pub since: Instant,
    /// Whether its owner was asked to return it.
    pub is_reclaimed: bool,
}

impl Grant {
    /// What its worker may hold of the machine's memory, if some was asked for.
    pub(super) fn memory_limit(&self) -> Option<u64> {
        let asked = self.request.resources().get(MEMORY).whole();
        let limit = u64::try_from(asked).ok()?;
        (limit > 0).then_some(limit.max(LEAST_LIMIT_BYTES))
    }

    /// Gives everything back.
    pub(super) fn release_into(&self, node: &mut NodeResources) {
        node.release(&self.allocation);
        if let Some(extra) = &self.startup_extra {
            node.release(extra);
        }
    }
}

/// Takes `request` of `node` in two parts: what an actor holds for life and what only its start needs.
///
/// GPUs cannot change hands in the middle of a process, so when both ask for GPUs differently all is held for life.
pub(super) fn allocate_in_parts(
    node: &mut NodeResources,
    request: &ResourceRequest,
    running: Option<&ResourceRequest>,
) -> Option<(Allocation, Option<Allocation>)> {
    if !node.fits(request) {
        return None;
    }
    let parts = running.and_then(|running| Some((running, extra_of(request, running)?)));
    let Some((running, extra)) = parts else {
        return Some((node.allocate(request)?, None));
    };
    let held = node.allocate(running)?;
    match node.allocate(&extra) {
        Some(extra) => Some((held, Some(extra))),
        None => {
            node.release(&held);
            None
        }
    }
}

fn extra_of(request: &ResourceRequest, running: &ResourceRequest) -> Option<ResourceRequest> {
    use aktis_common::resources::GPU;
    let has_same_gpus = request.resources().get(GPU) == running.resources().get(GPU)
        && request.gpu_memory_bytes() == running.gpu_memory_bytes();
    if !has_same_gpus || !request.resources().covers(running.resources()) {
        return None;
    }
    let mut extra = request.resources().clone();
    extra.subtract(running.resources());
    ResourceRequest::new(extra, 0).ok()
}
