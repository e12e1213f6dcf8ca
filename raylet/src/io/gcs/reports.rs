//! News that the gcs must hear, in order, and that every further one hears until a storage has it.
//!
//! A head whose storage takes nothing goes on, and owes what it was told (`GCS-3`). Should it end then, only who told it knows.
//! So what is owed stays here, and is told again to a head that is another one, in order, and before this node registers: that
//! head decides on this node's actors when it has heard what became of them.

use std::collections::VecDeque;

use aktis_proto::convert::is_refusal;
use aktis_proto::transport::Channel;
use aktis_proto::v1::FactReply;
use aktis_proto::v1::gcs_client::GcsClient;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::core::effect::GcsReport;

/// What the reporter is to do, in order.
pub(super) enum Errand {
    /// To tell this.
    Tell(GcsReport),
    /// To tell again what is owed, and to say so.
    Repeat(oneshot::Sender<()>),
}

/// Does errands one after the other until the port is gone.
pub(super) async fn deliver(
    client: GcsClient<Channel>,
    mut errands: mpsc::UnboundedReceiver<Errand>,
) {
    let mut reporter = Reporter {
        client,
        owed: VecDeque::new(),
        told: 0,
        head: 0,
    };
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Tell(report) => {
                reporter.owed.push_back(report);
                reporter.tell_all().await;
            }
            // Whoever asked may have given up, and asked again.
            Errand::Repeat(done) if done.is_closed() => {}
            Errand::Repeat(done) => {
                reporter.told = 0;
                reporter.tell_all().await;
                let _ = done.send(());
            }
        }
    }
}

struct Reporter {
    client: GcsClient<Channel>,
    /// What no storage is known to have, in order.
    owed: VecDeque<GcsReport>,
    /// So many of them, the first ones, this head has heard.
    told: usize,
    /// Which process the head was that answered last.
    head: u64,
}

impl Reporter {
    /// Returns when the head has heard everything.
    async fn tell_all(&mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(report) = self.owed.get(self.told) {
            match send(&mut self.client, report.clone()).await {
                Ok(reply) => self.heard(&reply),
                Err(status) if is_refusal(&status) => {
                    tracing::warn!(?report, %status, "the gcs refuses a report");
                    self.owed.remove(self.told);
                }
                Err(status) => {
                    tracing::debug!(%status, "the gcs is away: a report waits");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            }
            pause = FIRST_PAUSE;
        }
    }

    fn heard(&mut self, reply: &FactReply) {
        let is_another = std::mem::replace(&mut self.head, reply.head) != reply.head;
        if is_another && self.told > 0 {
            // It has not heard what came before, and then hears this one in its turn.
            self.told = 0;
            return;
        }
        self.told += 1;
        if !reply.is_owed {
            self.owed.drain(..self.told);
            self.told = 0;
        }
    }
}

async fn send(client: &mut GcsClient<Channel>, report: GcsReport) -> Result<FactReply, Status> {
    let reply = match report {
        GcsReport::WorkerDeath(report) => client.report_worker_death(report).await,
        GcsReport::ActorStarted(report) => client.report_actor_started(report).await,
        GcsReport::AddJob(request) => client.add_job(request).await,
        GcsReport::FinishJob(request) => client.finish_job(request).await,
    };
    Ok(reply?.into_inner())
}
