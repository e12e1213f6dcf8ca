//! What a node is made of: its resources, and the configuration of its raylet.

use std::collections::BTreeMap;
use std::path::Path;

use aktis_common::config::Settings;
use aktis_common::gpu::{self, GpuInfo};
use aktis_common::machine;
use aktis_common::resources::{
    CPU, GPU, MEMORY, NodeResources, OBJECT_STORE_MEMORY, Quantity, QuantityError, ResourceSet,
};
use aktis_proto::transport::{Address, Security};
use aktis_raylet::RayletConfig;

use crate::launcher::Launcher;

/// Settings that make no node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A custom resource has no sensible quantity.
    #[error("resource {name:?}: {cause}")]
    Quantity {
        /// Which.
        name: String,
        /// What is wrong.
        cause: QuantityError,
    },
    /// A custom resource has the name of a built-in one.
    #[error("{name:?} is not a custom resource; give it by {instead}")]
    Reserved {
        /// Which.
        name: String,
        /// The setting to use.
        instead: &'static str,
    },
}

/// The resources of this machine's node, as far as the settings do not say otherwise.
///
/// # Errors
/// When the settings name impossible resources.
pub fn node_resources(settings: &Settings) -> Result<NodeResources, NodeError> {
    resources_with(settings, &found_gpus(settings))
}

/// The same on a machine with these GPUs.
fn resources_with(settings: &Settings, gpus: &[GpuInfo]) -> Result<NodeResources, NodeError> {
    let store_bytes = store_bytes(settings);
    let cpus = settings.num_cpus.unwrap_or_else(machine::cpu_count);
    let memory = settings.memory.map_or_else(
        || machine::memory_bytes().saturating_sub(store_bytes),
        |bytes| bytes.0,
    );
    let whole = |count: u64| Quantity::from_whole(i64::try_from(count).unwrap_or(i64::MAX));
    let mut total = ResourceSet::new();
    for (name, number) in &settings.resources {
        let instead = match name.as_str() {
            CPU => Some("num_cpus"),
            GPU => Some("num_gpus"),
            MEMORY => Some("memory"),
            OBJECT_STORE_MEMORY => Some("object_store_bytes"),
            _ => None,
        };
        if let Some(instead) = instead {
            return Err(NodeError::Reserved {
                name: name.clone(),
                instead,
            });
        }
        let quantity = Quantity::from_f64(*number).map_err(|cause| NodeError::Quantity {
            name: name.clone(),
            cause,
        })?;
        total.set(name.as_str(), quantity);
    }
    total.set(CPU, whole(u64::from(cpus)));
    total.set(MEMORY, whole(memory));
    total.set(OBJECT_STORE_MEMORY, whole(store_bytes));
    total.set(GPU, whole(u64::from(settings.num_gpus.unwrap_or(0))));
    Ok(NodeResources::new(
        total,
        gpu::devices(gpus),
        labels(settings, gpus),
    ))
}

fn labels(settings: &Settings, gpus: &[GpuInfo]) -> BTreeMap<String, String> {
    let mut labels = settings.labels.clone();
    if let Some(first) = gpus.first() {
        labels
            .entry("aktis.dev/gpu".to_owned())
            .or_insert_with(|| first.name.clone());
    }
    labels
}

/// GPUs by NVML; without NVML there are none, and `num_gpus` may declare logical ones.
fn found_gpus(settings: &Settings) -> Vec<GpuInfo> {
    if settings.num_gpus == Some(0) {
        return Vec::new();
    }
    let mut gpus = gpu::discover().unwrap_or_else(|error| {
        tracing::debug!(%error, "no GPUs found");
        Vec::new()
    });
    if let Some(count) = settings.num_gpus {
        gpus.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    gpus
}

fn store_bytes(settings: &Settings) -> u64 {
    settings
        .object_store_bytes
        .map_or_else(aktis_object_store::default_capacity_bytes, |bytes| bytes.0)
}

/// What the raylet of this node is started with.
pub(crate) struct NodePlan<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) launcher: &'a Launcher,
    pub(crate) session_dir: &'a Path,
    pub(crate) gcs_address: Address,
    /// `None`: a unix socket in the node's folder.
    pub(crate) listen: Option<Address>,
    pub(crate) is_head: bool,
    /// `None`: in the node's folder.
    pub(crate) spill_dir: Option<&'a Path>,
    pub(crate) security: Security,
}

