//! The side that wants a copy.

use std::collections::VecDeque;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_common::ids::{NodeId, ObjectId};
use aktis_proto::v1::Failure;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::place::{ChunkClaim, PullPlace, SEGMENT_BYTES};
use super::streams::{Line, TransferStreams};
use super::wire::{CHUNK_BYTES, ChunkHead, Reply, Request, read_full};
use crate::core::event::PullFailure;
use crate::inbox::{Mailbox, Message};

/// A source that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// Streams of one transfer.
const MOST_STREAMS: u64 = 4;
/// Each stream beyond the first is worth its making for so many bytes.
const BYTES_PER_STREAM: u64 = 2 * SEGMENT_BYTES;
/// Segments that a stream has asked for at a time.
const AHEAD: usize = 2;
/// Pause before streams that broke are made anew.
const PAUSE: Duration = Duration::from_millis(100);

/// One attempt to fetch an object, or the rest of it, from one node.
#[derive(Debug, Clone)]
pub(crate) struct PullOrder {
    pub(crate) object: ObjectId,
    pub(crate) node: NodeId,
    /// Tells this attempt from others of the same object.
    pub(crate) attempt: u64,
}

/// Why a stream ends before its time.
enum BrokenLine {
    /// It broke: another may go on.
    Stream(String),
    /// For good.
    Pull(PullFailure),
}

/// Fetches, and tells the loop how that ended. `place` is what an earlier attempt has left.
pub(crate) async fn pull(
    pull: PullOrder,
    place: Option<PullPlace>,
    streams: TransferStreams,
    mailbox: Mailbox,
) {
    let fetch = Fetch {
        pull: pull.clone(),
        streams,
    };
    let result = fetch.run(place, &mailbox).await;
    mailbox.send(Message::PullEnded { pull, result });
}

#[derive(Clone)]
struct Fetch {
    pull: PullOrder,
    streams: TransferStreams,
}

impl Fetch {
    async fn run(&self, place: Option<PullPlace>, mailbox: &Mailbox) -> Result<(), PullFailure> {
        let (place, mut first) = match place {
            Some(place) => (place, None),
            None => self.begin(mailbox).await?,
        };
        let mut is_fresh = false;
        // Streams may break; as long as each time more has arrived it goes on.
        while !place.is_whole() {
            let missing_before = place.missing_bytes();
            let result = self.round(&place, first.take(), is_fresh).await;
            if place.is_whole() {
                break;
            }
            match result {
                Err(BrokenLine::Pull(failure)) => return Err(failure),
                Err(BrokenLine::Stream(cause))
                    if is_fresh && place.missing_bytes() == missing_before =>
                {
                    return Err(self.source(cause));
                }
                _ => {}
            }
            is_fresh = true;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Learns the size of the object, gets a place for it, and fills the first segment. Gives the stream that did, unless it
    /// broke or all is there.
    async fn begin(&self, mailbox: &Mailbox) -> Result<(PullPlace, Option<Line>), PullFailure> {
        let (mut line, reply) = self.ask(false).await?;
        let (total_bytes, len_bytes) = match reply {
            Ok(sizes) => sizes,
            Err(broken) => {
                // It said so in good order.
                if matches!(broken, BrokenLine::Pull(_)) {
                    self.streams.give_back(line);
                }
                return Err(self.failure(broken));
            }
        };
        let place = self.ask_for_place(total_bytes, mailbox).await?;
        if let Some(claim) = place.claim() {
            let mut buffer = vec![0; CHUNK_BYTES];
            match fill(&mut line, claim, len_bytes, &mut buffer).await {
                Err(BrokenLine::Pull(failure)) => return Err(failure),
                Err(BrokenLine::Stream(_)) => return Ok((place, None)),
                Ok(()) => {}
            }
        }
        if place.is_whole() {
            self.streams.give_back(line);
            return Ok((place, None));
        }
        Ok((place, Some(line)))
    }

    /// Asks for the first segment; again over a fresh stream if the one that was kept has broken meanwhile.
    async fn ask(
        &self,
        is_fresh: bool,
    ) -> Result<(Line, Result<(u64, u64), BrokenLine>), PullFailure> {
        let opened = self.streams.open(self.pull.node, is_fresh).await;
        let mut line = opened.map_err(|cause| self.source(cause))?;
        let written = self.request(0, SEGMENT_BYTES).write(&mut line.stream).await;
        let reply = match written {
            Ok(()) => self.reply(&mut line).await,
            Err(error) => Err(BrokenLine::Stream(error.to_string())),
        };
        if line.is_used && matches!(reply, Err(BrokenLine::Stream(_))) {
            drop(line);
            return Box::pin(self.ask(true)).await;
        }
        Ok((line, reply))
    }

    /// Some streams, until nobody has anything left to fetch or all have broken.
    async fn round(
        &self,
        place: &PullPlace,
        first: Option<Line>,
        is_fresh: bool,
    ) -> Result<(), BrokenLine> {
        let first = match first {
            Some(line) => line,
            None => {
                let line = self.streams.open(self.pull.node, is_fresh).await;
                line.map_err(BrokenLine::Stream)?
            }
        };
        let wanted = place.missing_bytes().div_ceil(BYTES_PER_STREAM);
        let mut carriers = JoinSet::new();
        carriers.spawn(self.clone().carry(first, place.clone()));
        for _ in 1..wanted.min(MOST_STREAMS) {
            let (fetch, place) = (self.clone(), place.clone());
            carriers.spawn(async move {
                match fetch.streams.open_another(fetch.pull.node).await {
                    Some(Ok(line)) => fetch.carry(line, place).await,
                    Some(Err(cause)) => Err(BrokenLine::Stream(cause)),
                    None => Ok(()),
                }
            });
        }
        let mut result = Ok(());
        while let Some(ended) = carriers.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(BrokenLine::Stream(error.to_string())));
            match ended {
                Ok(()) => {}
                Err(BrokenLine::Pull(failure)) => return Err(BrokenLine::Pull(failure)),
                Err(broken) => result = Err(broken),
            }
        }
        result
    }

