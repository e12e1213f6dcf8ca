//! One stage of the executor: inputs that wait, inputs in work, outputs in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::{BlockSlice, InputContent, WorkerKey};

/// What the executor must know of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSetup {
    /// For messages.
    pub name: String,
    /// Rows that an input should have, where inputs are made from blocks; 0: one block each.
    pub bundle_rows: u64,
    /// Most rows that leave the stage as a whole.
    pub row_limit: Option<u64>,
    /// Whether rows leave as blocks, or end in a sink.
    pub makes_blocks: bool,
}

/// An input and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) content: InputContent,
    /// Workers that died over it.
    pub(crate) deaths: u32,
    pub(crate) blocks_out: u64,
    pub(crate) rows_out: u64,
}

/// An input in work.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) sequence: u64,
    pub(crate) input: Input,
    /// A pull is under way.
    pub(crate) is_pulling: bool,
}

/// A worker of the stage.
#[derive(Debug, Clone)]
pub(crate) enum WorkerState {
    Starting,
    Idle,
    Busy(Active),
}

/// Outputs of one input that wait for those before.
#[derive(Debug, Default)]
struct HeldOutputs {
    blocks: VecDeque<BlockSlice>,
    is_complete: bool,
}

/// A stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) setup: StageSetup,
    /// Inputs without a worker, by their place in the order.
    pub(crate) pending: BTreeMap<u64, Input>,
    pub(crate) workers: BTreeMap<WorkerKey, WorkerState>,
    /// Blocks that no input has been made of yet.
    pub(crate) incoming: VecDeque<BlockSlice>,
    /// Nothing more comes in.
    pub(crate) is_fed: bool,
    pub(crate) is_done: bool,
    /// Bytes of blocks that the stage made and that are not free yet.
    pub(crate) output_bytes: u64,
    /// The largest block so far: what a pull is expected to bring.
    pub(crate) largest_block_bytes: u64,
    /// How many workers it may have now.
    pub(crate) target_workers: usize,
    pub(crate) start_failures: u32,
    pub(crate) load: Load,
    held: BTreeMap<u64, HeldOutputs>,
    next_released: u64,
    next_sequence: u64,
    rows_released: u64,
}

/// What a stage's work has cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    pub(crate) busy: Duration,
    pub(crate) rows_in: u64,
    pub(crate) rows_out: u64,
}

impl Stage {
    pub(crate) fn new(setup: StageSetup) -> Self {
        Self {
            setup,
            pending: BTreeMap::new(),
            workers: BTreeMap::new(),
            incoming: VecDeque::new(),
            is_fed: false,
            is_done: false,
            output_bytes: 0,
            largest_block_bytes: 0,
            target_workers: 1,
            start_failures: 0,
            load: Load::default(),
            held: BTreeMap::new(),
            next_released: 0,
            next_sequence: 0,
            rows_released: 0,
        }
    }

    /// Adds an input at the end of the order.
    pub(crate) fn add_input(&mut self, content: InputContent) {
        let input = Input {
            content,
            deaths: 0,
            blocks_out: 0,
            rows_out: 0,
        };
        self.pending.insert(self.next_sequence, input);
        self.held.insert(self.next_sequence, HeldOutputs::default());
        self.next_sequence += 1;
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = (WorkerKey, &Active)> {
        self.workers.iter().filter_map(|(&key, state)| match state {
            WorkerState::Busy(active) => Some((key, active)),
            WorkerState::Starting | WorkerState::Idle => None,
        })
    }

    pub(crate) fn idle_worker(&self) -> Option<WorkerKey> {
        let is_idle = |state: &WorkerState| matches!(state, WorkerState::Idle);
        self.workers
            .iter()
            .find(|(_, state)| is_idle(state))
            .map(|(&key, _)| key)
    }

    pub(crate) fn starting(&self) -> usize {
        self.workers
            .values()
            .filter(|state| matches!(state, WorkerState::Starting))
            .count()
    }

    pub(crate) fn pulls_under_way(&self) -> u64 {
        self.active()
            .filter(|(_, active)| active.is_pulling)
            .count() as u64
    }

    /// Whether something is under way that will come back by itself.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.starting() > 0 || self.pulls_under_way() > 0
    }

    /// The place in the order whose outputs are released next.
    pub(crate) fn head(&self) -> u64 {
        self.next_released
    }

    /// A block of the input at `sequence`.
    pub(crate) fn hold(&mut self, sequence: u64, block: BlockSlice) {
        self.output_bytes += block.bytes;
        self.largest_block_bytes = self.largest_block_bytes.max(block.bytes);
        self.held
            .entry(sequence)
            .or_default()
            .blocks
            .push_back(block);
    }

    /// The input at `sequence` is used up.
    pub(crate) fn complete(&mut self, sequence: u64) {
        self.held.entry(sequence).or_default().is_complete = true;
    }

    /// Blocks that may leave now, cut to the stage's row limit, and those that nobody will want.
    pub(crate) fn release(&mut self, keep_order: bool) -> (Vec<BlockSlice>, Vec<BlockSlice>) {
        let mut blocks = Vec::new();
        if keep_order {
            while let Some(held) = self.held.get_mut(&self.next_released) {
                blocks.extend(held.blocks.drain(..));
                if !held.is_complete {
                    break;
                }
                self.held.remove(&self.next_released);
                self.next_released += 1;
            }
        } else {
            for held in self.held.values_mut() {
                blocks.extend(held.blocks.drain(..));
            }
            self.held.retain(|_, held| !held.is_complete);
        }
        self.cut_to_limit(blocks)
    }

    fn cut_to_limit(&mut self, blocks: Vec<BlockSlice>) -> (Vec<BlockSlice>, Vec<BlockSlice>) {
        let (mut wanted, mut unwanted) = (Vec::new(), Vec::new());
        for mut block in blocks {
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

    /// Whether everything that came in has gone out.
    pub(crate) fn is_drained(&self) -> bool {
        self.rows_wanted() == Some(0)
            || (self.is_fed
                && self.incoming.is_empty()
                && self.pending.is_empty()
                && self.active().next().is_none()
                && self.held.is_empty())
    }

    /// All blocks that wait for something here.
    pub(crate) fn drain_blocks(&mut self) -> Vec<BlockSlice> {
        let mut blocks: Vec<BlockSlice> = self.incoming.drain(..).collect();
        let active = self.workers.values().filter_map(|state| match state {
            WorkerState::Busy(active) => Some(&active.input),
            WorkerState::Starting | WorkerState::Idle => None,
        });
        for input in active.chain(self.pending.values()) {
            if let InputContent::Blocks(parts) = &input.content {
                blocks.extend(parts);
            }
        }
        self.pending.clear();
        blocks
    }

    /// Outputs that have not left.
    pub(crate) fn drain_outputs(&mut self) -> Vec<BlockSlice> {
        std::mem::take(&mut self.held)
            .into_values()
            .flat_map(|held| held.blocks)
            .collect()
    }

    /// The blocks of the next input, if there are enough for one.
    pub(crate) fn next_bundle(&mut self, is_forced: bool) -> Option<Vec<BlockSlice>> {
        let mut rows = 0;
        let mut count = 0;
        for block in &self.incoming {
            rows += block.rows;
            count += 1;
            if rows >= self.setup.bundle_rows {
                break;
            }
        }
        let is_enough = count > 0 && (rows >= self.setup.bundle_rows || self.is_fed || is_forced);
        is_enough.then(|| self.incoming.drain(..count).collect())
    }
}
