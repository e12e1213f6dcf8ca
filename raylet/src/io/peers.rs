//! Calls to the raylets of other nodes.

use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::NodeId;
use aktis_proto::convert::is_refusal;
use aktis_proto::transport::{
    Address, AddressError, BoxedDuplex, Channel, ConnectError, Network, Security, raylet_client,
};
use aktis_proto::v1::raylet_client::RayletClient;
use aktis_proto::v1::{ForwardedLeaseRequest, FreeObjectsRequest, ReclaimLeaseRequest};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::core::effect::PeerMessage;
use crate::core::event::Event;
use crate::core::keys::ReplyTo;
use crate::inbox::Mailbox;

/// First pause before a message that needs no answer is tried again; doubles.
const TELL_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_TELL_PAUSE: Duration = Duration::from_secs(2);

/// Why a node cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// Nobody has told of such a node, or it is gone.
    #[error("no node {0} is alive")]
    Unknown(NodeId),
    /// What it reports is no address.
    #[error("address of node {0}: {1}")]
    Address(NodeId, AddressError),
    /// The transport refuses.
    #[error("connect to node {0}: {1}")]
    Connect(NodeId, ConnectError),
}

#[derive(Debug, Default)]
struct Directory {
    addresses: FxHashMap<NodeId, String>,
    clients: FxHashMap<NodeId, RayletClient<Channel>>,
}

/// Connections to other nodes, opened when needed. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    directory: Arc<Mutex<Directory>>,
    network: Network,
    security: Security,
    beside: Handle,
}

impl Peers {
    /// Knows nobody yet. Its connections live on `beside`.
    pub(crate) fn new(network: Network, security: Security, beside: Handle) -> Self {
        Self {
            directory: Arc::default(),
            network,
            security,
            beside,
        }
    }

    /// Where a node is, or that it is gone.
    pub(crate) fn note(&self, node: NodeId, address: Option<String>) {
        let mut directory = self.directory.lock();
        let is_same = directory.addresses.get(&node) == address.as_ref();
        if is_same {
            return;
        }
        directory.clients.remove(&node);
        match address {
            Some(address) => directory.addresses.insert(node, address),
            None => directory.addresses.remove(&node),
        };
    }

    /// A client for a node.
    pub(crate) fn client(&self, node: NodeId) -> Result<RayletClient<Channel>, PeerError> {
        let mut directory = self.directory.lock();
        if let Some(client) = directory.clients.get(&node) {
            return Ok(client.clone());
        }
        let text = directory
            .addresses
            .get(&node)
            .ok_or(PeerError::Unknown(node))?;
        let address: Address = text
            .parse()
            .map_err(|error| PeerError::Address(node, error))?;
        // What a channel runs is spawned where it is made.
        let _beside = self.beside.enter();
        let channel = self
            .network
            .connect_lazy(&address, &self.security)
            .map_err(|error| PeerError::Connect(node, error))?;
        let client = raylet_client(channel);
        directory.clients.insert(node, client.clone());
        Ok(client)
    }

    /// Opens a stream to a node.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub(crate) async fn open_stream(&self, door: &Address) -> Result<BoxedDuplex, ConnectError> {
        self.network.open_stream(door, &self.security).await
    }

    /// Forwards a lease request; the answer comes as an event. Aborting the task withdraws it.
    pub(crate) fn forward_lease(
        &self,
        reply_to: ReplyTo,
        node: NodeId,
        request: ForwardedLeaseRequest,
        mailbox: Mailbox,
    ) -> AbortHandle {
        let (peers, claim_id) = (self.clone(), request.claim_id);
        let task = self.beside.spawn(async move {
            let outcome = match peers.client(node) {
                Ok(mut client) => client
                    .request_lease(request)
                    .await
                    .map(tonic::Response::into_inner)
                    .map_err(|status| status.message().to_owned()),
                Err(error) => Err(error.to_string()),
            };
            mailbox.event(Event::ForwardEnded {
                reply_to,
                claim_id,
                outcome,
            });
        });
        task.abort_handle()
    }

    /// Tells a node something that needs no answer, again until it has heard or is gone: a lease that is not returned, or an object
    /// that is not freed, is held there for good.
    pub(crate) fn tell(&self, node: NodeId, message: PeerMessage) {
        let peers = self.clone();
        self.beside.spawn(async move {
            let mut pause = TELL_PAUSE;
            loop {
                match peers.tell_once(node, message.clone()).await {
                    Ok(()) => return,
                    Err(Untold::ForGood(cause)) => {
                        return tracing::debug!(%node, %cause, "another node does not hear of it");
                    }
                    Err(Untold::Away(cause)) => tracing::debug!(%node, %cause, "tell another node"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_TELL_PAUSE);
            }
        });
    }

    async fn tell_once(&self, node: NodeId, message: PeerMessage) -> Result<(), Untold> {
        // A node that is gone holds nothing, and one that comes back is told by the head what was given up.
        let mut client = self
            .client(node)
            .map_err(|error| Untold::ForGood(error.to_string()))?;
        let told = match message {
            PeerMessage::ReturnLease(lease) => client.return_lease(lease).await.map(drop),
            PeerMessage::ReclaimLease { owner, reclaim } => {
                let request = ReclaimLeaseRequest {
                    owner: Some(owner),
                    reclaim: Some(reclaim),
                };
                client.reclaim_lease(request).await.map(drop)
            }
            PeerMessage::WithdrawClaim { claim_id } => {
                let request = ForwardedLeaseRequest {
                    claim_id,
                    ..ForwardedLeaseRequest::default()
                };
                client.request_lease(request).await.map(drop)
            }
            PeerMessage::FreeObjects(object_ids) => {
                let request = FreeObjectsRequest { object_ids };
                client.free_objects(request).await.map(drop)
            }
        };
        told.map_err(|status| match is_refusal(&status) {
            true => Untold::ForGood(status.to_string()),
            false => Untold::Away(status.to_string()),
        })
    }
}

/// Why a node was not told something.
enum Untold {
    /// It may hear it later.
    Away(String),
    /// It is gone, or refuses.
    ForGood(String),
}
