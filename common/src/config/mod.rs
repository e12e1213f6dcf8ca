//! The one registry of settings.
//!
//! Each setting is declared once, in `declare.rs`; that gives its key in files and Python, its environment variable
//! `AKTIS_<KEY>`, its type, its default and its row in `docs/configuration.md`. This module is the only one that reads
//! environment variables.
//!
//! ```text
//!  override (keyword, flag)  >  AKTIS_<KEY>  >  file named by AKTIS_CONFIG (TOML)  >  default
//! ```

mod declare;
mod settings;
mod value;

pub use declare::Settings;
pub use settings::{SettingError, SettingRow, secret_variables};
pub use value::{Bytes, Infeasible, Secret, SettingValue};

/// An environment variable that is not a setting of Aktis, such as `CUDA_VISIBLE_DEVICES`.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Names of the environment variables of this process.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
fn variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .collect()
}
