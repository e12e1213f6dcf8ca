//! One stage of the executor: inputs that wait, inputs in work, outputs in order.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use aktis_common::ids::NodeId;

use super::deaths::StartFailures;
use super::event::{BlockKey, BlockSlice, InputContent, WorkerKey};
use super::feeds::{Feeds, Measure};
use super::kinds::KindShare;
use super::lineage::{Account, Ingredients, Origin, Recipe};
use super::outputs::Outputs;
use super::pending::PendingInputs;
use super::skew::Spread;
use super::workers::{WorkerState, WorkerTable};

/// What the executor must know of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSetup {
    /// For messages.
    pub name: String,
    /// Rows that an input should have, where inputs are made from blocks; 0: one block each.
    pub bundle_rows: u64,
    /// With so many bytes an input needs no more rows; 0: it does.
    pub enough_bytes: u64,
    /// Rows that it takes if as many wait, more than it should have; 0: it does not.
    pub long_rows: u64,
    /// As long as it has fewer bytes than that.
    pub long_bytes: u64,
    /// Small neighbouring partitions become one input up to so many bytes; 0: never.
    pub bundle_bytes: u64,
    /// Whether rows leave in the order of the inputs.
    pub keep_order: bool,
    /// Most rows that leave the stage as a whole.
    pub row_limit: Option<u64>,
    /// Whether rows leave as blocks, or end in a sink.
    pub makes_blocks: bool,
    /// Whether it gets one empty input where nothing came at all: its columns are known without rows.
    pub runs_empty: bool,
    /// Whether an input that is run again gives the same rows in the same blocks. If not, its blocks leave when all of them are
    /// there, and those of a run that did not come to its end are forgotten.
    pub is_repeatable: bool,
    /// What may be done with a partition that is too large for one worker; `None`: nothing.
    pub spread: Option<Spread>,
    /// Whether a worker may have its next input at hand while it works on one: then it does not wait for that.
    pub looks_ahead: bool,
}

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) stage: usize,
    /// Which of its feeds.
    pub(crate) feed: usize,
}

/// An input and what has become of it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) origin: Arc<Origin>,
    /// Where its rows lie, if they lie on one node and that is known.
    pub(crate) node: Option<NodeId>,
    /// Workers that died over it.
    pub(crate) deaths: u32,
    /// The kinds of workers that may have it; none: any.
    pub(crate) kinds: Box<[usize]>,
    pub(crate) blocks_out: u64,
    pub(crate) rows_out: u64,
}

/// A run of an input that was run before, for the sake of blocks that were lost since.
#[derive(Debug)]
pub(crate) struct Rerun {
    pub(crate) origin: Arc<Origin>,
    /// What is wanted of it, by the number of blocks before it.
    pub(crate) wanted: BTreeMap<u64, (BlockKey, Recipe)>,
    /// Workers that died over it.
    pub(crate) deaths: u32,
    /// The kinds of workers that may have it; none: any.
    pub(crate) kinds: Box<[usize]>,
}

impl Rerun {
    /// A run of `origin`, of which nothing is wanted yet.
    pub(crate) fn new(origin: Arc<Origin>, kinds: Box<[usize]>) -> Self {
        Self {
            origin,
            wanted: BTreeMap::new(),
            deaths: 0,
            kinds,
        }
    }

    /// Blocks and rows that the worker shall leave out: all before the first that is wanted.
    pub(crate) fn skipped(&self) -> (u64, u64) {
        let first = self.wanted.first_key_value();
        first.map_or((0, 0), |(_, (_, recipe))| {
            (recipe.blocks_before, recipe.rows_before)
        })
    }
}

/// What a worker works on.
#[derive(Debug)]
pub(crate) enum Work {
    /// An input whose outputs go their way.
    Input(Input),
    /// An input that is run for what was lost.
    Rerun(Rerun),
}

impl Work {
    /// Workers that died over it.
    pub(crate) fn deaths_mut(&mut self) -> &mut u32 {
        match self {
            Self::Input(input) => &mut input.deaths,
            Self::Rerun(rerun) => &mut rerun.deaths,
        }
    }

    fn into_origin(self) -> Arc<Origin> {
        match self {
            Self::Input(input) => input.origin,
            Self::Rerun(rerun) => rerun.origin,
        }
    }
}

