//! One file that a worker writes, read as it grows.
//!
//! What is read at a time is bounded. A worker that writes faster than its lines can be passed on is not waited for: what
//! is behind by more than [`MAX_BEHIND_BYTES`] is left out, and a line says so.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aktis_common::resources::format_bytes;
use aktis_common::zygote::SOURCE_MARK;

/// A longer line is cut.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Output beyond this that nobody has read is left out.
pub(super) const MAX_BEHIND_BYTES: u64 = 8 << 20;
/// This much of it is read nevertheless.
const CAUGHT_UP_BYTES: u64 = 256 << 10;
/// A line without an end is shown after this time, as is the newest state of a bar.
pub(super) const FRAGMENT_PATIENCE: Duration = Duration::from_millis(700);

/// Lines of one source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) source: String,
    pub(super) lines: Vec<String>,
}

/// What one round found.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) bundles: Vec<Lines>,
    /// There is more already.
    pub(super) is_behind: bool,
}

/// One file of a worker.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) path: PathBuf,
    pub(super) is_stderr: bool,
    /// How far it has been read.
    offset: u64,
    /// The bytes behind the last end of a line.
    unfinished: Vec<u8>,
    /// When they came, unless they have been shown.
    unfinished_since: Option<Instant>,
    /// What was shown of them last: the state of a bar.
    shown: String,
    /// What the last mark said.
    source: String,
}

impl Output {
    pub(super) fn new(path: PathBuf, is_stderr: bool) -> Self {
        Self {
            path,
            is_stderr,
            offset: 0,
            unfinished: Vec::new(),
            unfinished_since: None,
            shown: String::new(),
            source: String::new(),
        }
    }

    /// Reads at most `limit_bytes` of what has come, and keeps the file below `max_file_bytes`.
    pub(super) fn read(&mut self, limit_bytes: usize, max_file_bytes: u64, now: Instant) -> Round {
        let mut round = Round::default();
        // Without the file there is nothing to read; whoever opens it next time may find it.
        if let Ok(file) = File::open(&self.path)
            && let Ok(length) = file.metadata().map(|metadata| metadata.len())
        {
            self.offset = self.offset.min(length);
            self.leave_out(&file, length, &mut round);
            let mut buffer = vec![0; limit_bytes.min((length - self.offset) as usize)];
            if let Ok(count) = file.read_at(&mut buffer, self.offset) {
                self.offset += count as u64;
                self.take(&buffer[..count], now, &mut round);
                round.is_behind = self.offset < length;
            }
            if length > max_file_bytes {
                self.shorten(length, max_file_bytes);
            }
        }
        self.show_unfinished(now, &mut round);
        round
    }

    /// Everything that has been written until now, as far as it is not left out; also a line without an end.
    pub(super) fn read_to_end(&mut self, limit_bytes: usize) -> Round {
        let mut all = Round::default();
        let end = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        loop {
            let round = self.read(limit_bytes, u64::MAX, Instant::now());
            all.bundles.extend(round.bundles);
            if self.offset >= end || !round.is_behind {
                break;
            }
        }
        if self.unfinished_since.is_some() {
            self.finish_line(&mut all);
        }
        all
    }

