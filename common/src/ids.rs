//! Typed identifiers. Every identifier is a fixed number of bytes, made without coordination.
//!
//! ```text
//! NodeId, WorkerId, ActorId, JobId   16 bytes  random
//! TaskId                             16 bytes  8 random bytes of the process | u64 counter, little endian
//! ObjectId                           20 bytes  TaskId of the creating task   | u32 return index, little endian
//! ```
//! An object made by `put` gets a task id of its own with return index 0.

use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

pub use crate::session_id::{InvalidSessionId, SessionId};

/// Bytes that are not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} has {expected} bytes, got {actual}")]
pub struct InvalidId {
    kind: &'static str,
    expected: usize,
    actual: usize,
}

/// Hashes identifiers so that numbers that follow each other lie beside each other in a table: what a process makes in a row
/// it also looks up in a row, and finds it in the processor's caches. Other keys are not for this hasher.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

/// Makes [`IdHasher`]s.
pub type IdBuildHasher = BuildHasherDefault<IdHasher>;

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The upper seven bits tell entries of one group of a table apart, the lower ones are the place in it.
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^ (mixed & 0xfe00_0000_0000_0000)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(5) ^ word;
    }
}

/// The bytes of an identifier folded into one word: both halves of the task, and the return index.
fn word_of(bytes: &[u8]) -> u64 {
    let half = |at: usize| {
        let half = bytes[at..at + 8].try_into();
        u64::from_le_bytes(half.expect("eight bytes"))
    };
    let index = bytes.get(16..20).map_or(0, |index| {
        u32::from_le_bytes(index.try_into().expect("four bytes"))
    });
    half(0) ^ half(8) ^ (u64::from(index) << 40)
}

macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name([u8; $len]);

        impl Hash for $name {
            /// One word: identifiers are random, or numbered, so that their bytes need no mixing of their own.
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write_u64(word_of(&self.0));
            }
        }

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// The identifier that stands for "none".
            pub const NIL: Self = Self([0; $len]);

            /// The identifier with exactly these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Reads an identifier from the wire.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                let array = <[u8; $len]>::try_from(bytes).map_err(|_| InvalidId {
                    kind: stringify!($name),
                    expected: $len,
                    actual: bytes.len(),
                })?;
                Ok(Self(array))
            }

            /// Reads an identifier from lower-case hexadecimal.
            pub fn from_hex(text: &str) -> Result<Self, InvalidId> {
                let wrong_length =
                    || InvalidId { kind: stringify!($name), expected: $len, actual: text.len() / 2 };
                let digits = text.as_bytes();
                if digits.len() != 2 * $len {
                    return Err(wrong_length());
                }
                let mut bytes = [0u8; $len];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    let pair = text.get(2 * index..2 * index + 2).ok_or_else(wrong_length)?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong_length())?;
                }
                Ok(Self(bytes))
            }

            /// The raw bytes, as they travel.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The raw bytes for a protobuf field.
            pub fn to_wire(self) -> bytes::Bytes {
                bytes::Bytes::copy_from_slice(&self.0)
            }

            /// Whether this is [`Self::NIL`].
            pub fn is_nil(&self) -> bool {
                self.0 == [0; $len]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

define_id!(
    /// A node: one incarnation of one raylet.
    NodeId,
    16
);
define_id!(
    /// A driver or worker process.
    WorkerId,
    16
);
define_id!(
    /// An actor, over all its restarts.
    ActorId,
    16
);
define_id!(
    /// A job: what one driver started.
    JobId,
    16
);
define_id!(
    /// A task, over all its attempts.
    TaskId,
    16
);
define_id!(
    /// An object: one result of a task, or a put.
    ObjectId,
    20
);

macro_rules! random_ids {
    ($($name:ident),*) => {
        $(impl $name {
            /// A fresh random identifier.
            pub fn random() -> Self {
                Self(random_bytes())
            }
        })*
    };
}
random_ids!(NodeId, WorkerId, ActorId, JobId);

impl TaskId {
    /// A fresh identifier: the random prefix of this process and the next number.
    pub fn next() -> Self {
        static PREFIX: OnceLock<[u8; 8]> = OnceLock::new();
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let prefix = PREFIX.get_or_init(random_bytes);
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(prefix);
        bytes[8..].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        Self(bytes)
    }
}

impl TaskId {
    /// The process's prefix and the number, as they travel in the frames of calls.
    #[inline]
    pub fn to_words(self) -> (u64, u64) {
        let word = |at: usize| {
            let word = self.0[at..at + 8].try_into();
            u64::from_le_bytes(word.expect("eight bytes"))
        };
        (word(0), word(8))
    }

    /// The identifier that [`Self::to_words`] took apart.
    pub fn from_words(prefix: u64, number: u64) -> Self {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&prefix.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

impl ObjectId {
    /// The object that is return value number `index` of `task`.
    pub fn of_return(task: TaskId, index: u32) -> Self {
        let mut bytes = [0u8; 20];
        bytes[..16].copy_from_slice(task.as_bytes());
        bytes[16..].copy_from_slice(&index.to_le_bytes());
        Self(bytes)
    }

    /// A fresh identifier for a value that is put.
    pub fn for_put() -> Self {
        Self::of_return(TaskId::next(), 0)
    }

    /// The task that creates this object.
    #[inline]
    pub fn task(&self) -> TaskId {
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&self.0[..16]);
        TaskId(bytes)
    }

    /// Which return value of the task this is.
    #[inline]
    pub fn index(&self) -> u32 {
        let mut bytes = [0u8; 4];
        bytes.copy_from_slice(&self.0[16..]);
        u32::from_le_bytes(bytes)
    }
}

/// `N` bytes from the operating system's generator.
///
/// Forked processes must not share a sequence, hence no generator state in user space.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    let mut filled = 0;
    while filled < N {
        filled +=
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
                .expect("the kernel's random generator is always there");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_fill_a_table_in_a_row() {
        use std::collections::HashSet;
        use std::hash::BuildHasher;
        for (prefix, first) in [
            (0, 0),
            (0x1234_5678_9abc_def0, 77),
            (u64::MAX, u64::MAX - 5000),
        ] {
            let hashes: Vec<u64> = (0..1024)
                .map(|number| TaskId::from_words(prefix, first + number))
                .map(|task| IdBuildHasher::default().hash_one(task))
                .collect();
            let places: HashSet<u64> = hashes.iter().map(|hash| hash % 1024).collect();
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert_eq!(places.len(), 1024);
            assert!(tags.len() > 100, "{} of 128 tags", tags.len());
        }
    }

    #[test]
    fn words_of_a_task_make_the_task_again() {
        let task = TaskId::next();
        let (prefix, number) = task.to_words();
        assert_eq!(TaskId::from_words(prefix, number), task);
    }

    #[test]
    fn object_id_names_its_task_and_index() {
        let task = TaskId::next();
        let object = ObjectId::of_return(task, 7);
        assert_eq!((object.task(), object.index()), (task, 7));
    }

    #[test]
    fn identifiers_survive_wire_and_hex() {
        let node = NodeId::random();
        assert_eq!(NodeId::from_bytes(node.as_bytes()), Ok(node));
        assert_eq!(NodeId::from_hex(&node.to_string()), Ok(node));
    }

    #[test]
    fn wrong_length_is_an_error_that_names_kind_and_lengths() {
        let error = ObjectId::from_bytes(&[1, 2, 3]).unwrap_err();
        assert_eq!(error.to_string(), "a ObjectId has 20 bytes, got 3");
        assert!(NodeId::from_hex("äääääääääääääääää").is_err());
    }

    #[test]
    fn task_ids_are_distinct() {
        assert_ne!(TaskId::next(), TaskId::next());
    }
}
