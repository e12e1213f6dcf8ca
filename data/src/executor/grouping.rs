//! Stages that run in one worker: what it may use, what it gets, what it is told.

use std::sync::Arc;

use aktis_common::resources::CPU;
use aktis_common::scheduling::NodeView;
use datafusion_common::DataFusionError;
use datafusion_expr::TableSource;
use prost::Message;

use super::specs::source_settings;
use super::splits::{row_work, splits};
use crate::graph::{
    GroupMember, GroupRoom, GroupTask, JobPlan, PartitionBy, Partitioner, SourcePlan, StageGroup,
    StagePlan,
};
use crate::sources::{self, ReadRoom, Split};
use crate::wire::group::{GroupPosition, MemberPosition, SplitPosition};

/// More threads of one worker would mostly wait for each other.
const MAX_THREADS: usize = 32;
/// Rows that operators get at once. What they make of them fits into a processor's cache, and is small enough for the allocator to
/// hand out again; of larger batches every column is memory that the kernel has to clear first.
const READ_ROWS: u64 = 8192;
/// Operators of a thread need so much: several of them sort at once.
const MEMORY_OF_THREAD: u64 = 16 << 20;

/// What the one worker of a group may use on this node: all the memory that relational work may, and every processor. It holds
/// one of these like any worker; its other threads run where a processor would be idle.
pub(super) fn room(memory_bytes: u64, node: &NodeView) -> GroupRoom {
    let processors = usize::try_from(node.resources.total().get(CPU).whole()).unwrap_or(0);
    let by_memory = usize::try_from(memory_bytes / MEMORY_OF_THREAD).unwrap_or(MAX_THREADS);
    GroupRoom {
        memory_bytes,
        threads: processors.min(by_memory).clamp(1, MAX_THREADS),
    }
}

/// The job with stages that run in one worker. What that worker reads twice costs less than what goes through the store, so it gets
/// the whole job `apart`, where each stage gives to one other, if it can have it all.
pub(super) fn grouped(job: JobPlan, apart: JobPlan, room: GroupRoom) -> JobPlan {
    let whole = apart.grouped(room);
    if whole
        .stages
        .iter()
        .any(|stage| stage.source.is_some() || stage.has_map)
    {
        return job.grouped(room);
    }
    whole
}

/// All inputs of all stages of a group as its one input.
pub(super) fn split(group: &StageGroup) -> Split {
    let (mut blocks, mut rows, mut row_bytes) = (Vec::new(), 0, 0);
    let mut position = GroupPosition::default();
    for stage in &group.stages {
        let mut member = MemberPosition::default();
        for split in splits(stage, group.threads, row_work(stage), false) {
            member.splits.push(SplitPosition {
                position: split.position,
                blocks: u32::try_from(split.blocks.len()).unwrap_or(u32::MAX),
            });
            blocks.extend(split.blocks);
            rows += split.rows;
            row_bytes = split.row_bytes.max(row_bytes);
        }
        position.members.push(member);
    }
    Split {
        position: position.encode_to_vec().into(),
        blocks,
        rows,
        row_bytes,
    }
}

/// What its worker does. `room`: for each of its inputs.
pub(super) fn task(group: &StageGroup, room: ReadRoom) -> Result<GroupTask, DataFusionError> {
    let room = ReadRoom {
        most_rows: READ_ROWS,
        ..room
    };
    let member = |stage: &StagePlan| {
        let table = stage
            .source
            .as_ref()
            .and_then(|plan| Some((plan, plan.table.as_deref()?)));
        let columns =
            |(plan, table): (&SourcePlan, &dyn TableSource)| match sources::of_table(table) {
                Some(source) if source.reads_columns() => {
                    table.schema().project(&plan.columns).map(Arc::new)
                }
                _ => Ok(table.schema()),
            };
        let source = match table {
            Some(table) => Some((source_settings(stage, room)?, columns(table)?)),
            None => None,
        };
        let keys = match &stage.partitioner {
            Some(Partitioner {
                by: PartitionBy::Hash { keys },
                ..
            }) => keys.clone(),
            _ => Vec::new(),
        };
        Ok(GroupMember {
            source,
            steps: stage.to_steps(0).0,
            row_limit: stage.row_limit,
            keys,
        })
    };
    let members: Result<_, DataFusionError> = group.stages.iter().map(member).collect();
    Ok(GroupTask {
        members: members?,
        edges: group.edges.clone(),
        threads: u32::try_from(group.threads).unwrap_or(1),
    })
}
