//! Publications to subscribers: bounded, so that a slow one costs no memory but must subscribe again.

use std::pin::Pin;
use std::task::{Context, Poll};

use aktis_proto::v1::{Publication, publication::Kind};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::Status;

/// Tells all subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    sender: broadcast::Sender<Publication>,
}

impl Publisher {
    /// Keeps at most `capacity` publications for the slowest subscriber.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            sender: broadcast::Sender::new(capacity),
        }
    }

    /// Tells everybody who has subscribed.
    pub(crate) fn publish(&self, publication: Publication) {
        // Nobody listening is fine.
        let _ = self.sender.send(publication);
    }

    /// Everything that is published from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Publication> {
        self.sender.subscribe()
    }
}

/// What a subscriber gets: a snapshot, then news, and `lagged` as the last message if it was too slow.
pub(crate) struct Subscription {
    messages: Pin<Box<dyn Stream<Item = Publication> + Send>>,
    /// Runs when the subscriber is gone.
    on_close: Option<Box<dyn FnOnce() + Send>>,
}

impl Subscription {
    pub(crate) fn new(
        snapshot: Vec<Publication>,
        news: broadcast::Receiver<Publication>,
        on_close: impl FnOnce() + Send + 'static,
    ) -> Self {
        let mut has_lagged = false;
        let news = BroadcastStream::new(news)
            .map(|message| match message {
                Ok(publication) => publication,
                Err(BroadcastStreamRecvError::Lagged(_)) => Publication {
                    kind: Some(Kind::Lagged(true)),
                },
            })
            .take_while(move |publication| {
                let goes_on = !has_lagged;
                has_lagged = matches!(publication.kind, Some(Kind::Lagged(_)));
                futures::future::ready(goes_on)
            });
        let messages = Box::pin(futures::stream::iter(snapshot).chain(news));
        Self {
            messages,
            on_close: Some(Box::new(on_close)),
        }
    }
}

impl Stream for Subscription {
    type Item = Result<Publication, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages
            .as_mut()
            .poll_next(context)
            .map(|message| message.map(Ok))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(on_close) = self.on_close.take() {
            on_close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_subscriber_is_told_that_it_lagged_and_then_left() {
        let publisher = Publisher::new(2);
        let subscription = Subscription::new(Vec::new(), publisher.subscribe(), || {});
        for _ in 0..10 {
            publisher.publish(Publication::default());
        }
        let got: Vec<_> = subscription
            .map(|message| message.unwrap().kind)
            .collect()
            .await;
        assert_eq!(got, [Some(Kind::Lagged(true))]);
    }

    #[tokio::test]
    async fn snapshot_comes_first_and_the_end_is_noticed() {
        let publisher = Publisher::new(8);
        let (closed, mut is_closed) = tokio::sync::oneshot::channel();
        let mark = |lagged| Publication {
            kind: Some(Kind::Lagged(lagged)),
        };
        let mut subscription = Subscription::new(vec![mark(false)], publisher.subscribe(), || {
            closed.send(()).unwrap()
        });
        publisher.publish(Publication::default());
        assert_eq!(subscription.next().await.unwrap().unwrap(), mark(false));
        assert!(is_closed.try_recv().is_err());
        drop(subscription);
        is_closed.await.unwrap();
    }
}
