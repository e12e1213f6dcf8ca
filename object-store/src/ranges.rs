//! Ranges of the arena as types: what may be read is not written, and what may be written is nobody else's.
//!
//! ```text
//!  create answered ──► CreatingRange ── write(), write_made() ──► gone: the object may be sealed
//!                           │   │    split_off(): two of them
//!                           │   └────── in_place() ──► WritableRange ── commit() ──► gone: likewise
//!                           └────────── freeze() ───► SealedRange, pinned by the range itself
//!  get answered ─────► SealedRange ── &[u8], as long as it lives ──► dropped, and its pin with it
//! ```
//! Where an object lies is a pair of numbers ([`ObjectLocation`](crate::ObjectLocation)), which anybody may copy and
//! which say nothing about rights. To touch the bytes takes one of these types. Two rules hold for them:
//!
//! - `RANGE-1 (alone-while-written)`: while a [`CreatingRange`] (or the [`WritableRange`] it became) exists, nobody else reads
//!   or writes its bytes. It cannot be copied, and writing the whole of it uses it up: nothing is written after that.
//! - `RANGE-2 (unchanged-while-read)`: while a [`SealedRange`] exists, nobody writes its bytes. Slices of it are borrowed from
//!   it, and it holds the pin, so that no slice outlives the read reference.
//!
//! # Where the rules come from
//! Their constructors check the range against the arena: numbers that another process sent are checked there, once, and are
//! an [`ArenaError::OutOfBounds`] if they are wrong. What cannot be seen from the numbers is whether the object table granted
//! them, hence the constructors are `unsafe`: whoever got the table's answer vouches for it, and everything else is safe code.
//! What the answers are worth is the table's business: extents do not overlap (`OBJ-2`), an object has one writer, who alone
//! ends that (`OBJ-1`), after which the bytes never change (`OBJ-3`), and objects with readers stay where they are (`OBJ-4`);
//! those are checked after every step of its tests. So there are few places that vouch: where a worker reads the raylet's
//! answer, where the raylet reads its own store's, and where the store hands work to its threads.
//!
//! # What types cannot say
//! All processes of a node map one memory, and the types bind only the code that uses them, in this process. A process that
//! writes without having been granted the range, or after it sealed the object, changes bytes under a `&[u8]` of another one.
//! Its own mapping is read-only, so that a stray pointer faults instead (`OBJ-3`), but it could map the file anew. Processes
//! that get the file at all run as the same user, who could as well attach a debugger. Hence
//! - a reader decides nothing twice from the same bytes where memory safety depends on it: lengths are copied, then checked,
//!   then used;
//! - nobody can make a mapping fault: memory files are sealed against shrinking, and that is checked before they are mapped. Files
//!   on the disk cannot be sealed: whoever may cut them, or a disk that fails, can end the processes that read them. They are read
//!   in as a whole before a value is made of them, so that a disk that fails is an error.
#![allow(
    unsafe_code,
    reason = "slices of shared memory; the argument is in the module's documentation"
)]

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, Range};

use crate::arena::{ArenaError, check_range};
use crate::client::{ArenaMap, WritableRange};

/// A range that is being written: of an object that is being created, or read back from disk. See the [module](self).
///
/// ```
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, CreatingRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// // SAFETY: nobody else has this arena.
/// let range = unsafe { CreatingRange::new(&arena, 64, 5) }?;
/// range.write(&[b"he", b"llo"])?;
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
/// Bytes that are being written cannot be read:
/// ```compile_fail,E0608
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, CreatingRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// // SAFETY: nobody else has this arena.
/// let range = unsafe { CreatingRange::new(&arena, 64, 5) }?;
/// let first = range[0];
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
/// What is written is not written again: whoever has sealed it has nothing left to write with.
/// ```compile_fail,E0382
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, CreatingRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// // SAFETY: nobody else has this arena.
/// let range = unsafe { CreatingRange::new(&arena, 64, 5) }?;
/// range.write(&[b"he", b"llo"])?;
/// range.write(&[b"HE", b"LLO"])?;
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
/// And a range cannot be made of any two numbers, without vouching for them:
/// ```compile_fail,E0133
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, CreatingRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// let range = CreatingRange::new(&arena, 64, 5)?;
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
#[must_use = "an object that nobody writes has whatever bytes lay there"]
pub struct CreatingRange<A = ArenaMap> {
    arena: A,
    range: Range<usize>,
}

