//! Where a map runs and how wide.

use std::fmt;

use aktis_common::resources::{ResourceRequest, ResourceSet, format_bytes};

/// Whether a function keeps state between calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComputeKind {
    /// A plain function: any worker may run any batch.
    Tasks,
    /// A class: made once per worker, kept.
    Actors,
}

/// Where a map runs and how wide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Compute {
    /// Function or class.
    pub kind: ComputeKind,
    /// Fewest workers.
    pub min_workers: usize,
    /// Workers at first, while nobody knows how long the work takes; `None`: as the cluster has room.
    pub initial_workers: Option<usize>,
    /// Most workers; `None`: as many as fit and find work.
    pub max_workers: Option<usize>,
    /// What each worker holds.
    pub resources: ResourceRequest,
    /// Whether the user asked for a width or for resources; if not, neighbours may be merged freely.
    pub is_default: bool,
}

impl Compute {
    /// Functions on one CPU each, as many at once as there are CPUs.
    pub fn tasks() -> Self {
        Self {
            kind: ComputeKind::Tasks,
            min_workers: 1,
            initial_workers: None,
            max_workers: None,
            resources: ResourceRequest::new(ResourceSet::of_cpus(1), 0)
                .expect("a whole CPU can be asked for"),
            is_default: true,
        }
    }

    /// A class in one worker with one CPU, growing where there is room.
    pub fn actors() -> Self {
        Self {
            kind: ComputeKind::Actors,
            ..Self::tasks()
        }
    }

    /// With a fixed number of workers.
    #[cfg(test)]
    pub(crate) fn with_workers(mut self, min: usize, max: Option<usize>) -> Self {
        self.min_workers = min.max(1);
        self.max_workers = max;
        self.is_default = false;
        self
    }

    /// With these resources per worker.
    #[cfg(test)]
    pub(crate) fn with_resources(mut self, resources: ResourceRequest) -> Self {
        self.resources = resources;
        self.is_default = false;
        self
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ComputeKind::Tasks => "tasks",
            ComputeKind::Actors => "actors",
        };
        let most = self
            .max_workers
            .map_or_else(|| "*".to_owned(), |max| max.to_string());
        write!(f, "{kind}={}..{most}", self.min_workers)?;
        for (name, amount) in self.resources.resources().iter() {
            write!(f, " {name}={amount}")?;
        }
        match self.resources.gpu_memory_bytes() {
            0 => Ok(()),
            bytes => write!(f, " gpu_memory={}", format_bytes(bytes)),
        }
    }
}
