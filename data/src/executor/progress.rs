//! How the progress of a job of several stages is kept: what a run that goes on begins with, and what it has to tell.

use super::main_loop::ExecutionLoop;
use super::origins::{Comes, Origins, Settled};
use crate::executor::core::event::{BlockKey, InputContent, StartInput, WorkerKey};
use crate::ledger::{DonePart, END, JudgedRows, OutputsLeft, Salvaged, SourceRange, Span};
use crate::wire::spec::{InputSpec, Report, WrittenFile};

/// What a worker works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Working {
    pub(super) stage: usize,
    pub(super) sequence: u64,
    /// The number of its input, as the ledger has it.
    pub(super) number: u64,
    /// It works for blocks that were lost, which are known already.
    pub(super) is_rerun: bool,
}

/// An input of the last stage that is written.
struct WrittenOutput {
    number: u64,
    files: Vec<WrittenFile>,
}

/// The progress of a job whose outputs are not those of one input of the source each.
pub(crate) struct Progress {
    origins: Origins<WrittenOutput>,
    last: usize,
    salvaged: Vec<Salvaged>,
    /// Which of these are the first rows of what is made again, each by an input of its own: the first ones of the first stage.
    rests: Vec<usize>,
    next_output: u64,
}

impl Progress {
    /// Of a job of so many stages that goes on from here.
    pub(super) fn new(left: OutputsLeft, stages: usize) -> Self {
        let noted = left.salvaged.iter().enumerate();
        let rests = noted.filter(|(_, noted)| noted.rest.is_some());
        Self {
            origins: Origins::new(left.ranges, &left.salvaged),
            last: stages - 1,
            rests: rests.map(|(number, _)| number).collect(),
            salvaged: left.salvaged,
            next_output: left.next_output,
        }
    }

    /// What the last stage begins with: inputs whose rows are noted.
    pub(super) fn noted_inputs(&self) -> usize {
        self.salvaged.len()
    }

    /// What the first stage begins with: places of inputs of which some rows are made again, apart from all others.
    pub(super) fn rests(&self) -> impl Iterator<Item = u64> {
        let rests = self.rests.iter();
        let spans = rests.filter_map(|&number| self.salvaged[number].rest.as_ref());
        spans.filter_map(|span| span.ranges.first().map(|range| range.input))
    }

    /// Which of the noted rows an input of the last stage has.
    fn noted(&self, start: &StartInput) -> Option<usize> {
        let number = usize::try_from(start.sequence).ok()?;
        (start.stage == self.last && number < self.salvaged.len()).then_some(number)
    }

    /// Of which noted rows an input of the first stage makes the rest.
    fn rest(&self, start: &StartInput) -> Option<usize> {
        match start.content {
            InputContent::Split(index) => self.rests.get(index).copied(),
            InputContent::Blocks { .. } => None,
        }
    }

    /// The number of what an input of the last stage writes.
    pub(super) fn number_of(&self, start: &StartInput) -> Option<u64> {
        if start.stage != self.last {
            return None;
        }
        let own = || self.next_output + start.sequence - self.salvaged.len() as u64;
        let noted = self.noted(start);
        Some(noted.map_or_else(own, |noted| self.salvaged[noted].number))
    }

    fn begin(&mut self, start: &StartInput, place: u64) {
        let comes = match &start.content {
            InputContent::Split(_) => self.rest(start).map_or(Comes::Source(place), Comes::Rest),
            InputContent::Blocks { feeds, .. } => {
                let blocks = feeds.iter().flatten().map(|part| part.block);
                self.noted(start)
                    .map_or_else(|| Comes::Blocks(blocks.collect()), Comes::Noted)
            }
        };
        self.origins.begin((start.stage, start.sequence), comes);
    }

