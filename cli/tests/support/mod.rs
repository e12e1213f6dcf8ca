//! A temporary place for sessions, and the command run in it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
        Output::of(self.command(arguments).env(key, value).output().unwrap())
    }

    /// Starts the command and leaves it running.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        let child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running { child: Some(child) }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aktis"));
        command
            .args(arguments)
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// A copy of the program that others may run.
    pub(crate) fn program(&self) -> PathBuf {
        self.folder.path().join("aktis")
    }

    /// Runs the command behind another one, which becomes somebody else.
    pub(crate) fn run_by(&self, prefix: &[String], arguments: &[&str]) -> Output {
        Output::of(self.command_by(prefix, arguments).output().unwrap())
    }

    /// The same, left running.
    pub(crate) fn spawn_by(&self, prefix: &[String], arguments: &[&str]) -> Running {
        let mut command = self.command_by(prefix, arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Running {
            child: Some(child.unwrap()),
        }
    }

    fn command_by(&self, prefix: &[String], arguments: &[&str]) -> Command {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_aktis"));
        let copy = self.program();
        let mut command = Command::new(&prefix[0]);
        command
            .args(&prefix[1..])
            .arg(if copy.exists() { copy } else { own })
            .args(arguments)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir("/");
        command
    }

    /// The session folder that has this file, and the file.
    pub(crate) fn session_file(&self, name: &str) -> (PathBuf, PathBuf) {
        let sessions = self.sessions();
        let found = sessions
            .into_iter()
            .find(|folder| folder.join(name).exists());
        let folder = found.unwrap_or_else(|| panic!("no {name}"));
        let file = folder.join(name);
        (folder, file)
    }

    fn sessions(&self) -> Vec<PathBuf> {
        let bases = std::fs::read_dir(self.folder.path()).unwrap().flatten();
        let folders = bases.flat_map(|base| std::fs::read_dir(base.path()).into_iter().flatten());
        folders.flatten().map(|folder| folder.path()).collect()
    }

    /// How many daemons run.
    pub(crate) fn daemons(&self) -> usize {
        let owners = self.owners();
        let is_running = |owner: &&Value| {
            let stat = format!("/proc/{}/stat", owner["process"]["pid"]);
            std::fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
        };
        owners.iter().filter(is_running).count()
    }

    /// Where the sessions are.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_str(&output.out).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
    }

    /// Names below the base folder.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .sessions()
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        names
    }

    fn owners(&self) -> Vec<Value> {
        let sessions = self.sessions();
        let files = sessions.iter().map(|folder| folder.join("owner.json"));
        let texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
        // A number of another pid namespace means some other process here.
        let own = std::fs::metadata("/proc/self/ns/pid").unwrap();
        let own = std::os::unix::fs::MetadataExt::ino(&own);
        texts
            .filter_map(|text| serde_json::from_str::<Value>(&text).ok())
            .filter(|owner| owner["process"]["pid_namespace"] == own)
            .collect()
    }

    /// `kill -9` of all daemons.
    pub(crate) fn kill_daemons(&self) {
        self.signal_daemons("-KILL");
    }

    pub(crate) fn kill_daemons_of_role(&self, role: &str) {
        self.signal_daemons_of_role(role, "-KILL");
    }

    pub(crate) fn signal_daemons(&self, signal: &str) {
        self.signal(signal, |_| true);
    }

    pub(crate) fn signal_daemons_of_role(&self, role: &str, signal: &str) {
        self.signal(signal, |owner| owner["role"] == role);
    }

    fn signal(&self, signal: &str, is_meant: impl Fn(&Value) -> bool) {
        for owner in self.owners().iter().filter(|owner| is_meant(owner)) {
            let pid = owner["process"]["pid"].to_string();
            let _ = Command::new("kill").args([signal, &pid]).output();
        }
    }

    /// Waits until a daemon that ends has let go of its port, which may be after its folder is gone, and after it has no command
    /// line any more.
    pub(crate) fn until_free(&self, port: &str) {
        let port: u16 = port.parse().unwrap();
        self.until("its port is free", || {
            TcpListener::bind(("127.0.0.1", port)).is_ok()
        });
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

/// A command that runs. Killed when it is dropped.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    pub(crate) fn wait_with_output(&mut self) -> Output {
        let child = self.child.take().unwrap();
        Output::of(child.wait_with_output().unwrap())
    }
}

impl Running {
    /// Ends it the hard way.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Calls a method without a token, as any program on the machine could.
pub(crate) fn raw_call(address: &str, method: &'static str) -> tonic::Status {
    raw_call_with(address, method, &[])
}

/// The same with what the headers say.
pub(crate) fn raw_call_with(
    address: &str,
    method: &'static str,
    headers: &[(&'static str, String)],
) -> tonic::Status {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"));
        let channel = endpoint.unwrap().connect().await.unwrap();
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.unwrap();
        let path = format!("/{method}").parse().unwrap();
        let codec =
            tonic_prost::ProstCodec::<aktis_proto::v1::Empty, aktis_proto::v1::Empty>::default();
        let mut request = tonic::Request::new(aktis_proto::v1::Empty {});
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        client.unary(request, path, codec).await.unwrap_err()
    })
}

impl Output {
    fn of(output: std::process::Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

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
