//! How the progress of a job of several stages is kept: what a run that goes on begins with, and what it has to tell.

use super::main_loop::ExecutionLoop;
use super::origins::{Comes, Origins, Settled};
use crate::executor::core::event::{BlockKey, InputContent, StartInput, WorkerKey};
use crate::graph::{JobPlan, StagePlan};
use crate::ledger::{
    DonePart, END, JudgedRows, LeftOut, LeftOutByStep, OutputsLeft, Salvaged, SourceRange, Span,
    Spans,
};
use crate::wire::spec::{InputSpec, Report, WrittenFile};

/// What a worker works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Working {
    pub(super) stage: usize,
    pub(super) sequence: u64,
    /// The number of its input, as the ledger has it.
    pub(super) number: u64,
    pub(super) attempt: u64,
    /// It works for blocks that were lost, which are known already.
    pub(super) is_rerun: bool,
}

/// What counts together with what it is made of.
#[derive(Default)]
struct WrittenOutput {
    /// Of an input of a last stage.
    number: Option<u64>,
    /// They name the output of the job that they are of.
    files: Vec<WrittenFile>,
    /// What was left out of an input of any stage.
    left_out: Option<LeftOut>,
    /// What expectations have found in it.
    judged: Vec<JudgedRows>,
}

/// The progress of a job whose outputs are not those of one input of the source each.
pub(crate) struct Progress {
    origins: Origins<WrittenOutput>,
    /// Of each stage: the output of the job that it writes, if it is a last one.
    ends: Vec<Option<usize>>,
    /// Of each stage: whether rows are judged in it, or may be left out. They are counted by input, so an input counts as a whole.
    counts: Vec<bool>,
    outputs: u64,
    salvaged: Vec<Salvaged>,
    /// Which of these are the first rows of what is made again, each by an input of its own: the first ones of the first stage.
    rests: Vec<usize>,
    next_output: u64,
    first_steps: Option<u32>,
}

impl Progress {
    /// Of a job that goes on from here.
    pub(super) fn new(left: OutputsLeft, job: &JobPlan) -> Self {
        let noted = left.salvaged.iter().enumerate();
        let rests = noted.filter(|(_, noted)| noted.rest.is_some());
        let takers = (0..job.stages.len()).map(|stage| job.edges_from(stage).count() as u64);
        let ends = job.stages.iter();
        let ends = ends.map(|stage| stage.end.as_ref().map(|end| end.output));
        let found = left.salvaged.iter().map(found_in);
        let origins = Origins::new(takers.collect(), left.ranges, &left.salvaged, found);
        Self {
            origins,
            ends: ends.collect(),
            counts: job.stages.iter().map(StagePlan::counts_rows).collect(),
            outputs: job.outputs.len() as u64,
            first_steps: Self::first_steps(job),
            rests: rests.map(|(number, _)| number).collect(),
            salvaged: left.salvaged,
            next_output: left.next_output,
        }
    }

    /// How many steps make the rows that come to the last stage, if one stage does, and leaves none out, which may be others the next time.
    pub(super) fn first_steps(job: &JobPlan) -> Option<u32> {
        match job.stages.as_slice() {
            [first, _] if !first.loses_rows() => u32::try_from(first.steps.len()).ok(),
            _ => None,
        }
    }

    /// What an earlier run has found in rows that it noted.
    pub(super) fn found_before(&self) -> (Vec<JudgedRows>, Vec<LeftOut>) {
        let all = || self.salvaged.iter().map(|salvaged| &salvaged.whole);
        let judged = all().flat_map(|span| &span.judged).copied();
        let left_out = all().flat_map(|span| &span.left_out).cloned();
        (judged.collect(), left_out.collect())
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
        (self.is_last(start.stage) && number < self.salvaged.len()).then_some(number)
    }

    fn is_last(&self, stage: usize) -> bool {
        self.ends[stage].is_some()
    }

    /// Of which noted rows an input of the first stage makes the rest.
    fn rest(&self, start: &StartInput) -> Option<usize> {
        match start.content {
            InputContent::Split(index) => self.rests.get(index).copied(),
            InputContent::Blocks { .. } => None,
        }
    }

    /// The number of what an input of a last stage writes: no two have the same, whichever output of the job they are of.
    pub(super) fn number_of(&self, start: &StartInput) -> Option<u64> {
        let output = self.ends[start.stage]? as u64;
        let place = || start.sequence - self.salvaged.len() as u64;
        let own = || self.next_output + place() * self.outputs + output;
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
        if let Some(Span { rows, ranges, .. }) = rest.and_then(|salvaged| salvaged.rest.as_ref()) {
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
            is_marked: !self.is_last(start.stage) && !self.counts[start.stage],
            noted: noted.map_or_else(Vec::new, |noted| noted.parts.clone()),
            ..input
        }
    }

    /// Whether the rows of the input are to be noted: not those that were noted before.
    pub(super) fn is_to_note(&self, start: &StartInput) -> bool {
        self.is_last(start.stage) && self.ends.len() > 1 && self.noted(start).is_none()
    }

    /// The same input, whose journal says what its rows are made of, and what was found on the way.
    pub(super) fn with_spans(&self, start: &StartInput, input: InputSpec) -> InputSpec {
        let spans = self.origins.spans((start.stage, start.sequence));
        let spans = spans.into_iter().map(|(span, found)| Span {
            judged: found.iter().flat_map(|one| &one.judged).copied().collect(),
            left_out: found
                .iter()
                .filter_map(|one| one.left_out.clone())
                .collect(),
            ..span
        });
        let spans = Spans {
            spans: spans.collect(),
            steps: self.first_steps,
        };
        InputSpec {
            spans: Some(spans),
            ..input
        }
    }
}

