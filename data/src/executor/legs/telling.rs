//! What the handle of a job in legs knows while one of these runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::JobInLegs;
use crate::executor::failed_rows::LetterBlock;
use crate::executor::launch::Launched;
use crate::executor::{OutputOfRun, RunningLoop};
use crate::graph::LegTable;

impl JobInLegs {
    /// What the handle knows, where this leg is the first.
    pub(super) fn running(&self, first: &Launched) -> RunningLoop {
        let finished = self.finished.values();
        RunningLoop {
            outputs: self.outputs_of(first),
            before: finished.map(|leg| leg.stats.clone()).collect(),
            letters_before: self.letters_before(),
            ..first.running()
        }
    }

    /// What the handle knows of the outputs: rows of a leg are on the way to all that read it.
    fn outputs_of(&self, leg: &Launched) -> Vec<OutputOfRun> {
        let (Some(current), [of_leg]) = (self.current, leg.outputs.as_slice()) else {
            return leg.outputs.clone();
        };
        let behind = self.outputs_behind(current);
        let outputs = (0..self.legs.last.job.outputs.len()).map(|output| OutputOfRun {
            stages: if behind.contains(&output) {
                of_leg.stages.clone()
            } else {
                BTreeSet::new()
            },
            ..of_leg.clone()
        });
        outputs.collect()
    }

    /// The outputs that rows of a leg go to.
    fn outputs_behind(&self, leg: usize) -> BTreeSet<usize> {
        let legs = self.legs.before.iter().enumerate();
        let readers = legs.filter(|(_, other)| other.reads.contains(&leg));
        let mut behind: BTreeSet<usize> = readers
            .flat_map(|(reader, _)| self.outputs_behind(reader))
            .collect();
        let job = &self.legs.last.job;
        let reads =
            |stage: &usize| LegTable::of(&job.stages[*stage]).is_some_and(|table| table.leg == leg);
        for stage in (0..job.stages.len()).filter(reads) {
            let outputs = 0..job.outputs.len();
            behind.extend(outputs.filter(|&output| job.stages_of(output).contains(&stage)));
        }
        behind
    }

    /// What legs have put aside that are over, for those who ask while another one runs; the last one has all of it.
    fn letters_before(&self) -> Vec<(BTreeSet<usize>, Vec<LetterBlock>)> {
        let letters = self.letters.iter().filter(|_| self.current.is_some());
        let letters = letters.map(|(&leg, blocks)| (self.outputs_behind(leg), blocks.clone()));
        letters.collect()
    }

    /// Gives the last leg what those before it have put aside: it lies beside the outputs that it was on the way to.
    pub(super) fn give_letters(&self, last: &Launched) {
        let mut letters = last.execution.letters.lock();
        for (&leg, blocks) in &self.letters {
            for stage in stages_before(&last.outputs, &self.outputs_behind(leg)) {
                let blocks = blocks.iter().cloned();
                letters.add_blocks(blocks.map(|block| LetterBlock { stage, ..block }));
            }
        }
    }

    /// From here on the handle means this leg; `false`: nobody wants it.
    pub(super) fn take_turn(&self, running: &Mutex<RunningLoop>, leg: &Launched) -> bool {
        let mut running = running.lock();
        let over = running.stats.lock().clone();
        running.before.push(over);
        running.stats = Arc::clone(&leg.execution.stats);
        running.letters = Arc::clone(&leg.execution.letters);
        running.letters_before = self.letters_before();
        running.messages = leg.messages.clone();
        running.outputs = self.outputs_of(leg);
        !running.is_cancelled
    }

    /// What has failed on the way to the output of a leg has on the way to all that read it.
    pub(super) fn tell_failed(&self, leg: usize, running: &Mutex<RunningLoop>) {
        let behind = self.outputs_behind(leg);
        let running = running.lock();
        running.stats.lock().failed_outputs = behind.into_iter().collect();
    }
}

/// Stages of a job whose rows, taken together, go to these outputs, once to each, and to no other: at least those that write them do.
fn stages_before(outputs: &[OutputOfRun], wanted: &BTreeSet<usize>) -> Vec<usize> {
    let leads_to = |stage: usize| {
        let outputs = outputs.iter().enumerate();
        let reached = outputs.filter(|(_, output)| output.stages.contains(&stage));
        reached.map(|(output, _)| output).collect::<BTreeSet<_>>()
    };
    let stages = outputs
        .iter()
        .flat_map(|output| output.stages.iter().copied());
    let all: BTreeSet<usize> = stages.collect();
    let (mut missing, mut found) = (wanted.clone(), Vec::new());
    while !missing.is_empty() {
        let reached = all.iter().map(|&stage| (leads_to(stage), stage));
        let fits = reached.filter(|(reached, _)| reached.is_subset(&missing));
        let Some((reached, stage)) = fits.max_by_key(|(reached, _)| reached.len()) else {
            break;
        };
        missing.retain(|output| !reached.contains(output));
        found.push(stage);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage_worker::SeenColumns;

    #[test]
    fn what_legs_put_aside_goes_to_just_the_outputs_behind_them() {
        let outputs = |stages: &[&[usize]]| {
            let output = |stages: &&[usize]| OutputOfRun {
                schema: None,
                seen: Arc::new(Mutex::new(SeenColumns::default())),
                stages: stages.iter().copied().collect(),
            };
            stages.iter().map(output).collect::<Vec<_>>()
        };
        let stages = |of: &[&[usize]], wanted: &[usize]| {
            let wanted = wanted.iter().copied().collect();
            stages_before(&outputs(of), &wanted)
        };
        let forked: [&[usize]; 2] = [&[0, 1], &[0, 2]];
        assert_eq!(stages(&forked, &[0, 1]), [0]);
        assert_eq!(
            (stages(&forked, &[0]), stages(&forked, &[1])),
            (vec![1], vec![2])
        );
        assert_eq!(stages(&[&[0], &[1], &[2]], &[0, 2]), [2, 0]);
    }
}