impl NodePlan<'_> {
    /// The raylet's configuration. When the raylet is gone its whole session folder goes.
    pub(crate) fn raylet_config(&self) -> Result<RayletConfig, NodeError> {
        self.config_with(&found_gpus(self.settings))
    }

    /// The same on a machine with these GPUs.
    fn config_with(&self, gpus: &[GpuInfo]) -> Result<RayletConfig, NodeError> {
        let resources = resources_with(self.settings, gpus)?;
        let mut config = RayletConfig::new(
            self.session_dir,
            self.gcs_address.clone(),
            resources,
            self.zygote_command(),
        )
        .with_settings(self.settings);
        config.security = self.security.clone();
        config.gpu_names = gpu::cuda_names(gpus);
        config.is_head = self.is_head;
        let spill_dir = self.spill_dir.map(Path::to_owned).into_iter();
        config.cleanup_dirs = spill_dir.chain([self.session_dir.to_owned()]).collect();
        config.store.capacity_bytes = store_bytes(self.settings);
        config.store.spill_dir = self.spill_dir.map(Path::to_owned);
        if let Some(listen) = &self.listen {
            config.listen = listen.clone();
        }
        Ok(config)
    }

    fn zygote_command(&self) -> Vec<String> {
        let given = self.settings.zygote_command.as_ref();
        given.unwrap_or(&self.launcher.zygote_command).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_decide_what_the_node_has() {
        let settings = Settings {
            num_cpus: Some(3),
            num_gpus: Some(2),
            resources: BTreeMap::from([("disk".to_owned(), 1.5)]),
            ..Settings::default()
        };
        let node = node_resources(&settings).unwrap();
        let total = node.total();
        assert_eq!(total.get(CPU), Quantity::from_whole(3));
        assert_eq!(node.gpus().len(), 2);
        assert_eq!(total.get("disk"), Quantity::from_units(15_000));
        assert!(total.get(MEMORY) > Quantity::ONE);
    }

    #[test]
    fn node_names_the_gpus_that_it_was_given_as_its_environment_does() {
        let gpu = |name: &str| GpuInfo {
            cuda_name: name.to_owned(),
            uuid: format!("GPU-{name}"),
            name: "GPU".to_owned(),
            memory_total_bytes: 8 << 30,
        };
        let (settings, launcher) = (
            Settings::default(),
            Launcher {
                self_command: Vec::new(),
                zygote_command: vec!["zygote".to_owned()],
            },
        );
        let plan = NodePlan {
            settings: &settings,
            launcher: &launcher,
            session_dir: Path::new("/s"),
            gcs_address: Address::Unix("/s/gcs.sock".into()),
            listen: None,
            is_head: true,
            spill_dir: None,
            security: Security::default(),
        };
        let config = plan.config_with(&[gpu("2"), gpu("GPU-3")]).unwrap();
        assert_eq!(config.gpu_names, ["2", "GPU-3"]);
        assert_eq!(config.resources.gpus().len(), 2);
    }

    #[test]
    fn built_in_resource_among_the_custom_ones_names_the_right_setting() {
        let resources = BTreeMap::from([("GPU".to_owned(), 1.0)]);
        let settings = Settings {
            resources,
            ..Settings::default()
        };
        let error = node_resources(&settings).unwrap_err().to_string();
        assert_eq!(
            error,
            r#""GPU" is not a custom resource; give it by num_gpus"#
        );
    }
}
