//! Who holds how many of which object.

use aktis_common::ids::ObjectId;
use rustc_hash::FxHashMap;

use super::request::ClientId;

/// A count per client and object. Clients and objects with a count of zero take no memory.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    by_client: FxHashMap<ClientId, FxHashMap<ObjectId, u64>>,
}

impl ClientCounts {
    pub(crate) fn add(&mut self, client: ClientId, oid: ObjectId) {
        *self
            .by_client
            .entry(client)
            .or_default()
            .entry(oid)
            .or_default() += 1;
    }

    /// Takes one away; false if there is none.
    pub(crate) fn remove_one(&mut self, client: ClientId, oid: ObjectId) -> bool {
        let Some(objects) = self.by_client.get_mut(&client) else {
            return false;
        };
        let Some(count) = objects.get_mut(&oid) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            objects.remove(&oid);
            if objects.is_empty() {
                self.by_client.remove(&client);
            }
        }
        true
    }

    /// Takes everything of a client away.
    pub(crate) fn take_client(&mut self, client: ClientId) -> Vec<(ObjectId, u64)> {
        let mut objects: Vec<_> = self
            .by_client
            .remove(&client)
            .unwrap_or_default()
            .into_iter()
            .collect();
        objects.sort_unstable();
        objects
    }

    /// Every count, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientId, ObjectId, u64)> + '_ {
        self.by_client.iter().flat_map(|(&client, objects)| {
            objects
                .iter()
                .map(move |(&oid, &count)| (client, oid, count))
        })
    }
}
