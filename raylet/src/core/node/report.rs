//! What the node reports of itself, and when.

use std::time::{Duration, Instant};

use aktis_proto::v1::NodeInfo;

use crate::core::effect::Effect;
use crate::core::{Effects, RayletCore};

/// When the state of the node is reported: at once after quiet, else bundled.
#[derive(Debug)]
pub(in crate::core) struct ReportSchedule {
    gap: Duration,
    is_wanted: bool,
    last: Option<Instant>,
}

impl ReportSchedule {
    pub(in crate::core) fn new(gap: Duration) -> Self {
        Self {
            gap,
            is_wanted: false,
            last: None,
        }
    }

    pub(in crate::core) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether a report is due; the caller makes it.
    fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.is_wanted && self.last.is_none_or(|last| now >= last + self.gap);
        if is_due {
            self.is_wanted = false;
            self.last = Some(now);
        }
        is_due
    }

    pub(in crate::core) fn next_deadline(&self) -> Option<Instant> {
        self.last
            .filter(|_| self.is_wanted)
            .map(|last| last + self.gap)
    }
}

impl RayletCore {
    /// This node as of now. Figures of the store are filled in by whoever has the store.
    pub fn node_info(&self) -> NodeInfo {
        let mut info = NodeInfo {
            waiting: self.leases.waiting_reasons(),
            generation: self.generation,
            is_alive: true,
            ..self.settings.node.clone()
        };
        aktis_proto::convert::fill_resources(&mut info, self.leases.resources());
        info
    }

    /// What nodes had that were lost lately.
    pub(in crate::core) fn lost_nodes(&self, now: Instant) -> Vec<NodeInfo> {
        let lost = self.leases.lost_nodes(now);
        lost.map(|node| {
            let mut info = NodeInfo {
                node_id: node.id.to_wire(),
                ..NodeInfo::default()
            };
            aktis_proto::convert::fill_resources(&mut info, &node.resources);
            info
        })
        .collect()
    }

    pub(in crate::core) fn report_if_due(&mut self, now: Instant, effects: &mut Effects) {
        if self.report.take_due(now) {
            effects.push(Effect::ReportNode(Box::new(self.node_info())));
        }
    }
}
