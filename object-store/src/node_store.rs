//! The store as a node embeds it: the table, the arena and the threads that do its input and
//! output, behind methods that never block.
//!
//! One thread owns the [`NodeStore`]. It calls a method per client request and gets the answer
//! at once, or `Pending`, in which case the answer comes later through `notify`. Results of
//! background work arrive on other threads by `forward`, which is to carry them to the owning
//! thread, where they are given to [`NodeStore::on_io`]. A few times a second the owner calls
//! [`NodeStore::on_tick`].
//!
//! Two rules for `notify`: it is called on the owning thread while the store is borrowed, so it
//! queues what it gets; and a request's late answer may come before the call that made the request
//! has returned `Pending`.
//!
//! ```
//! use std::sync::mpsc;
//! use std::time::{Duration, Instant};
//!
//! use aktis_common::ids::{ObjectId, WorkerId};
//! use aktis_object_store::{
//!     ArenaMap, BytesAt, ClientId, CreateAnswer, CreatingRange, GetAnswer, SealedRange, StoreConfig,
//!     NodeStore, StoreReply,
//! };
//!
//! let (io_sender, io_receiver) = mpsc::channel();
//! let (reply_sender, replies) = mpsc::channel::<StoreReply>();
//! let mut store = NodeStore::new(
//!     StoreConfig::new(64 << 20),
//!     move |done| drop(io_sender.send(done)),
//!     move |reply| drop(reply_sender.send(reply)),
//! )?;
//!
//! // A client: maps the arena once, creates, writes, seals.
//! let arena = ArenaMap::from_handle(store.arena_handle()?)?;
//! let (writer, reader, oid) = (ClientId(1), ClientId(2), ObjectId::for_put());
//! assert_eq!(store.get(reader, oid)?, GetAnswer::Pending);
//! let CreateAnswer::Created(place) = store.create(writer, oid, WorkerId::random(), 5, true)?
//! else { unreachable!("an empty store has room") };
//! // SAFETY: the place was just granted, and the object is sealed after the range is used up.
//! let range = unsafe { CreatingRange::new(&arena, place.offset, place.len) }?;
//! range.write(&[b"he", b"llo"])?;
//! store.seal(writer, oid)?;
//!
//! // The reader was waiting: its answer came through `notify`.
//! let StoreReply::Got { result: Ok(at), .. } = replies.recv()? else { unreachable!() };
//! let BytesAt::Arena(place) = at else { unreachable!("there is room in memory") };
//! // SAFETY: the reader holds a reference, which is given back below, when the range is gone.
//! let object = unsafe { SealedRange::new(store.map().clone(), place.offset, place.len, ()) }?;
//! assert_eq!(&*object, b"hello");
//! drop(object);
//! store.release(reader, oid)?;
//! store.free(oid);
//!
//! // The owning loop, between requests:
//! while let Ok(done) = io_receiver.try_recv() {
//!     store.on_io(done);
//! }
//! store.on_tick(Instant::now());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(
    unsafe_code,
    reason = "vouches for the ranges that the table hands to the threads"
)]

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use aktis_common::checks::{Broken, Lookout, insist};
use aktis_common::ids::{ObjectId, WorkerId};

use crate::arena::{Arena, ArenaError, ArenaHandle, NamedArena, ProcessLocalArena, page_bytes};
use crate::client::ArenaMap;
use crate::config::{ArenaBackend, StoreConfig};
use crate::core::{
    BytesAt, ClientId, CreateAnswer, CreateError, Extent, FileLocation, GetAnswer, GetError,
    ObjectInfo, ObjectLocation, ObjectState, ObjectTable, ReleaseError, SealError, StoreEffect,
    StoreReply, StoreStats, TableConfig,
};
use crate::error::StoreOpenError;
use crate::io::{
    HeldByTable, IdlePages, IoJob, IoOutcome, IoPool, MinFree, SpillFolder, Workplace,
};
use crate::ranges::{CreatingRange, SealedRange};

/// A batch to spill, and memory to make ready, is at most this share of the store.
const MAX_SHARE_AT_ONCE: u64 = 8;

/// The outcome of background work, to be given to [`NodeStore::on_io`].
#[derive(Debug)]
pub struct IoDone(IoOutcome);

