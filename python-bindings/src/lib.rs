//! The native module of the aktis Python package.
//!
//! Owns: the way between Python objects and values, exceptions and failures; running Python functions and actors in a
//! worker. Does not own: the public API and its documentation (pure Python, `python/aktis`), and what happens behind a
//! call (`aktis-worker`).
//!
//! ```text
//!   python/aktis/*.py  ──►  session, task, actor, object_ref  ──►  codec  ──►  aktis_worker::Runtime
//!                           execute (workers)  ◄── next_work ──────────────────────┘
//!                           zygote             data ──► aktis_data
//! ```
//! The interpreter lock is released around everything that may wait; conversions hold it. What the runtime itself has to run
//! in Python goes to threads of its own (`python_thread`).

mod actor;
mod answer;
mod arrivals;
mod cancel;
mod codec;
#[cfg(feature = "data")]
mod data;
mod execute;
mod exit;
mod failure;
mod interpreter_end;
mod loaded;
mod object_ref;
mod objects;
mod options;
mod python_thread;
mod session;
mod task;
mod work_feed;
mod worker_output;
mod zygote;

use aktis_common::marks::{Point, note};
use pyo3::prelude::*;

/// Runs the aktis command. Returns its exit status.
#[pyfunction]
fn cli(
    py: Python<'_>,
    argv: Vec<String>,
    self_command: Vec<String>,
    zygote_command: Vec<String>,
) -> u8 {
    interpreter_end::detached(py, || {
        aktis_cli::main(
            &argv,
            &aktis_cli::Launcher {
                self_command,
                zygote_command,
            },
        )
    })
}

/// The native half of aktis. Internal: the public API is the `aktis` package.
#[pymodule]
fn _aktis(module: &Bound<'_, PyModule>) -> PyResult<()> {
    note(Point::Loaded);
    // Of everything below: a panic is an ordinary exception (ADR 069).
    let panic_exception = module.py().get_type::<pyo3::panic::PanicException>();
    let panics = module.py().import("aktis._values.panics")?;
    panics.call_method1("adopt", (panic_exception,))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("SOURCE_MARK", aktis_common::zygote::SOURCE_MARK)?;
    module.add_class::<object_ref::PyObjectRef>()?;
    module.add_class::<object_ref::PyObjectStream>()?;
    module.add_class::<task::TaskTemplate>()?;
    module.add_class::<actor::ActorCore>()?;
    module.add_class::<actor::MethodTemplate>()?;
    module.add_class::<codec::SharedBuffer>()?;
    module.add_class::<codec::Dependency>()?;
    module.add_class::<answer::CallDone>()?;
    module.add_class::<arrivals::Arrivals>()?;
    module.add_class::<python_thread::WorkQueue>()?;
    module.add_class::<work_feed::WorkFeed>()?;
    module.add_function(wrap_pyfunction!(codec::restore_reference, module)?)?;
    module.add_function(wrap_pyfunction!(codec::restore_dependency, module)?)?;
    module.add_function(wrap_pyfunction!(codec::restore_loose_reference, module)?)?;
    module.add_function(wrap_pyfunction!(codec::decode_plain, module)?)?;
    module.add_function(wrap_pyfunction!(session::start_laptop, module)?)?;
    module.add_function(wrap_pyfunction!(session::find_node, module)?)?;
    module.add_function(wrap_pyfunction!(session::connect, module)?)?;
    module.add_function(wrap_pyfunction!(session::shutdown, module)?)?;
    module.add_function(wrap_pyfunction!(session::is_connected, module)?)?;
    module.add_function(wrap_pyfunction!(session::shows_progress, module)?)?;
    module.add_function(wrap_pyfunction!(session::current_function, module)?)?;
    module.add_function(wrap_pyfunction!(interpreter_end::announce_end, module)?)?;
    module.add_function(wrap_pyfunction!(interpreter_end::seal_end, module)?)?;
    module.add_function(wrap_pyfunction!(session::before_fork, module)?)?;
    module.add_function(wrap_pyfunction!(session::after_fork_in_parent, module)?)?;
    module.add_function(wrap_pyfunction!(session::abandon_after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(session::context, module)?)?;
    module.add_function(wrap_pyfunction!(session::set_job_tags, module)?)?;
    module.add_function(wrap_pyfunction!(session::preload, module)?)?;
    module.add_function(wrap_pyfunction!(objects::put, module)?)?;
    module.add_function(wrap_pyfunction!(objects::get, module)?)?;
    module.add_function(wrap_pyfunction!(objects::wait, module)?)?;
    module.add_function(wrap_pyfunction!(session::record_stages, module)?)?;
    module.add_function(wrap_pyfunction!(session::take_stages, module)?)?;
    module.add_function(wrap_pyfunction!(session::nodes, module)?)?;
    module.add_function(wrap_pyfunction!(cancel::cancel, module)?)?;
    module.add_function(wrap_pyfunction!(cancel::is_cancelled, module)?)?;
    module.add_function(wrap_pyfunction!(cancel::claim_interrupt, module)?)?;
    module.add_function(wrap_pyfunction!(exit::request_exit, module)?)?;
    module.add_function(wrap_pyfunction!(exit::set_end_deadline, module)?)?;
    module.add_function(wrap_pyfunction!(exit::clear_end_deadline, module)?)?;
    module.add_function(wrap_pyfunction!(session::export, module)?)?;
    module.add_function(wrap_pyfunction!(session::list_actors, module)?)?;
    module.add_function(wrap_pyfunction!(zygote::zygote_serve, module)?)?;
    module.add_function(wrap_pyfunction!(zygote::worker_main, module)?)?;
    module.add_function(wrap_pyfunction!(zygote::linger, module)?)?;
    module.add_function(wrap_pyfunction!(zygote::show_title, module)?)?;
    module.add_function(wrap_pyfunction!(cli, module)?)?;
    #[cfg(feature = "data")]
    data::register(module.py(), module)?;
    Ok(())
}
