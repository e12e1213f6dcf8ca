//! What comes out of a job, of which there may be several.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;

use super::job::JobPlan;
use crate::executor::LettersFolder;
use crate::plan::Dataset;
use crate::sinks::Sink;

/// Rows, and where they end.
#[derive(Debug, Clone)]
pub struct JobOutput {
    /// The rows.
    pub dataset: Dataset,
    /// Where they end.
    pub sink: Sink,
    /// How many inputs their source is cut into; `None`: as the workers and sizes need.
    pub parts: Option<u64>,
    /// Where rows go that are put aside on their way, if not beside the output.
    pub letters_folder: Option<LettersFolder>,
}

impl JobOutput {
    /// All rows of the dataset into the sink.
    pub fn new(dataset: Dataset, sink: Sink) -> Self {
        Self {
            dataset,
            sink,
            parts: None,
            letters_folder: None,
        }
    }
}

/// What is known of an output before the job runs.
#[derive(Debug, Clone)]
pub struct PlannedOutput {
    /// Its columns, if they are all known.
    pub schema: Option<SchemaRef>,
    /// Its rows, where footers alone tell.
    pub known_rows: Option<u64>,
}

/// Where the rows of a stage end.
#[derive(Debug, Clone)]
pub(crate) struct StageEnd {
    pub(crate) sink: Sink,
    /// Which of the job's outputs they are.
    pub(crate) output: usize,
    /// What tells that from the others, for people, if there are others.
    pub(crate) label: Option<String>,
}

impl StageEnd {
    /// Its step, for people.
    pub(crate) fn step(&self) -> Option<String> {
        let step = self.sink.step()?;
        Some(match &self.label {
            Some(label) => format!("{step}({label})"),
            None => step.to_owned(),
        })
    }
}

/// What tells outputs apart, for people: the names of their folders, and the whole paths of those that have one name.
pub(super) fn labels(outputs: &[JobOutput]) -> Vec<Option<String>> {
    if outputs.len() < 2 {
        return vec![None; outputs.len()];
    }
    let paths: Vec<Option<&str>> = outputs
        .iter()
        .map(|output| output.sink.place().map(|place| place.trim_end_matches('/')))
        .collect();
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let names: Vec<Option<String>> = paths.iter().map(|path| path.map(name)).collect();
    let is_taken = |name: &String| names.iter().flatten().filter(|one| *one == name).count() > 1;
    let label = |(path, name): (&Option<&str>, &Option<String>)| match (path, name) {
        (Some(path), Some(name)) if is_taken(name) => Some((*path).to_owned()),
        (_, name) => name.clone(),
    };
    paths.iter().zip(&names).map(label).collect()
}

impl JobPlan {
    /// The stages that rows of an output come through.
    pub(crate) fn stages_of(&self, output: usize) -> BTreeSet<usize> {
        let is_end = |&stage: &usize| {
            let end = self.stages[stage].end.as_ref();
            end.is_some_and(|end| end.output == output)
        };
        let (mut all, mut open) = (BTreeSet::new(), Vec::new());
        open.extend((0..self.stages.len()).find(is_end));
        while let Some(stage) = open.pop() {
            if all.insert(stage) {
                open.extend(self.edges_to(stage).map(|edge| edge.from));
            }
        }
        all
    }
}
