//! Rows that were put aside, until somebody reads them: blocks in the object store, which spills them where they are many.

use std::collections::BTreeMap;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{NewLetters, decode};
use crate::block::{self, BlockHandle, data_bytes};
use crate::columns::conform;
use crate::executor::pool::{BlockReader, StagePool};
use crate::operators::failing::letters::{common_schema, together};
use crate::sources::SourceBlock;

/// Letters that wait in this process to become a block.
const BLOCK_BYTES: u64 = 4 << 20;

/// Letters of one step.
#[derive(Debug, Clone)]
pub struct LetterBlock {
    /// The stage of the step.
    pub stage: usize,
    /// The step.
    pub operator: String,
    /// Their columns.
    pub schema: SchemaRef,
    /// Where they lie.
    pub handle: BlockHandle,
    /// How many.
    pub rows: u64,
    /// Bytes in memory.
    pub bytes: u64,
}

/// All letters of an execution.
#[derive(Default)]
pub(crate) struct DeadLetters {
    blocks: Vec<LetterBlock>,
    waiting: BTreeMap<(usize, usize), LettersOfStep>,
}

#[derive(Default)]
struct LettersOfStep {
    operator: String,
    batches: Vec<RecordBatch>,
    bytes: u64,
}

impl DeadLetters {
    /// Adds letters.
    pub(crate) fn add(
        &mut self,
        letters: Vec<NewLetters>,
        pool: &dyn StagePool,
    ) -> Result<(), TaskFailure> {
        for new in letters {
            let batches = decode(new.stream)?;
            self.add_batches((new.stage, new.step), new.operator, batches, pool)?;
        }
        Ok(())
    }

    /// Adds those of a step of a stage.
    pub(crate) fn add_batches(
        &mut self,
        (stage, step): (usize, usize),
        operator: String,
        batches: Vec<RecordBatch>,
        pool: &dyn StagePool,
    ) -> Result<(), TaskFailure> {
        let waiting = self.waiting.entry((stage, step)).or_default();
        waiting.operator = operator;
        waiting.bytes += batches.iter().map(data_bytes).sum::<u64>();
        waiting.batches.extend(batches);
        if waiting.bytes >= BLOCK_BYTES {
            let waiting = std::mem::take(waiting);
            self.blocks.extend(waiting.put(stage, pool)?);
        }
        Ok(())
    }

    /// Adds those of a leg that is over.
    pub(crate) fn add_blocks(&mut self, blocks: impl IntoIterator<Item = LetterBlock>) {
        self.blocks.extend(blocks);
    }

    /// How many lie in the store.
    pub(crate) fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// No more come.
    pub(crate) fn flush(&mut self, pool: &dyn StagePool) -> Result<(), TaskFailure> {
        for ((stage, _), waiting) in std::mem::take(&mut self.waiting) {
            self.blocks.extend(waiting.put(stage, pool)?);
        }
        Ok(())
    }

    /// Those that lie in the store.
    pub(crate) fn blocks(&self) -> &[LetterBlock] {
        &self.blocks
    }
}

impl LettersOfStep {
    /// Puts the letters into the object store, as few blocks as their columns allow.
    fn put(self, stage: usize, pool: &dyn StagePool) -> Result<Vec<LetterBlock>, TaskFailure> {
        let mut blocks = Vec::new();
        for batch in together(self.batches)? {
            let source = SourceBlock::local(batch);
            let handle = pool.put(&source)?;
            let batch = source.batch().expect("it was made of one");
            blocks.push(LetterBlock {
                stage,
                operator: self.operator.clone(),
                schema: batch.schema(),
                handle,
                rows: source.rows,
                bytes: source.bytes,
            });
        }
        Ok(blocks)
    }
}

/// The letters of blocks, as files have them: a step each, all with the same columns where there are such.
pub(in crate::executor) fn read_by_step(
    blocks: &[LetterBlock],
    reader: &BlockReader,
) -> Result<Vec<Vec<RecordBatch>>, TaskFailure> {
    let schema = common_schema(blocks.iter().map(|block| &block.schema));
    let mut steps: BTreeMap<&str, Vec<RecordBatch>> = BTreeMap::new();
    for block in blocks {
        let (_, batches) = block::decode(reader(&block.handle)?).map_err(|error| {
            TaskFailure::new(
                ErrorCode::Internal,
                format!("read rows that failed: {error}"),
            )
        })?;
        for batch in batches {
            let batch = match &schema {
                Some(schema) => conform(&batch, schema).unwrap_or(batch),
                None => batch,
            };
            steps.entry(&block.operator).or_default().push(batch);
        }
    }
    // A file has one type per column.
    let mut files: Vec<Vec<RecordBatch>> = Vec::new();
    for batch in steps.into_values().flatten() {
        let is_alike = |file: &&mut Vec<RecordBatch>| {
            let same_step = |one: &RecordBatch| one.schema() == batch.schema();
            file.first().is_some_and(same_step)
        };
        match files.iter_mut().find(is_alike) {
            Some(file) => file.push(batch),
            None => files.push(vec![batch]),
        }
    }
    Ok(files)
}
