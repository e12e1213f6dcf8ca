//! What a frame carries beside its header: ranges of bytes, aligned for those who read them in place.
//!
//! What the ranges mean is for the sender and the receiver of the frame; a lane neither looks into them nor copies long ones.

use std::ops::Range;

use bytes::Bytes;

use crate::buffer::{PART_ALIGNMENT, aligned_copy};

/// Rounds up to the next multiple of [`PART_ALIGNMENT`].
#[inline]
pub const fn align_up(position: usize) -> usize {
    (position + PART_ALIGNMENT - 1) & !(PART_ALIGNMENT - 1)
}

/// Bytes up to this many are copied together instead of being written from where they lie.
const COPY_BELOW_BYTES: usize = 16 << 10;

/// The payload of a frame: short ranges copied together, long ones shared.
#[derive(Debug, Clone, Default)]
pub struct PayloadParts {
    copied: Vec<u8>,
    /// Long ranges, each with the number of copied bytes that go before it.
    shared: Vec<(usize, Bytes)>,
    len_bytes: usize,
}

/// A range of a payload.
#[derive(Debug, Clone, Copy)]
pub enum PayloadPart<'a> {
    /// Bytes that were short enough to be copied together.
    Copied(&'a [u8]),
    /// Bytes that lie where they were.
    Shared(&'a Bytes),
}

impl<'a> PayloadPart<'a> {
    /// Its bytes.
    #[inline]
    pub fn as_slice(self) -> &'a [u8] {
        match self {
            Self::Copied(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl PayloadParts {
    /// Bytes so far.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The ranges in order.
    #[inline]
    pub fn parts(&self) -> impl Iterator<Item = PayloadPart<'_>> {
        let mut begin = 0;
        let pairs = self.shared.iter().flat_map(move |(end, bytes)| {
            let copied = &self.copied[std::mem::replace(&mut begin, *end)..*end];
            [PayloadPart::Copied(copied), PayloadPart::Shared(bytes)]
        });
        let last = self.shared.last().map_or(0, |(end, _)| *end);
        pairs.chain(std::iter::once(PayloadPart::Copied(&self.copied[last..])))
    }

    /// All bytes in one piece.
    pub fn concat(&self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len_bytes);
        for part in self.parts() {
            whole.extend_from_slice(part.as_slice());
        }
        whole
    }

    /// Appends a copy of these bytes.
    #[inline]
    pub fn push(&mut self, slice: &[u8]) {
        self.len_bytes += slice.len();
        self.copied.extend_from_slice(slice);
    }

    /// Appends these bytes; long ones are written from where they lie.
    #[inline]
    pub fn push_shared(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPY_BELOW_BYTES {
            return self.push(bytes);
        }
        self.len_bytes += bytes.len();
        self.shared.push((self.copied.len(), bytes.clone()));
    }

    /// Pads up to the next multiple of [`PART_ALIGNMENT`].
    #[inline]
    pub fn align(&mut self) {
        const ZEROS: [u8; PART_ALIGNMENT] = [0; PART_ALIGNMENT];
        let padding = align_up(self.len_bytes) - self.len_bytes;
        self.push(&ZEROS[..padding]);
    }
}

impl From<Vec<u8>> for PayloadParts {
    fn from(bytes: Vec<u8>) -> Self {
        let mut payload = Self::default();
        payload.push_shared(&bytes.into());
        payload
    }
}

/// A payload as it was received: short ones still lie in the memory that the socket was read into.
#[derive(Debug)]
pub enum Payload<'a> {
    /// Where the socket was read into; to be copied.
    Borrowed(&'a [u8]),
    /// In memory of its own, or in a slot that the sender shares.
    Owned(Bytes),
}

impl Payload<'_> {
    /// Its length in bytes.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Borrowed(slice) => slice.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// The bytes, to be kept. Aligned for numpy and Arrow.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed([]) => Bytes::new(),
            Self::Borrowed(slice) => aligned_copy(slice),
            Self::Owned(bytes) => bytes,
        }
    }

    /// A part of it, to be kept. Aligned for numpy and Arrow where `range` begins at a multiple of [`PART_ALIGNMENT`].
    #[inline]
    pub fn bytes(&self, range: Range<usize>) -> Bytes {
        match self {
            Self::Borrowed(slice) => aligned_copy(&slice[range]),
            Self::Owned(bytes) => bytes.slice(range),
        }
    }
}
