//! What travels to stage workers and back.

pub(crate) mod lower;
pub(crate) mod spec;

use spec::StageSpec;

impl spec::InputSpec {
    /// Rows that it begins with, as far as the splits tell.
    pub(crate) fn rows(&self) -> u64 {
        let files: u64 = self.files.iter().map(|part| part.rows).sum();
        let blocks: u64 = self.blocks.iter().map(|part| part.rows).sum();
        let numbers = self.numbers.as_ref();
        files + blocks + numbers.map_or(0, |part| part.end - part.start)
    }
}

impl StageSpec {
    /// Rows that a scan needs to give at most, where every row that is read leaves the stage.
    pub(crate) fn row_limit_of_scan(&self) -> Option<usize> {
        let keeps_rows = self.steps.iter().all(|step| match &step.kind {
            Some(spec::StepKind::Filter(_)) | None => false,
            Some(spec::StepKind::Map(map)) => map.keeps_rows && !map.is_mask,
            Some(_) => true,
        });
        let limit = usize::try_from(self.row_limit)
            .ok()
            .filter(|&rows| rows > 0);
        limit.filter(|_| keeps_rows)
    }

    /// Whether a step calls a Python function.
    pub(crate) fn calls_python(&self) -> bool {
        self.steps.iter().any(|step| match &step.kind {
            Some(spec::StepKind::Map(map)) => {
                matches!(map.function, Some(spec::FunctionKind::Python(_)))
            }
            _ => false,
        })
    }
}
