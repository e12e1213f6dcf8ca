//! An input under way: its rows pulled through the steps, and cut into blocks or handed to the sink.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aktis_common::error::ErrorCode;
use aktis_worker::{MadeBytes, TaskFailure};
use arrow::array::RecordBatch;

use super::marks::Marks;
use super::meter::StageMeters;
use super::noting::{Noted, Noting};
use super::output::Output;
use super::seen::SeenColumns;
use crate::block::EncodedBlock;
use crate::operators::blocks::CutBlock;
use crate::operators::even::EvenRows;
use crate::operators::failing::FailingInput;
use crate::operators::fragment::HotKeys;
use crate::operators::stream::{BatchStream, CallsBegun, is_pause};
use crate::sources::Asked;
use crate::wire::spec::Report;

/// A worker with a sink has no blocks to show; it reports at least this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// Whoever had no input to follow may have one after so long.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// An input under way.
pub(super) struct RunningInput {
    pub(super) stream: Box<dyn BatchStream>,
    pub(super) output: Output,
    /// Where workers are of several kinds, so that all of them cut blocks in the same places.
    pub(super) even: Option<EvenRows>,
    pub(super) meters: StageMeters,
    /// Where a join names keys with very many rows.
    pub(super) hot_keys: Option<HotKeys>,
    pub(super) seen: SeenColumns,
    /// What looks after functions, where rows that fail may be left out.
    pub(super) failing: Option<Arc<FailingInput>>,
    /// What was found when this input alone had more bad rows than the job may have was told.
    pub(super) has_told_limit: bool,
    pub(super) skip_blocks: u64,
    pub(super) skip_rows: u64,
    /// Only these blocks are sent, if there are any.
    pub(super) wanted_blocks: BTreeSet<u64>,
    /// The number of the next block.
    pub(super) next_block: u64,
    pub(super) rows_left: Option<u64>,
    /// No more rows come.
    pub(super) is_at_end: bool,
    /// Rows that an earlier attempt has made.
    pub(super) noted: Noted,
    /// Notes the rows of this one, where that is wanted and worth it.
    pub(super) noting: Option<Noting>,
    /// So many rows that come first are there already.
    pub(super) made_rows: u64,
    /// Where it is known that all of a place is out, where somebody asks.
    pub(super) marks: Option<Marks>,
    /// When an input that follows was last asked for.
    pub(super) asked: Option<Instant>,
    /// What of its source is asked for, where answers take long.
    pub(super) reading: Option<Asked>,
}

impl RunningInput {
    /// Goes on until there is a block, or the end, or progress to tell. `next`: the input that follows.
    pub(super) fn advance(
        &mut self,
        next: Option<&mut Self>,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        let Some(failing) = self.failing.clone() else {
            return self.go_on(next);
        };
        let limit = failing.over_limit();
        let (mut report, block) = match limit {
            Some(failure) if self.has_told_limit => return Err(failure),
            // Threads of stages that run together may get there while nobody pulls.
            Some(_) => (self.unfinished(), None),
            None => match self.go_on(next) {
                // Whom they are told ends the job, and keeps them.
                Err(_) if failing.over_limit().is_some() => (self.unfinished(), None),
                outcome => outcome?,
            },
        };
        self.has_told_limit = failing.over_limit().is_some();
        report.failed = failing.take_found()?;
        report.judged = failing.judgements.take_changed()?;
        Ok((report, block))
    }

    /// A report without a block.
    fn unfinished(&mut self) -> Report {
        Report {
            steps: self.meters.take_report(),
            ..Report::default()
        }
    }

    /// Calls of `next` begin when all of this input's are begun. Whether more could be under way, and it is time to say so: when
    /// there is nothing to be done for a while, at the latest.
    fn begin_ahead(&mut self, next: &mut Option<&mut Self>) -> Result<bool, TaskFailure> {
        if !self.may_share() {
            return Ok(false);
        }
        let Some(calls) = self.stream.begin_ahead(None)?.filter(CallsBegun::have_room) else {
            return Ok(false);
        };
        if let Some(next) = next {
            if next.may_share() {
                next.stream.begin_ahead(Some(&calls))?;
            }
            return Ok(false);
        }
        if calls.calls == 0 {
            return Ok(false);
        }
        let since = self.asked.map(|asked| asked.elapsed());
        let left = since.map(|since| ASK_AGAIN.saturating_sub(since));
        let has_more = match left {
            Some(left) if !left.is_zero() => self.stream.is_ready_within(left)?,
            Some(_) | None => false,
        };
        if !has_more {
            self.asked = Some(Instant::now());
        }
        Ok(!has_more)
    }