impl<A: Borrow<ArenaMap>> CreatingRange<A> {
    /// `len` bytes of the arena at `offset`, which the table granted to this client: all of an object.
    ///
    /// # Errors
    /// If they are not within the arena.
    ///
    /// # Safety
    /// RANGE-1: until the range is gone, nobody else reads or writes these bytes. That is so when the table answered a create
    /// of this client with them (`OBJ-1`, `OBJ-2`), a range is made of each answer once, and the client seals or aborts the
    /// object only when the range is gone.
    pub unsafe fn new(arena: A, offset: u64, len: u64) -> Result<Self, ArenaError> {
        let range = arena.borrow().checked(offset, len)?;
        Ok(Self { arena, range })
    }

    /// Length of the object in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.range.len() as u64
    }

    /// Copies `parts`, one after the other, into the object. They are all of it.
    pub fn write(mut self, parts: &[&[u8]]) -> Result<(), ArenaError> {
        self.fits(0, parts, |given, room| given == room)?;
        self.write_at(0, parts)
    }

    /// Has the object made where it lies, or nearly: `make` gives its bytes from a place of it on, whatever was there, and is asked for
    /// each byte once.
    pub fn write_made(self, make: &(dyn Fn(usize, &mut [u8]) + Sync)) -> Result<(), ArenaError> {
        let range = self.range.clone();
        // SAFETY: the range is the checked one, and this one's alone (RANGE-1).
        unsafe { self.arena.borrow().write_made(range, make) }
    }

    /// Copies `parts`, one after the other, to where the object has its byte `at`.
    pub fn write_at(&mut self, at: u64, parts: &[&[u8]]) -> Result<(), ArenaError> {
        let range = self.fits(at, parts, |given, room| given <= room)?;
        // SAFETY: the range is within the checked one, as long as the parts, and this range's alone (RANGE-1).
        unsafe { self.arena.borrow().write(range, parts) }
    }

    /// Takes the bytes from `at` on off this range: two that are written independently of each other.
    ///
    /// # Errors
    /// If it is shorter.
    pub fn split_off(&mut self, at: u64) -> Result<Self, ArenaError>
    where
        A: Clone,
    {
        let whole = self.len_bytes();
        let middle = usize::try_from(at)
            .ok()
            .filter(|_| at <= whole)
            .map(|at| self.range.start + at);
        let middle = middle.ok_or(ArenaError::NotItsSize {
            at,
            given_bytes: 0,
            object_bytes: whole,
        })?;
        let rest = Self {
            arena: self.arena.clone(),
            range: middle..self.range.end,
        };
        self.range.end = middle;
        Ok(rest)
    }

    /// Memory in which the object can be built. The bytes are in the object after [`WritableRange::commit`].
    pub fn in_place(self) -> Result<WritableRange<A>, ArenaError> {
        WritableRange::new(self)
    }

    /// What was written, to be looked at before anybody else does. Nobody writes it any more: there is nothing left to write
    /// with.
    pub fn freeze(self) -> Result<SealedRange<Self>, ArenaError> {
        let (arena, range) = (self.arena.borrow().clone(), self.range.clone());
        SealedRange::over(arena, range, self)
    }

    pub(crate) fn arena(&self) -> &ArenaMap {
        self.arena.borrow()
    }

    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The part of the range into which `parts` go from `at` on.
    fn fits(
        &self,
        at: u64,
        parts: &[&[u8]],
        is_right: impl Fn(u64, u64) -> bool,
    ) -> Result<Range<usize>, ArenaError> {
        let given_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let object_bytes = self.len_bytes();
        let room = object_bytes.checked_sub(at);
        if !room.is_some_and(|room| is_right(given_bytes, room)) {
            return Err(ArenaError::NotItsSize {
                at,
                given_bytes,
                object_bytes,
            });
        }
        let start = self.range.start + at as usize;
        Ok(start..start + given_bytes as usize)
    }
}

