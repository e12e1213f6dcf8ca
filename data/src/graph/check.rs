//! What a graph must be, to be carried out.

use super::edge::{Edge, EdgeKind};
use super::job::{JobPlan, StagePlan};
use super::partition::PartitionBy;
use crate::error::PlanError;

impl JobPlan {
    /// Fails if the job is none that can be carried out, and says which stage is at fault.
    pub fn check(&self) -> Result<(), PlanError> {
        self.check_outputs()?;
        for (index, stage) in self.stages.iter().enumerate() {
            let fault = self
                .fault_of_inputs(index)
                .or_else(|| self.fault_of_outputs(index));
            if let Some(fault) = fault {
                return Err(refused(&format!("{} {fault}", stage.name())));
            }
        }
        Ok(())
    }

    /// Every output is that of one stage. Rows that leave as blocks have one consumer.
    fn check_outputs(&self) -> Result<(), PlanError> {
        let ends = || self.stages.iter().filter_map(|stage| stage.end.as_ref());
        for output in 0..self.outputs.len() {
            let sinks = ends().filter(|end| end.output == output).count();
            if sinks != 1 {
                let why = format!("its output {output} has {sinks} sinks, and needs one");
                return Err(refused(&why));
            }
        }
        let (all, outputs) = (ends().count(), self.outputs.len());
        if all != outputs {
            return Err(refused(&format!(
                "it has {all} sinks for {outputs} outputs"
            )));
        }
        let consumed = ends().filter(|end| end.sink.settings().is_none());
        if consumed.count() > 1 {
            return Err(refused(
                "several of its outputs have no sink, and it has one consumer",
            ));
        }
        Ok(())
    }

    fn fault_of_inputs(&self, index: usize) -> Option<String> {
        let stage = &self.stages[index];
        let edges: Vec<Edge> = self.edges_to(index).copied().collect();
        if edges.iter().any(|edge| edge.from >= edge.to) {
            return Some("comes before what it reads from".to_owned());
        }
        let of_kind =
            |is_it: fn(EdgeKind) -> bool| edges.iter().filter(move |edge| is_it(edge.kind));
        let forward = of_kind(|kind| kind == EdgeKind::Forward).count();
        let is_exchange = |kind| matches!(kind, EdgeKind::Exchange { .. } | EdgeKind::Even { .. });
        let exchanges: Vec<EdgeKind> = of_kind(is_exchange).map(|edge| edge.kind).collect();
        let own = usize::from(stage.source.is_some() || stage.group.is_some());
        if own == 1 && !edges.is_empty() {
            return Some("has a source and rows of other stages".to_owned());
        }
        if own + forward + exchanges.len() == 0 {
            return Some("has nothing to begin its inputs with".to_owned());
        }
        if forward > 0 && !exchanges.is_empty() {
            return Some("has forward edges beside exchanges".to_owned());
        }
        if exchanges.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some("has exchanges of different kinds or numbers of partitions".to_owned());
        }
        self.fault_of_bounds(stage, &edges)
    }

    /// Bounds come along a broadcast edge.
    fn fault_of_bounds(&self, stage: &StagePlan, edges: &[Edge]) -> Option<String> {
        let PartitionBy::Range { bounds_feed, .. } = &stage.partitioner.as_ref()?.by else {
            return None;
        };
        let feed = usize::try_from(*bounds_feed).ok();
        let edge = feed.and_then(|feed| edges.get(feed));
        let is_broadcast = edge.is_some_and(|edge| edge.kind == EdgeKind::Broadcast);
        (!is_broadcast).then(|| "has no broadcast edge for its bounds".to_owned())
    }

    fn fault_of_outputs(&self, index: usize) -> Option<String> {
        let stage = &self.stages[index];
        let edges: Vec<Edge> = self.edges_from(index).copied().collect();
        if edges.is_empty() == stage.end.is_none() {
            let fault = if edges.is_empty() {
                "has neither a sink nor stages that its rows go to"
            } else {
                "has a sink, and stages that its rows go to"
            };
            return Some(fault.to_owned());
        }
        let counts = edges.iter().filter_map(|edge| match edge.kind {
            EdgeKind::Exchange { partitions } => Some(partitions),
            EdgeKind::Forward | EdgeKind::Even { .. } | EdgeKind::Broadcast => None,
        });
        let own = stage.partitioner.as_ref().map(|by| by.partitions);
        let mut others = counts.filter(|&count| count != 1 && Some(count) != own);
        if let Some(count) = others.next() {
            return Some(format!(
                "goes into an exchange of {count} partitions, and tells rows apart by {}",
                own.unwrap_or(1)
            ));
        }
        if own == Some(0) {
            return Some("tells rows apart by no partition at all".to_owned());
        }
        let cuts_rows = own.is_some() && stage.row_limit.is_some();
        cuts_rows.then(|| "has a limit and partitions, which would cut some of them".to_owned())
    }
}

fn refused(why: &str) -> PlanError {
    PlanError::InvalidArgument(format!("this job cannot be run: {why}"))
}
