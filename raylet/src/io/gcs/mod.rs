//! The gcs as this raylet uses it.
//!
//! ```text
//!  link     registration, subscription, the node's state: begun anew whenever they break
//!  reports  deaths, started actors, jobs: one after the other, each until the gcs has heard it and its storage has it
//!  calls    what processes ask, forwarded as bytes
//! ```
//! While the gcs is away the node goes on working; calls wait for it to come back. Away is every end of a call that is no
//! refusal ([`is_refusal`]): what was under way when the head went down is sent again. All methods of the gcs may be: each
//! request names what it makes or ends. A gcs that does not come back ends the node, and so does one that comes back as another
//! session.

mod calls;
mod link;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::NodeId;
use aktis_proto::convert::{failure, is_refusal};
use aktis_proto::transport::{Address, Channel, ConnectError, Network, Security, gcs_client};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::{GetActorRequest, NodeInfo, RegisterNodeReply, UnregisterNodeRequest};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use self::link::RegisterError;
use self::reports::Errand;
use crate::core::effect::GcsReport;
use crate::core::event::Event;
use crate::core::keys::ConnectionId;
use crate::inbox::{Mailbox, Message};

/// First pause after a failure; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long an actor that the gcs does not know yet may take to appear there.
const ACTOR_PATIENCE_TRIES: u32 = 6;
/// How long the end of the node waits for the gcs to take note.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the node is reported, and how.
#[derive(Debug, Clone)]
pub(crate) struct GcsSettings {
    pub(crate) address: Address,
    pub(crate) security: Security,
    pub(crate) network: Network,
    pub(crate) node_id: NodeId,
    pub(crate) report_period: Duration,
    /// How long the gcs may be away, and calls of processes wait for it.
    pub(crate) patience: Duration,
    /// The runtime for calls of processes, over a connection of their own. `None`: they share what there is.
    pub(crate) beside: Option<Handle>,
}

/// Where messages to the gcs go.
#[derive(Debug)]
pub(crate) struct GcsPort {
    channel: Channel,
    /// For calls of processes, which may be long: in a daemon, what says that the node lives is never behind them.
    call_channel: Channel,
    beside: Handle,
    /// As many as processes begin and end while the head does not answer, which it may do for [`GcsSettings::patience`]. None of
    /// them may be left out.
    reports: mpsc::UnboundedSender<Errand>,
    node: Arc<watch::Sender<NodeInfo>>,
    node_id: NodeId,
    patience: Duration,
    tasks: Vec<JoinHandle<()>>,
}

impl GcsPort {
    /// A port to the gcs; nothing is sent yet.
    pub(crate) fn open(settings: &GcsSettings, node: NodeInfo) -> Result<Self, ConnectError> {
        let connect = || {
            let network = &settings.network;
            network.connect_lazy(&settings.address, &settings.security)
        };
        let channel = connect()?;
        let (call_channel, beside) = match &settings.beside {
            Some(beside) => {
                let _beside = beside.enter();
                (connect()?, beside.clone())
            }
            None => (channel.clone(), Handle::current()),
        };
        let (reports, receiver) = mpsc::unbounded_channel();
        let reporter = tokio::spawn(reports::deliver(gcs_client(channel.clone()), receiver));
        Ok(Self {
            channel,
            call_channel,
            beside,
            reports,
            node: Arc::new(watch::Sender::new(node)),
            node_id: settings.node_id,
            patience: settings.patience,
            tasks: vec![reporter],
        })
    }

    /// Registers the node for the first time.
    pub(crate) async fn register(
        &self,
        timeout: Duration,
    ) -> Result<RegisterNodeReply, RegisterError> {
        let node = self.node.borrow().clone();
        link::register_within(gcs_client(self.channel.clone()), node, timeout).await
    }

    /// Keeps the node registered, subscribed and reported from now on.
    pub(crate) fn keep_linked(
        &mut self,
        settings: &GcsSettings,
        first: RegisterNodeReply,
        mailbox: Mailbox,
    ) {
        let link = link::GcsLink {
            client: gcs_client(self.channel.clone()),
            node_id: settings.node_id,
            node: self.node.subscribe(),
            period: settings.report_period,
            address: settings.address.clone(),
            session_id: first.session_id.clone(),
            patience: settings.patience,
            away_since: None,
            generation: 0,
            reports: self.reports.clone(),
            mailbox,
        };
        self.tasks.push(tokio::spawn(link.run(first)));
    }

    /// The node's state has changed.
    pub(crate) fn report_node(&self, node: NodeInfo) {
        self.node.send_replace(node);
    }

    /// Tells the gcs; kept until its storage has it.
    pub(crate) fn report(&self, report: GcsReport) {
        let _ = self.reports.send(Errand::Tell(report));
    }

    /// Forwards a call of a process; the answer goes to it.
    pub(crate) fn call(
        &self,
        connection: ConnectionId,
        request_id: u64,
        method: String,
        body: Bytes,
        mailbox: Mailbox,
    ) {
        let (channel, patience) = (self.call_channel.clone(), self.patience);
        self.beside.spawn(async move {
            let kind = calls::forward(channel, &method, body, patience).await;
            if request_id != 0 {
                mailbox.send(Message::Send {
                    connection,
                    request_id,
                    kind,
                });
            }
        });
    }

    /// Asks for the state of an actor; the answer comes as an event.
    pub(crate) fn fetch_actor(&self, actor_id: Bytes, mailbox: Mailbox) {
        let client = gcs_client(self.call_channel.clone());
        self.beside.spawn(async move {
            let outcome = fetch_actor(client, actor_id.clone()).await;
            mailbox.event(Event::ActorFetched { actor_id, outcome });
        });
    }

    /// Takes the node off the gcs's list, if it can be reached.
    pub(crate) async fn close(self, cause: String) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let request = UnregisterNodeRequest {
            node_id: self.node_id.to_wire(),
            cause,
        };
        let mut client = gcs_client(self.channel);
        let unregistered =
            tokio::time::timeout(UNREGISTER_TIMEOUT, client.unregister_node(request));
        if !matches!(unregistered.await, Ok(Ok(_))) {
            tracing::debug!("the gcs did not hear of the end of this node");
        }
    }
}

async fn fetch_actor(
    mut client: GcsClient<Channel>,
    actor_id: Bytes,
) -> Result<aktis_proto::v1::ActorUpdate, aktis_proto::v1::Failure> {
    let mut pause = FIRST_PAUSE;
    let mut tries_left = ACTOR_PATIENCE_TRIES;
    loop {
        let request = GetActorRequest {
            actor_id: actor_id.clone(),
            ..GetActorRequest::default()
        };
        match client.get_actor(request).await {
            Ok(update) => return Ok(update.into_inner()),
            Err(status) if !is_refusal(&status) => {}
            // A process may watch an actor whose creation is still under way.
            Err(status) if status.code() == tonic::Code::NotFound && tries_left > 0 => {
                tries_left -= 1
            }
            Err(status) => return Err(failure(&status)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
