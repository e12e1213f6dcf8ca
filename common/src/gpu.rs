//! Finds the GPUs of this machine through NVML, at run time: no CUDA is needed to build or to start.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::config::environment;
use crate::resources::GpuDevice;

/// One GPU that this process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// How `CUDA_VISIBLE_DEVICES` names it in this process's environment: an index or a UUID.
    pub cuda_name: String,
    /// UUID by NVML: `GPU-...`.
    pub uuid: String,
    /// Product name, such as `NVIDIA H200`.
    pub name: String,
    /// Device memory.
    pub memory_total_bytes: u64,
}

/// GPUs cannot be listed; on a machine without them that is the normal case.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// NVML is not there or does not start.
    #[error("NVML is not available")]
    Unavailable(#[source] NvmlError),
    /// NVML is there but does not answer about a device.
    #[error("NVML does not describe GPU {index}")]
    Device {
        /// Which device.
        index: u32,
        /// What NVML said.
        #[source]
        source: NvmlError,
    },
}

/// The GPUs that this process may use: those of the machine, cut down to `CUDA_VISIBLE_DEVICES` where that is set.
///
/// Order and names are by PCI bus; workers are to be given `CUDA_DEVICE_ORDER=PCI_BUS_ID` together with
/// [`cuda_visible_devices`].
///
/// # Errors
/// When NVML is absent (no driver: the machine has no GPUs) or a device does not answer.
pub fn discover() -> Result<Vec<GpuInfo>, DiscoverError> {
    let nvml = Nvml::init().map_err(DiscoverError::Unavailable)?;
    let count = nvml.device_count().map_err(DiscoverError::Unavailable)?;
    let all = (0..count)
        .map(|index| {
            describe(&nvml, index).map_err(|source| DiscoverError::Device { index, source })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(visible(all, environment("CUDA_VISIBLE_DEVICES").as_deref()))
}

fn describe(nvml: &Nvml, index: u32) -> Result<GpuInfo, NvmlError> {
    let device = nvml.device_by_index(index)?;
    Ok(GpuInfo {
        cuda_name: index.to_string(),
        uuid: device.uuid()?,
        name: device.name()?,
        memory_total_bytes: device.memory_info()?.total,
    })
}

/// The devices that `CUDA_VISIBLE_DEVICES` leaves, in its order. As CUDA does, stops at the first entry that names none.
fn visible(all: Vec<GpuInfo>, variable: Option<&str>) -> Vec<GpuInfo> {
    let Some(variable) = variable else { return all };
    let mut chosen = Vec::new();
    for entry in variable.split(',').map(str::trim) {
        let device = match entry.parse::<usize>() {
            Ok(index) => all.get(index),
            Err(_) if entry.starts_with("GPU-") => {
                all.iter().find(|gpu| gpu.uuid.starts_with(entry))
            }
            Err(_) => None,
        };
        let Some(device) = device else { break };
        chosen.push(GpuInfo {
            cuda_name: entry.to_owned(),
            ..device.clone()
        });
    }
    chosen
}

/// The devices of a node for the scheduler: position in `found` is the device's id.
pub fn devices(found: &[GpuInfo]) -> Vec<GpuDevice> {
    (0u32..)
        .zip(found)
        .map(|(id, gpu)| GpuDevice::new(id, gpu.memory_total_bytes))
        .collect()
}

/// How CUDA names the devices of a node: position in the list is the device's id.
pub fn cuda_names(found: &[GpuInfo]) -> Vec<String> {
    found.iter().map(|gpu| gpu.cuda_name.clone()).collect()
}

/// `CUDA_VISIBLE_DEVICES` for a worker that holds the devices `ids` of a node whose devices have these names. Logical GPUs
/// are named by their number.
pub fn cuda_visible_devices(ids: &[u32], names: &[String]) -> String {
    let name = |id: &u32| {
        let known = usize::try_from(*id).ok().and_then(|id| names.get(id));
        known.cloned().unwrap_or_else(|| id.to_string())
    };
    ids.iter().map(name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<GpuInfo> {
        let gpu = |index: u32| GpuInfo {
            cuda_name: index.to_string(),
            uuid: format!("GPU-{index}{index}"),
            name: "GPU".to_owned(),
            memory_total_bytes: 8 << 30,
        };
        (0..4).map(gpu).collect()
    }

    fn names(variable: Option<&str>) -> Vec<String> {
        visible(machine(), variable)
            .into_iter()
            .map(|gpu| gpu.uuid)
            .collect()
    }

    #[test]
    fn visible_devices_of_the_environment_are_respected() {
        assert_eq!(names(None).len(), 4);
        assert_eq!(names(Some("")), Vec::<String>::new());
        assert_eq!(names(Some("2, 0")), ["GPU-22", "GPU-00"]);
        assert_eq!(names(Some("GPU-3")), ["GPU-33"]);
        assert_eq!(
            names(Some("1,-1,2")),
            ["GPU-11"],
            "as CUDA: nothing behind a bad entry counts"
        );
    }

    #[test]
    fn workers_see_the_names_of_the_outer_environment() {
        let found = visible(machine(), Some("GPU-3,1"));
        assert_eq!(
            cuda_visible_devices(&[1, 0], &cuda_names(&found)),
            "1,GPU-3"
        );
        assert_eq!(cuda_visible_devices(&[5], &[]), "5");
        assert_eq!(devices(&found)[1].memory_total_bytes, 8 << 30);
    }

    #[test]
    fn discovery_works_or_says_that_nvml_is_absent() {
        match discover() {
            Ok(found) => assert!(found.iter().all(|gpu| gpu.memory_total_bytes > 0)),
            Err(error) => assert!(error.to_string().starts_with("NVML")),
        }
    }
}
