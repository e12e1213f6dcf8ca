//! How rows find their partitions, there and back.

use aktis_worker::TaskFailure;

use super::decode::incomplete;
use super::fragment::{decode_key, encode_key};
use super::spec::{NamesStep, PartitionKind, PartitionerSpec, RangeSpec};
use crate::graph::{PartitionBy, Partitioner};

pub(super) fn encode(partitioner: &Partitioner) -> PartitionerSpec {
    let kind = match &partitioner.by {
        PartitionBy::Hash { keys } => PartitionKind::Hash(NamesStep {
            names: keys.clone(),
        }),
        PartitionBy::Range { keys, bounds_feed } => PartitionKind::Range(RangeSpec {
            keys: keys.iter().map(encode_key).collect(),
            bounds_feed: *bounds_feed,
        }),
        PartitionBy::Random { seed } => PartitionKind::Random(*seed),
    };
    PartitionerSpec {
        partitions: partitioner.partitions,
        kind: Some(kind),
    }
}

pub(super) fn decode(spec: PartitionerSpec) -> Result<Partitioner, TaskFailure> {
    let by = match spec
        .kind
        .ok_or_else(|| incomplete("a partitioner", "kind"))?
    {
        PartitionKind::Hash(keys) => PartitionBy::Hash { keys: keys.names },
        PartitionKind::Range(RangeSpec { keys, bounds_feed }) => {
            let keys = keys.into_iter().map(decode_key).collect();
            PartitionBy::Range { keys, bounds_feed }
        }
        PartitionKind::Random(seed) => PartitionBy::Random { seed },
    };
    Ok(Partitioner {
        partitions: spec.partitions,
        by,
    })
}
