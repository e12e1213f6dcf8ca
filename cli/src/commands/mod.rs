//! The command line.

mod check;
mod cost;
mod health;
mod list;
mod query;
mod render;
mod running;
mod start;
mod status;
mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aktis_common::config::Settings;
use aktis_common::standard_streams::hold_standard_streams;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use crate::daemon::{DaemonPlan, run_daemon};
use crate::launcher::Launcher;

/// Start Aktis on machines, and look at what runs there.
///
/// A Python script needs none of this on one machine: `import aktis` is enough,
/// and `aktis status` shows the session of a script that runs. For several
/// machines, start a head on one and nodes on the others.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    name = "aktis",
    bin_name = "aktis",
    no_binary_name = true,
    version,
    after_help = EXAMPLES
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  aktis start --head --node-ip-address 10.0.0.5    begin a cluster on this machine
  aktis start --address 10.0.0.5:6379              add this machine to it
  aktis status                                     what it has, what is used, what runs, what waits and why
  aktis list actors --json                         for programs
  aktis cost --by team,operator                    what jobs have cost
  aktis check script.py                            what a script for Ray would find missing
  aktis stop                                       end what was started here

Each setting of docs/configuration.md can also be given as AKTIS_<NAME> in the environment.
Exit status: 0 done, 1 failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a cluster on this machine (--head), or add this machine to one (--address).
    ///
    /// Returns as soon as the machine is ready; what was started goes on in the background until `aktis stop`.
    Start(StartArgs),
    /// End what `aktis start` has started on this machine.
    ///
    /// Only what this user has started. Scripts that run without a cluster are left alone.
    Stop(StopArgs),
    /// Show machines, resources, actors, what runs and where, and what waits and why.
    ///
    /// Of the cluster on this machine; where there is none, of the newest script that runs here without one.
    Status(StatusArgs),
    /// Succeed when the head answers: for probes and scripts.
    ///
    /// Costs the head the same however large the cluster is, unlike `aktis status`. Without an address: when what `aktis start`
    /// has started here runs, and its head answers.
    HealthCheck(QueryArgs),
    /// List nodes, actors or jobs, those that have ended too; or the tasks and calls that run now.
    List(ListArgs),
    /// Add up what jobs have cost, those that have ended too: of datasets.
    ///
    /// Seconds for which their workers had CPUs and GPUs, and what became of them: useful work, work that was done again, loading of
    /// functions and models, waiting. Of the jobs that the head remembers: the last 2000 runs of datasets.
    Cost(CostArgs),
    /// Say what a script for Ray uses that is the same here, different on purpose, or missing.
    ///
    /// Takes scripts, notebooks and folders of them; nothing of them runs.
    #[command(disable_help_flag = true)]
    Check {
        /// Of the check; `aktis check --help` lists them.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "PATH"
        )]
        arguments: Vec<String>,
    },
    /// Run a daemon; `aktis start` calls this.
    #[command(hide = true)]
    Daemon { plan: String, ready_path: PathBuf },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("role").required(true).args(["head", "address"]))]
struct StartArgs {
    /// Start a head: the control store, and a node.
    #[arg(long)]
    head: bool,
    /// Join the cluster of the head at HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Port of the head.
    #[arg(long, default_value_t = 6379, conflicts_with = "address")]
    port: u16,
    /// Address of this machine for the other nodes.
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    node_ip_address: String,
    /// CPUs of the node; all of the machine's by default.
    #[arg(long, value_name = "N")]
    num_cpus: Option<String>,
    /// GPUs of the node; those found by default. More than there are: logical GPUs.
    #[arg(long, value_name = "N")]
    num_gpus: Option<String>,
    /// Main memory for tasks, such as 8GiB.
    #[arg(long, value_name = "BYTES")]
    memory: Option<String>,
    /// Further resources, such as '{"disk": 2}'.
    #[arg(long, value_name = "JSON")]
    resources: Option<String>,
    /// Labels of the node, such as '{"zone": "a"}'.
    #[arg(long, value_name = "JSON")]
    labels: Option<String>,
    /// Size of the object store, such as 2GiB.
    #[arg(long, visible_alias = "object-store-bytes", value_name = "BYTES")]
    object_store_memory: Option<String>,
    /// Folder for objects that do not fit into the store.
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<String>,
    /// Where the head keeps its tables.
    #[arg(long, value_enum, default_value_t = StorageArg::File, conflicts_with = "address")]
    storage: StorageArg,
    /// Forget what the last head has left, instead of taking it up.
    #[arg(long, conflicts_with = "address")]
    fresh: bool,
    /// Stay in the foreground until Ctrl-C.
    #[arg(long)]
    block: bool,
    /// Print JSON: address, session, node and process.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StorageArg {
    /// A file: a head that is killed can be started again with all it knew.
    File,
    /// Memory.
    Memory,
}

