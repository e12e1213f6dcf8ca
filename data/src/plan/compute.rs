//! Where a map runs and how wide.

use std::fmt;

use aktis_common::resources::{ResourceRequest, ResourceSet, format_bytes};

use super::nodes::map::MapFunction;

/// Whether a function keeps state between calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ComputeKind {
    /// A plain function: any worker may run any batch.
    Tasks,
    /// A class: made once per worker, kept.
    Actors,
}

/// Where a map runs and how wide.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Workers of other kinds that take from the same inputs, beside those that the rest says.
    pub others: Vec<OtherWorkers>,
}

/// How many workers of one kind there may be, and what each of them holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Fewest workers.
    pub min_workers: usize,
    /// As [`Compute::initial_workers`].
    pub initial_workers: Option<usize>,
    /// As [`Compute::max_workers`].
    pub max_workers: Option<usize>,
    /// What each worker holds.
    pub resources: ResourceRequest,
}

/// Workers of another kind: they do the same work with other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherWorkers {
    /// How many, and what each of them holds.
    pub pool: PoolSpec,
    /// Rows of their calls; `None`: as many as a block has.
    pub batch_rows: Option<usize>,
    /// What they run, if it is made in another way: for their device.
    pub function: Option<MapFunction>,
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
            others: Vec::new(),
        }
    }

    /// The workers of each kind, those first that it says itself.
    pub(crate) fn pools(&self) -> Vec<PoolSpec> {
        let first = PoolSpec {
            min_workers: self.min_workers,
            initial_workers: self.initial_workers,
            max_workers: self.max_workers,
            resources: self.resources.clone(),
        };
        let others = self.others.iter().map(|other| other.pool.clone());
        std::iter::once(first).chain(others).collect()
    }

    /// Whether its workers are of several kinds.
    pub(crate) fn is_mixed(&self) -> bool {
        !self.others.is_empty()
    }

    /// The rows of the largest calls, where those of the first kind have so many.
    pub(crate) fn most_batch_rows(&self, first: Option<usize>) -> Option<usize> {
        let others = self.others.iter().map(|other| other.batch_rows);
        others.chain([first]).flatten().max()
    }

    /// The kinds, for people. `first_rows`: of the calls of the first.
    pub(crate) fn kinds_text(&self, first_rows: Option<u64>) -> String {
        let mut text = self.pool_text(&self.pools()[0]);
        if let (true, Some(rows)) = (self.is_mixed(), first_rows) {
            text.push_str(&format!(" batch_size={rows}"));
        }
        for other in &self.others {
            text.push_str(&format!(" or {}", self.pool_text(&other.pool)));
            if let Some(rows) = other.batch_rows {
                text.push_str(&format!(" batch_size={rows}"));
            }
        }
        text
    }

    fn pool_text(&self, pool: &PoolSpec) -> String {
        let kind = match self.kind {
            ComputeKind::Tasks => "tasks",
            ComputeKind::Actors => "actors",
        };
        let most = pool
            .max_workers
            .map_or_else(|| "*".to_owned(), |max| max.to_string());
        let mut text = format!("{kind}={}..{most}", pool.min_workers);
        for (name, amount) in pool.resources.resources().iter() {
            text.push_str(&format!(" {name}={amount}"));
        }
        match pool.resources.gpu_memory_bytes() {
            0 => text,
            bytes => format!("{text} gpu_memory={}", format_bytes(bytes)),
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
        write!(f, "{}", self.kinds_text(None))
    }
}
