//! Steps whose batches are as large as pays: what a worker knows of them, and tells.

use std::collections::BTreeMap;

use aktis_common::gpu;

use crate::graph::Operator;
use crate::operators::map::sizes::{FIRST_FRAME_ROWS, SharedSizer};
use crate::wire::sizes::SizesSpec;
use crate::wire::spec::InputSpec;

/// What is known of the steps of a stage.
pub(super) struct Sizing {
    sizers: BTreeMap<u32, SharedSizer>,
    device: String,
}

impl Sizing {
    /// Nothing is known yet.
    pub(super) fn new(steps: &[Operator]) -> Self {
        let is_auto = |step: &Operator| match step {
            Operator::Map(call) => call.batching.is_auto,
            _ => false,
        };
        let autos = (0..).zip(steps).filter(|(_, step)| is_auto(step));
        let sizers: BTreeMap<u32, SharedSizer> = autos
            .map(|(number, _)| (number, SharedSizer::default()))
            .collect();
        let device = if sizers.is_empty() {
            String::new()
        } else {
            device_name()
        };
        Self { sizers, device }
    }

    /// What finds the size of batches of a step, if that was asked for.
    pub(super) fn of(&self, step: u32) -> Option<SharedSizer> {
        self.sizers.get(&step).cloned()
    }

    /// Takes what others have found, of the same kind of device.
    pub(super) fn begin(&self, input: &InputSpec) {
        for spec in &input.sizes {
            if let Some(sizer) = self.sizers.get(&spec.step)
                && spec.device == self.device
            {
                sizer.lock().learn(&spec.learned());
            }
        }
    }

    /// What was found since this was last asked.
    pub(super) fn tell(&self) -> Vec<SizesSpec> {
        let sizers = self.sizers.iter();
        let told = sizers.filter_map(|(&step, sizer)| sizer.lock().tell(step, &self.device));
        told.collect()
    }
}

/// How many rows of the input come together for the step.
pub(super) fn frame_rows(input: &InputSpec, step: u32) -> u64 {
    let frames = input.frames.iter();
    let mut frames = frames.filter(|frame| frame.step == step);
    frames.next().map_or(FIRST_FRAME_ROWS, |frame| frame.rows)
}

/// The GPUs that this process was given, by what they are; if there are none, its processor.
fn device_name() -> String {
    let mut names: Vec<String> = gpu::discover()
        .unwrap_or_default()
        .into_iter()
        .map(|gpu| gpu.name)
        .collect();
    names.dedup();
    if names.is_empty() {
        "CPU".to_owned()
    } else {
        names.join(" and ")
    }
}
