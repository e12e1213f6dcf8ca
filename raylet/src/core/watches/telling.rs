//! What watchers are told, and what the gcs is asked for them.

use aktis_common::ids::ActorId;
use aktis_proto::v1::node_frame::Kind;
use aktis_proto::v1::{ActorState, ActorUpdate, Failure};
use bytes::Bytes;

use super::{ActorBoard, WatchAnswer};
use crate::core::effect::Effect;
use crate::core::keys::ConnectionId;
use crate::core::out::Out;

impl ActorBoard {
    /// A process wants to hear of an actor from now on.
    pub fn begin_watch(
        &mut self,
        watcher: ConnectionId,
        request_id: u64,
        actor_id: &Bytes,
        out: &mut Out,
    ) {
        let actor = match ActorId::from_bytes(actor_id) {
            Ok(actor) => actor,
            Err(error) => return out.reply_invalid(watcher, request_id, error.to_string()),
        };
        match self.watch(actor, watcher) {
            WatchAnswer::Known(update) => out.notify(watcher, Kind::ActorUpdate(*update)),
            WatchAnswer::Fetch => out.push(Effect::FetchActor {
                actor_id: actor_id.clone(),
            }),
            WatchAnswer::Wait => {}
        }
    }

    /// The gcs published the state of an actor.
    pub fn on_published(&mut self, update: &ActorUpdate, out: &mut Out) {
        if let Ok(actor) = ActorId::from_bytes(&update.actor_id) {
            let watchers = self.published(actor, update).to_vec();
            self.tell(actor, &watchers, out);
        }
    }

    /// The gcs told the state of an actor, or that it has none.
    pub fn on_fetched(
        &mut self,
        actor_id: &Bytes,
        outcome: Result<ActorUpdate, Failure>,
        out: &mut Out,
    ) {
        let Ok(actor) = ActorId::from_bytes(actor_id) else {
            return;
        };
        match outcome {
            Ok(update) => {
                let watchers = self.fetched(actor, &update).to_vec();
                self.tell(actor, &watchers, out);
            }
            Err(failure) => {
                let mut update = ActorUpdate {
                    actor_id: actor_id.clone(),
                    failure: Some(failure),
                    ..ActorUpdate::default()
                };
                update.set_state(ActorState::Dead);
                tell(&self.fetch_failed(actor), &update, out);
            }
        }
    }

    /// Tells the newest state that is known.
    fn tell(&self, actor: ActorId, watchers: &[ConnectionId], out: &mut Out) {
        let latest = self.notices.get(&actor);
        if let Some(latest) = latest.and_then(|notice| notice.latest.as_ref()) {
            tell(watchers, latest, out);
        }
    }

    /// Publications may have been lost: what is not final is asked for again.
    pub fn fetch_anew(&mut self, out: &mut Out) {
        for actor in self.refetch() {
            out.push(Effect::FetchActor {
                actor_id: actor.to_wire(),
            });
        }
    }
}

fn tell(watchers: &[ConnectionId], update: &ActorUpdate, out: &mut Out) {
    for watcher in watchers {
        out.notify(*watcher, Kind::ActorUpdate(update.clone()));
    }
}
