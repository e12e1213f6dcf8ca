//! A temporary place for sessions, and the command run in it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Ends as a zygote does: when its raylet is gone it removes the folder of the session.
const ZYGOTE: &str = r#"["/bin/sh", "-c", "cat > /dev/null; rm -rf \"$2\"", "zygote"]"#;
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Output {
    pub out: String,
    pub err: String,
    code: Option<i32>,
}

impl Place {
    pub(crate) fn new() -> Self {
        // Short, for the paths of unix sockets.
        let folder = tempfile::Builder::new()
            .prefix("ak")
            .tempdir_in("/tmp")
            .unwrap();
        let temp_dir = folder.path().display().to_string();
        let env = [
            ("AKTIS_TEMP_DIR", temp_dir.as_str()),
            ("AKTIS_ZYGOTE_COMMAND", ZYGOTE),
            ("AKTIS_NUM_GPUS", "0"),
            ("AKTIS_OBJECT_STORE_BYTES", "64MiB"),
        ];
        let env = env
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec();
        Self { folder, env }
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with("AKTIS_TEST", "1", arguments)
    }

    pub(crate) fn run_with(&self, key: &str, value: &str, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_aktis"))
            .args(arguments)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .env(key, value)
            .output()
            .unwrap();
        Output {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_str(&output.out).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
    }

    /// Names below the base folder.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let base = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        let mut names: Vec<String> = base
            .flat_map(|base| std::fs::read_dir(base.path()).unwrap().flatten())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn owners(&self) -> Vec<Value> {
        let base = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        let folders = base.flat_map(|base| std::fs::read_dir(base.path()).unwrap().flatten());
        let files: Vec<PathBuf> = folders
            .map(|folder| folder.path().join("owner.json"))
            .collect();
        let texts = files
            .into_iter()
            .filter_map(|file| std::fs::read_to_string(file).ok());
        texts
            .filter_map(|text| serde_json::from_str(&text).ok())
            .collect()
    }

    /// `kill -9` of all daemons.
    pub(crate) fn kill_daemons(&self) {
        self.kill(|_| true);
    }

    pub(crate) fn kill_daemons_of_role(&self, role: &str) {
        self.kill(|owner| owner["role"] == role);
    }

    fn kill(&self, is_meant: impl Fn(&Value) -> bool) {
        for owner in self.owners().iter().filter(|owner| is_meant(owner)) {
            let pid = owner["process"]["pid"].to_string();
            let _ = Command::new("kill").args(["-9", &pid]).output();
        }
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(
                Instant::now() < deadline,
                "{what}; left: {:?}",
                self.leftovers()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_daemons();
    }
}

impl Output {
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn head_address(&self) -> String {
        let line = self
            .out
            .lines()
            .find_map(|line| line.strip_prefix("Aktis head is up at "));
        line.unwrap_or_else(|| panic!("no head: {self:?}"))
            .to_owned()
    }
}