    /// Whether nothing is left to be asked for, and it is time to say so: what follows is opened then, and its answers come meanwhile.
    fn reads_ahead(&mut self, next: Option<&mut Self>) -> bool {
        let may_follow = next.is_none() && self.may_share();
        let is_nearly_all_there = self
            .reading
            .as_ref()
            .is_some_and(Asked::is_nearly_all_there);
        if !may_follow || !is_nearly_all_there {
            return false;
        }
        let is_time = self.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        if is_time {
            self.asked = Some(Instant::now());
        }
        is_time
    }

    /// Whether calls of another input may be under way beside those of this one: not where whose rows a death is blamed on must be
    /// known, and not where this one may end before all of its calls are over.
    fn may_share(&self) -> bool {
        self.failing.is_none() && self.rows_left.is_none()
    }

    fn go_on(
        &mut self,
        mut next: Option<&mut Self>,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        let began = Instant::now();
        let mut rows_sunk = 0;
        loop {
            while let Some(cut) = self.output.next_full() {
                let is_last = self.is_at_end && self.output.is_empty();
                match self.deliver(cut)? {
                    Some((report, block)) if is_last => return self.finish(report, block),
                    Some(result) => return Ok(result),
                    None => {}
                }
            }
            if self.is_at_end {
                let rows = rows_sunk;
                return self.finish(
                    Report {
                        rows,
                        ..Report::default()
                    },
                    None,
                );
            }
            let noted = self.noted.next()?;
            let is_noted = noted.is_some();
            if !is_noted && (self.begin_ahead(&mut next)? || self.reads_ahead(next.as_deref_mut()))
            {
                return Ok((self.wanting(rows_sunk), None));
            }
            if !is_noted
                && let Some(bytes) = self.takes_picked()
                && let Some(picked) = self.stream.next_picked(bytes)?
            {
                self.seen.see(&picked.schema());
                self.output.push_picked(picked);
                continue;
            }
            let batch = match noted {
                Some(batch) => Some(batch),
                None if self.rows_left == Some(0) => None,
                None => self.stream.next()?,
            };
            let Some(batch) = batch else {
                self.is_at_end = true;
                let rest = self.even.as_mut().map(EvenRows::close).transpose()?;
                rest.flatten()
                    .map_or(Ok(()), |rest| self.output.push(rest))?;
                self.output.close();
                continue;
            };
            if !is_pause(&batch) {
                rows_sunk += self.take(batch, is_noted)?;
            }
            if self.is_time_to_report(began) {
                return Ok((self.progress(rows_sunk), None));
            }
        }
    }

    /// Of how many bytes rows may be that are put together where they come to lie: `None`, if they are looked at before.
    fn takes_picked(&self) -> Option<u64> {
        let are_looked_at = self.rows_left.is_some()
            || self.made_rows > 0
            || self.even.is_some()
            || self.marks.is_some();
        self.output.takes_picked().filter(|_| !are_looked_at)
    }

    /// A report without a block, where the sink has taken so many rows.
    fn progress(&mut self, rows: u64) -> Report {
        Report {
            rows,
            ..self.unfinished()
        }
    }

    /// The same of an input that another may follow.
    fn wanting(&mut self, rows: u64) -> Report {
        Report {
            wants_input: true,
            ..self.progress(rows)
        }
    }

    fn is_time_to_report(&self, began: Instant) -> bool {
        let is_sink = matches!(self.output, Output::Sink(_));
        is_sink && began.elapsed() >= REPORT_INTERVAL
            || self
                .failing
                .as_ref()
                .is_some_and(|failing| failing.is_due())
    }

