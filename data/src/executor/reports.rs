//! What workers and the consumer say, as events: answers of the pool, with all that a report has besides rows.

use std::mem;
use std::time::{Duration, Instant};

use super::main_loop::{ExecutionLoop, Message, WorkerRole};
use crate::block::BlockHandle;
use crate::executor::core::event::{BlockKey, Event, Pulled, WorkerKey};
use crate::executor::pool::Answer;
use crate::ledger::{JudgedRows, LeftOutByStep};
use crate::wire::spec::Report;

impl ExecutionLoop {
    /// What is to be made of a message, if anything.
    pub(super) fn read_message(&mut self, message: Message) -> Option<Event> {
        match message {
            Message::Taken(block) => Some(Event::Taken(block)),
            Message::Nodes(view) => Some(Event::NodesChanged(view)),
            Message::Stored(block, outcome) => {
                self.blocks.stored(block, outcome);
                None
            }
            Message::Cancel => {
                self.is_cancelled = true;
                Some(Event::Cancelled)
            }
            Message::Lost(block, reader) => {
                if !self.executor.needs(block) {
                    // Dropped, which its reader sees.
                    return None;
                }
                self.readers.push((block, reader));
                Some(Event::BlockLost(block))
            }
            Message::Answer(worker, number, answer) => {
                self.calls.answered(worker, number, *answer);
                None
            }
        }
    }

    /// What is to be made of an answer whose turn it is, if anything.
    pub(super) fn read_answer(&mut self, worker: WorkerKey, answer: Answer) -> Option<Event> {
        let answer = match answer {
            Answer::Later(answer) => answer(),
            answer => answer,
        };
        match answer {
            Answer::Ready(Ok(ready)) => {
                self.times.ready(worker, &ready, Instant::now());
                Some(Event::WorkerReady(worker, ready.node()))
            }
            Answer::Pulled(Ok((report, block))) => {
                self.times.pulled(worker, &report, Instant::now());
                Some(self.pulled(worker, &report, block))
            }
            Answer::Ready(Err(failure)) => self.not_ready(worker, failure),
            Answer::Pulled(Err(failure)) => self.failed(worker, failure),
            Answer::Later(_) => None,
        }
    }

    fn pulled(&mut self, worker: WorkerKey, report: &Report, block: Option<BlockHandle>) -> Event {
        let (mut judged, mut left_out) = (Vec::new(), Vec::new());
        if let Some(&WorkerRole { stage, kind }) = self.roles.get(&worker) {
            let working = self.working.get(&worker);
            let is_rerun = working.is_some_and(|working| working.is_rerun);
            self.stats
                .lock()
                .add_report((stage, kind), report, is_rerun);
            judged = self.expectations.of_used_up(worker, report);
            let outcome = self.put_aside(worker, report);
            if let Err(failure) = outcome.and_then(|()| self.expectations.report(worker, report)) {
                self.failed_stage = Some(stage);
                return Event::WorkerFailed { worker, failure };
            }
            left_out = self.failed_rows.take_left_out();
            let start = &self.stages[stage];
            if let Some(output) = start.output.filter(|_| start.spec().sink.is_some()) {
                let (judged, left_out) = (mem::take(&mut judged), mem::take(&mut left_out));
                self.count_sunk(output, worker, report, judged, left_out);
            }
            self.sizes.hear(stage, &report.sizes);
            if let Some(columns) = &mut self.stages[stage].columns {
                columns.hear(&report.schema);
            }
            if let Some(output) = self.stages[stage].output {
                self.outputs.hear(output, &report.schema);
            }
        }
        let block = block.map(|handle| {
            let key = BlockKey(self.next_block);
            self.next_block += 1;
            let bytes_here = self.pool.is_here(&handle).then_some(report.bytes);
            if self.blocks.made(key, handle.clone(), bytes_here) {
                self.storing.want(key, handle);
            }
            (key, report.rows, report.bytes)
        });
        let made = block.map(|(key, rows, _)| (key, rows));
        self.keep_origin(worker, report, made, judged, left_out);
        if report.is_last {
            self.go_on_with_queued(worker);
        }
        let nanos = report.steps.iter().map(|step| step.wall_nanos).sum();
        Event::Pulled(Pulled {
            worker,
            block,
            partition: report.partition,
            is_last: report.is_last,
            wants_input: report.wants_input,
            rows_in: report.steps.first().map_or(0, |source| source.rows_out),
            busy: Duration::from_nanos(nanos),
        })
    }

    /// EXE-3 (every-split-once): what a sink took counts once, when its input is used up.
    fn count_sunk(
        &mut self,
        output: usize,
        worker: WorkerKey,
        report: &Report,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOutByStep>,
    ) {
        let rows = self.sunk.entry(worker).or_default();
        *rows += report.rows;
        if report.is_last {
            self.stats.lock().outputs[output].rows += mem::take(rows);
            if let Some(working) = self.working.remove(&worker) {
                self.keep_output(output, working, report.files.clone(), judged, left_out);
            }
        }
    }
}