    /// The same input, with what its worker must know of an earlier run, and is to tell.
    pub(super) fn told(&self, start: &StartInput, input: InputSpec) -> InputSpec {
        let input = InputSpec {
            output: self.number_of(start),
            ..input
        };
        let rest = self.rest(start).map(|number| &self.salvaged[number]);
        if let Some(Span { rows, ranges }) = rest.and_then(|salvaged| salvaged.rest.as_ref()) {
            return InputSpec {
                done: all_but(ranges),
                made_rows: *rows,
                ..input
            };
        }
        let noted = self.noted(start).map(|number| &self.salvaged[number]);
        InputSpec {
            done: match start.content {
                InputContent::Split(_) => self.origins.done_before(input.sequence),
                InputContent::Blocks { .. } => Vec::new(),
            },
            is_marked: start.stage != self.last,
            noted: noted.map_or_else(Vec::new, |noted| noted.parts.clone()),
            ..input
        }
    }

    /// Whether the rows of the input are to be noted, and with what: not those that were noted before.
    pub(super) fn is_to_note(&self, start: &StartInput) -> bool {
        start.stage == self.last && self.last > 0 && self.noted(start).is_none()
    }

    /// The same input, whose journal says what its rows are made of.
    pub(super) fn with_spans(&self, start: &StartInput, input: InputSpec) -> InputSpec {
        let spans = self.origins.spans((start.stage, start.sequence));
        InputSpec {
            spans: Some(spans),
            ..input
        }
    }
}

/// Begin and end of what lies between these ranges of an input.
fn all_but(ranges: &[SourceRange]) -> Vec<u64> {
    let ends = ranges.iter().flat_map(|range| [range.from, range.to]);
    let flat: Vec<u64> = std::iter::once(0).chain(ends).chain([END]).collect();
    let between = flat.chunks_exact(2).filter(|range| range[0] < range[1]);
    between.flatten().copied().collect()
}

impl ExecutionLoop {
    /// A worker begins an input.
    pub(super) fn begins(&mut self, start: &StartInput, place: u64) {
        let is_rerun = !start.wanted.is_empty();
        let mut number = place;
        if let Some(progress) = &mut self.progress {
            if !is_rerun {
                progress.begin(start, place);
            }
            number = progress.number_of(start).unwrap_or(place);
        }
        let working = Working {
            stage: start.stage,
            sequence: start.sequence,
            number,
            is_rerun,
        };
        self.working.insert(start.worker, working);
    }

    /// A worker has made a block, or come to the end of an input that blocks are made of.
    pub(super) fn keep_origin(
        &mut self,
        worker: WorkerKey,
        report: &Report,
        block: Option<(BlockKey, u64)>,
    ) {
        let (Some(progress), Some(working)) = (&mut self.progress, self.working.get(&worker))
        else {
            return;
        };
        if working.is_rerun || working.stage == progress.last {
            return;
        }
        let input = (working.stage, working.sequence);
        let settled = progress
            .origins
            .made(input, block, &report.marks, report.is_last);
        for settled in settled {
            self.keep(settled);
        }
    }

    /// An input of the last stage is written.
    pub(super) fn keep_output(
        &mut self,
        working: Working,
        files: Vec<WrittenFile>,
        judged: Vec<JudgedRows>,
    ) {
        let number = working.number;
        // In jobs of several stages nothing is judged.
        let Some(progress) = &mut self.progress else {
            if let Some(output) = &mut self.output {
                output.add(number, files, judged);
            }
            return;
        };
        let input = (working.stage, working.sequence);
        let settled = progress
            .origins
            .written(input, WrittenOutput { number, files });
        if let Some(settled) = settled {
            self.keep(settled);
        }
    }

    /// LED-2 (all-or-made-again).
    fn keep(&mut self, settled: Settled<WrittenOutput>) {
        let Some(output) = &mut self.output else {
            return;
        };
        let (numbers, files): (Vec<u64>, Vec<_>) = settled
            .outputs
            .into_iter()
            .map(|output| (output.number, output.files))
            .unzip();
        let part = DonePart {
            outputs: numbers,
            ranges: settled.ranges,
        };
        output.add_part(part, files.concat());
    }

    /// All rows have come: what is written counts, whether all that it hangs on was told or not.
    pub(super) fn keep_rest(&mut self) {
        let (Some(progress), Some(output)) = (self.progress.take(), &mut self.output) else {
            return;
        };
        let rest = progress.origins.rest();
        output.add_rest(rest.into_iter().flat_map(|output| output.files));
    }
}
