//! Looks for other nodes while a job runs, so that new ones are used and lost ones are not waited for.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use aktis_common::scheduling::ClusterView;

use super::pool::Look;

/// How often it looks. A job that is over by then never does.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A thread that looks at the nodes, from a second on. It ends when this is dropped.
pub(super) struct NodeWatch {
    /// Until it has begun.
    waiting: Option<Waiting>,
    /// Closed when this is dropped.
    _until: Sender<Infallible>,
}

struct Waiting {
    begins_at: Instant,
    watcher: Watcher,
}

struct Watcher {
    look: Look,
    tell: Box<dyn Fn(ClusterView) -> bool + Send>,
    until: Receiver<Infallible>,
}

impl NodeWatch {
    /// Calls `tell` for every view that differs from the last one, until it returns `false`.
    pub(super) fn new(look: Look, tell: impl Fn(ClusterView) -> bool + Send + 'static) -> Self {
        let (sender, until) = channel();
        Self {
            waiting: Some(Waiting {
                begins_at: Instant::now() + LOOK_AGAIN,
                watcher: Watcher {
                    look,
                    tell: Box::new(tell),
                    until,
                },
            }),
            _until: sender,
        }
    }

    /// When [`Self::begin_if_due`] has something to do.
    pub(super) fn begins_at(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.begins_at)
    }

    /// Begins to look, if it is time.
    pub(super) fn begin_if_due(&mut self) {
        let is_due = |waiting: &mut Waiting| waiting.begins_at <= Instant::now();
        let Some(Waiting { watcher, .. }) = self.waiting.take_if(is_due) else {
            return;
        };
        let thread = thread::Builder::new().name("aktis-nodes".to_owned());
        if let Err(error) = thread.spawn(move || watcher.run()) {
            tracing::warn!(%error, "a job does not see other nodes than those that it began with");
        }
    }
}

impl Watcher {
    fn run(self) {
        let mut known = None;
        loop {
            match (self.look)() {
                Ok(view) if known.as_ref() != Some(&view) => {
                    known = Some(view.clone());
                    if !(self.tell)(view) {
                        return;
                    }
                }
                Ok(_) => {}
                Err(failure) => tracing::debug!(%failure, "the nodes cannot be asked for"),
            }
            match self.until.recv_timeout(LOOK_AGAIN) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(never) => match never {},
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aktis_common::ids::NodeId;
    use aktis_common::resources::NodeResources;
    use aktis_common::scheduling::NodeView;

    use super::*;

    /// Node after node, up to three.
    fn growing(looks: usize) -> ClusterView {
        let node = |id: usize| NodeView {
            id: NodeId::new([u8::try_from(id).expect("few nodes"); 16]),
            resources: NodeResources::default(),
        };
        ClusterView::new((0..looks.min(3)).map(node).collect())
    }

    #[test]
    fn views_that_differ_are_told_once_each_until_nobody_listens() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let look: Look = Arc::new(move || Ok(growing(counted.fetch_add(1, Ordering::Relaxed))));
        let (sender, told) = channel();
        let mut watch = NodeWatch::new(look, move |view| sender.send(view).is_ok());
        watch.begin_if_due();
        assert_eq!(looks.load(Ordering::Relaxed), 0, "not in the first second");
        while let Some(at) = watch.begins_at() {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            watch.begin_if_due();
        }
        let nodes: Vec<usize> = told.iter().take(4).map(|view| view.nodes().len()).collect();
        assert_eq!(nodes, [0, 1, 2, 3]);
        drop(watch);
        // Its thread ends, and drops its sender.
        assert_eq!(told.iter().count(), 0);
    }
}