/// What was found of rows that are noted, as what counts with them.
fn found_in(salvaged: &Salvaged) -> Vec<WrittenOutput> {
    let Span {
        judged, left_out, ..
    } = &salvaged.whole;
    let judged = WrittenOutput {
        judged: judged.clone(),
        ..WrittenOutput::default()
    };
    let left_out = left_out.iter().map(|left_out| WrittenOutput {
        left_out: Some(left_out.clone()),
        ..WrittenOutput::default()
    });
    left_out.chain([judged]).collect()
}

/// What steps have left out of the input, if any may.
fn left_out_of(working: &Working, steps: Vec<LeftOutByStep>) -> Option<LeftOut> {
    let attempt = working.attempt;
    (!steps.is_empty()).then(|| LeftOut {
        attempt,
        steps,
        ..LeftOut::default()
    })
}

/// What was judged, by the attempt that has used its input up.
fn by_attempt(working: &Working, judged: Vec<JudgedRows>) -> Vec<JudgedRows> {
    let of_attempt = |rows| JudgedRows {
        input: 0,
        attempt: Some(working.attempt),
        ..rows
    };
    judged.into_iter().map(of_attempt).collect()
}

/// Begin and end of what lies between these ranges of an input.
fn all_but(ranges: &[SourceRange]) -> Vec<u64> {
    let ends = ranges.iter().flat_map(|range| [range.from, range.to]);
    let flat: Vec<u64> = std::iter::once(0).chain(ends).chain([END]).collect();
    let between = flat.chunks_exact(2).filter(|range| range[0] < range[1]);
    between.flatten().copied().collect()
}

impl ExecutionLoop {
    /// A worker is given an input.
    pub(super) fn begins(&mut self, start: &StartInput, place: u64) -> Working {
        let is_rerun = !start.wanted.is_empty();
        let mut number = place;
        if let Some(progress) = &mut self.progress {
            if !is_rerun {
                progress.begin(start, place);
            }
            number = progress.number_of(start).unwrap_or(place);
        }
        Working {
            stage: start.stage,
            sequence: start.sequence,
            number,
            attempt: self.next_attempt,
            is_rerun,
        }
    }

    /// A worker has made a block, or come to the end of an input that blocks are made of.
    pub(super) fn keep_origin(
        &mut self,
        worker: WorkerKey,
        report: &Report,
        block: Option<(BlockKey, u64)>,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOutByStep>,
    ) {
        let (Some(progress), Some(working)) = (&mut self.progress, self.working.get(&worker))
        else {
            return;
        };
        if working.is_rerun || progress.is_last(working.stage) {
            return;
        }
        let input = (working.stage, working.sequence);
        let left_out = left_out_of(working, left_out);
        if left_out.is_some() || !judged.is_empty() {
            let output = WrittenOutput {
                left_out,
                judged: by_attempt(working, judged),
                ..WrittenOutput::default()
            };
            progress.origins.attach(input, output);
        }
        let settled = progress
            .origins
            .made(input, block, &report.marks, report.is_last);
        for settled in settled {
            self.keep(settled);
        }
    }

    /// An input of a stage that writes an output is written.
    pub(super) fn keep_output(
        &mut self,
        output: usize,
        working: Working,
        files: Vec<WrittenFile>,
        judged: Vec<JudgedRows>,
        left_out: Vec<LeftOutByStep>,
    ) {
        let number = working.number;
        let left_out = left_out_of(&working, left_out);
        let Some(progress) = &mut self.progress else {
            let input = Some(number);
            let left_out = left_out.map(|left_out| LeftOut { input, ..left_out });
            let left_out = left_out.into_iter().collect();
            return self.outputs.add(output, number, files, judged, left_out);
        };
        let input = (working.stage, working.sequence);
        let of_output = |file| WrittenFile {
            output: output as u64,
            ..file
        };
        let output = WrittenOutput {
            number: Some(number),
            files: files.into_iter().map(of_output).collect(),
            left_out,
            judged: by_attempt(&working, judged),
        };
        if let Some(settled) = progress.origins.written(input, output) {
            self.keep(settled);
        }
    }

    /// LED-2 (all-or-made-again).
    fn keep(&mut self, settled: Settled<WrittenOutput>) {
        let mut part = DonePart {
            outputs: Vec::new(),
            ranges: settled.ranges,
        };
        let (mut files, mut judged, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for one in settled.outputs {
            part.outputs.extend(one.number);
            files.extend(one.files);
            judged.extend(one.judged);
            left_out.extend(one.left_out);
        }
        let output = part.outputs.first().copied();
        left_out.iter_mut().for_each(|one| one.output = output);
        judged.iter_mut().for_each(|one| one.output = output);
        self.outputs.add_part(part, files, judged, left_out);
    }

    /// All rows have come: what is written counts, whether all that it hangs on was told or not.
    pub(super) fn keep_rest(&mut self) {
        let Some(progress) = self.progress.take() else {
            return;
        };
        let rest = progress.origins.rest();
        let files = rest.into_iter().flat_map(|output| output.files);
        self.outputs.add_files(files);
    }
}