/// See the [module](self).
pub struct NodeStore {
    table: ObjectTable,
    arena: Box<dyn Arena>,
    map: ArenaMap,
    spill_folder: Option<SpillFolder>,
    /// Reads and writes spill files.
    files: IoPool,
    /// Makes pages ready and gives them back. One thread, apart from the files: it is quick, and
    /// must not wait for a disk.
    pages: IoPool,
    notify: Box<dyn Fn(StoreReply) + Send>,
    started: Instant,
    lookout: Lookout,
}

impl fmt::Debug for NodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStore")
            .field("table", &self.table)
            .field("arena", &self.arena)
            .field("spill_folder", &self.spill_folder)
            .finish_non_exhaustive()
    }
}

impl NodeStore {
    /// Opens a store. `forward` gets the outcome of background work, on a background thread;
    /// `notify` gets late answers and news, on the thread that owns the store.
    pub fn new(
        config: StoreConfig,
        forward: impl Fn(IoDone) + Send + Sync + 'static,
        notify: impl Fn(StoreReply) + Send + 'static,
    ) -> Result<Self, StoreOpenError> {
        let arena = create_arena(&config)?;
        let spill_folder = open_spill_folder(&config)?;
        let table = ObjectTable::new(table_config(&config, arena.len_bytes()));
        let workplace = Workplace {
            memory: Arc::clone(arena.memory()),
            folder: spill_folder.clone(),
        };
        let done: Arc<dyn Fn(IoOutcome) + Send + Sync> =
            Arc::new(move |outcome| forward(IoDone(outcome)));
        let start = |name, threads| {
            IoPool::start(name, threads, &workplace, &done).map_err(StoreOpenError::Threads)
        };
        Ok(Self {
            table,
            spill_folder,
            files: start("aktis-spill", config.io_threads.max(1))?,
            pages: start("aktis-prefault", 1)?,
            map: ArenaMap::from_memory(Arc::clone(arena.memory())),
            arena,
            notify: Box::new(notify),
            started: Instant::now(),
            lookout: Lookout::new(config.checks),
        })
    }

    /// What a client needs to map the arena.
    pub fn arena_handle(&self) -> Result<ArenaHandle, ArenaError> {
        self.arena.handle()
    }

    /// See [`ObjectTable::create`].
    pub fn create(
        &mut self,
        client: ClientId,
        oid: ObjectId,
        owner: WorkerId,
        size_bytes: u64,
        is_primary: bool,
    ) -> Result<CreateAnswer, CreateError> {
        self.drive(|table| table.create(client, oid, owner, size_bytes, is_primary))
    }

    /// See [`ObjectTable::seal`].
    pub fn seal(&mut self, client: ClientId, oid: ObjectId) -> Result<(), SealError> {
        self.drive(|table| table.seal(client, oid))
    }

    /// See [`ObjectTable::abort`].
    pub fn abort(&mut self, client: ClientId, oid: ObjectId) -> Result<(), SealError> {
        self.drive(|table| table.abort(client, oid))
    }

    /// See [`ObjectTable::get`].
    pub fn get(&mut self, client: ClientId, oid: ObjectId) -> Result<GetAnswer, GetError> {
        self.drive(|table| table.get(client, oid))
    }

    /// See [`ObjectTable::cancel_get`].
    pub fn cancel_get(&mut self, client: ClientId, oid: ObjectId) -> bool {
        self.drive(|table| table.cancel_get(client, oid))
    }

    /// See [`ObjectTable::release`].
    pub fn release(&mut self, client: ClientId, oid: ObjectId) -> Result<(), ReleaseError> {
        self.drive(|table| table.release(client, oid))
    }

    /// See [`ObjectTable::free`].
    pub fn free(&mut self, oid: ObjectId) -> bool {
        self.drive(|table| table.free(oid))
    }

    /// See [`ObjectTable::client_gone`].
    pub fn client_gone(&mut self, client: ClientId) {
        self.drive(|table| table.client_gone(client));
    }

    /// See [`ObjectTable::owner_gone`].
    pub fn owner_gone(&mut self, owner: WorkerId) -> usize {
        self.drive(|table| table.owner_gone(owner))
    }

