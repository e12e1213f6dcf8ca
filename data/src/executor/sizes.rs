//! What workers have found of the sizes of batches: told to the others, and to those of later jobs of this process.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::digest::Digest;
use crate::graph::{Function, MapCall, Operator, StagePlan};
use crate::operators::map::sizes::{FIRST_FRAME_ROWS, Learned, MOST_ROWS};
use crate::stats::ChosenBatch;
use crate::wire::sizes::{FrameRows, SizesSpec};

/// Batches that should fit into a frame, so that its last one does not matter much.
const BATCHES_PER_FRAME: u64 = 8;
/// The fewest rows of a frame.
const LEAST_FRAME_ROWS: u64 = 64;
/// Functions that are remembered when their job is over.
const MOST_REMEMBERED: usize = 256;

/// By a sign of the function and what it may use, then by device.
type Memory = BTreeMap<String, BTreeMap<String, Learned>>;

/// Of functions that have run in jobs of this process.
static REMEMBERED: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

/// A step whose batches are as large as pays.
struct SizedStep {
    number: u32,
    /// What the function is remembered by.
    sign: String,
    devices: BTreeMap<String, Learned>,
    out_of_memory: BTreeMap<String, u64>,
}

/// What is known of the batches of an execution.
#[derive(Default)]
pub(crate) struct BatchSizes {
    stages: Vec<Vec<SizedStep>>,
    /// Of inputs that were begun: blocks are cut in the same places whatever is found meanwhile (STG-2).
    frames: HashMap<(usize, u64), Vec<FrameRows>>,
}

impl BatchSizes {
    /// Of these stages, with what is remembered.
    pub(crate) fn new(stages: &[StagePlan]) -> Self {
        let remembered = REMEMBERED.lock();
        let step = |stage: &StagePlan, number: u32, operator: &Operator| match operator {
            Operator::Map(call) if call.batching.is_auto => {
                let sign = sign_of(stage, call);
                Some(SizedStep {
                    number,
                    devices: remembered.get(&sign).cloned().unwrap_or_default(),
                    sign,
                    out_of_memory: BTreeMap::new(),
                })
            }
            _ => None,
        };
        let steps = |stage: &StagePlan| {
            let steps = (0..).zip(&stage.steps);
            let steps =
                steps.filter_map(|(number, planned)| step(stage, number, &planned.operator));
            steps.collect()
        };
        Self {
            stages: stages.iter().map(steps).collect(),
            frames: HashMap::new(),
        }
    }

    /// What a worker of the stage should know, and the frames of an input that it begins.
    pub(super) fn begin(&mut self, stage: usize, place: u64) -> (Vec<SizesSpec>, Vec<FrameRows>) {
        let steps = &self.stages[stage];
        if steps.is_empty() {
            return Default::default();
        }
        let known = steps.iter().flat_map(|step| {
            let devices = step.devices.iter();
            devices.map(|(device, learned)| SizesSpec::of(step.number, device, learned))
        });
        let frames = self.frames.entry((stage, place));
        let frames = frames.or_insert_with(|| steps.iter().map(SizedStep::frame).collect());
        (known.collect(), frames.clone())
    }

    /// Takes what a worker of the stage tells.
    pub(super) fn hear(&mut self, stage: usize, told: &[SizesSpec]) {
        for spec in told {
            let mut steps = self.stages[stage].iter_mut();
            if let Some(step) = steps.find(|step| step.number == spec.step) {
                let learned = step.devices.entry(spec.device.clone()).or_default();
                learned.learn(&spec.learned());
                *step.out_of_memory.entry(spec.device.clone()).or_default() += spec.out_of_memory;
            }
        }
    }

    /// Of each step of a stage that has found one: its size of batches.
    pub(super) fn chosen(&self, stage: usize) -> impl Iterator<Item = (usize, Vec<ChosenBatch>)> {
        self.stages[stage].iter().map(|step| {
            let chosen = step.devices.iter().map(|(device, learned)| ChosenBatch {
                device: device.clone(),
                rows: learned.rows(),
                is_settled: learned.is_settled(),
                too_large: learned.too_large(),
                out_of_memory: step.out_of_memory.get(device).copied().unwrap_or(0),
                tried: learned
                    .trials()
                    .map(|(rows, trial)| (rows, trial.nanos))
                    .collect(),
            });
            (step.number as usize, chosen.collect())
        })
    }