impl<A> fmt::Debug for CreatingRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CreatingRange").field(&self.range).finish()
    }
}

/// The bytes of a sealed object, and what keeps them where they are. See the [module](self).
///
/// The pin is anything whose drop gives the read reference back.
///
/// ```
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, CreatingRange, SealedRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// # let pin = ();
/// # unsafe { CreatingRange::new(&arena, 64, 5) }?.write(&[b"hello"])?;
/// // SAFETY: nobody else has this arena.
/// let object = unsafe { SealedRange::new(arena, 64, 5, pin) }?;
/// assert_eq!(&object[..2], b"he");
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
/// What is sealed cannot be written:
/// ```compile_fail,E0594
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, SealedRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// # let pin = ();
/// // SAFETY: nobody else has this arena.
/// let mut object = unsafe { SealedRange::new(arena, 64, 5, pin) }?;
/// object[0] = b'H';
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
/// And no slice of it outlives the pin:
/// ```compile_fail,E0505
/// # use aktis_object_store::arena::{Arena, ProcessLocalArena};
/// # use aktis_object_store::{ArenaMap, SealedRange};
/// # let arena = ArenaMap::from_handle(ProcessLocalArena::create(4096)?.handle()?)?;
/// # let pin = ();
/// // SAFETY: nobody else has this arena.
/// let object = unsafe { SealedRange::new(arena, 64, 5, pin) }?;
/// let slice: &[u8] = &object[..2];
/// drop(object);
/// assert_eq!(slice, b"he");
/// # Ok::<(), aktis_object_store::ArenaError>(())
/// ```
pub struct SealedRange<P> {
    range: Range<usize>,
    /// Given back before the mapping goes.
    pin: P,
    arena: ArenaMap,
}

impl<P> SealedRange<P> {
    /// `len` bytes of the arena at `offset`: a sealed object that stays there as long as `pin` is not dropped. If it fails,
    /// the pin is dropped.
    ///
    /// # Errors
    /// If they are not within the arena, or the system does not make them read-only.
    ///
    /// # Safety
    /// RANGE-2: until `pin` is dropped, nobody writes these bytes. That is so when the table answered a get of this client
    /// with them (`OBJ-3`), and the read reference that came with the answer is given back by nothing but this pin (`OBJ-4`).
    pub unsafe fn new(arena: ArenaMap, offset: u64, len: u64, pin: P) -> Result<Self, ArenaError> {
        let range = arena.checked(offset, len)?;
        Self::over(arena, range, pin)
    }

    /// The range is within the arena.
    fn over(arena: ArenaMap, range: Range<usize>, pin: P) -> Result<Self, ArenaError> {
        arena.close_for_reading(&range)?;
        Ok(Self { range, pin, arena })
    }

    /// What keeps the object.
    pub fn pin(&self) -> &P {
        &self.pin
    }

    /// Waits until these bytes of the object are read from the disk, if it lies on one. A disk that fails is an error here; where
    /// it fails a process that only touches the bytes, the system ends that process.
    ///
    /// # Errors
    /// When the disk does not give them, or the object does not have them.
    pub fn read_in(&self, bytes: Range<usize>) -> Result<(), ArenaError> {
        let object = self.range.len() as u64;
        let bytes = check_range(bytes.start as u64, bytes.len() as u64, object)?;
        let start = self.range.start + bytes.start;
        self.arena.read_in(&(start..start + bytes.len()))
    }
}

impl<P> Deref for SealedRange<P> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` or `CreatingRange::new` checked that the range is within the mapping.
        let start = unsafe { self.arena.base().add(self.range.start) };
        // SAFETY: the mapping lives as long as `self`, and nobody writes the bytes as long as the pin does (RANGE-2); a
        // frozen range is pinned by the only thing that could write it (RANGE-1).
        unsafe { std::slice::from_raw_parts(start, self.range.len()) }
    }
}

impl<P> AsRef<[u8]> for SealedRange<P> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<P> fmt::Debug for SealedRange<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SealedRange").field(&self.range).finish()
    }
}