    /// Takes in the outcome of background work.
    pub fn on_io(&mut self, done: IoDone) {
        self.drive(|table| match done.0 {
            IoOutcome::SpillWritten { file, result } => table.spill_written(file, result),
            IoOutcome::ObjectRestored { oid, result } => table.object_restored(oid, result),
            IoOutcome::FileCreated { file, result } => table.file_created(file, result),
            IoOutcome::ObjectChecked { oid, result } => table.object_checked(oid, result),
            IoOutcome::PagesPopulated { extent } => table.pages_populated(extent),
            IoOutcome::PagesDiscarded { extent } => table.pages_discarded(extent),
        });
    }

    /// To be called a few times a second: only here do requests fail for which no room can be
    /// made, and is idle memory given back.
    pub fn on_tick(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started);
        self.drive(|table| table.on_tick(elapsed));
    }

    /// The file of an object that is read or written on the disk: clients map it. It stays as long as they hold the object.
    ///
    /// # Panics
    /// For a place that the store did not give.
    pub fn file_of(&self, place: FileLocation) -> PathBuf {
        let folder = self.spill_folder.as_ref();
        let folder = folder.expect("without a spill folder nothing lies in files");
        folder.path_of(place.file)
    }

    /// The arena as this process maps it.
    pub fn map(&self) -> &ArenaMap {
        &self.map
    }

    /// What this process maps to write an object that it creates, and where in it the object lies.
    ///
    /// # Errors
    /// When the file of one on the disk cannot be mapped.
    pub fn map_for_writing(&self, at: BytesAt) -> Result<(ArenaMap, ObjectLocation), ArenaError> {
        match at {
            BytesAt::Arena(place) => Ok((self.map.clone(), place)),
            BytesAt::File(place) => {
                let map = ArenaMap::of_new_file(&self.file_of(place))?;
                let FileLocation { offset, len, .. } = place;
                Ok((map, ObjectLocation { offset, len }))
            }
        }
    }

    /// Whether the object's bytes can be had from this node.
    pub fn contains(&self, oid: ObjectId) -> bool {
        self.table.contains(oid)
    }

    /// The state of an object, or `None` if it is not here.
    pub fn state(&self, oid: ObjectId) -> Option<ObjectState> {
        self.table.state(oid)
    }

    /// One object, or `None` if it is not here.
    pub fn info(&self, oid: ObjectId) -> Option<ObjectInfo> {
        self.table.info(oid)
    }

    /// All objects, in no order.
    pub fn objects(&self) -> impl Iterator<Item = ObjectInfo> + '_ {
        self.table.objects()
    }

    /// The store at this moment.
    pub fn stats(&self) -> StoreStats {
        self.table.stats()
    }

    /// See [`ObjectTable::check_invariants`].
    pub fn check_invariants(&self) -> Result<(), Broken> {
        self.table.check_invariants()
    }

    /// One step: event in, effects out.
    fn drive<T>(&mut self, event: impl FnOnce(&mut ObjectTable) -> T) -> T {
        let answer = event(&mut self.table);
        if self.lookout.is_due(self.started.elapsed()) {
            insist(self.table.check_invariants());
        }
        for effect in self.table.drain_effects() {
            self.carry_out(effect);
        }
        answer
    }

    fn carry_out(&self, effect: StoreEffect) {
        match effect {
            StoreEffect::Reply(reply) => (self.notify)(reply),
            StoreEffect::WriteSpillFile { file, parts } => {
                let parts = parts.iter().map(|part| self.being_spilled(part.location));
                let parts = parts.collect();
                self.files.submit(IoJob::WriteSpillFile { file, parts });
            }
            StoreEffect::RestoreObject { oid, slot, offset } => {
                let place = self.being_restored(offset, slot.len);
                self.files.submit(IoJob::RestoreObject { oid, slot, place });
            }
            StoreEffect::CreateFile { file, len } => {
                self.files.submit(IoJob::CreateFile { file, len });
            }
            StoreEffect::CheckObject {
                oid,
                place,
                checksum,
            } => {
                self.files.submit(IoJob::CheckObject {
                    oid,
                    place,
                    checksum,
                });
            }
            StoreEffect::DeleteSpillFile { file } => {
                self.files.submit(IoJob::DeleteSpillFile { file });
            }
            StoreEffect::PopulatePages { extent } => {
                self.pages.submit(IoJob::PopulatePages { extent });
            }
            StoreEffect::DiscardPages { extent } => {
                let pages = self.idle(extent);
                self.pages.submit(IoJob::DiscardPages { pages });
            }
        }
    }

    /// An object that the table wants written to disk.
    fn being_spilled(&self, place: ObjectLocation) -> SealedRange<HeldByTable> {
        // SAFETY: the object is sealed and stays where it is until the table is told that it is written, which is after the
        // job has dropped the range: RANGE-2 (unchanged-while-read), from OBJ-3 and the state `Spilling`.
        let range =
            unsafe { SealedRange::new(self.map.clone(), place.offset, place.len, HeldByTable) };
        range.expect("objects lie in the arena: OBJ-2 (no-overlap)")
    }

    /// Where the table wants an object read back.
    fn being_restored(&self, offset: u64, len: u64) -> CreatingRange {
        // SAFETY: the extent is the object's, whose readers wait until the table is told that it is restored, which is after
        // the job has dropped the range: RANGE-1 (alone-while-written), from OBJ-2 and the state `Restoring`.
        let range = unsafe { CreatingRange::new(self.map.clone(), offset, len) };
        range.expect("objects lie in the arena: OBJ-2 (no-overlap)")
    }

    /// Pages that the table has reserved to be given back.
    fn idle(&self, extent: Extent) -> IdlePages {
        // SAFETY: the extent is reserved until the table is told that it is discarded, and no object lies there: RANGE-1
        // (alone-while-written), from OBJ-2.
        unsafe { IdlePages::new(Arc::clone(self.arena.memory()), extent) }
    }
}