    /// Keeps what was found for later jobs.
    pub(super) fn remember(&self) {
        let mut remembered = REMEMBERED.lock();
        for step in self.stages.iter().flatten() {
            if step.devices.values().all(Learned::is_empty) {
                continue;
            }
            let devices = remembered.entry(step.sign.clone()).or_default();
            for (device, learned) in &step.devices {
                devices.entry(device.clone()).or_default().learn(learned);
            }
            if remembered.len() > MOST_REMEMBERED {
                remembered.pop_first();
            }
        }
    }
}

impl SizedStep {
    fn frame(&self) -> FrameRows {
        // No batch of the input is larger than its frames: where sizes are looked for yet, these leave room for others.
        let of_device = |learned: &Learned| {
            let least = if learned.is_settled() {
                LEAST_FRAME_ROWS
            } else {
                FIRST_FRAME_ROWS
            };
            let rows = learned.rows().saturating_mul(BATCHES_PER_FRAME);
            rows.clamp(least, MOST_ROWS)
        };
        let frames = self.devices.values().map(of_device);
        let rows = frames.max().unwrap_or(FIRST_FRAME_ROWS);
        FrameRows {
            step: self.number,
            rows,
        }
    }
}

/// What makes two functions the same: what is sent to workers, and what these may use.
fn sign_of(stage: &StagePlan, call: &MapCall) -> String {
    let mut digest = Digest::new();
    match &call.function {
        Function::Python(definition) => digest.add(definition),
        Function::Model(spec) => digest.add(&spec.sign()),
    }
    digest.add(&format!("{:?} {:?}", call.reads, call.batching));
    digest.add(&format!("{:?}", stage.compute.resources));
    digest.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::PlannedStep;
    use crate::operators::map::sizes::Trial;
    use crate::plan::{Batching, MapSpec};
    use crate::testing::test_map;

    fn stage(name: &str) -> StagePlan {
        let spec = MapSpec {
            batching: Batching {
                is_auto: true,
                ..Batching::default()
            },
            ..test_map(name)
        };
        let mut stage = StagePlan::new(None);
        stage.steps.push(PlannedStep {
            name: spec.name.clone(),
            operator: Operator::Map(MapCall::of(&spec)),
            captured: None,
        });
        stage
    }

    fn settled_at(rows: u64) -> SizesSpec {
        let trial = |nanos| Trial { calls: 3, nanos };
        let trials = [(rows, trial(1000)), (2 * rows, trial(2000))];
        SizesSpec::of(0, "CPU", &Learned::new(trials, None))
    }

    /// STG-2 (same-cut-every-time)
    #[test]
    fn input_keeps_its_frames_whatever_is_found_meanwhile() {
        let mut sizes = BatchSizes::new(&[stage("frames")]);
        let (known, frames) = sizes.begin(0, 3);
        assert!(known.is_empty());
        sizes.hear(0, &[settled_at(16)]);
        let (known, again) = sizes.begin(0, 3);
        assert_eq!((known, again), (vec![settled_at(16)], frames));
        let (_, later) = sizes.begin(0, 4);
        assert_eq!(later, [FrameRows { step: 0, rows: 128 }]);
    }

    #[test]
    fn frames_leave_room_for_sizes_that_are_looked_for() {
        let mut sizes = BatchSizes::new(&[stage("looked for")]);
        let first = Trial {
            calls: 3,
            nanos: 1000,
        };
        sizes.hear(
            0,
            &[SizesSpec::of(0, "CPU", &Learned::new([(8, first)], None))],
        );
        let (_, frames) = sizes.begin(0, 0);
        assert_eq!(
            frames,
            [FrameRows {
                step: 0,
                rows: FIRST_FRAME_ROWS
            }]
        );
    }

    #[test]
    fn later_job_begins_with_what_an_earlier_one_has_found() {
        let mut sizes = BatchSizes::new(&[stage("remembered")]);
        sizes.hear(0, &[settled_at(32)]);
        sizes.remember();
        let mut later = BatchSizes::new(&[stage("remembered")]);
        assert_eq!(later.begin(0, 0).0, [settled_at(32)]);
        let mut other = BatchSizes::new(&[stage("another function")]);
        assert!(other.begin(0, 0).0.is_empty());
    }
}
