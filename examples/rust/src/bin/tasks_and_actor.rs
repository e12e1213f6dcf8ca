//! Pi by throwing darts: tasks, and an actor that adds up, in a laptop session without Python.
//!
//! ```text
//! cargo run --release -p aktis-examples --bin tasks_and_actor
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use aktis::{
    ActorOptions, CallOptions, Function, RemoteFunction, RemoteMethod, Runtime, TaskOptions, Value,
    join_as_driver, run_if_zygote, zygote_command,
};
use aktis_cli::Launcher;
use aktis_cli::laptop::{LaptopConfig, LaptopSession};
use aktis_common::config::Settings;
use aktis_examples::{TALLY, THROW_DARTS, from_value, registry, to_value};

const TASKS: u64 = 20;
const DARTS_PER_TASK: u64 = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    // The session starts this program again, as the zygote that forks the workers.
    if run_if_zygote(registry())? {
        return Ok(());
    }
    let session = LaptopSession::start(LaptopConfig {
        settings: Settings::from_env_and_overrides(&BTreeMap::new())?,
        launcher: Launcher {
            self_command: Vec::new(),
            zygote_command: zygote_command()?,
        },
        worker_env: BTreeMap::new(),
    })?;
    let runtime = join_as_driver(session.raylet_socket())?;
    throw_darts(&runtime)?;
    runtime.shutdown();
    session.shutdown();
    Ok(())
}

fn throw_darts(runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let tally = runtime.create_actor(
        &Function::native(TALLY),
        Value::native(Vec::new()),
        Vec::new(),
        &ActorOptions::default(),
    )?;
    let throw = RemoteFunction::new(Function::native(THROW_DARTS), TaskOptions::default());
    let add = RemoteMethod::new(tally, "add", CallOptions::default());
    let mut sums = Vec::new();
    for seed in 0..TASKS {
        let input = to_value(&[seed, DARTS_PER_TASK]);
        let hits = runtime.submit(&throw, input, Vec::new())?;
        // The hits go to the actor by reference, as soon as they are there.
        let darts = to_value(&[DARTS_PER_TASK]);
        sums.extend(runtime.call(&add, darts, hits)?);
    }
    let last = runtime.get(&sums, None)?.pop().ok_or("no task ran")?;
    let [hits, darts] = from_value(&last)?;
    let pi = 4.0 * f64::from(u32::try_from(hits)?) / f64::from(u32::try_from(darts)?);
    println!(
        "{TASKS} tasks, {darts} darts, pi is about {pi:.3} ({:.2?})",
        begun.elapsed()
    );
    Ok(())
}
