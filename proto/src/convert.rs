//! Translates between messages and the types of `aktis_common`.
//!
//! Messages are other people's bytes: everything that reads one returns an error instead of trusting it.

use aktis_common::error::ErrorCode;
use aktis_common::ids::{InvalidId, NodeId, WorkerId};
use aktis_common::resources::{
    Allocation, GpuDevice, NodeResources, Quantity, RequestError, ResourceRequest, ResourceSet,
};
use aktis_common::scheduling::{NodeView, PlacementRequest, Strategy};

use crate::v1;

/// A message whose content makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A request for resources that cannot be.
    #[error("{0}")]
    Request(RequestError),
    /// An identifier of the wrong length.
    #[error("{0}")]
    Id(InvalidId),
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        status(ErrorCode::InvalidArgument, error.to_string())
    }
}

impl From<&ResourceSet> for v1::ResourceSet {
    fn from(set: &ResourceSet) -> Self {
        Self {
            quantities: set.units().collect(),
        }
    }
}

impl From<&v1::ResourceSet> for ResourceSet {
    fn from(set: &v1::ResourceSet) -> Self {
        Self::from_units(
            set.quantities
                .iter()
                .map(|(name, units)| (name.clone(), *units)),
        )
    }
}

impl From<&ResourceRequest> for v1::ResourceRequest {
    fn from(request: &ResourceRequest) -> Self {
        Self {
            resources: Some(request.resources().into()),
            strategy: None,
            gpu_memory_bytes: request.gpu_memory_bytes(),
        }
    }
}

impl TryFrom<&v1::ResourceRequest> for ResourceRequest {
    type Error = RequestError;

    fn try_from(request: &v1::ResourceRequest) -> Result<Self, RequestError> {
        let resources = request
            .resources
            .as_ref()
            .map(ResourceSet::from)
            .unwrap_or_default();
        Self::new(resources, request.gpu_memory_bytes)
    }
}

/// The strategy of a request; none given is the default.
///
/// # Errors
/// When a node affinity names no node id.
pub fn strategy(request: &v1::ResourceRequest) -> Result<Strategy, InvalidId> {
    use v1::scheduling_strategy::Kind;
    let kind = request
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.kind.as_ref());
    Ok(match kind {
        None | Some(Kind::Default(_)) => Strategy::Default,
        Some(Kind::Spread(_)) => Strategy::Spread,
        Some(Kind::NodeAffinity(affinity)) => Strategy::NodeAffinity {
            node: NodeId::from_bytes(&affinity.node_id)?,
            is_soft: affinity.soft,
        },
    })
}

/// A placement request with what the message says: resources and strategy.
///
/// # Errors
/// When resources or node id make no sense.
pub fn placement_request(request: &v1::ResourceRequest) -> Result<PlacementRequest, ConvertError> {
    Ok(PlacementRequest {
        resources: ResourceRequest::try_from(request).map_err(ConvertError::Request)?,
        strategy: strategy(request).map_err(ConvertError::Id)?,
        ..PlacementRequest::default()
    })
}

/// The resources of a node as it reported them.
pub fn node_resources(info: &v1::NodeInfo) -> NodeResources {
    let set =
        |set: &Option<v1::ResourceSet>| set.as_ref().map(ResourceSet::from).unwrap_or_default();
    let mut gpus = Vec::with_capacity(info.gpu_available.len());
    for (id, free) in (0u32..).zip(&info.gpu_available) {
        let memory = info.gpu_memory_bytes.get(gpus.len()).copied().unwrap_or(0);
        gpus.push(GpuDevice {
            free: Quantity::from_units(*free),
            ..GpuDevice::new(id, memory)
        });
    }
    let labels = info
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    NodeResources::reported(set(&info.total), set(&info.available), gpus, labels)
}

/// A node for the scheduler.
///
/// # Errors
/// When the message names no node id.
pub fn node_view(info: &v1::NodeInfo) -> Result<NodeView, InvalidId> {
    Ok(NodeView {
        id: NodeId::from_bytes(&info.node_id)?,
        resources: node_resources(info),
    })
}

/// Writes a node's resources into its message: totals, what is free, GPUs and labels.
pub fn fill_resources(info: &mut v1::NodeInfo, resources: &NodeResources) {
    info.total = Some((&resources.total()).into());
    info.available = Some((&resources.available()).into());
    info.gpu_available = resources
        .gpus()
        .iter()
        .map(|gpu| gpu.free.units())
        .collect();
    info.gpu_memory_bytes = resources
        .gpus()
        .iter()
        .map(|gpu| gpu.memory_total_bytes)
        .collect();
    info.labels = resources.labels().clone().into_iter().collect();
}

impl From<&Allocation> for v1::AcceleratorAssignment {
    fn from(allocation: &Allocation) -> Self {
        Self {
            gpu_ids: allocation.gpu_ids().to_vec(),
            gpu_fraction: allocation.gpu_share().units(),
            visible_devices: String::new(),
        }
    }
}

impl v1::Address {
    /// The address of a process on a node.
    pub fn of(node: NodeId, worker: WorkerId) -> Self {
        Self {
            node_id: node.to_wire(),
            worker_id: worker.to_wire(),
        }
    }

    /// Node part.
    ///
    /// # Errors
    /// When it has the wrong length.
    pub fn node(&self) -> Result<NodeId, InvalidId> {
        NodeId::from_bytes(&self.node_id)
    }

    /// Process part.
    ///
    /// # Errors
    /// When it has the wrong length.
    pub fn worker(&self) -> Result<WorkerId, InvalidId> {
        WorkerId::from_bytes(&self.worker_id)
    }
}