    /// Rows go where they belong; how many of them a sink took. `is_noted`: an earlier attempt has made them.
    fn take(&mut self, batch: RecordBatch, is_noted: bool) -> Result<u64, TaskFailure> {
        self.seen.see(&batch.schema());
        let mut batch = self.limit(batch);
        if self.made_rows > 0 {
            let made = self.made_rows.min(batch.num_rows() as u64);
            self.made_rows -= made;
            let made = usize::try_from(made).expect("no more than the batch has");
            batch = batch.slice(made, batch.num_rows() - made);
        }
        if let Some(marks) = &mut self.marks {
            let (before, after) = (self.stream.position_before(), self.stream.position());
            marks.took(batch.num_rows() as u64, before, after);
        }
        let Output::Sink(sink) = &mut self.output else {
            let batches = match &mut self.even {
                Some(even) => even.push(batch)?,
                None => vec![batch],
            };
            batches
                .into_iter()
                .try_for_each(|batch| self.output.push(batch))?;
            return Ok(0);
        };
        let rows = batch.num_rows() as u64;
        let noting = self.noting.as_mut().filter(|_| !is_noted);
        let noted = noting.map(|noting| (noting, batch.clone()));
        self.meters.in_sink(rows, || sink.write(batch))?;
        if let Some((noting, batch)) = noted
            && !noting.took(
                &batch,
                self.stream.position_before(),
                self.stream.position(),
            )
        {
            self.noting = None;
        }
        Ok(rows)
    }

    fn limit(&mut self, batch: RecordBatch) -> RecordBatch {
        let Some(left) = self.rows_left else {
            return batch;
        };
        let rows = left.min(batch.num_rows() as u64);
        self.rows_left = Some(left - rows);
        batch.slice(
            0,
            usize::try_from(rows).expect("no more than the batch has"),
        )
    }

    /// The report of a cut block, or nothing if the block was delivered by an earlier attempt, or nobody wants it.
    fn deliver(
        &mut self,
        cut: CutBlock,
    ) -> Result<Option<(Report, Option<EncodedBlock>)>, TaskFailure> {
        let number = self.next_block;
        self.next_block += 1;
        let is_repeat = self.skip_blocks > 0 || !self.wanted_blocks.is_empty();
        if let Some(failing) = self.failing.as_ref().filter(|_| is_repeat) {
            failing.check_nothing_found()?;
        }
        if self.skip_blocks > 0 {
            self.skip_blocks -= 1;
            self.skip_rows = self
                .skip_rows
                .checked_sub(cut.rows)
                .ok_or_else(|| self.not_repeatable())?;
            if self.skip_blocks == 0 && self.skip_rows != 0 {
                return Err(self.not_repeatable());
            }
            return Ok(None);
        }
        if !self.wanted_blocks.is_empty() && !self.wanted_blocks.contains(&number) {
            return Ok(None);
        }
        let (rows, partition) = (cut.rows, cut.partition);
        let block = cut.into_encoded()?;
        let report = Report {
            has_block: true,
            rows,
            partition,
            bytes: block.len_bytes() as u64,
            steps: self.meters.take_report(),
            schema: self.seen.tell(),
            marks: self.marks.as_mut().map_or_else(Vec::new, Marks::take),
            ..Report::default()
        };
        Ok(Some((report, Some(block))))
    }

    /// The last report of the input, of its last block if there is one.
    fn finish(
        &mut self,
        mut report: Report,
        block: Option<EncodedBlock>,
    ) -> Result<(Report, Option<EncodedBlock>), TaskFailure> {
        report.is_last = true;
        let marks = self.marks.as_mut().map(Marks::take);
        report.marks.extend(marks.into_iter().flatten());
        if let Some(hot_keys) = &self.hot_keys {
            report.hot_keys = hot_keys.take();
        }
        if let Output::Sink(sink) = &mut self.output {
            report.files = self.meters.in_sink(0, || sink.finish())?;
            report.bytes = report.files.iter().map(|file| file.bytes).sum();
        }
        if self.skip_blocks > 0 || self.made_rows > 0 {
            return Err(self.not_repeatable());
        }
        if report.steps.is_empty() {
            report.steps = self.meters.take_report();
        }
        if report.schema.is_empty() {
            report.schema = self.seen.tell();
        }
        Ok((report, block))
    }

    fn not_repeatable(&self) -> TaskFailure {
        let failing = self.failing.as_ref();
        let is_limited = failing.is_some_and(|failing| !failing.spec.most_rows.is_empty());
        let text = "an input was run again after its worker or its job had died, and gave other rows than the first time: functions \
                    must return the same number of rows for the same input";
        let limited = "; and since a worker ran out of memory they are called with fewer rows: give one that returns several outputs \
                       for a batch smaller ones from the beginning, with batch_size=";
        let limited = if is_limited { limited } else { "" };
        TaskFailure::new(ErrorCode::Application, format!("{text}{limited}"))
    }
}
