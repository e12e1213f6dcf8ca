//! Work for the event loop of an async actor, which is the executor of its process.
//!
//! The loop's selector waits here instead of in its own `select`: for work from the lanes and for the loop's descriptors at
//! the same time. So a call starts on the thread that read it, as in other workers.
//!
//! ```text
//!  selector.select(timeout) ─► WorkFeed.dispatch ─► wait: sockets of the lanes, descriptor of the loop
//!                                    └─► calls that came ─► host.dispatch ─► a task of the loop each
//!                                          └─ inputs to be fetched: a thread, then host.arrive
//! ```

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::runtime::{CallInputs, CallOutcome, LoopWatch};
use aktis_worker::{ReceivedCall, TaskFailure, Work};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::answer::hand_over;
use crate::codec::decode_args;
use crate::execute::CallExecutor;
use crate::interpreter_end::{attached, detached};
use crate::session::CurrentCall;

/// Calls that start in one round of the loop, so that it also looks at its descriptors.
const CALLS_PER_ROUND: usize = 256;
/// How long one wait takes at most; signal handlers run between waits.
const SIGNAL_SLICE: Duration = Duration::from_secs(1);

/// See the [module](self).
#[pyclass(module = "aktis._aktis", unsendable)]
pub(crate) struct WorkFeed {
    executor: CallExecutor,
    host: Py<PyAny>,
    watch: Option<LoopWatch>,
    fetcher: Mutex<Option<mpsc::Sender<Fetch>>>,
}

/// A call whose inputs are brought here, and on whose behalf it runs.
type Fetch = (Box<ReceivedCall>, CurrentCall);

impl WorkFeed {
    pub(crate) fn new(executor: CallExecutor, host: Py<PyAny>) -> Self {
        Self {
            executor,
            host,
            watch: None,
            fetcher: Mutex::new(None),
        }
    }

    /// Starts a call, in the order in which calls came.
    fn start(&self, py: Python<'_>, call: Box<ReceivedCall>) -> PyResult<()> {
        let host = self.host.bind(py);
        let are_fetched = self.fetcher.lock().is_some();
        if call.must_fetch() || (are_fetched && host.getattr("late")?.extract::<u64>()? > 0) {
            return self.start_late(py, call);
        }
        self.executor.start_on_loop(py, host, call);
        Ok(())
    }

    /// Hands the call to the thread that brings inputs here; what comes after it goes the same way until it has arrived.
    fn start_late(&self, py: Python<'_>, call: Box<ReceivedCall>) -> PyResult<()> {
        let host = self.host.bind(py);
        host.setattr("late", host.getattr("late")?.extract::<u64>()? + 1)?;
        let mut fetcher = self.fetcher.lock();
        if fetcher.is_none() {
            *fetcher = Some(self.start_fetcher(py)?);
        }
        let context = self.executor.context_of(&call);
        let sent = fetcher
            .as_ref()
            .map(|fetcher| fetcher.send((call, context)));
        if let Some(Err(mpsc::SendError((call, _)))) = sent {
            let failure = TaskFailure::new(
                ErrorCode::Internal,
                "the thread that fetches inputs has crashed: kill the actor and create it again",
            );
            call.finish(CallOutcome::failed(failure, Duration::ZERO));
            host.call_method0("arrive_in_vain")?;
        }
        Ok(())
    }

    fn start_fetcher(&self, py: Python<'_>) -> PyResult<mpsc::Sender<Fetch>> {
        let (sender, calls) = mpsc::channel::<Fetch>();
        let host = self.host.clone_ref(py);
        let fetch = move || {
            for (mut call, context) in calls {
                let inputs = call.take_inputs();
                attached(|py| arrive(py, host.bind(py), call, context, inputs));
            }
        };
        std::thread::Builder::new()
            .name("aktis-inputs".to_owned())
            .spawn(fetch)?;
        Ok(sender)
    }
}

/// The inputs of a call are here, or cannot be had.
fn arrive(
    py: Python<'_>,
    host: &Bound<'_, PyAny>,
    call: Box<ReceivedCall>,
    context: CurrentCall,
    inputs: Result<CallInputs, TaskFailure>,
) {
    match inputs.map(|inputs| decode_args(py, inputs)) {
        Ok(Ok(arguments)) => return hand_over(py, host, "arrive", call, context, Ok(arguments)),
        Ok(Err(error)) => hand_over(py, host, "dispatch", call, context, Err(error)),
        Err(failure) => call.finish(CallOutcome::failed(failure, Duration::ZERO)),
    }
    if let Err(error) = host.call_method0("arrive_in_vain") {
        error.write_unraisable(py, None);
    }
}

#[pymethods]
impl WorkFeed {
    /// The descriptor by which the loop would wait.
    #[allow(unsafe_code, reason = "descriptors come from Python as numbers")]
    fn watch(&mut self, fd: i32) -> PyResult<()> {
        // SAFETY: the selector that calls this owns the descriptor and has it open.
        let fd: OwnedFd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        let watch = self.executor.runtime().watch_loop(fd);
        self.watch =
            Some(watch.map_err(|failure| PyErr::from(std::io::Error::other(failure.message)))?);
        Ok(())
    }

    /// Waits for at most `timeout` seconds (None: without limit) and starts the calls that came. False: the process is to
    /// end.
    fn dispatch(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = timeout.map_or(SIGNAL_SLICE, |seconds| {
            Duration::try_from_secs_f64(seconds.max(0.0))
                .map_or(SIGNAL_SLICE, |limit| limit.min(SIGNAL_SLICE))
        });
        let runtime = self.executor.runtime();
        if let (false, Some(watch)) = (limit.is_zero(), &self.watch) {
            detached(py, || runtime.wait_for_work(watch, Some(limit)));
        }
        for _ in 0..CALLS_PER_ROUND {
            match runtime.try_next_work() {
                None => break,
                Some(Work::Call(call)) => self.start(py, call)?,
                Some(Work::Exit(_)) => return Ok(false),
                Some(Work::ExitForGood(_)) => {
                    runtime.linger_no_more();
                    return Ok(false);
                }
                Some(Work::StartActor(start)) => {
                    let failure =
                        TaskFailure::new(ErrorCode::Internal, "this process is an actor already");
                    start.finish(Err(failure));
                }
            }
        }
        Ok(true)
    }
}
