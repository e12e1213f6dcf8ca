//! What people and programs may know about the store.

use aktis_common::ids::ObjectId;

use super::ObjectTable;
use crate::core::object::{Class, ObjectEntry};
use crate::core::queue::MemoryRequest;
use crate::core::stats::{ObjectInfo, StoreStats, WaitingRequest};

impl ObjectTable {
    /// The store at this moment. Takes time in proportion to the number of waiting requests.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            objects: self.objects.len() as u64,
            capacity_bytes: self.allocator.capacity_bytes(),
            used_bytes: self.allocator.used_bytes(),
            largest_free_bytes: self.allocator.largest_free_bytes(),
            high_water_bytes: self.allocator.high_water(),
            pinned_by_readers_bytes: self.index.bytes(Class::Reading),
            creating_bytes: self.index.bytes(Class::Creating),
            spillable_bytes: self.index.bytes(Class::Spillable),
            evictable_bytes: self.index.bytes(Class::Evictable),
            spill_files: self.spill_files.count() as u64,
            spill_file_bytes: self.spill_files.total_bytes(),
            created_on_disk_bytes: self.totals.created_on_disk_bytes,
            mapped_objects: self.index.count(Class::Mapped),
            evicted_objects: self.totals.evicted_objects,
            spilled_bytes: self.totals.spilled_bytes,
            restored_bytes: self.totals.restored_bytes,
            spill_error: self.spill_block.as_ref().map(|block| block.reason.clone()),
            waiting: self.waiting(),
            waiting_gets: self
                .waiters
                .iter()
                .map(|(_, clients)| clients.len() as u64)
                .sum(),
        }
    }

    /// One object, or `None` if it is not here.
    pub fn info(&self, oid: ObjectId) -> Option<ObjectInfo> {
        self.objects.get(&oid).map(|entry| info(oid, entry))
    }

    /// All objects, in no order.
    pub fn objects(&self) -> impl Iterator<Item = ObjectInfo> + '_ {
        self.objects.iter().map(|(oid, entry)| info(*oid, entry))
    }

    fn waiting(&self) -> Vec<WaitingRequest> {
        let describe = |(position, request): (usize, MemoryRequest)| {
            let oid = request.oid();
            let entry = &self.objects[&oid];
            let client = entry.writer();
            let reason = self.waiting_reason(position);
            WaitingRequest {
                oid,
                client,
                size_bytes: entry.size_bytes,
                reason,
            }
        };
        self.queue.iter().enumerate().map(describe).collect()
    }

    fn waiting_reason(&self, position: usize) -> String {
        if position > 0 {
            return format!("waits behind {position} earlier request(s) for memory");
        }
        let spilling = self.index.count(Class::Spilling);
        if spilling > 0 {
            let bytes = self.index.bytes(Class::Spilling);
            return format!("waits for {spilling} object(s), {bytes} bytes, to be spilled to disk");
        }
        let readers_bytes = self.index.bytes(Class::Reading);
        let creating_bytes = self.index.bytes(Class::Creating);
        let why_no_spill = match &self.spill_block {
            Some(block) => format!("; spilling failed: {}", block.reason),
            None => String::new(),
        };
        format!(
            "waits for clients to release objects: {readers_bytes} bytes are being read, \
             {creating_bytes} bytes are being created, nothing can be evicted or spilled{why_no_spill}; \
             goes to the disk soon if it has room"
        )
    }
}

fn info(oid: ObjectId, entry: &ObjectEntry) -> ObjectInfo {
    ObjectInfo {
        oid,
        owner: entry.owner,
        size_bytes: entry.size_bytes,
        state: entry.state(),
        is_primary: entry.is_primary,
        reader_count: entry.reader_count,
    }
}
