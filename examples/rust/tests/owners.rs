//! What becomes of tasks and objects when a neighbour is slow, stopped or gone, with real processes.
//!
//! A program of its own: the session starts it again as the zygote.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use aktis::{
    ActorOptions, CallContext, CallOptions, ErrorCode, Function, NativeActor, NativeRegistry,
    ObjectRef, RemoteFunction, RemoteMethod, Runtime, TaskFailure, TaskOptions, Value,
    join_as_driver, run_if_zygote, zygote_command,
};
use aktis_cli::Launcher;
use aktis_cli::laptop::{LaptopConfig, LaptopSession};
use aktis_common::config::Settings;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

type Outcome = Result<(), Box<dyn Error>>;
type Values = Result<Vec<Value>, TaskFailure>;

const PATIENCE: Duration = Duration::from_secs(60);
const MAKE: &str = "tests.make";
const SLEEP: &str = "tests.sleep";
const WAIT_FOR: &str = "tests.wait_for";
const TOUCH: &str = "tests.touch";
const FAIL: &str = "tests.fail";
const MAKER: &str = "tests.Maker";

fn registry() -> NativeRegistry {
    NativeRegistry::default()
        .with_function(MAKE, |context, _, _| make(context))
        .with_function(SLEEP, sleep)
        .with_function(WAIT_FOR, wait_for)
        .with_function(TOUCH, touch)
        .with_function(FAIL, |_, _, _| {
            Err(TaskFailure::new(ErrorCode::Application, "on purpose"))
        })
        .with_actor(MAKER, |_, _, _| Ok(Box::new(Maker)))
}

struct Maker;

impl NativeActor for Maker {
    fn call(&mut self, context: &CallContext<'_>, _: &str, _: Value, _: Vec<Value>) -> Values {
        make(context)
    }
}

/// The process that made them, and references: to a short value, a long one, one with a reference inside, and the result of
/// a task that takes a while.
fn make(context: &CallContext<'_>) -> Values {
    let runtime = context.runtime;
    let inner = runtime.put(Value::native(b"inner".to_vec()))?;
    let mut nested = Value::native(b"nested".to_vec());
    nested.contained.push(inner);
    let slow = function(SLEEP, TaskOptions::default());
    let late = runtime.submit(&slow, Value::native(b"1".to_vec()), Vec::new())?;
    let mut made = Value::native(std::process::id().to_string().into_bytes());
    made.contained
        .push(runtime.put(Value::native(b"small".to_vec()))?);
    made.contained
        .push(runtime.put_stored(Value::native(vec![7; 500_000]))?);
    made.contained.push(runtime.put(nested)?);
    made.contained.extend(late);
    Ok(vec![made])
}

fn sleep(_: &CallContext<'_>, seconds: Value, _: Vec<Value>) -> Values {
    let seconds = text(&seconds).parse().unwrap_or(600);
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(vec![Value::native(b"late".to_vec())])
}

fn wait_for(_: &CallContext<'_>, path: Value, _: Vec<Value>) -> Values {
    let (path, end) = (text(&path), Instant::now() + PATIENCE);
    while !Path::new(&path).exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = Path::new(&path).exists();
    Ok(vec![Value::native(found.to_string().into_bytes())])
}

/// Writes its process id.
fn touch(_: &CallContext<'_>, path: Value, _: Vec<Value>) -> Values {
    std::fs::write(text(&path), std::process::id().to_string())
        .map_err(|error| TaskFailure::new(ErrorCode::Internal, error.to_string()))?;
    Ok(vec![Value::default()])
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(&value.inband).into_owned()
}

fn function(name: &str, options: TaskOptions) -> RemoteFunction {
    RemoteFunction::new(Function::native(name), options)
}

fn run(runtime: &Runtime, name: &str, input: &str) -> Result<ObjectRef, Box<dyn Error>> {
    let called = function(name, TaskOptions::default());
    let input = Value::native(input.as_bytes().to_vec());
    let mut results = runtime.submit(&called, input, Vec::new())?;
    Ok(results.pop().ok_or("no result")?)
}

fn get(runtime: &Runtime, references: &[ObjectRef]) -> Result<Vec<Value>, TaskFailure> {
    runtime.get(references, Some(Instant::now() + PATIENCE))
}

fn get_one(runtime: &Runtime, reference: &ObjectRef) -> Result<Value, Box<dyn Error>> {
    let values = get(runtime, std::slice::from_ref(reference))?;
    Ok(values.into_iter().next().ok_or("no value")?)
}

