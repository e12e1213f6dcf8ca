//! Scenarios of single decisions. Random event sequences are in `tests/table_properties.rs`.

mod departure;
mod disk;
mod on_disk;
mod pages;
mod room;
mod writing;

use std::time::Duration;

use aktis_common::ids::{ObjectId, WorkerId};

use super::{ObjectTable, TableConfig};
use crate::core::{
    BytesAt, ClientId, CreateAnswer, CreateError, Extent, FileLocation, GetAnswer, GetError,
    GoneReason, ObjectLocation, ObjectState, ReleaseError, RestoreFailure, SealError, SpillFileId,
    SpillSlot, StoreEffect, StoreReply,
};

const KB: u64 = 1024;
const CAPACITY: u64 = 1024 * KB;
const OWNER: WorkerId = WorkerId::new([7; 16]);
const A: ClientId = ClientId(1);
const B: ClientId = ClientId(2);
const GRACE: Duration = Duration::from_secs(5);

fn oid(number: u8) -> ObjectId {
    ObjectId::new([number; 20])
}

/// A table whose replies and disk work are at hand.
struct Fixture {
    table: ObjectTable,
    replies: Vec<StoreReply>,
    io: Vec<StoreEffect>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut TableConfig)) -> Self {
        let mut config = TableConfig {
            capacity_bytes: CAPACITY,
            page_bytes: 4 * KB,
            spill_limit_bytes: None,
            min_spill_batch_bytes: 64 * KB,
            max_spill_file_bytes: 256 * KB,
            full_grace: GRACE,
            idle_discard_after: Duration::from_secs(60),
            max_prefault_bytes: 0,
        };
        change(&mut config);
        Self {
            table: ObjectTable::new(config),
            replies: Vec::new(),
            io: Vec::new(),
        }
    }

    /// Sorts the effects, and checks the invariants.
    fn settle(&mut self) {
        for effect in self.table.drain_effects() {
            match effect {
                StoreEffect::Reply(reply) => self.replies.push(reply),
                other => self.io.push(other),
            }
        }
        self.table.check_invariants().unwrap();
    }

    fn replies(&mut self) -> Vec<StoreReply> {
        self.settle();
        std::mem::take(&mut self.replies)
    }

    fn io(&mut self) -> Vec<StoreEffect> {
        self.settle();
        std::mem::take(&mut self.io)
    }

    /// Does all disk work, until there is none.
    fn do_io(&mut self) {
        loop {
            let work = self.io();
            if work.is_empty() {
                return;
            }
            for effect in work {
                self.complete(effect);
            }
        }
    }

    fn complete(&mut self, effect: StoreEffect) {
        match effect {
            StoreEffect::WriteSpillFile { file, parts } => {
                let slots = parts
                    .iter()
                    .map(|part| slot(file, part.location.len))
                    .collect::<Vec<_>>();
                self.table.spill_written(file, Ok(slots));
            }
            StoreEffect::RestoreObject { oid, .. } => self.table.object_restored(oid, Ok(())),
            StoreEffect::CreateFile { file, .. } => self.table.file_created(file, Ok(())),
            StoreEffect::CheckObject { oid, checksum, .. } => {
                self.table.object_checked(oid, Ok(checksum.unwrap_or(0)));
            }
            StoreEffect::PopulatePages { extent } => self.table.pages_populated(extent),
            StoreEffect::DiscardPages { extent } => self.table.pages_discarded(extent),
            StoreEffect::DeleteSpillFile { .. } | StoreEffect::Reply(_) => {}
        }
    }

    fn create(&mut self, number: u8, size: u64) -> Result<CreateAnswer, CreateError> {
        let answer = self.table.create(A, oid(number), OWNER, size, true);
        self.settle();
        answer
    }

    fn put(&mut self, number: u8, size: u64, is_primary: bool) {
        let answer = self
            .table
            .create(A, oid(number), OWNER, size, is_primary)
            .unwrap();
        assert!(
            matches!(answer, CreateAnswer::Created(_)),
            "room for {number}"
        );
        self.table.seal(A, oid(number)).unwrap();
        self.settle();
    }

    /// The same, when others have to be spilled first.
    fn put_after_spilling(&mut self, number: u8, size: u64) {
        assert_eq!(self.create(number, size), Ok(CreateAnswer::Pending));
        self.do_io();
        assert_eq!(created(&self.replies()), [(oid(number), true)]);
        self.table.seal(A, oid(number)).unwrap();
        self.settle();
    }

    fn get(&mut self, number: u8) -> Result<GetAnswer, GetError> {
        let answer = self.table.get(B, oid(number));
        self.settle();
        answer
    }

    fn read(&mut self, number: u8) -> ObjectLocation {
        match self.get(number).unwrap() {
            GetAnswer::Ready(BytesAt::Arena(location)) => location,
            answer => panic!("object {number} is not ready: {answer:?}"),
        }
    }

    fn state(&self, number: u8) -> Option<ObjectState> {
        self.table.state(oid(number))
    }
}

fn slot(file: SpillFileId, len: u64) -> SpillSlot {
    SpillSlot {
        file,
        file_offset: 0,
        len,
        checksum: Some(0),
    }
}

fn created(replies: &[StoreReply]) -> Vec<(ObjectId, bool)> {
    let created = replies.iter().filter_map(|reply| match reply {
        StoreReply::Created { oid, result, .. } => Some((*oid, result.is_ok())),
        _ => None,
    });
    created.collect()
}

fn replies_text(replies: &[StoreReply]) -> String {
    let errors = replies.iter().filter_map(|reply| match reply {
        StoreReply::Created {
            result: Err(error), ..
        } => Some(error.to_string()),
        _ => None,
    });
    errors.collect()
}
