//! Gets that wait for an object, first come first served.

use std::collections::VecDeque;

use aktis_common::ids::ObjectId;
use rustc_hash::FxHashMap;

use super::client_counts::ClientCounts;
use super::request::ClientId;

#[derive(Debug, Default)]
pub(crate) struct GetWaiters {
    by_object: FxHashMap<ObjectId, VecDeque<ClientId>>,
    by_client: ClientCounts,
}

impl GetWaiters {
    pub(crate) fn push(&mut self, client: ClientId, oid: ObjectId) {
        self.by_object.entry(oid).or_default().push_back(client);
        self.by_client.add(client, oid);
    }

    /// Takes all that wait for `oid`.
    pub(crate) fn take_object(&mut self, oid: ObjectId) -> VecDeque<ClientId> {
        let clients = self.by_object.remove(&oid).unwrap_or_default();
        for &client in &clients {
            self.by_client.remove_one(client, oid);
        }
        clients
    }

    /// Takes the youngest get of `client` for `oid`; false if there is none.
    pub(crate) fn remove_one(&mut self, client: ClientId, oid: ObjectId) -> bool {
        if !self.by_client.remove_one(client, oid) {
            return false;
        }
        let clients = self
            .by_object
            .get_mut(&oid)
            .expect("both indexes hold the same gets");
        let position = clients.iter().rposition(|c| *c == client);
        clients.remove(position.expect("both indexes hold the same gets"));
        if clients.is_empty() {
            self.by_object.remove(&oid);
        }
        true
    }

    /// Takes all gets of `client`; returns the objects it waited for.
    pub(crate) fn take_client(&mut self, client: ClientId) -> Vec<ObjectId> {
        let objects = self.by_client.take_client(client);
        for (oid, _) in &objects {
            if let Some(clients) = self.by_object.get_mut(oid) {
                clients.retain(|c| *c != client);
                if clients.is_empty() {
                    self.by_object.remove(oid);
                }
            }
        }
        objects.into_iter().map(|(oid, _)| oid).collect()
    }

    pub(crate) fn count(&self, oid: ObjectId) -> usize {
        self.by_object.get(&oid).map_or(0, VecDeque::len)
    }

    /// Every object that is waited for, with who waits, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ObjectId, &VecDeque<ClientId>)> + '_ {
        self.by_object.iter().map(|(oid, clients)| (*oid, clients))
    }
}