fn is_running(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

fn until(what: &str, condition: impl Fn() -> bool) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > end {
            return Err(format!("not within {PATIENCE:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Reads what [`make`] made; and when it is let go, its maker ends.
fn check_made(runtime: &Runtime, made: Value) -> Outcome {
    let pid = Pid::from_raw(text(&made).parse()?).ok_or("a process id")?;
    std::thread::sleep(Duration::from_millis(500));
    let [small, stored, nested, late] = &made.contained[..] else {
        return Err("four references".into());
    };
    assert_eq!(text(&get_one(runtime, small)?), "small");
    assert_eq!(get_one(runtime, stored)?.inband.len(), 500_000);
    let nested = get_one(runtime, nested)?;
    assert_eq!(text(&get_one(runtime, &nested.contained[0])?), "inner");
    assert_eq!(text(&get_one(runtime, late)?), "late");
    assert!(is_running(pid), "it stays for what is referenced");
    drop((made, nested));
    until("the maker ends", || !is_running(pid))
}

fn what_an_ending_task_made_is_kept(runtime: &Runtime) -> Outcome {
    let options = TaskOptions {
        max_calls: 1,
        ..TaskOptions::default()
    };
    let made = runtime.submit(&function(MAKE, options), Value::default(), Vec::new())?;
    let value = get_one(runtime, &made[0])?;
    drop(made);
    check_made(runtime, value)
}

fn what_a_dropped_actor_made_is_kept(runtime: &Runtime) -> Outcome {
    let (class, options) = (Function::native(MAKER), ActorOptions::default());
    let actor = runtime.create_actor(&class, Value::default(), Vec::new(), &options)?;
    let method = RemoteMethod::new(actor, "make", CallOptions::default());
    let made = runtime.call(&method, Value::default(), Vec::new())?;
    let value = get_one(runtime, &made[0])?;
    drop((made, method));
    check_made(runtime, value)
}

fn quick_task_behind_a_long_one_runs_elsewhere(runtime: &Runtime, folder: &Path) -> Outcome {
    let flag = folder.join("flag").display().to_string();
    for number in 0..100 {
        let other = folder.join(format!("quick {number}"));
        get_one(runtime, &run(runtime, TOUCH, &other.display().to_string())?)?;
    }
    let long = run(runtime, WAIT_FOR, &flag)?;
    let quick = run(runtime, TOUCH, &flag)?;
    get_one(runtime, &quick)?;
    assert_eq!(text(&get_one(runtime, &long)?), "true");
    Ok(())
}

fn failure_is_raised_before_what_comes_first_is_done(runtime: &Runtime, folder: &Path) -> Outcome {
    let flag = folder.join("over").display().to_string();
    let references = [run(runtime, WAIT_FOR, &flag)?, run(runtime, FAIL, "")?];
    let failure = get(runtime, &references).expect_err("it fails");
    assert_eq!(failure.code, ErrorCode::Application, "{failure}");
    get_one(runtime, &run(runtime, TOUCH, &flag)?)?;
    Ok(())
}

fn stopped_worker_is_ended_by_force(runtime: &Runtime, folder: &Path) -> Outcome {
    let path = folder.join("pid").display().to_string();
    get_one(runtime, &run(runtime, TOUCH, &path)?)?;
    let pid = Pid::from_raw(std::fs::read_to_string(&path)?.parse()?).ok_or("a process id")?;
    let task = run(runtime, SLEEP, "600")?;
    // The idle worker takes it.
    std::thread::sleep(Duration::from_millis(300));
    kill_process(pid, Signal::STOP)?;
    runtime.cancel(&task, true, false)?;
    let failure = get(runtime, &[task]).expect_err("it is cancelled");
    assert_eq!(failure.code, ErrorCode::Cancelled, "{failure}");
    Ok(())
}

fn main() -> Outcome {
    if run_if_zygote(registry())? {
        return Ok(());
    }
    let cpus = BTreeMap::from([("num_cpus".to_owned(), "4".to_owned())]);
    let session = LaptopSession::start(LaptopConfig {
        settings: Settings::from_env_and_overrides(&cpus)?,
        launcher: Launcher {
            self_command: Vec::new(),
            zygote_command: zygote_command()?,
        },
        worker_env: BTreeMap::new(),
    })?;
    let runtime = join_as_driver(session.raylet_socket())?;
    let folder = tempfile::tempdir()?;
    what_an_ending_task_made_is_kept(&runtime)?;
    what_a_dropped_actor_made_is_kept(&runtime)?;
    quick_task_behind_a_long_one_runs_elsewhere(&runtime, folder.path())?;
    failure_is_raised_before_what_comes_first_is_done(&runtime, folder.path())?;
    stopped_worker_is_ended_by_force(&runtime, folder.path())?;
    runtime.shutdown();
    session.shutdown();
    println!("all is kept");
    Ok(())
}
