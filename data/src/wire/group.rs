//! Stages that run together, there and back; and their inputs.

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use bytes::Bytes;
use datafusion_common::DataFusionError;
use prost::{Message, Oneof};

use super::decode::{self, incomplete};
use super::encode;
use super::spec::{RegisteredSpec, Step};
use crate::block;
use crate::graph::{Edge, EdgeKind, GroupMember, GroupTask};

/// As [`GroupTask`].
#[derive(Clone, PartialEq, Message)]
pub struct GroupSpec {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<MemberSpec>,
    /// Those to one member in the order of its feeds.
    #[prost(message, repeated, tag = "2")]
    pub edges: Vec<EdgeSpec>,
    /// Threads that work at once.
    #[prost(uint32, tag = "3")]
    pub threads: u32,
}

/// As [`GroupMember`].
#[derive(Clone, PartialEq, Message)]
pub struct MemberSpec {
    /// Absent: its rows come along edges.
    #[prost(message, optional, tag = "1")]
    pub source: Option<RegisteredSpec>,
    /// The columns that are read.
    #[prost(bytes = "bytes", tag = "2")]
    pub columns: Bytes,
    /// In order.
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<Step>,
    /// Most rows that leave.
    #[prost(uint64, optional, tag = "4")]
    pub row_limit: Option<u64>,
    /// What tells rows apart.
    #[prost(string, repeated, tag = "5")]
    pub keys: Vec<String>,
}

/// As [`Edge`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct EdgeSpec {
    /// Who gives.
    #[prost(uint32, tag = "1")]
    pub from: u32,
    /// Who gets.
    #[prost(uint32, tag = "2")]
    pub to: u32,
    /// How.
    #[prost(oneof = "EdgeSpecKind", tags = "3, 4, 5, 6")]
    pub kind: Option<EdgeSpecKind>,
}

/// As [`EdgeKind`].
#[derive(Clone, Copy, PartialEq, Oneof)]
pub enum EdgeSpecKind {
    /// As they come.
    #[prost(message, tag = "3")]
    Forward(()),
    /// By so many partitions.
    #[prost(uint32, tag = "4")]
    Exchange(u32),
    /// All of them to everybody.
    #[prost(message, tag = "5")]
    Broadcast(()),
    /// By place, so many runs of rows.
    #[prost(uint32, tag = "6")]
    Even(u32),
}

/// What an input of a group is: of each member, where its rows lie.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GroupPosition {
    /// In the order of the members.
    #[prost(message, repeated, tag = "1")]
    pub(crate) members: Vec<MemberPosition>,
}

/// Where the rows of a member lie.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MemberPosition {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub(crate) splits: Vec<SplitPosition>,
}

/// As [`Split`](crate::sources::Split).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SplitPosition {
    /// As its source says.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) position: Bytes,
    /// How many of the blocks of the input belong to it, after those of the splits before.
    #[prost(uint32, tag = "2")]
    pub(crate) blocks: u32,
}

impl GroupPosition {
    pub(crate) fn read(bytes: Bytes) -> Result<Self, TaskFailure> {
        Self::decode(bytes).map_err(|error| {
            let text = format!("read a message for a stage worker: {error}");
            TaskFailure::new(ErrorCode::Internal, text)
        })
    }
}

pub(super) fn encode(group: &GroupTask) -> Result<GroupSpec, DataFusionError> {
    let place = |stage: usize| u32::try_from(stage).unwrap_or(u32::MAX);
    let edge = |edge: &Edge| EdgeSpec {
        from: place(edge.from),
        to: place(edge.to),
        kind: Some(match edge.kind {
            EdgeKind::Forward => EdgeSpecKind::Forward(()),
            EdgeKind::Exchange { partitions } => EdgeSpecKind::Exchange(partitions),
            EdgeKind::Even { partitions } => EdgeSpecKind::Even(partitions),
            EdgeKind::Broadcast => EdgeSpecKind::Broadcast(()),
        }),
    };
    let members: Result<_, DataFusionError> = group.members.iter().map(encode_member).collect();
    Ok(GroupSpec {
        members: members?,
        edges: group.edges.iter().map(edge).collect(),
        threads: group.threads,
    })
}

fn encode_member(member: &GroupMember) -> Result<MemberSpec, DataFusionError> {
    let steps = member.steps.iter().map(encode::step);
    let source = member.source.as_ref();
    Ok(MemberSpec {
        source: source.map(|(source, _)| encode::registered(source)),
        columns: match source {
            Some((_, columns)) => block::encode_schema(columns)?,
            None => Bytes::new(),
        },
        steps: steps.collect::<Result<_, _>>()?,
        row_limit: member.row_limit,
        keys: member.keys.clone(),
    })
}

pub(super) fn decode(spec: GroupSpec) -> Result<GroupTask, TaskFailure> {
    let edge = |spec: EdgeSpec| {
        let kind = match spec.kind.ok_or_else(|| incomplete("an edge", "kind"))? {
            EdgeSpecKind::Forward(()) => EdgeKind::Forward,
            EdgeSpecKind::Exchange(partitions) => EdgeKind::Exchange { partitions },
            EdgeSpecKind::Even(partitions) => EdgeKind::Even { partitions },
            EdgeSpecKind::Broadcast(()) => EdgeKind::Broadcast,
        };
        let (from, to) = (spec.from as usize, spec.to as usize);
        Ok(Edge { from, to, kind })
    };
    let members: Result<_, TaskFailure> = spec.members.into_iter().map(decode_member).collect();
    let edges: Result<_, TaskFailure> = spec.edges.into_iter().map(edge).collect();
    Ok(GroupTask {
        members: members?,
        edges: edges?,
        threads: spec.threads,
    })
}

fn decode_member(spec: MemberSpec) -> Result<GroupMember, TaskFailure> {
    let columns = spec.columns;
    let source = spec.source.map(|source| {
        let columns = decode::schema(columns)?;
        Ok((decode::registered(source), columns))
    });
    let steps: Result<_, TaskFailure> = spec.steps.into_iter().map(decode::operator).collect();
    Ok(GroupMember {
        source: source.transpose()?,
        steps: steps?,
        row_limit: spec.row_limit,
        keys: spec.keys,
    })
}