#[derive(Debug, Args)]
struct StopArgs {
    /// How long daemons may take to end by themselves, such as 10s.
    #[arg(long, value_name = "TIME")]
    grace: Option<String>,
    /// Remove what heads keep for the next start as well: sessions, jobs, detached actors.
    #[arg(long)]
    forget: bool,
    /// Print JSON: how many were ended and killed, and the files of heads.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// Whom to ask: HOST:PORT or unix:PATH; by default AKTIS_ADDRESS, or what runs here.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    query: QueryArgs,
    /// Leave out what runs: ask the head only, not the nodes.
    #[arg(long)]
    no_tasks: bool,
}

#[derive(Debug, Args)]
struct CostArgs {
    /// What to add up by: job, operator, worker, or names of tags that jobs were given by init(tags=...).
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "job"
    )]
    by: Vec<String>,
    /// What an hour of a resource costs, such as '{"CPU": 0.04, "GPU": 2.5}'; by default AKTIS_PRICES.
    #[arg(long, value_name = "JSON")]
    prices: Option<String>,
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// What to list.
    kind: ListKind,
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListKind {
    /// Nodes, dead ones too.
    Nodes,
    /// Actors, dead ones too.
    Actors,
    /// Jobs, finished ones too.
    Jobs,
    /// Tasks and calls of actors that run now: where, for how long, and what they wait for.
    Tasks,
}

/// Runs the command line, without the program's name; gives the exit code: 0 done, 1 failed, 2 wrong usage.
///
/// Python's console script calls this with `sys.argv[1:]`.
pub fn main(arguments: &[String], launcher: &Launcher) -> u8 {
    hold_standard_streams();
    let parsed = match CommandLine::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version come this way too.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match run(parsed.command, launcher) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            1
        }
    }
}

fn run(command: Command, launcher: &Launcher) -> Result<u8, String> {
    let overrides = match &command {
        Command::Start(args) => args.overrides(),
        Command::Stop(args) => [("stop_grace", args.grace.clone())].into_iter().collect(),
        Command::Cost(args) => [("prices", args.prices.clone())].into_iter().collect(),
        _ => Overrides::default(),
    };
    let settings = Settings::from_env_and_overrides(&overrides.0).map_err(|e| e.to_string())?;
    match command {
        Command::Start(args) => start::start(&args, &settings, launcher),
        Command::Stop(args) => stop::stop(&args, &settings),
        Command::Status(args) => status::status(&args, &settings),
        Command::HealthCheck(args) => health::health_check(&args, &settings),
        Command::List(args) => list::list(&args, &settings),
        Command::Cost(args) => cost::cost(&args, &settings),
        Command::Check { arguments } => check::check(&arguments, launcher),
        Command::Daemon { plan, ready_path } => {
            log_to_stderr(&settings);
            let plan: DaemonPlan =
                serde_json::from_str(&plan).map_err(|error| format!("no plan: {error}"))?;
            Ok(run_daemon(&plan, &settings, &ready_path))
        }
    }
}

fn log_to_stderr(settings: &Settings) {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log_level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Somebody else in this process may have set one already.
    let _ = subscriber.try_init();
}

/// Settings given as flags.
#[derive(Debug, Default)]
struct Overrides(BTreeMap<String, String>);

impl FromIterator<(&'static str, Option<String>)> for Overrides {
    fn from_iter<I: IntoIterator<Item = (&'static str, Option<String>)>>(flags: I) -> Self {
        let given = flags
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Self(given.collect())
    }
}

impl StartArgs {
    fn overrides(&self) -> Overrides {
        [
            ("num_cpus", self.num_cpus.clone()),
            ("num_gpus", self.num_gpus.clone()),
            ("memory", self.memory.clone()),
            ("resources", self.resources.clone()),
            ("labels", self.labels.clone()),
            ("object_store_bytes", self.object_store_memory.clone()),
            ("spill_dir", self.spill_dir.clone()),
        ]
        .into_iter()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn start_is_either_head_or_address() {
        assert!(parse("start --head --port 7000 --num-cpus 2").is_ok());
        assert!(parse("start --address 10.0.0.1:6379").is_ok());
        let neither = parse("start").unwrap_err().to_string();
        assert!(
            neither.contains("--head|--address <HOST:PORT>"),
            "both ways are named: {neither}"
        );
        assert!(parse("start --head --address 10.0.0.1:6379").is_err());
        assert!(parse("start --address 10.0.0.1:6379 --port 1").is_err());
    }

    #[test]
    fn flags_become_settings() {
        let line = parse("start --head --num-cpus 2 --object-store-memory 1GiB").unwrap();
        let Command::Start(args) = line.command else {
            panic!("it is start")
        };
        let settings = Settings::resolve(&args.overrides().0, &|_| None).unwrap();
        assert_eq!(settings.num_cpus, Some(2));
        assert_eq!(settings.object_store_bytes.unwrap().0, 1 << 30);
    }

    #[test]
    fn wrong_usage_has_its_own_exit_code() {
        let launcher = Launcher {
            self_command: Vec::new(),
            zygote_command: Vec::new(),
        };
        assert_eq!(main(&["no-such-command".to_owned()], &launcher), 2);
        assert_eq!(main(&["--help".to_owned()], &launcher), 0);
    }
}
