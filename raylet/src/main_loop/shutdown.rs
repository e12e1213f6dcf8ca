//! The end of a raylet: everything it started ends with it.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Ports, RayletLoop};
use crate::inbox::RayletEnd;

/// Why it ends, and who waits for that.
pub(super) struct End {
    pub(super) why: RayletEnd,
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl RayletLoop {
    /// Ends listeners, workers, zygote and store, removes the node's folder and takes the node off the gcs's list.
    pub(super) async fn shut_down(self, end: End) {
        self.surroundings
            .listeners
            .iter()
            .for_each(JoinHandle::abort);
        let workers: Vec<u32> = self
            .core
            .pool()
            .iter()
            .filter_map(|worker| worker.pid)
            .collect();
        let processes = &self.surroundings.processes;
        workers
            .into_iter()
            .for_each(|pid| processes.kill_group(pid));
        self.pulls.values().for_each(|pull| pull.task.abort());
        self.forwards
            .values()
            .for_each(tokio::task::AbortHandle::abort);
        let Ports {
            mut links,
            store,
            zygote,
            gcs,
            peers: _,
            streams: _,
            logs,
        } = self.ports;
        links.close_all();
        // The zygote kills what is left. Then the gcs is told, which begins the node's actors anew elsewhere: not beside the
        // processes that they had here (ACT-3).
        zygote.close().await;
        gcs.close(end.why.cause().to_owned()).await;
        logs.close().await;
        drop(store);
        let folder = &self.surroundings.node_dir;
        if let Err(error) = std::fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(?folder, %error, "the node's folder stays behind");
        }
        if let Some(done) = end.done {
            let _ = done.send(());
        }
    }
}
