//! What ends objects and references: owners that let go, clients and owners that are gone.

use aktis_common::ids::{ObjectId, WorkerId};

use super::ObjectTable;
use crate::core::object::Residence;
use crate::core::request::{ClientId, GetError};

impl ObjectTable {
    /// The owner of `oid` has no references left. Its memory is used again when the last reader
    /// has released it. Gets that wait for it fail. False if it was not here.
    pub fn free(&mut self, oid: ObjectId) -> bool {
        let is_known = self.free_one(oid);
        self.pump();
        is_known
    }

    /// Everything that `client` held is released: its reads, its half-made objects and its
    /// waiting requests (`OBJ-7 (gone-client-leaves-nothing)`).
    ///
    /// The caller makes sure that the client's process does not write any more: it is dead, or
    /// its half of the connection has promised so.
    pub fn client_gone(&mut self, client: ClientId) {
        for oid in self.waiters.take_client(client) {
            self.forget_unwanted_restore(oid);
        }
        for (oid, _) in self.writes.take_client(client) {
            self.abandon(client, oid);
        }
        for (oid, count) in self.reads.take_client(client) {
            self.drop_readers(oid, count);
        }
        self.pump();
    }

    /// Frees all objects of an owner that is gone; returns how many there were.
    pub fn owner_gone(&mut self, owner: WorkerId) -> usize {
        let mut objects: Vec<ObjectId> = self
            .by_owner
            .get(&owner)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        objects.sort_unstable();
        for &oid in &objects {
            self.free_one(oid);
        }
        self.pump();
        objects.len()
    }

    fn free_one(&mut self, oid: ObjectId) -> bool {
        self.answer_failed(oid, &GetError::Freed { oid });
        self.forget_unwanted_restore(oid);
        let Some(entry) = self.objects.get_mut(&oid) else {
            return false;
        };
        entry.is_freed = true;
        debug_assert!(!matches!(entry.residence, Residence::RestoreQueued { .. }));
        self.drop_if_unused(oid);
        true
    }
}
