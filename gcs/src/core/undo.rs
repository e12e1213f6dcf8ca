//! Takes promises back that the storage did not keep (`GCS-1`).
//!
//! Nobody has heard of what is undone here: its effects were not carried out, and nothing else happened in between but the
//! rest of its batch.

use aktis_common::ids::ActorId;
use aktis_common::resources::ResourceRequest;
use aktis_proto::v1::{CreateActorRequest, KvPutRequest, publication::Kind};
use bytes::Bytes;

use super::keys::events::split_claim;
use super::{Effect, GcsCore, Table};

impl GcsCore {
    /// How to take back what [`Self::create_actor`] is about to do with this request.
    pub fn undo_of_creation(
        &self,
        request: &CreateActorRequest,
    ) -> impl FnOnce(&mut Self) + Send + use<> {
        let spec = request.spec.as_ref();
        let id = spec.and_then(|spec| ActorId::from_bytes(&spec.actor_id).ok());
        // A request that was sent again finds its actor, which stays.
        let made = id.filter(|id| self.actors.get(*id).is_none());
        move |core| {
            if let Some(actor) = made {
                core.unmake_actor(actor);
            }
        }
    }

    /// How to take back what [`Self::kv_put`] is about to do with this request.
    pub fn undo_of_put(&self, request: &KvPutRequest) -> impl FnOnce(&mut Self) + Send + use<> {
        let key = request.key.clone();
        let before = self.kv.row(&key).cloned();
        move |core| core.kv.put_back(key, before)
    }

    fn unmake_actor(&mut self, actor: ActorId) {
        self.waiting.remove(&actor);
        self.reasons.remove(&actor);
        self.displacing.forget(actor);
        let Some(record) = self.actors.remove(actor) else {
            return;
        };
        if let Some(node) = record.phase.node() {
            self.nodes.unbook(node, actor, &ResourceRequest::default());
        }
        self.is_placing_due = true;
    }

    /// Whether an effect is about an actor that was unmade.
    pub fn is_void(&self, effect: &Effect) -> bool {
        match effect {
            Effect::StartActor { actor, .. } => self.actors.get(*actor).is_none(),
            Effect::Publish(publication) => match &publication.kind {
                Some(Kind::Actor(update)) => self.is_unknown(&update.actor_id),
                _ => false,
            },
            Effect::KillWorker { .. } | Effect::Persist(_) => false,
        }
    }

    /// What a row that the storage does not have yet ought to be, once promises were taken back.
    pub fn owed_row(&self, table: Table, key: &Bytes, value: Option<Bytes>) -> Option<Bytes> {
        match table {
            Table::KeyValues => self.kv.get(key),
            Table::KeyJobs => {
                let (job, key) = split_claim(key)?;
                let row = self.kv.row(&key)?;
                row.jobs.contains(&job).then(Bytes::new)
            }
            Table::Actors if self.is_unknown(key) => None,
            Table::Meta | Table::Nodes | Table::Jobs | Table::Actors => value,
        }
    }

    fn is_unknown(&self, actor: &[u8]) -> bool {
        ActorId::from_bytes(actor).is_ok_and(|id| self.actors.get(id).is_none())
    }
}