impl Drop for NodeStore {
    fn drop(&mut self) {
        self.files.finish();
        self.pages.finish();
        if let Some(folder) = &self.spill_folder
            && let Err(error) = folder.remove()
        {
            tracing::warn!(?folder, %error, "spill files stay behind");
        }
    }
}

fn create_arena(config: &StoreConfig) -> Result<Box<dyn Arena>, StoreOpenError> {
    let len_bytes = config.capacity_bytes;
    match config.backend {
        #[cfg(target_os = "linux")]
        ArenaBackend::Memfd => {
            let arena = crate::arena::MemfdArena::create(len_bytes);
            Ok(Box::new(arena.map_err(StoreOpenError::Arena)?))
        }
        #[cfg(not(target_os = "linux"))]
        ArenaBackend::Memfd => Err(StoreOpenError::NoBackend { backend: "memfd" }),
        ArenaBackend::Named => Ok(Box::new(
            NamedArena::create(len_bytes).map_err(StoreOpenError::Arena)?,
        )),
        ArenaBackend::ProcessLocal => Ok(Box::new(
            ProcessLocalArena::create(len_bytes).map_err(StoreOpenError::Arena)?,
        )),
    }
}

fn open_spill_folder(config: &StoreConfig) -> Result<Option<SpillFolder>, StoreOpenError> {
    let min_free = MinFree {
        fraction: config.min_free_disk_fraction,
        bytes: config.min_free_disk_bytes,
    };
    let open = |path: &PathBuf| {
        SpillFolder::open(path, min_free).map_err(|source| StoreOpenError::SpillFolder {
            path: path.clone(),
            source,
        })
    };
    config.spill_dir.as_ref().map(open).transpose()
}

fn table_config(config: &StoreConfig, capacity_bytes: u64) -> TableConfig {
    let max_at_once = capacity_bytes / MAX_SHARE_AT_ONCE;
    TableConfig {
        capacity_bytes,
        page_bytes: page_bytes(),
        spill_limit_bytes: match config.spill_dir {
            Some(_) => config.spill_limit_bytes,
            None => Some(0),
        },
        min_spill_batch_bytes: config.min_spill_batch_bytes.min(max_at_once),
        max_spill_file_bytes: config.max_spill_file_bytes,
        full_grace: config.full_grace,
        idle_discard_after: config.idle_discard_after,
        max_prefault_bytes: config.max_prefault_bytes.min(max_at_once),
    }
}
