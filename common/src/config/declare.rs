//! The declarations. Add a setting here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::{SettingError, SettingRow, Sources};
use super::value::{Bytes, Infeasible, Secret, SettingValue};

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:expr;)+) => {
        /// All settings of a process, resolved.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $key: $kind,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl Settings {
            /// The documentation of all settings, in the order of their declaration.
            pub fn rows() -> Vec<SettingRow> {
                let defaults = Self::default();
                vec![$(SettingRow {
                    key: stringify!($key),
                    default: defaults.$key.render().unwrap_or_default(),
                    doc: [$($doc.trim()),+].join(" "),
                },)+]
            }

            pub(super) fn from_sources(sources: &Sources<'_>) -> Result<Self, SettingError> {
                let mut settings = Self::default();
                $(if let Some((value, source_name)) = sources.text(stringify!($key)) {
                    settings.$key = <$kind>::parse(&value)
                        .map_err(|problem| SettingError::Invalid { source_name, value, problem })?;
                })+
                Ok(settings)
            }

            /// Keys and values that differ from the defaults.
            pub fn changed(&self) -> Vec<(&'static str, String)> {
                let defaults = Self::default();
                let all = [$((stringify!($key), self.$key.render(), self.$key != defaults.$key)),+];
                all.into_iter()
                    .filter(|(.., is_changed)| *is_changed)
                    .filter_map(|(key, text, _)| Some((key, text?)))
                    .collect()
            }
        }
    };
}

settings! {
    /// Cluster to join when no address is given: `HOST:PORT`, or `auto` for one on this machine.
    address: Option<String> = None;
    /// CPUs of the node; not set means as many as the process may use.
    num_cpus: Option<u32> = None;
    /// GPUs of the node; not set means those NVML finds. A larger number declares logical GPUs.
    num_gpus: Option<u32> = None;
    /// Main memory that tasks may ask for; not set means what the object store leaves of the machine's.
    memory: Option<Bytes> = None;
    /// Further resources of the node, as a JSON object of numbers.
    resources: BTreeMap<String, f64> = BTreeMap::new();
    /// Labels of the node, as a JSON object of texts.
    labels: BTreeMap<String, String> = BTreeMap::new();
    /// Size of the node's object store; not set means 30 % of the memory.
    object_store_bytes: Option<Bytes> = None;
    /// Backend of the object store's memory: `memfd` (Linux) or `named` (any system).
    object_store_backend: String = "memfd".to_owned();
    /// Folder for objects that do not fit into the store; not set means in the session folder. Rows that sorts, groups and joins have
    /// no memory for lie there too.
    spill_dir: Option<PathBuf> = None;
    /// The most that objects of a node may take on the disk, spilled or made there; 0 keeps them all in memory, not set is no limit but
    /// the disk, of which a twentieth, at most 4 GiB, stays free.
    spill_limit_bytes: Option<Bytes> = None;
    /// Values up to this size stay with their owner and travel inside messages.
    max_inline_bytes: Bytes = Bytes(100 << 10);
    /// Arguments of calls that are not finished, as far as their owner keeps them in its memory; what is beyond goes to the object
    /// store, which spills to disk.
    max_queued_bytes: Bytes = Bytes(256 << 20);
    /// Lineage that one owner keeps to recompute lost objects.
    lineage_bytes: Bytes = Bytes(1 << 30);
    /// How long an owner keeps a leased worker without work.
    lease_idle: Duration = Duration::from_millis(250);
    /// Program and arguments that fork workers, as a JSON list; not set means the Python of the caller.
    zygote_command: Option<Vec<String>> = None;
    /// How long a worker process may take from its start to its first message.
    worker_start_timeout: Duration = Duration::from_secs(60);
    /// How long a node keeps a worker process that nobody leases.
    worker_idle: Duration = Duration::from_secs(60);
    /// How often a node reports its resources to the head.
    node_report_period: Duration = Duration::from_millis(500);
    /// A node that the head has not heard of for this long is dead.
    node_timeout: Duration = Duration::from_secs(10);
    /// The same, once the node's connection is known to be closed.
    node_disconnect_grace: Duration = Duration::from_secs(2);
    /// How long the job of a driver goes on whose node the head has declared dead, and with it the actors of that node: if the
    /// node comes back before, the driver takes its job up again.
    driver_grace: Duration = Duration::from_secs(60);
    /// How long a node that is gone counts as one that may come back, or be replaced: what only such a node could run waits.
    lost_node_memory: Duration = Duration::from_secs(300);
    /// What becomes of tasks and actors of a driver that no node of the cluster can run, nor one that was lost lately: `fail` at
    /// once, or `wait`.
    infeasible: Infeasible = Infeasible::Fail;
    /// How long a node looks for a head that went away before it ends, and its drivers with it.
    head_reconnect_timeout: Duration = Duration::from_secs(60);
    /// How long a node that starts tries to register with its head.
    connect_timeout: Duration = Duration::from_secs(10);
    /// Publications that the head keeps for a slow subscriber before it must subscribe again.
    publication_capacity: u32 = 4096;
    /// What an hour of a resource costs, as a JSON object of numbers, such as `{"CPU": 0.04, "GPU": 2.5}`: for `aktis cost`.
    prices: BTreeMap<String, f64> = BTreeMap::new();
    /// How long `aktis stop` waits for daemons to end by themselves.
    stop_grace: Duration = Duration::from_secs(10);
    /// Shared secret of a cluster; needed to listen on other addresses than loopback. Not set means that the head makes one, which
    /// processes of the same user find.
    token: Option<Secret> = None;
    /// Certificate chain of this process (PEM); needed to listen on other addresses than loopback.
    tls_cert: Option<PathBuf> = None;
    /// Private key of `tls_cert` (PEM).
    tls_key: Option<PathBuf> = None;
    /// Certificates of the authority that signs the cluster's certificates (PEM).
    tls_ca: Option<PathBuf> = None;
    /// Folder of the output of workers, which outlives their session; not set means `aktis/logs` in the user's folder for state
    /// (`XDG_STATE_HOME`, else `~/.local/state`).
    log_dir: Option<PathBuf> = None;
    /// The output of one worker is kept below this: its oldest lines go.
    log_file_bytes: Bytes = Bytes(32 << 20);
    /// The output of all workers that have ended is kept below this, all sessions together: the oldest goes.
    log_total_bytes: Bytes = Bytes(1 << 30);
    /// How long the output of workers that have ended is kept.
    log_age: Duration = Duration::from_secs(7 * 24 * 3600);
    /// What daemons log: `error`, `warn`, `info`, `debug`, or a filter such as `aktis_raylet=debug`.
    log_level: String = "warn".to_owned();
    /// Whether datasets show how far they are, on a terminal or in a notebook; elsewhere they never do.
    progress: bool = true;
    /// Folder that holds the session folders. Of several nodes on its machine a driver joins the one that shares its folder.
    temp_dir: PathBuf = PathBuf::from("/tmp");
}
