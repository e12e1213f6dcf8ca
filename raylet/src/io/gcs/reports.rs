//! News that the gcs must hear, in order.

use aktis_proto::convert::is_refusal;
use aktis_proto::transport::Channel;
use aktis_proto::v1::gcs_client::GcsClient;
use tokio::sync::mpsc;
use tonic::Status;

use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::core::effect::GcsReport;

/// Delivers reports one after the other until the port is gone.
pub(super) async fn deliver(
    mut client: GcsClient<Channel>,
    mut reports: mpsc::UnboundedReceiver<GcsReport>,
) {
    while let Some(report) = reports.recv().await {
        let mut pause = FIRST_PAUSE;
        loop {
            match send(&mut client, report.clone()).await {
                Ok(()) => break,
                Err(status) if is_refusal(&status) => {
                    tracing::warn!(?report, %status, "the gcs refuses a report");
                    break;
                }
                Err(status) => {
                    tracing::debug!(%status, "the gcs is away: a report waits");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

async fn send(client: &mut GcsClient<Channel>, report: GcsReport) -> Result<(), Status> {
    match report {
        GcsReport::WorkerDeath(report) => client.report_worker_death(report).await.map(|_| ()),
        GcsReport::ActorStarted(report) => client.report_actor_started(report).await.map(|_| ()),
        GcsReport::AddJob(request) => client.add_job(request).await.map(|_| ()),
        GcsReport::FinishJob(request) => client.finish_job(request).await.map(|_| ()),
    }
}
