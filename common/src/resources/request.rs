//! What a task or an actor asks of the node that runs it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{GPU, GpuDevice, Quantity, QuantityError, ResourceSet, format_bytes};

/// A checked request for resources.
///
/// A GPU request has two dimensions: a share of each device and bytes of device memory. The larger of the two decides
/// the share, so that neither is over-committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResourceRequest {
    resources: ResourceSet,
    gpu_memory_bytes: u64,
}

/// A request that makes no sense; says why and what to give instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// A quantity is not usable; names it.
    #[error("resource \"{name}\": {error}")]
    Quantity {
        /// Resource name.
        name: String,
        /// What is wrong with its quantity.
        error: QuantityError,
    },
    /// More than one GPU, with a fraction.
    #[error(
        "resource \"GPU\": {given} is more than one GPU but not whole; \
         give a fraction below 1, or a whole number"
    )]
    FractionAboveOne {
        /// What was given.
        given: Quantity,
    },
    /// Device memory together with several GPUs.
    #[error(
        "gpu_memory cannot be combined with {given} GPUs: it is memory of one shared device; \
         give num_gpus of at most 1, or leave gpu_memory out"
    )]
    MemoryOfSeveralGpus {
        /// GPUs asked for.
        given: Quantity,
    },
}

impl ResourceRequest {
    /// Checks a request.
    ///
    /// # Errors
    /// When a quantity is negative, when GPUs above one are not whole, or when device memory is asked for together
    /// with several GPUs.
    pub fn new(resources: ResourceSet, gpu_memory_bytes: u64) -> Result<Self, RequestError> {
        if let Some((name, quantity)) = resources.iter().find(|(_, q)| q.is_negative()) {
            let error = QuantityError::Negative {
                value: quantity.as_f64(),
            };
            return Err(RequestError::Quantity {
                name: name.to_owned(),
                error,
            });
        }
        let given = resources.get(GPU);
        if given > Quantity::ONE && !given.is_whole() {
            return Err(RequestError::FractionAboveOne { given });
        }
        if given > Quantity::ONE && gpu_memory_bytes > 0 {
            return Err(RequestError::MemoryOfSeveralGpus { given });
        }
        Ok(Self {
            resources,
            gpu_memory_bytes,
        })
    }

    /// Checks a request made of numbers that a user gave.
    ///
    /// # Errors
    /// As [`Self::new`], and when a number is no quantity.
    pub fn from_numbers<N: Into<String>>(
        numbers: impl IntoIterator<Item = (N, f64)>,
        gpu_memory_bytes: u64,
    ) -> Result<Self, RequestError> {
        let set = ResourceSet::from_numbers(numbers)
            .map_err(|(name, error)| RequestError::Quantity { name, error })?;
        Self::new(set, gpu_memory_bytes)
    }

    /// Everything asked for by name, GPUs included.
    pub fn resources(&self) -> &ResourceSet {
        &self.resources
    }

    /// Bytes of device memory asked for; 0 when only a share was given.
    pub fn gpu_memory_bytes(&self) -> u64 {
        self.gpu_memory_bytes
    }

    /// Whether any GPU is asked for.
    pub fn wants_gpu(&self) -> bool {
        !self.resources.get(GPU).is_zero() || self.gpu_memory_bytes > 0
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.gpu_memory_bytes == 0
    }

    /// How many devices, at least 1 when any GPU is asked for.
    pub fn gpu_count(&self) -> usize {
        if !self.wants_gpu() {
            return 0;
        }
        usize::try_from(self.resources.get(GPU).whole())
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// The share of `device` that this request takes, or `None` when the device can never serve it.
    pub fn share_of(&self, device: &GpuDevice) -> Option<Quantity> {
        let by_fraction = self.resources.get(GPU).min(Quantity::ONE);
        if self.gpu_memory_bytes == 0 {
            return Some(by_fraction);
        }
        if self.gpu_memory_bytes > device.memory_total_bytes {
            return None;
        }
        let scaled = u128::from(self.gpu_memory_bytes) * Quantity::SCALE as u128;
        let by_memory = scaled.div_ceil(u128::from(device.memory_total_bytes));
        let by_memory = Quantity::from_units(i64::try_from(by_memory).unwrap_or(i64::MAX));
        Some(by_fraction.max(by_memory))
    }
}

impl fmt::Display for ResourceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resources)?;
        if self.gpu_memory_bytes > 0 {
            write!(
                f,
                " and {} of GPU memory",
                format_bytes(self.gpu_memory_bytes)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_gpus_are_refused_with_a_way_out() {
        let error = ResourceRequest::from_numbers([("GPU", 1.5)], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "resource \"GPU\": 1.5 is more than one GPU but not whole; \
             give a fraction below 1, or a whole number"
        );
    }

    #[test]
    fn negative_and_too_fine_quantities_name_their_resource() {
        let negative = ResourceRequest::from_numbers([("CPU", -1.0)], 0)
            .unwrap_err()
            .to_string();
        assert_eq!(negative, "resource \"CPU\": -1 is negative; give 0 or more");
        let fine = ResourceRequest::from_numbers([("disk", 0.00001)], 0)
            .unwrap_err()
            .to_string();
        assert!(
            fine.starts_with("resource \"disk\": 0.00001 is finer than 0.0001"),
            "{fine}"
        );
    }

    #[test]
    fn device_memory_becomes_a_share_rounded_up() {
        let device = GpuDevice::new(0, 80);
        let request = ResourceRequest::new(ResourceSet::new(), 20).unwrap();
        assert_eq!(request.share_of(&device), Some(Quantity::from_units(2_500)));
        let third = ResourceRequest::new(ResourceSet::new(), 1).unwrap();
        assert_eq!(
            third.share_of(&GpuDevice::new(0, 3)),
            Some(Quantity::from_units(3_334))
        );
        let large = ResourceRequest::new(ResourceSet::new(), 81).unwrap();
        assert_eq!(large.share_of(&device), None);
    }

    #[test]
    fn the_larger_of_fraction_and_memory_decides() {
        let request = ResourceRequest::from_numbers([("GPU", 0.5)], 20).unwrap();
        assert_eq!(
            request.share_of(&GpuDevice::new(0, 80)),
            Some(Quantity::from_units(5_000))
        );
        assert_eq!(
            request.share_of(&GpuDevice::new(0, 25)),
            Some(Quantity::from_units(8_000))
        );
    }
}
