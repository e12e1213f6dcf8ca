//! Resolves settings from overrides, environment and file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::declare::Settings;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// The value does not read as the setting's type.
    #[error("{source_name}: {value:?} {problem}")]
    Invalid {
        /// Where the value came from: `AKTIS_NUM_CPUS`, `num_cpus`, or a file and key.
        source_name: String,
        /// The value.
        value: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// No such setting.
    #[error("there is no setting {key:?}{hint}; docs/configuration.md lists all")]
    Unknown {
        /// What was given.
        key: String,
        /// ", did you mean ...?" or nothing.
        hint: String,
    },
    /// An environment variable that is nearly the name of a setting.
    #[error(
        "the environment variable {name} is no setting: did you mean {nearest}? Correct or unset it; docs/configuration.md \
         lists all"
    )]
    UnknownVariable {
        /// What is set.
        name: String,
        /// The variable of the setting that was probably meant.
        nearest: String,
    },
    /// The file named by `AKTIS_CONFIG` cannot be read.
    #[error("AKTIS_CONFIG names {path:?}, which cannot be read: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        cause: String,
    },
}

/// Settings that are secret.
const SECRETS: [&str; 1] = ["token"];

/// One row of the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRow {
    /// Key in files and overrides.
    pub key: &'static str,
    /// Default as text; empty when not set.
    pub default: String,
    /// What it is for.
    pub doc: String,
}

/// Where values come from; separate from the process so that tests need not change its environment.
pub(super) struct Sources<'a> {
    pub(super) overrides: &'a BTreeMap<String, String>,
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: BTreeMap<String, String>,
    pub(super) file_name: String,
}

impl Sources<'_> {
    /// The text given for `key`, and what to call its source in an error.
    pub(super) fn text(&self, key: &str) -> Option<(String, String)> {
        if let Some(text) = self.overrides.get(key) {
            return Some((text.clone(), key.to_owned()));
        }
        let variable = environment_name(key);
        if let Some(text) = (self.environment)(&variable).filter(|text| !text.is_empty()) {
            return Some((text, variable));
        }
        let text = self.file.get(key)?.clone();
        Some((text, format!("{} key {key}", self.file_name)))
    }
}

/// Name of the environment variable of a setting.
pub(super) fn environment_name(key: &str) -> String {
    format!("AKTIS_{}", key.to_ascii_uppercase())
}

/// Variables that user code is not to see.
pub fn secret_variables() -> Vec<String> {
    SECRETS.iter().map(|key| environment_name(key)).collect()
}

