//! Where a job is cut into legs.

use std::collections::BTreeSet;

use super::{Cut, KeptFunctions, LegTable, call_of};
use crate::graph::edge::{Edge, EdgeKind};
use crate::graph::job::{JobPlan, PlannedStep, StagePlan};
use crate::graph::operator::{Function, Operator};
use crate::plan::ComputeKind;

impl JobPlan {
    /// Behind a limit on the way, before or behind which functions are: others would come through it the next time. All that it lets
    /// through is what a stage of its own gets.
    pub(super) fn cut_behind_limit(&mut self, kept: KeptFunctions) -> Option<Cut> {
        if self.writes_what_a_limit_lets_through() {
            return None;
        }
        let is_streamed = self.streamed();
        let limited = (0..self.stages.len()).find(|&index| {
            let stage = &self.stages[index];
            let is_on_the_way = self.edges_from(index).next().is_some();
            stage.row_limit.is_some()
                && is_streamed[index]
                && is_on_the_way
                && !stage.steps.iter().any(is_relational)
                && self.is_worth_keeping(index, kept)
        })?;
        let takers: Vec<Edge> = self.edges_from(limited).copied().collect();
        let stage = match takers.as_slice() {
            [edge] if edge.kind == EdgeKind::Forward && self.edges_to(edge.to).count() == 1 => {
                edge.to
            }
            _ => self.begin_stage_behind(limited),
        };
        Some(Cut { stage, steps: 0 })
    }

    /// Whether a function is on the way to the stage, or behind it, whose rows are worth a file.
    fn is_worth_keeping(&self, index: usize, kept: KeptFunctions) -> bool {
        let mut behind = BTreeSet::from([index]);
        for stage in index + 1..self.stages.len() {
            if self.edges_to(stage).any(|edge| behind.contains(&edge.from)) {
                behind.insert(stage);
            }
        }
        let mut all = self.chain_to(index).chain(behind);
        all.any(|one| {
            let stage = &self.stages[one];
            stage.steps.iter().any(|step| is_kept(stage, step, kept))
        })
    }

    /// A stage that does nothing but give the rows of this one to all that get them.
    fn begin_stage_behind(&mut self, giver: usize) -> usize {
        let behind = giver + 1;
        let mut stage = StagePlan::new(None);
        stage.is_ordered = self.stages[giver].is_ordered;
        self.stages.insert(behind, stage);
        for edge in &mut self.edges {
            edge.from += usize::from(edge.from >= giver);
            edge.to += usize::from(edge.to >= behind);
        }
        self.edges.push(Edge::forward(giver, behind));
        behind
    }

    /// Behind functions whose rows go on to where they meet others.
    pub(super) fn cut_before_meeting(&self, kept: KeptFunctions, keeps_order: bool) -> Option<Cut> {
        let is_streamed = self.streamed();
        (0..self.stages.len()).find_map(|index| {
            let stage = &self.stages[index];
            if !is_streamed[index] {
                return None;
            }
            let first = stage.steps.iter().position(is_relational);
            let steps = first.unwrap_or(stage.steps.len());
            let is_left = first.is_some() || self.is_left(index, kept, keeps_order);
            // What a limit lets through is counted where all of it comes.
            let may_be_cut = first.is_some() || stage.row_limit.is_none();
            let is_worth_it = self.chain_to(index).any(|one| {
                let all = &self.stages[one].steps;
                let own = if one == index { &all[..steps] } else { all };
                own.iter()
                    .any(|step| is_kept(&self.stages[one], step, kept))
            });
            (is_left && may_be_cut && is_worth_it).then_some(Cut {
                stage: index,
                steps,
            })
        })
    }

    /// Before functions that get what has come of a meeting.
    pub(super) fn cut_behind_meeting(&self, kept: KeptFunctions) -> Option<Cut> {
        let is_streamed = self.streamed();
        let meets = (0..self.stages.len()).find(|&index| {
            let stage = &self.stages[index];
            let mut steps = stage.steps.iter();
            !is_streamed[index] && steps.any(|step| is_kept(stage, step, kept))
        });
        let mut index = meets?;
        let mut cut = self.first_map_of(index)?;
        // Cheap functions on the way there are called again rather than that what they make is kept.
        while cut.steps == 0 {
            let Some(giver) = self.only_giver(index).filter(|&giver| !is_streamed[giver]) else {
                break;
            };
            index = giver;
            let all = self.stages[giver].steps.len();
            cut = self.first_map_of(giver).unwrap_or(Cut {
                stage: giver,
                steps: all,
            });
        }
        let members = self.before(cut.stage);
        let leaves = |edge: &Edge| edge.from != cut.stage && !members.contains(&edge.to);
        let is_closed = !self
            .edges
            .iter()
            .any(|edge| members.contains(&edge.from) && leaves(edge));
        (is_closed && self.stages[cut.stage].row_limit.is_none()).then_some(cut)
    }