impl v1::Failure {
    /// A failure that is not the application's.
    pub fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code: code.as_u32(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// What went wrong.
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::from_u32(self.code)
    }
}

/// Name of the gRPC metadata that carries an [`ErrorCode`].
const CODE_KEY: &str = "aktis-code";

/// A gRPC status for a failure; [`failure`] turns it back.
pub fn status(code: ErrorCode, message: impl Into<String>) -> tonic::Status {
    use tonic::Code;
    let grpc = match code {
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists => Code::AlreadyExists,
        ErrorCode::InvalidArgument | ErrorCode::Serialization => Code::InvalidArgument,
        ErrorCode::Timeout => Code::DeadlineExceeded,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::Unschedulable | ErrorCode::PendingCallsLimit => Code::ResourceExhausted,
        ErrorCode::NotConnected | ErrorCode::ActorUnavailable | ErrorCode::NodeDied => {
            Code::Unavailable
        }
        _ => Code::Internal,
    };
    let mut status = tonic::Status::new(grpc, message);
    status.metadata_mut().insert(
        CODE_KEY,
        tonic::metadata::MetadataValue::from(code.as_u32()),
    );
    status
}

/// The code of ours that a status carries. One without comes from the transport, or from what stands between.
fn carried_code(status: &tonic::Status) -> Option<ErrorCode> {
    let value = status.metadata().get(CODE_KEY)?;
    Some(ErrorCode::from_u32(value.to_str().ok()?.parse().ok()?))
}

/// Whether no connection came about for the request: the other side has certainly not heard of it.
pub fn is_unsent(status: &tonic::Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the other side has heard the request and says no. Anything else means that it is away, and that the request may be
/// sent again: a connection that breaks during a call ends it as `Unknown`, `Cancelled`, `Internal` or `Unavailable`, as the
/// transport happens to see it, and a process that goes down in good order says `NotConnected`.
pub fn is_refusal(status: &tonic::Status) -> bool {
    use tonic::Code;
    match carried_code(status) {
        Some(code) => code != ErrorCode::NotConnected,
        // What the server side of the transport says to every repetition, too: no such method, no or a wrong token, another
        // version, a message that is too long.
        None => matches!(
            status.code(),
            Code::Unimplemented
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::OutOfRange
                | Code::FailedPrecondition
        ),
    }
}

/// The failure that a gRPC status stands for.
pub fn failure(status: &tonic::Status) -> v1::Failure {
    use tonic::Code;
    let code = carried_code(status).unwrap_or_else(|| match status.code() {
        Code::NotFound => ErrorCode::NotFound,
        Code::AlreadyExists => ErrorCode::AlreadyExists,
        Code::InvalidArgument => ErrorCode::InvalidArgument,
        Code::DeadlineExceeded => ErrorCode::Timeout,
        Code::Cancelled => ErrorCode::Cancelled,
        Code::Unavailable => ErrorCode::NotConnected,
        _ => ErrorCode::Internal,
    });
    v1::Failure::of(code, status.message())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aktis_common::resources::{CPU, GPU};

    use super::*;

    #[test]
    fn node_resources_survive_the_wire() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let gpus = vec![GpuDevice::new(0, 80), GpuDevice::new(1, 80)];
        let mut node = NodeResources::new(ResourceSet::of_cpus(4), gpus, labels);
        let request = ResourceRequest::from_numbers([(CPU, 1.5), (GPU, 0.25)], 0).unwrap();
        let allocation = node.allocate(&request).unwrap();
        let mut info = v1::NodeInfo::default();
        fill_resources(&mut info, &node);
        assert_eq!(node_resources(&info), node);
        let assignment = v1::AcceleratorAssignment::from(&allocation);
        assert_eq!(
            (assignment.gpu_ids, assignment.gpu_fraction),
            (vec![0], 2_500)
        );
    }

    #[test]
    fn request_from_the_wire_is_checked() {
        let set = ResourceSet::from_units([(GPU, 15_000i64)]);
        let message = v1::ResourceRequest {
            resources: Some((&set).into()),
            ..Default::default()
        };
        let error = placement_request(&message).unwrap_err();
        assert!(
            error.to_string().contains("give a fraction below 1"),
            "{error}"
        );
    }

    #[test]
    fn failures_survive_grpc() {
        for code in [
            ErrorCode::NotFound,
            ErrorCode::ActorDied,
            ErrorCode::PendingCallsLimit,
        ] {
            let failure = failure(&status(code, "why"));
            assert_eq!(
                (failure.error_code(), failure.message.as_str()),
                (code, "why")
            );
        }
        let foreign = tonic::Status::unavailable("gone");
        assert_eq!(failure(&foreign).error_code(), ErrorCode::NotConnected);
    }

    #[test]
    fn only_what_carries_a_code_of_ours_is_a_refusal() {
        use tonic::Code;
        for code in [
            ErrorCode::NotFound,
            ErrorCode::Cancelled,
            ErrorCode::Internal,
        ] {
            assert!(is_refusal(&status(code, "no")), "{code:?}");
        }
        let goes_down = status(ErrorCode::NotConnected, "the gcs is going down");
        assert!(!is_refusal(&goes_down));
        for code in [
            Code::Unknown,
            Code::Cancelled,
            Code::Internal,
            Code::Unavailable,
        ] {
            assert!(!is_refusal(&tonic::Status::new(code, "broken")), "{code:?}");
        }
        assert!(is_refusal(&tonic::Status::unauthenticated("no token")));
    }
}