impl Settings {
    /// Settings of this process: its environment, the file that `AKTIS_CONFIG` names, and `overrides` by key.
    ///
    /// # Errors
    /// When a value does not fit its setting, an override or file key is unknown, a variable is misspelt, or the file cannot
    /// be read.
    pub fn from_env_and_overrides(
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, SettingError> {
        super::variables()
            .iter()
            .try_for_each(|name| check_variable(name))?;
        Self::resolve(overrides, &super::environment)
    }

    /// As [`Self::from_env_and_overrides`], with the environment given as a function.
    ///
    /// # Errors
    /// As there.
    pub fn resolve(
        overrides: &BTreeMap<String, String>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingError> {
        let path = environment("AKTIS_CONFIG").filter(|path| !path.is_empty());
        let file = match &path {
            Some(path) => read_file(PathBuf::from(path))?,
            None => BTreeMap::new(),
        };
        for key in overrides.keys().chain(file.keys()) {
            check_known(key)?;
        }
        let file_name = path.unwrap_or_default();
        Self::from_sources(&Sources {
            overrides,
            environment,
            file,
            file_name,
        })
    }

    /// The page `docs/configuration.md`.
    pub fn render_docs() -> String {
        let mut page = String::from(
            "# Configuration\n\n\
             Every setting, from `common/src/config/declare.rs`. The first of these that is there wins: a keyword or \
             flag,\nthe environment variable, the TOML file that `AKTIS_CONFIG` names, the default.\n\
             Sizes read like `512MiB` or plain bytes, times like `500ms` or plain seconds.\n\n\
             This page is written by `cargo run --release -p xtask -- settings-page`; a test compares it.\n\n\
             | Key | Environment variable | Default | Meaning |\n|---|---|---|---|\n",
        );
        for row in Self::rows() {
            let default = if row.default.is_empty() {
                "not set".to_owned()
            } else {
                format!("`{}`", row.default)
            };
            let variable = environment_name(row.key);
            page.push_str(&format!(
                "| `{}` | `{variable}` | {default} | {} |\n",
                row.key, row.doc
            ));
        }
        page
    }

    /// What a process that runs user code is told: the same without secrets.
    pub fn to_worker_environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.to_environment();
        environment.retain(|name, _| !secret_variables().contains(name));
        environment
    }

    /// Environment variables that make another process resolve the same settings.
    pub fn to_environment(&self) -> BTreeMap<String, String> {
        self.changed()
            .into_iter()
            .map(|(key, text)| (environment_name(key), text))
            .collect()
    }
}

fn check_known(key: &str) -> Result<(), SettingError> {
    let rows = Settings::rows();
    if rows.iter().any(|row| row.key == key) {
        return Ok(());
    }
    let close = rows.iter().min_by_key(|row| distance(row.key, key));
    let hint = close
        .filter(|row| distance(row.key, key) <= 1 + key.len() / 3)
        .map(|row| format!(", did you mean {:?}?", row.key))
        .unwrap_or_default();
    Err(SettingError::Unknown {
        key: key.to_owned(),
        hint,
    })
}

/// Keywords of `init()` whose settings have other names.
const KEYWORDS: [(&str, &str); 1] = [("object_store_memory", "object_store_bytes")];

/// Refuses a variable that is nearly the name of a setting. Others are left alone: Kubernetes sets `AKTIS_HEAD_SERVICE_HOST`
/// and the like for its services, and programs may have their own.
fn check_variable(name: &str) -> Result<(), SettingError> {
    let Some(key) = name.strip_prefix("AKTIS_").map(str::to_ascii_lowercase) else {
        return Ok(());
    };
    let rows = Settings::rows();
    if rows.iter().any(|row| row.key == key) {
        return Ok(());
    }
    let keyword = KEYWORDS
        .iter()
        .find(|(keyword, _)| *keyword == key)
        .map(|(_, setting)| *setting);
    let close = rows.iter().map(|row| row.key);
    let close = close.min_by_key(|known| distance(known, &key));
    let close = close.filter(|known| distance(known, &key) <= 1 + key.len() / 6);
    match keyword.or(close) {
        None => Ok(()),
        Some(nearest) => Err(SettingError::UnknownVariable {
            name: name.to_owned(),
            nearest: environment_name(nearest),
        }),
    }
}

/// Levenshtein distance, for "did you mean".
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

fn read_file(path: PathBuf) -> Result<BTreeMap<String, String>, SettingError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            return Err(SettingError::File {
                path,
                cause: error.to_string(),
            });
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            return Err(SettingError::File {
                path,
                cause: error.to_string(),
            });
        }
    };
    let as_text = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        toml::Value::Table(table) => serde_json::to_string(&table).unwrap_or_default(),
        other => other.to_string(),
    };
    Ok(table
        .into_iter()
        .map(|(key, value)| (key, as_text(value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn resolve(overrides: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let env = map(env);
        Settings::resolve(&map(overrides), &|name| env.get(name).cloned())
    }

    #[test]
    fn override_beats_environment_beats_file_beats_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aktis.toml");
        std::fs::write(
            &path,
            "num_cpus = 1\nlease_idle = \"1s\"\n[resources]\ndisk = 2.5\n",
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let env = [
            ("AKTIS_CONFIG", path),
            ("AKTIS_NUM_CPUS", "2"),
            ("AKTIS_NUM_GPUS", "3"),
        ];
        let settings = resolve(&[("num_gpus", "4")], &env).unwrap();
        assert_eq!((settings.num_cpus, settings.num_gpus), (Some(2), Some(4)));
        assert_eq!(settings.lease_idle, Duration::from_secs(1));
        assert_eq!(settings.resources.get("disk"), Some(&2.5));
        assert_eq!(settings.max_inline_bytes.0, 100 << 10);
    }

    #[test]
    fn bad_value_names_its_source_and_the_fix() {
        let error = resolve(&[], &[("AKTIS_NUM_CPUS", "many")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            r#"AKTIS_NUM_CPUS: "many" is not a whole number of 0 or more"#
        );
        let error = resolve(&[("resources", "[1]")], &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(r#"such as {"disk": 2}"#), "{error}");
    }

    #[test]
    fn unknown_key_suggests_a_known_one() {
        let error = resolve(&[("num_cpu", "1")], &[]).unwrap_err().to_string();
        assert!(error.contains(r#"did you mean "num_cpus"?"#), "{error}");
        let error = resolve(&[("zzzzzzzz", "1")], &[]).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn misspelt_variable_is_refused_and_names_the_one_that_is_meant() {
        for (name, nearest) in [
            ("AKTIS_NUM_CPU", "AKTIS_NUM_CPUS"),
            ("AKTIS_WORKER_IDEL", "AKTIS_WORKER_IDLE"),
            ("AKTIS_PROGRES", "AKTIS_PROGRESS"),
            ("AKTIS_OBJECT_STORE_MEMORY", "AKTIS_OBJECT_STORE_BYTES"),
        ] {
            let error = check_variable(name).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(
                error.contains(&format!("did you mean {nearest}?")),
                "{error}"
            );
        }
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let others = [
            "PATH",
            "AKTIS_CONFIG",
            "AKTIS_PORT",
            "AKTIS_SERVICE_HOST",
            "AKTIS_HEAD_SERVICE_PORT_GCS",
            "AKTIS_HEAD_PORT_6379_TCP_ADDR",
            "AKTIS_TEST_MODEL_DIR",
            "AKTIS_COMPAT_SYSTEM",
        ];
        for name in others {
            assert!(check_variable(name).is_ok(), "{name}");
        }
        for row in Settings::rows() {
            assert!(check_variable(&environment_name(row.key)).is_ok());
        }
    }

    #[test]
    fn settings_travel_to_a_child_process() {
        let given = [
            ("num_cpus", "3"),
            ("token", "secret"),
            ("spill_dir", "/x"),
            ("lease_idle", "7ms"),
        ];
        let settings = resolve(&given, &[]).unwrap();
        let env = settings.to_environment();
        assert_eq!(env.len(), given.len());
        let again = Settings::resolve(&BTreeMap::new(), &|name| env.get(name).cloned()).unwrap();
        assert_eq!(again, settings);
        let worker = settings.to_worker_environment();
        assert_eq!(worker.len(), given.len() - 1);
        assert!(!worker.values().any(|text| text == "secret"));
    }
}
