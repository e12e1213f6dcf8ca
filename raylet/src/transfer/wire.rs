//! The words of a stream.

use std::io;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_proto::transport::BoxedDuplex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of one chunk: few enough to be in the cache still when they are sent, or written, after the checksum was made.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
const REQUEST_BYTES: usize = 52;
const WAIT: u8 = 0;
const BYTES: u8 = 1;
const REFUSED: u8 = 2;

/// What of an object is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) object: ObjectId,
    /// The node that wants it.
    pub(super) reader: NodeId,
    pub(super) offset: u64,
    pub(super) most_bytes: u64,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not known yet.
    Wait,
    /// So many bytes come, in chunks.
    Bytes { total_bytes: u64, len_bytes: u64 },
    /// None, and why: whether there are any is told by the code.
    Refused { code: ErrorCode, why: String },
}

/// What is said of a chunk before its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkHead {
    pub(super) len: u32,
    pub(super) checksum: u32,
}

impl Request {
    pub(super) async fn write(self, stream: &mut BoxedDuplex) -> io::Result<()> {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..20].copy_from_slice(self.object.as_bytes());
        bytes[20..36].copy_from_slice(self.reader.as_bytes());
        bytes[36..44].copy_from_slice(&self.offset.to_le_bytes());
        bytes[44..].copy_from_slice(&self.most_bytes.to_le_bytes());
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    pub(super) async fn read(stream: &mut BoxedDuplex) -> io::Result<Self> {
        let mut bytes = [0; REQUEST_BYTES];
        stream.read_exact(&mut bytes).await?;
        let number = |at: usize| {
            let bytes: [u8; 8] = bytes[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        Ok(Self {
            object: ObjectId::from_bytes(&bytes[..20]).map_err(io::Error::other)?,
            reader: NodeId::from_bytes(&bytes[20..36]).map_err(io::Error::other)?,
            offset: number(36),
            most_bytes: number(44),
        })
    }
}

impl Reply {
    pub(super) async fn write(&self, stream: &mut BoxedDuplex) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(17);
        match self {
            Self::Wait => bytes.push(WAIT),
            Self::Bytes {
                total_bytes,
                len_bytes,
            } => {
                bytes.push(BYTES);
                bytes.extend_from_slice(&total_bytes.to_le_bytes());
                bytes.extend_from_slice(&len_bytes.to_le_bytes());
            }
            Self::Refused { code, why } => {
                let length = u16::try_from(why.len()).unwrap_or(u16::MAX);
                bytes.push(REFUSED);
                bytes.extend_from_slice(&code.as_u32().to_le_bytes());
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(&why.as_bytes()[..usize::from(length)]);
            }
        }
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    pub(super) async fn read(stream: &mut BoxedDuplex, patience: Duration) -> io::Result<Self> {
        let mut kind = [0];
        read_full(stream, &mut kind, patience).await?;
        match kind[0] {
            WAIT => Ok(Self::Wait),
            BYTES => Ok(Self::Bytes {
                total_bytes: stream.read_u64_le().await?,
                len_bytes: stream.read_u64_le().await?,
            }),
            REFUSED => {
                let code = ErrorCode::from_u32(stream.read_u32_le().await?);
                let length = stream.read_u16_le().await?;
                let mut why = vec![0; usize::from(length)];
                read_full(stream, &mut why, patience).await?;
                let why = String::from_utf8_lossy(&why).into_owned();
                Ok(Self::Refused { code, why })
            }
            other => Err(io::Error::other(format!("a reply of kind {other}"))),
        }
    }
}

impl ChunkHead {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self {
            len: u32::try_from(bytes.len()).expect("a chunk is short"),
            checksum: crc32fast::hash(bytes),
        }
    }

    pub(super) async fn write(self, stream: &mut BoxedDuplex) -> io::Result<()> {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..].copy_from_slice(&self.checksum.to_le_bytes());
        stream.write_all(&bytes).await
    }

    pub(super) async fn read(stream: &mut BoxedDuplex, patience: Duration) -> io::Result<Self> {
        let mut bytes = [0; 8];
        read_full(stream, &mut bytes, patience).await?;
        let [a, b, c, d, e, f, g, h] = bytes;
        Ok(Self {
            len: u32::from_le_bytes([a, b, c, d]),
            checksum: u32::from_le_bytes([e, f, g, h]),
        })
    }
}

/// Fills `buffer`. The other side may be slow, but not silent.
pub(super) async fn read_full(
    stream: &mut BoxedDuplex,
    mut buffer: &mut [u8],
    patience: Duration,
) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = tokio::time::timeout(patience, stream.read(buffer)).await;
        let silent = || io::Error::other(format!("it says nothing for {} s", patience.as_secs()));
        match read.map_err(|_| silent())?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}
