//! How many copies of a model compute side by side, and with how many threads each.

use std::thread;

use crate::config::Device;
use crate::error::LoadError;

/// Replicas cost memory (each ONNX Runtime session holds the weights), so a large machine is not filled unasked.
const MOST_DEFAULT_REPLICAS: usize = 16;

/// What a user says of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Placement {
    /// Threads of one copy; `None`: 1.
    pub(crate) intra_threads: Option<usize>,
    /// Copies; `None`: as many as fill the cores.
    pub(crate) replicas: Option<usize>,
    /// So many actors share the cores; `None`: who loads the model has them to itself.
    pub(crate) sharing: Option<usize>,
}

impl Placement {
    /// Threads that one batch is computed with.
    pub(crate) fn intra_threads(self) -> Result<usize, LoadError> {
        at_least_one("intra_threads", self.intra_threads.unwrap_or(1))
    }

    /// Copies on this device.
    pub(crate) fn replicas(self, device: Device) -> Result<usize, LoadError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let wanted = self.replicas;
        at_least_one(
            "replicas",
            wanted.unwrap_or_else(|| self.default_replicas(device, cores)),
        )
    }

    /// Where this process has so many cores.
    fn default_replicas(self, device: Device, cores: usize) -> usize {
        if let Device::Cuda(_) = device {
            return 1;
        }
        let filling = cores / self.intra_threads.unwrap_or(1).max(1);
        match self.sharing {
            Some(actors) => (filling / actors.max(1)).max(1),
            None => filling.clamp(1, MOST_DEFAULT_REPLICAS),
        }
    }
}

pub(crate) fn at_least_one(setting: &'static str, value: usize) -> Result<usize, LoadError> {
    if value == 0 {
        return Err(LoadError::Setting {
            setting,
            value,
            reason: "at least 1 is needed".to_owned(),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_fill_the_part_of_the_cores_that_is_there_where_the_model_is_loaded() {
        let alone = Placement::default();
        let shared = Placement {
            sharing: Some(4),
            ..alone
        };
        let threaded = Placement {
            intra_threads: Some(2),
            ..shared
        };
        let of = |placement: Placement, cores| placement.default_replicas(Device::Cpu, cores);
        assert_eq!((of(alone, 8), of(alone, 64)), (8, MOST_DEFAULT_REPLICAS));
        assert_eq!((of(shared, 96), of(shared, 2)), (24, 1));
        assert_eq!(of(threaded, 96), 12);
        assert_eq!(shared.default_replicas(Device::Cuda(0), 96), 1);
    }
}