/// An input in work.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) sequence: u64,
    pub(crate) work: Work,
    /// When it was given to its worker, by the time of the job.
    pub(crate) since: Duration,
}

/// A stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) setup: StageSetup,
    /// Inputs without a worker.
    pub(crate) pending: PendingInputs,
    /// Runs for what was lost, without a worker.
    pub(crate) reruns: BTreeMap<u64, Rerun>,
    pub(crate) workers: WorkerTable,
    /// Edges that rows come along; none: they come from a source.
    pub(crate) feeds: Feeds,
    /// Stages that rows go to; none: they go to the consumer or end here.
    pub(crate) next: Vec<Target>,
    /// Whether blocks leave in the order of the inputs: somebody needs that, and does not put them in order himself.
    pub(crate) gives_in_order: bool,
    pub(crate) is_done: bool,
    /// It is done because all that came in has gone out, and not because nobody wants more.
    pub(crate) is_used_up: bool,
    /// Bytes of blocks that the stage made and that are not free yet.
    pub(crate) output_bytes: u64,
    /// The largest block so far: what a pull is expected to bring.
    pub(crate) largest_block_bytes: u64,
    /// How many workers of each kind it may have now.
    pub(crate) targets: Vec<usize>,
    /// What will have come in at the end; `None`: nobody knows, or not all of it will be wanted.
    pub(crate) expected: Option<Expected>,
    /// Not all of its rows may be wanted: it or one behind it has a limit.
    pub(crate) is_limited: bool,
    /// Of workers of each kind.
    pub(crate) starts: Vec<StartFailures>,
    pub(crate) load: Load,
    /// What of it workers of each kind have had.
    pub(crate) shares: Vec<KindShare>,
    pub(crate) outputs: Outputs,
    next_sequence: u64,
    rows_released: u64,
}

/// Estimates of what comes to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// If that is known.
    pub(crate) rows: Option<u64>,
    pub(crate) inputs: u64,
}

/// What a stage's work has cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) busy: Duration,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
}

impl AddAssign for Load {
    fn add_assign(&mut self, more: Self) {
        self.busy += more.busy;
        self.rows_in += more.rows_in;
        self.rows_out += more.rows_out;
    }
}

impl Load {
    /// Seconds for each row that came in, if that is known.
    pub(crate) fn seconds_per_row(self) -> Option<f64> {
        let is_known = self.rows_in > 0 && !self.busy.is_zero();
        is_known.then(|| self.busy.as_secs_f64() / as_f64(self.rows_in))
    }

    pub(super) fn without(self, part: Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(part.busy),
            rows_in: self.rows_in.saturating_sub(part.rows_in),
            rows_out: self.rows_out.saturating_sub(part.rows_out),
        }
    }
}

impl Stage {
    /// A stage with so many kinds of workers.
    pub(crate) fn new(setup: StageSetup, kinds: usize) -> Self {
        let feeds = Feeds::new(setup.keep_order, setup.runs_empty, setup.spread.clone());
        Self {
            setup,
            pending: PendingInputs::default(),
            reruns: BTreeMap::new(),
            workers: WorkerTable::default(),
            feeds,
            next: Vec::new(),
            gives_in_order: false,
            is_done: false,
            is_used_up: false,
            output_bytes: 0,
            largest_block_bytes: 0,
            targets: vec![1; kinds],
            expected: None,
            is_limited: false,
            starts: vec![StartFailures::default(); kinds],
            load: Load::default(),
            shares: vec![KindShare::default(); kinds],
            outputs: Outputs::default(),
            next_sequence: 0,
            rows_released: 0,
        }
    }

    /// Whether its rows come from a source.
    pub(crate) fn is_source(&self) -> bool {
        self.feeds.is_empty()
    }

    /// Whether nothing more comes in.
    pub(crate) fn is_fed(&self) -> bool {
        self.feeds.are_over()
    }

    /// Whether there are inputs to be made yet.
    pub(crate) fn has_incoming(&self) -> bool {
        !self.feeds.is_empty() && self.feeds.have_blocks()
    }

