//! Runs of a seed.
//!
//! Each run is a process of its own: this program once more, with one test and one seed. So what a run finds does not
//! depend on the runs before it, a hang is one run's, and the line that repeats a run does exactly the same.

use std::io::Read;
use std::ops::Range;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::clock;
use super::cluster::Cluster;
use super::log::Log;

/// Names the seed of a run; set by the process that starts it, or by hand.
const SEED: &str = "AKTIS_CLUSTER_SEED";
/// How many seeds random faults get; `make soak` gives more.
const SEEDS: &str = "AKTIS_CLUSTER_SEEDS";
/// What is printed of the daemons' own log, as `RUST_LOG` would say it.
const LOG: &str = "AKTIS_CLUSTER_LOG";
/// No scenario takes this long in its own time.
const LONGEST_RUN: Duration = Duration::from_secs(24 * 3600);
/// No run takes this long.
const LONGEST_PROCESS: Duration = Duration::from_secs(300);
/// Seeds that every scenario is run with.
const SCENARIO_SEEDS: Range<u64> = 1..4;

fn number(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Runs a scenario with a few seeds.
pub fn run<F>(scenario: F)
where
    F: AsyncFnOnce(&mut Cluster) + Send + 'static,
{
    run_each(SCENARIO_SEEDS, scenario);
}

/// Runs a scenario with so many seeds; with fewer or more if the environment says so.
pub fn run_seeds<F>(count: u64, scenario: F)
where
    F: AsyncFnOnce(&mut Cluster) + Send + 'static,
{
    run_each(1..1 + number(SEEDS).unwrap_or(count), scenario);
}

/// With each of the seeds, two at a time.
fn run_each<F>(seeds: Range<u64>, scenario: F)
where
    F: AsyncFnOnce(&mut Cluster) + Send + 'static,
{
    if let Some(seed) = number(SEED) {
        return here(seed, scenario);
    }
    let test = test_name(std::any::type_name::<F>());
    let seeds: Vec<u64> = seeds.collect();
    for pair in seeds.chunks(2) {
        let runs: Vec<_> = pair.iter().map(|seed| Run::start(&test, *seed)).collect();
        runs.into_iter().for_each(Run::finish);
    }
}

/// What happened in a run of a test.
pub fn log_of(test: &str, seed: u64) -> Vec<String> {
    let output = Run::start(test, seed).end().1;
    let events = output.lines().filter(|line| line.contains(" s  "));
    events.map(str::to_owned).collect()
}

/// `cluster::a::b::{{closure}}` is the scenario of the test `a::b`.
fn test_name(closure: &str) -> String {
    let path = closure.split_once("::").map_or(closure, |(_, path)| path);
    path.trim_end_matches("::{{closure}}").to_owned()
}

struct Run {
    child: std::process::Child,
    output: std::thread::JoinHandle<String>,
    test: String,
    seed: u64,
    began: Instant,
}

impl Run {
    fn start(test: &str, seed: u64) -> Self {
        let (mut output, theirs) = std::io::pipe().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--include-ignored"])
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs)
            .spawn()
            .unwrap();
        let output = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = output.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            child,
            output,
            test: test.to_owned(),
            seed,
            began: Instant::now(),
        }
    }

    /// Waits; gives how it ended, if it did, and what it printed.
    fn end(mut self) -> (Option<ExitStatus>, String) {
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if self.began.elapsed() > LONGEST_PROCESS => break None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if status.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        (status, self.output.join().unwrap())
    }

    fn finish(self) {
        let (test, seed) = (self.test.clone(), self.seed);
        let (status, output) = self.end();
        let is_run = output.contains("1 passed");
        assert!(
            status.is_some_and(|status| status.success()) && is_run,
            "{output}\nseed {seed} failed ({status:?}); again:\n    {SEED}={seed} cargo test --release -p aktis-cluster-tests -- --exact {test} --nocapture --include-ignored",
        );
    }
}

/// Runs a seed in this process.
fn here<F>(seed: u64, scenario: F)
where
    F: AsyncFnOnce(&mut Cluster) + Send + 'static,
{
    let log = Log::default();
    let written = log.clone();
    end_with_the_first_panic(log.clone());
    let run = std::thread::spawn(move || {
        clock::begin(seed);
        let _printing = print_daemons();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let in_time = runtime.block_on(async {
            let whole = async {
                let mut cluster = Cluster::start(seed, log).await;
                scenario(&mut cluster).await;
                cluster.log.note("the run is over");
            };
            tokio::time::timeout(LONGEST_RUN, whole).await.is_ok()
        });
        runtime.shutdown_background();
        assert!(in_time, "the run has no end");
    });
    run.join().expect("a panic ends this process");
    println!("{}", written.text());
}

/// A panic of a daemon would end its task alone, and the run might go on without it. It is a fault of the run, in whatever
/// thread it happens: so a broken invariant is seen where it was broken.
#[expect(
    clippy::disallowed_methods,
    reason = "this process is one run, and a panic in any of its threads ends it"
)]
fn end_with_the_first_panic(log: Log) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        println!("{}", log.text_if_free());
        print(panic);
        std::process::exit(101);
    }));
}

fn print_daemons() -> Option<tracing::subscriber::DefaultGuard> {
    let filter = std::env::var_os(LOG)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.to_str()?)
        .with_test_writer()
        .with_ansi(false)
        .finish();
    Some(tracing::subscriber::set_default(subscriber))
}
