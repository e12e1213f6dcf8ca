//! Requests to raylets. Each runs as its own task; answers come back as steps.

use std::collections::HashMap;
use std::time::Duration;

use aktis_common::ids::{ActorId, NodeId};
use aktis_proto::convert::{failure, is_refusal, is_unsent};
use aktis_proto::transport::{Address, Channel, Network, Security, raylet_client};
use aktis_proto::v1::raylet_client::RayletClient;
use aktis_proto::v1::{
    KillWorkerRequest, StartActorReply, StartActorRequest, start_actor_reply::Outcome,
};
use tokio::runtime::Handle;
use tonic::Status;

use crate::core::StartOutcome;
use crate::inbox::GcsMailbox;

/// Connections that are kept; beyond, all are forgotten, and those that are needed open again.
const MOST_CLIENTS: usize = 4096;
/// A raylet answers a start when the worker has its task, so this is above what a worker may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// A raylet answers a kill at once.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a kill is tried: for longer than it takes to declare a node dead, which is told what to end when it is back.
const KILL_TRIES: u32 = 60;
/// Pause before a kill is tried again.
const KILL_PAUSE: Duration = Duration::from_millis(500);
/// Pause before it is decided again on an actor whose raylet did not answer.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// Connections to raylets, by address.
pub(crate) struct Raylets {
    network: Network,
    security: Security,
    beside: Handle,
    clients: HashMap<String, RayletClient<Channel>>,
    port: GcsMailbox,
}

impl Raylets {
    pub(crate) fn new(
        network: Network,
        security: Security,
        beside: Handle,
        port: GcsMailbox,
    ) -> Self {
        Self {
            network,
            security,
            beside,
            clients: HashMap::new(),
            port,
        }
    }

    /// Asks for a start; the answer goes to [`GcsCore::start_answered`](crate::core::GcsCore::start_answered).
    pub(crate) fn start_actor(
        &mut self,
        actor: ActorId,
        attempt: u64,
        node: NodeId,
        raylet_address: &str,
        request: StartActorRequest,
    ) {
        let client = self.client(raylet_address);
        let port = self.port.clone();
        let timeout = START_TIMEOUT + Duration::from_millis(request.patience_ms);
        self.beside.spawn(async move {
            let outcome = match client {
                Ok(mut client) => {
                    let answer = client.start_actor(request);
                    match tokio::time::timeout(timeout, answer).await {
                        Ok(Ok(reply)) => read(reply.into_inner()),
                        Ok(Err(status)) => refused(&status),
                        Err(_) => StartOutcome::Unanswered("no answer in time".to_owned()),
                    }
                }
                Err(cause) => StartOutcome::Unreachable(cause),
            };
            if let StartOutcome::Unreachable(_) | StartOutcome::Unanswered(_) = outcome {
                tokio::time::sleep(UNREACHABLE_PAUSE).await;
            }
            port.tell(move |core, turn| core.start_answered(actor, attempt, node, outcome, turn));
        });
    }

    /// Asks for the end of a worker, again while the raylet is away. One that stays away is declared dead: when it registers again
    /// it is told which actors are still to be there.
    pub(crate) fn kill_worker(&mut self, raylet_address: &str, request: KillWorkerRequest) {
        let Ok(client) = self.client(raylet_address) else {
            return;
        };
        self.beside.spawn(async move {
            for _ in 0..KILL_TRIES {
                let mut client = client.clone();
                let answer = client.kill_worker(request.clone());
                match tokio::time::timeout(KILL_TIMEOUT, answer).await {
                    Ok(Err(status)) if !is_refusal(&status) => {
                        tokio::time::sleep(KILL_PAUSE).await;
                    }
                    Ok(_) => return,
                    Err(_) => {}
                }
            }
            tracing::warn!("a worker could not be killed: its raylet does not answer");
        });
    }

    fn client(&mut self, raylet_address: &str) -> Result<RayletClient<Channel>, String> {
        if let Some(client) = self.clients.get(raylet_address) {
            return Ok(client.clone());
        }
        let address: Address = raylet_address
            .parse()
            .map_err(|error| format!("raylet address: {error}"))?;
        // What a channel runs is spawned where it is made.
        let _beside = self.beside.enter();
        let channel = self
            .network
            .connect_lazy(&address, &self.security)
            .map_err(|error| error.to_string())?;
        let client = raylet_client(channel);
        if self.clients.len() >= MOST_CLIENTS {
            self.clients.clear();
        }
        self.clients
            .insert(raylet_address.to_owned(), client.clone());
        Ok(client)
    }
}

fn read(reply: StartActorReply) -> StartOutcome {
    match reply.outcome {
        Some(Outcome::Address(address)) => StartOutcome::Started {
            address,
            pid: reply.pid,
        },
        Some(Outcome::NoRoom(_)) => StartOutcome::NoRoom,
        Some(Outcome::Failure(failure)) => StartOutcome::Failed(failure),
        None => StartOutcome::Unanswered("the raylet's answer is empty".to_owned()),
    }
}

/// A raylet that is away, or that goes down, may do it later; what it refuses is refused for good.
fn refused(status: &Status) -> StartOutcome {
    if is_refusal(status) {
        StartOutcome::Failed(failure(status))
    } else if is_unsent(status) {
        StartOutcome::Unreachable(status.to_string())
    } else {
        StartOutcome::Unanswered(status.to_string())
    }
}
