//! Registration, subscription and the node's state.

use std::time::{Duration, Instant};

use aktis_common::ids::NodeId;
use aktis_proto::convert::is_refusal;
use aktis_proto::transport::{Address, Channel};
use aktis_proto::v1::gcs_client::GcsClient;
use aktis_proto::v1::{
    Empty, NodeInfo, Publication, RegisterNodeReply, RegisterNodeRequest, ReportNodeRequest,
    SubscribeRequest, publication,
};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Status, Streaming};

use super::reports::Errand;
use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::core::event::{Event, Registration};
use crate::inbox::{Mailbox, Message, RayletEnd};

/// How long a registration waits for earlier news to arrive.
const REPEAT_PATIENCE: Duration = Duration::from_secs(5);

/// Why the first registration failed.
#[derive(Debug)]
pub(crate) enum RegisterError {
    /// Nobody answered in time.
    Away(String),
    /// The gcs does not want this node.
    Refused(String),
}

/// Registers, trying again until `timeout` while nobody answers.
pub(super) async fn register_within(
    mut client: GcsClient<Channel>,
    node: NodeInfo,
    timeout: Duration,
) -> Result<RegisterNodeReply, RegisterError> {
    let deadline = Instant::now() + timeout;
    let mut pause = FIRST_PAUSE;
    loop {
        let request = RegisterNodeRequest {
            node: Some(node.clone()),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let status = match tokio::time::timeout(left, client.register_node(request)).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => return Err(RegisterError::Away("no answer".to_owned())),
        };
        if is_refusal(&status) {
            return Err(RegisterError::Refused(status.message().to_owned()));
        }
        if Instant::now() + pause >= deadline {
            return Err(RegisterError::Away(innermost(&status)));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The cause that says something: transport errors wrap it several times.
fn innermost(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Why a link is to be begun anew.
enum BrokenLink {
    /// The gcs is away, or the subscription lost something.
    Subscription(String),
    /// The gcs does not know this node any more.
    Unknown,
}

/// The standing connection to the gcs.
pub(super) struct GcsLink {
    pub(super) client: GcsClient<Channel>,
    pub(super) node_id: NodeId,
    pub(super) node: watch::Receiver<NodeInfo>,
    pub(super) period: Duration,
    pub(super) address: Address,
    /// The session that this node belongs to.
    pub(super) session_id: String,
    /// How long the gcs may be away.
    pub(super) patience: Duration,
    /// Since when it is, as far as this node has tried.
    pub(super) away_since: Option<Instant>,
    /// The number of this node's last registration.
    pub(super) generation: u64,
    pub(super) reports: mpsc::UnboundedSender<Errand>,
    pub(super) mailbox: Mailbox,
}

impl GcsLink {
    /// Runs until the task is aborted.
    pub(super) async fn run(mut self, first: RegisterNodeReply) {
        let mut registered = Some(first);
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let broken = match registered.take() {
                Some(reply) => self.live(reply).await,
                None => match self.register().await {
                    Ok(reply) if reply.session_id == self.session_id => {
                        registered = Some(reply);
                        continue;
                    }
                    Ok(reply) => return self.end_node(self.other_session(&reply)).await,
                    Err(status) => BrokenLink::Subscription(status.message().to_owned()),
                },
            };
            match broken {
                BrokenLink::Unknown => {
                    tracing::info!("the gcs does not know this node: register again");
                }
                BrokenLink::Subscription(cause) => {
                    tracing::debug!(%cause, "the link to the gcs broke");
                    let since = *self.away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.patience {
                        return self.end_node(self.gone_for_good(&cause)).await;
                    }
                }
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn other_session(&self, reply: &RegisterNodeReply) -> String {
        format!(
            "the head at {} came back without the tables of session {}: it is session {} now, which knows nothing of what \
             runs here; start this node again to join that",
            self.address, self.session_id, reply.session_id
        )
    }

    fn gone_for_good(&self, cause: &str) -> String {
        format!(
            "the head at {} has not come back in {} s (head_reconnect_timeout): {cause}; start the head, then this node again",
            self.address,
            self.patience.as_secs_f64()
        )
    }

    /// Asks for the end of this node, and waits for that.
    async fn end_node(&self, cause: String) {
        tracing::error!(%cause, "the node ends");
        let end = RayletEnd::Failed(cause);
        self.mailbox.send(Message::Shutdown { end, done: None });
        std::future::pending().await
    }

    /// Once the gcs has heard what an earlier one may have owed: then it knows what is here.
    async fn register(&mut self) -> Result<RegisterNodeReply, Status> {
        let (done, heard) = oneshot::channel();
        let _ = self.reports.send(Errand::Repeat(done));
        let heard = tokio::time::timeout(REPEAT_PATIENCE, heard).await;
        if !matches!(heard, Ok(Ok(()))) {
            return Err(Status::unavailable("the head does not take reports"));
        }
        let node = NodeInfo {
            generation: self.generation,
            ..self.node.borrow().clone()
        };
        let request = RegisterNodeRequest { node: Some(node) };
        Ok(self.client.register_node(request).await?.into_inner())
    }

    /// Subscribed and reporting, until something breaks.
    async fn live(&mut self, reply: RegisterNodeReply) -> BrokenLink {
        let generation = reply.generation;
        self.generation = generation;
        let mut publications = match self.subscribe(reply).await {
            Ok(publications) => publications,
            Err(status) => return BrokenLink::Subscription(status.message().to_owned()),
        };
        let mut next_report = tokio::time::Instant::now() + self.period;
        loop {
            tokio::select! {
                publication = publications.message() => {
                    if let Err(broken) = self.deliver(publication).await {
                        return broken;
                    }
                }
                changed = self.node.changed() => {
                    if changed.is_err() {
                        // The port is gone; the task is about to be aborted.
                        std::future::pending::<()>().await;
                    }
                    if let Err(broken) = self.report(generation).await {
                        return broken;
                    }
                    next_report = tokio::time::Instant::now() + self.period;
                }
                () = tokio::time::sleep_until(next_report) => {
                    if let Err(broken) = self.report(generation).await {
                        return broken;
                    }
                    next_report = tokio::time::Instant::now() + self.period;
                }
            }
        }
    }

    async fn subscribe(
        &mut self,
        reply: RegisterNodeReply,
    ) -> Result<Streaming<Publication>, Status> {
        let request = SubscribeRequest {
            node_id: self.node_id.to_wire(),
        };
        let publications = self.client.subscribe(request).await?.into_inner();
        let listed = self.client.list_nodes(Empty {}).await?.into_inner();
        let registration = Event::Registered(Box::new(Registration {
            reply,
            nodes: listed.nodes,
            now_unix_millis: listed.now_unix_millis,
        }));
        self.mailbox.ask(Message::Event(registration)).await;
        self.away_since = None;
        Ok(publications)
    }

    /// Waits while the loop is behind: so the gcs sees a slow subscriber, which begins anew (`lagged`).
    async fn deliver(
        &self,
        publication: Result<Option<Publication>, Status>,
    ) -> Result<(), BrokenLink> {
        match publication {
            Ok(Some(Publication {
                kind: Some(publication::Kind::Lagged(_)),
            })) => Err(BrokenLink::Subscription(
                "publications were lost".to_owned(),
            )),
            Ok(Some(publication)) => {
                let published = Event::Published(publication);
                self.mailbox.ask(Message::Event(published)).await;
                Ok(())
            }
            Ok(None) => Err(BrokenLink::Subscription(
                "the gcs ended the subscription".to_owned(),
            )),
            Err(status) => Err(BrokenLink::Subscription(status.message().to_owned())),
        }
    }

    async fn report(&mut self, generation: u64) -> Result<(), BrokenLink> {
        let node = NodeInfo {
            generation,
            ..self.node.borrow_and_update().clone()
        };
        let reply = self
            .client
            .report_node(ReportNodeRequest { node: Some(node) })
            .await;
        match reply {
            Ok(reply) if reply.get_ref().must_register => Err(BrokenLink::Unknown),
            Ok(_) => Ok(()),
            Err(status) => Err(BrokenLink::Subscription(status.message().to_owned())),
        }
    }
}