    /// Fills segments over one stream until none is left.
    async fn carry(self, mut line: Line, place: PullPlace) -> Result<(), BrokenLine> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut asked: VecDeque<ChunkClaim> = VecDeque::new();
        loop {
            while asked.len() < AHEAD
                && let Some(claim) = place.claim()
            {
                let request = self.request(claim.offset, claim.missing_bytes);
                let written = request.write(&mut line.stream).await;
                written.map_err(|error| BrokenLine::Stream(error.to_string()))?;
                asked.push_back(claim);
            }
            let Some(claim) = asked.pop_front() else {
                self.streams.give_back(line);
                return Ok(());
            };
            let (total_bytes, len_bytes) = self.reply(&mut line).await?;
            if total_bytes != place.total_bytes() {
                let here = place.total_bytes();
                let what = format!("the object has {total_bytes} bytes there, and {here} here");
                return Err(BrokenLine::Stream(what));
            }
            fill(&mut line, claim, len_bytes, &mut buffer).await?;
        }
    }

    fn request(&self, offset: u64, most_bytes: u64) -> Request {
        Request {
            object: self.pull.object,
            reader: self.streams.here(),
            offset,
            most_bytes,
        }
    }

    /// The object's size, and how many bytes come.
    async fn reply(&self, line: &mut Line) -> Result<(u64, u64), BrokenLine> {
        loop {
            let reply = Reply::read(&mut line.stream, SILENCE).await;
            match reply.map_err(|error| BrokenLine::Stream(error.to_string()))? {
                Reply::Wait => {}
                Reply::Bytes {
                    total_bytes,
                    len_bytes,
                } => return Ok((total_bytes, len_bytes)),
                Reply::Refused { code, why } => {
                    return Err(BrokenLine::Pull(self.refused(code, why)));
                }
            }
        }
    }

    async fn ask_for_place(
        &self,
        total_bytes: u64,
        mailbox: &Mailbox,
    ) -> Result<PullPlace, PullFailure> {
        let (place, placed) = oneshot::channel();
        mailbox.send(Message::PullSized {
            pull: self.pull.clone(),
            total_bytes,
            place,
        });
        let ended = || PullFailure::Source("the raylet ends".to_owned());
        placed.await.map_err(|_| ended())?
    }

    fn failure(&self, broken: BrokenLine) -> PullFailure {
        match broken {
            BrokenLine::Stream(cause) => self.source(cause),
            BrokenLine::Pull(failure) => failure,
        }
    }

    fn refused(&self, code: ErrorCode, why: String) -> PullFailure {
        match self.source(why) {
            PullFailure::Source(why) if code == ErrorCode::ObjectUnreadable => {
                PullFailure::Unreadable(Failure::of(code, why))
            }
            failure => failure,
        }
    }

    fn source(&self, cause: String) -> PullFailure {
        PullFailure::Source(format!("node {}: {cause}", self.pull.node))
    }
}

/// Fills a segment with what comes.
async fn fill(
    line: &mut Line,
    mut claim: ChunkClaim,
    mut len_bytes: u64,
    buffer: &mut [u8],
) -> Result<(), BrokenLine> {
    if len_bytes != claim.missing_bytes {
        let missing = claim.missing_bytes;
        return Err(BrokenLine::Stream(format!(
            "{len_bytes} bytes come where {missing} are missing"
        )));
    }
    let stream = &mut line.stream;
    let io = |error: std::io::Error| BrokenLine::Stream(error.to_string());
    while len_bytes > 0 {
        let head = ChunkHead::read(stream, SILENCE).await.map_err(io)?;
        let room = buffer
            .len()
            .min(usize::try_from(len_bytes).unwrap_or(usize::MAX));
        let chunk = match buffer.get_mut(..head.len as usize) {
            Some(chunk) if (1..=room).contains(&chunk.len()) => chunk,
            _ => {
                let what = format!("a chunk of {} bytes where {room} are left", head.len);
                return Err(BrokenLine::Stream(what));
            }
        };
        read_full(stream, chunk, SILENCE).await.map_err(io)?;
        if crc32fast::hash(chunk) != head.checksum {
            let at = claim.offset;
            return Err(BrokenLine::Stream(format!(
                "the checksum of the chunk at {at} is wrong"
            )));
        }
        claim.append(chunk).map_err(BrokenLine::Pull)?;
        len_bytes -= u64::from(head.len);
    }
    Ok(())
}