    /// Before the first function of the stage, if no rows of several inputs meet behind it.
    fn first_map_of(&self, stage: usize) -> Option<Cut> {
        let all = &self.stages[stage].steps;
        let steps = all.iter().position(|step| call_of(step).is_some())?;
        Some(Cut { stage, steps })
    }

    /// The stage that all rows of this one come from, block by block.
    fn only_giver(&self, stage: usize) -> Option<usize> {
        let mut edges = self.edges_to(stage);
        let (edge, None) = (edges.next()?, edges.next()) else {
            return None;
        };
        let is_alone = self.edges_from(edge.from).count() == 1;
        let is_whole = self.stages[edge.from].row_limit.is_none();
        (edge.kind == EdgeKind::Forward && is_alone && is_whole).then_some(edge.from)
    }

    /// Of each stage, whether its rows are those of one source, and nothing but functions and such has happened to them.
    fn streamed(&self) -> Vec<bool> {
        let mut streamed = Vec::with_capacity(self.stages.len());
        for (index, stage) in self.stages.iter().enumerate() {
            let goes_on = |giver: usize| {
                let giver_stage = &self.stages[giver];
                streamed[giver] && !giver_stage.steps.iter().any(is_relational)
            };
            let is_source = stage.source.is_some() && stage.group.is_none();
            streamed.push(is_source || self.only_giver(index).is_some_and(goes_on));
        }
        streamed
    }

    /// The stages that such rows come through, the last one first.
    fn chain_to(&self, stage: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(stage), |&one| self.only_giver(one))
    }

    /// Whether the rows of the stage go to where they meet others; or to a stage that is to wait for it.
    fn is_left(&self, index: usize, kept: KeptFunctions, keeps_order: bool) -> bool {
        let mut takers = self.edges_from(index);
        let Some(first) = takers.next() else {
            return false;
        };
        let is_only = self.only_giver(first.to) == Some(index) && takers.next().is_none();
        let next = &self.stages[first.to];
        let waits = kept == KeptFunctions::All && (keeps_order || next.is_ordered);
        let has_functions = next.steps.iter().any(|step| call_of(step).is_some());
        !is_only || (waits && has_functions)
    }

    /// Behind functions whose rows go into one of several outputs, if these do not go on together: they are written when all are there.
    pub(super) fn cut_before_outputs(&self, kept: KeptFunctions, keeps_order: bool) -> Option<Cut> {
        if self.outputs.len() == 1 || self.fault(keeps_order).is_none() {
            return None;
        }
        let is_streamed = self.streamed();
        let is_worth_it = |stage: usize| {
            self.chain_to(stage).any(|one| {
                let stage = &self.stages[one];
                stage.steps.iter().any(|step| is_kept(stage, step, kept))
            })
        };
        let mut ends = (0..self.stages.len()).filter(|&index| {
            let stage = &self.stages[index];
            stage.end.is_some() && stage.row_limit.is_none() && is_streamed[index]
        });
        let stage = ends.find(|&index| is_worth_it(index))?;
        let steps = self.stages[stage].steps.len();
        Some(Cut { stage, steps })
    }

    /// Where several outputs are made of a leg, functions on the way to one read it themselves: so they can be a leg, too.
    pub(super) fn give_legs_to_takers(&mut self) {
        let is_fork = |stage: &StagePlan| {
            LegTable::of(stage).is_some() && stage.steps.is_empty() && stage.row_limit.is_none()
        };
        for fork in (0..self.stages.len()).rev() {
            if !is_fork(&self.stages[fork]) || self.edges_from(fork).count() < 2 {
                continue;
            }
            let is_whole = |edge: &Edge| {
                edge.kind == EdgeKind::Forward
                    && edge.from == fork
                    && self.edges_to(edge.to).count() == 1
            };
            let takers: Vec<Edge> = self.edges.iter().copied().filter(is_whole).collect();
            for edge in takers {
                self.stages[edge.to].source = self.stages[fork].source.clone();
                self.edges.retain(|other| *other != edge);
            }
            if self.edges_from(fork).count() == 0 {
                self.stages.remove(fork);
                for edge in &mut self.edges {
                    edge.from -= usize::from(edge.from > fork);
                    edge.to -= usize::from(edge.to > fork);
                }
            }
        }
    }
}

fn is_relational(step: &PlannedStep) -> bool {
    matches!(step.operator, Operator::Relational(_))
}

/// Whether what the step makes is worth a file.
fn is_kept(stage: &StagePlan, step: &PlannedStep, kept: KeptFunctions) -> bool {
    let Some(call) = call_of(step) else {
        return false;
    };
    let is_expensive = stage.compute.kind == ComputeKind::Actors
        || stage.compute.resources.wants_gpu()
        || stage.overlaps
        || matches!(call.function, Function::Model(_));
    kept == KeptFunctions::All || is_expensive
}