    /// When a line without an end is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.unfinished_since.map(|since| since + FRAGMENT_PATIENCE)
    }

    fn leave_out(&mut self, file: &File, length: u64, round: &mut Round) {
        let behind_bytes = length - self.offset;
        if behind_bytes <= MAX_BEHIND_BYTES {
            return;
        }
        let target = next_line(file, length - CAUGHT_UP_BYTES);
        let left_out = format_bytes(target - self.offset);
        self.offset = target;
        if !self.unfinished.is_empty() {
            self.finish_line(round);
        }
        let line = format!(
            "(aktis) {left_out} of output are left out here: it comes faster than it can be passed on"
        );
        self.add(line, round);
    }

    fn take(&mut self, bytes: &[u8], now: Instant, round: &mut Round) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.unfinished.len() > MAX_LINE_BYTES {
                self.finish_line(round);
            }
        }
        if !self.unfinished.is_empty() && !bytes.is_empty() {
            self.unfinished_since.get_or_insert(now);
        }
    }

    fn finish_line(&mut self, round: &mut Round) {
        let line = String::from_utf8_lossy(&self.unfinished).into_owned();
        self.unfinished.clear();
        self.unfinished_since = None;
        let shown = std::mem::take(&mut self.shown);
        let mut rest = line.as_str();
        // A mark begins a line, unless something else that writes into the file has left one without an end.
        while let Some((before, after)) = rest.split_once(SOURCE_MARK) {
            if !before.is_empty() {
                self.add_visible(before, &shown, round);
            }
            let (source, others) = after.split_once('\n').unwrap_or((after, ""));
            source.clone_into(&mut self.source);
            rest = others;
            if rest.is_empty() {
                return;
            }
        }
        self.add_visible(rest, &shown, round);
    }

    fn add_visible(&self, line: &str, shown: &str, round: &mut Round) {
        let visible = visible(line);
        if shown.is_empty() || visible != shown {
            self.add(visible.to_owned(), round);
        }
    }

    /// Shows a line that has no end for long: what a terminal would show.
    fn show_unfinished(&mut self, now: Instant, round: &mut Round) {
        if self.due().is_none_or(|due| now < due) {
            return;
        }
        if !self.unfinished.contains(&b'\r') {
            return self.finish_line(round);
        }
        let text = String::from_utf8_lossy(&self.unfinished).into_owned();
        let state = visible(&text).to_owned();
        if !state.is_empty() && state != self.shown {
            self.add(state.clone(), round);
            self.shown = state;
        }
        // What the bar showed before is not needed any more.
        let last = self.unfinished.iter().rposition(|byte| *byte == b'\r');
        self.unfinished.drain(..last.unwrap_or(0));
        self.unfinished_since = None;
    }

    fn add(&self, line: String, round: &mut Round) {
        match round.bundles.last_mut() {
            Some(bundle) if bundle.source == self.source => bundle.lines.push(line),
            _ => round.bundles.push(Lines {
                source: self.source.clone(),
                lines: vec![line],
            }),
        }
    }

    /// Takes the oldest lines out of the file. Its writer goes on at its end.
    fn shorten(&mut self, length: u64, max_file_bytes: u64) {
        let surplus = length - max_file_bytes / 2;
        match super::shorten::drop_beginning(&self.path, surplus) {
            Ok(dropped) => self.offset = self.offset.saturating_sub(dropped),
            Err(error) => {
                tracing::warn!(path = ?self.path, %error, "a file of output cannot be shortened");
            }
        }
    }
}

/// What a terminal shows of a line: what was written behind the last carriage return.
pub(super) fn visible(line: &str) -> &str {
    let line = line.trim_end_matches(['\n', '\r']);
    line.rsplit('\r').next().unwrap_or(line)
}

/// The beginning of the first line at or behind `offset`; `offset` itself if none begins within the longest line.
fn next_line(file: &File, offset: u64) -> u64 {
    let mut buffer = vec![0; MAX_LINE_BYTES];
    let count = file.read_at(&mut buffer, offset).unwrap_or(0);
    let end = buffer[..count].iter().position(|byte| *byte == b'\n');
    end.map_or(offset, |end| offset + end as u64 + 1)
}

/// Letters of a line that are quoted: an error is read by people, and Python lists all native modules in one line of a crash.
const QUOTED_LETTERS: usize = 300;

/// The beginning of a line that is too long.
fn cut(line: &str) -> String {
    match line.char_indices().nth(QUOTED_LETTERS) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line.to_owned(),
    }
}

/// The last lines of a file, as a terminal shows them; empty if it has none.
pub(crate) fn last_lines(path: &Path, max_lines: usize, max_bytes: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let begin = length.saturating_sub(max_bytes);
        let mut bytes = vec![0; (length - begin) as usize];
        let count = file.read_at(&mut bytes, begin)?;
        bytes.truncate(count);
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            line.split_once(SOURCE_MARK)
                .map_or(line, |(before, _)| before)
        })
        .map(visible)
        .filter(|line| !line.is_empty())
        .map(cut)
        .collect();
    lines[lines.len().saturating_sub(max_lines)..].join("\n")
}

#[cfg(test)]
mod tests;