    /// What it will have given at the end, as the next stage gets it; as long as nothing is known of it, as much as comes in.
    pub(crate) fn expected_to_leave(&self) -> Option<Expected> {
        let Expected { rows, inputs } = self.expected?;
        let Load {
            rows_in, rows_out, ..
        } = self.load;
        let grown = |rows: u64| {
            let grown = u128::from(rows) * u128::from(rows_out);
            let grown = grown.checked_div(u128::from(rows_in));
            grown.map_or(rows, |rows| u64::try_from(rows).unwrap_or(u64::MAX))
        };
        let rows = rows.map(grown);
        Some(Expected { rows, inputs })
    }

    /// Rows will come along edges: each input of those who give is at least a block, and several blocks may be one input here.
    pub(crate) fn expect(&mut self, coming: Option<Expected>) {
        let full = |rows: u64| rows.div_ceil(self.setup.bundle_rows.max(1)).max(1);
        self.expected = coming.map(|Expected { rows, inputs }| Expected {
            rows,
            inputs: rows.map_or(inputs, |rows| inputs.min(full(rows))),
        });
    }

    /// About how many inputs wait for a worker, those counted that are still to be made of blocks that are here.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len() + self.reruns.len() + self.feeds.ready_inputs(self.measure(false))
    }

    /// Most workers that can have something to do from now on; `None`: more may come in.
    pub(crate) fn useful_workers(&self) -> Option<usize> {
        self.is_fed().then(|| self.waiting() + self.workers.busy())
    }

    /// How much becomes one input.
    pub(crate) fn measure(&self, is_forced: bool) -> Measure {
        Measure {
            rows: self.setup.bundle_rows,
            enough_bytes: self.setup.enough_bytes,
            more_rows: self.more_rows(),
            more_bytes: self.setup.long_bytes,
            partition_bytes: self.setup.bundle_bytes,
            is_forced,
        }
    }

    /// What an input may have where calls overlap: all that is here, or so much of it that the last ones end at about the same time.
    fn more_rows(&self) -> u64 {
        if self.setup.long_rows == 0 {
            return 0;
        }
        let workers = match self.target_workers() as u64 {
            0 | 1 => 1,
            workers => 2 * workers,
        };
        let share = self.feeds.forward_rows().div_ceil(workers);
        share.min(self.setup.long_rows)
    }

    /// Workers that are worth starting before there is work for them.
    pub(crate) fn early_workers(&self) -> usize {
        let coming = self.expected.map_or(0, |expected| expected.inputs);
        let coming = coming.saturating_sub(self.next_sequence);
        usize::try_from(coming).unwrap_or(usize::MAX).max(1)
    }

    /// Adds an input at the end of the order. `node`: where its rows lie, if that is known.
    pub(crate) fn add_input(&mut self, stage: usize, content: Ingredients, node: Option<NodeId>) {
        let sequence = self.next_sequence;
        let origin = Arc::new(Origin {
            stage,
            sequence,
            content,
        });
        let input = Input {
            origin,
            node,
            deaths: 0,
            kinds: Box::default(),
            blocks_out: 0,
            rows_out: 0,
        };
        self.pending.insert(sequence, input);
        self.outputs.expect_input();
        self.next_sequence += 1;
    }

    /// Workers that died over an input that is not done.
    pub(crate) fn deaths_over(&mut self, sequence: u64) -> Option<&mut u32> {
        if let Some(input) = self.pending.get_mut(sequence) {
            return Some(&mut input.deaths);
        }
        if let Some(rerun) = self.reruns.get_mut(&sequence) {
            return Some(&mut rerun.deaths);
        }
        let mut active = self.workers.all_active_mut();
        let active = active.find(|active| active.sequence == sequence)?;
        Some(active.work.deaths_mut())
    }

    /// Puts back what a worker had and did not end. Returns the blocks that it has given in vain.
    #[must_use]
    pub(crate) fn put_back(&mut self, all: impl IntoIterator<Item = Active>) -> Vec<BlockSlice> {
        let all = all.into_iter();
        all.flat_map(|active| self.put_one_back(active)).collect()
    }

    fn put_one_back(&mut self, active: Active) -> Vec<BlockSlice> {
        match active.work {
            Work::Input(mut input) => {
                let mut unwanted = Vec::new();
                if !self.setup.is_repeatable {
                    (input.blocks_out, input.rows_out) = (0, 0);
                    unwanted = self.outputs.forget(active.sequence);
                }
                self.pending.insert(active.sequence, input);
                return unwanted;
            }
            Work::Rerun(mut rerun) => {
                // More may have been asked for meanwhile.
                if let Some(more) = self.reruns.remove(&active.sequence) {
                    rerun.wanted.extend(more.wanted);
                }
                self.reruns.insert(active.sequence, rerun);
            }
        }
        Vec::new()
    }

    /// Whether something is under way that will come back by itself and may change what can be done. One more worker beside
    /// others cannot, and may wait for room for long.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.awaits_first_worker() || self.workers.pulling() > 0
    }

    /// Whether there are workers, but none that has loaded its functions.
    pub(crate) fn awaits_first_worker(&self) -> bool {
        let starting = self.workers.starting();
        starting > 0 && starting == self.workers.count()
    }

    /// A block of the input at `sequence`.
    pub(crate) fn hold(&mut self, sequence: u64, block: BlockSlice) {
        self.output_bytes += block.bytes;
        self.largest_block_bytes = self.largest_block_bytes.max(block.bytes);
        self.outputs.hold(sequence, block);
    }

    /// Blocks that may leave now, cut to the stage's row limit, and those that nobody will want.
    pub(crate) fn release(&mut self) -> (Vec<BlockSlice>, Vec<BlockSlice>) {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        let are_whole = !self.setup.is_repeatable;
        for mut block in self.outputs.release(self.gives_in_order, are_whole) {
            let left = self.rows_wanted().unwrap_or(u64::MAX);
            if left == 0 {
                unwanted.push(block);
                continue;
            }
            block.rows = block.rows.min(left);
            self.rows_released += block.rows;
            wanted.push(block);
        }
        (wanted, unwanted)
    }

    /// Rows that may still leave, if there is a limit.
    pub(crate) fn rows_wanted(&self) -> Option<u64> {
        self.setup.row_limit.map(|limit| limit - self.rows_released)
    }

    /// Whether everything that came in has gone out, or all that is wanted of it, and nothing of it has to be made again.
    pub(crate) fn is_drained(&self) -> bool {
        let runs_again = !self.reruns.is_empty() || self.is_rerunning();
        let has_all = self.rows_wanted() == Some(0);
        !runs_again && (has_all || self.has_no_input_left())
    }

    /// Whether everything that came in has gone out.
    pub(crate) fn has_no_input_left(&self) -> bool {
        self.is_fed()
            && !self.has_incoming()
            && self.pending.is_empty()
            && self.workers.busy() == 0
            && self.outputs.is_drained()
    }

    fn is_rerunning(&self) -> bool {
        // Only a stage that has nothing else to do asks, so that few workers are looked at.
        let may_be = self.pending.is_empty() && !self.has_incoming();
        let limit_is_reached = self.rows_wanted() == Some(0);
        (may_be || limit_is_reached)
            && self
                .workers
                .all_active()
                .any(|active| matches!(active.work, Work::Rerun(_)))
    }

    /// All blocks that wait for something here, and all workers.
    pub(crate) fn drain(&mut self) -> (Vec<(BlockKey, Account)>, Vec<WorkerKey>) {
        let mut blocks = self.feeds.drain();
        let mut origins: Vec<Arc<Origin>> = Vec::new();
        let mut workers = Vec::new();
        for (worker, state) in self.workers.drain() {
            workers.push(worker);
            if let WorkerState::Busy(held) = state {
                origins.extend(held.into_all().map(|active| active.work.into_origin()));
            }
        }
        origins.extend(self.pending.drain().map(|input| input.origin));
        let reruns = std::mem::take(&mut self.reruns).into_values();
        origins.extend(reruns.map(|rerun| rerun.origin));
        let ingredients = origins.iter().flat_map(|origin| origin.ingredients());
        blocks.extend(ingredients.map(|one| (one.part.block, one.account)));
        let held = self.outputs.drain().into_iter();
        blocks.extend(held.map(|part| (part.block, Account::Budget)));
        (blocks, workers)
    }
}

/// The input, to be given to a worker.
pub(crate) fn content_of(work: &Work) -> InputContent {
    match work {
        Work::Input(input) => input.origin.to_content(),
        Work::Rerun(rerun) => rerun.origin.to_content(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
