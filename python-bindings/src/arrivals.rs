//! References that an event loop waits for.
//!
//! A coroutine that awaits a reference is told through a descriptor that its loop watches, so that the thread that learns of
//! the value needs neither the interpreter lock nor any code of Python's (`LANE-5`).
//!
//! ```text
//!   thread that polls: object ready ─► list of tokens, bell rung if it was empty
//!   event loop:        bell readable ─► take() ─► futures of these tokens
//! ```

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};

use crate::answer::CallDone;
use crate::interpreter_end::detached;
use crate::object_ref::{PyObjectRef, PyObjectStream};
use crate::session::{refuse_in_forked_child, resume_on_loop};

struct Bell {
    arrived: Mutex<Vec<u64>>,
    descriptor: OwnedFd,
}

impl Bell {
    fn arrive(&self, token: u64) {
        let mut arrived = self.arrived.lock();
        arrived.push(token);
        if arrived.len() == 1 {
            // Fails only when the counter is full, and the descriptor readable then.
            let _ = write(&self.descriptor, &1u64.to_ne_bytes());
        }
    }

    fn take(&self) -> Vec<u64> {
        let mut arrived = self.arrived.lock();
        // Fails when it was not rung.
        let _ = read(&self.descriptor, &mut [0u8; 8]);
        std::mem::take(&mut *arrived)
    }
}

/// See the [module](self). One per event loop.
#[pyclass(module = "aktis._aktis", frozen)]
pub(crate) struct Arrivals {
    bell: Arc<Bell>,
}

#[pymethods]
impl Arrivals {
    #[new]
    fn new() -> PyResult<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| PyOSError::new_err(format!("cannot make an eventfd: {error}")))?;
        Ok(Self {
            bell: Arc::new(Bell {
                arrived: Mutex::default(),
                descriptor,
            }),
        })
    }

    /// The descriptor that is readable while there are tokens to take.
    fn fileno(&self) -> RawFd {
        self.bell.descriptor.as_raw_fd()
    }

    /// The token arrives, once, when the object is ready or has failed.
    fn await_object(
        &self,
        py: Python<'_>,
        reference: &Bound<'_, PyObjectRef>,
        token: u64,
    ) -> PyResult<()> {
        refuse_in_forked_child(py)?;
        // Whose coroutine it is, is to be seen in `aktis status`.
        resume_on_loop(py)?;
        let (bell, reference) = (Arc::clone(&self.bell), reference.get().reference());
        detached(py, || {
            let runtime = reference.runtime();
            let note = runtime.note_await(reference);
            let arrive = Box::new(move || {
                drop(note);
                bell.arrive(token);
            });
            runtime.on_ready(reference, arrive);
        });
        Ok(())
    }

    /// The token arrives, once, when the generator's next item is there, or its end.
    fn await_item(
        &self,
        py: Python<'_>,
        generator: &Bound<'_, PyObjectStream>,
        token: u64,
    ) -> PyResult<()> {
        refuse_in_forked_child(py)?;
        let (bell, stream) = (Arc::clone(&self.bell), generator.get().stream());
        detached(py, || stream.on_next(Box::new(move || bell.arrive(token))));
        Ok(())
    }

    /// Whether the call may make its next item. If not, the token arrives, once, when its consumer has read something.
    fn await_room(&self, call: &Bound<'_, CallDone>, token: u64) -> bool {
        let bell = Arc::clone(&self.bell);
        call.get()
            .watch_consumer(Box::new(move || bell.arrive(token)))
    }

    /// The tokens that have arrived since the last call.
    fn take(&self) -> Vec<u64> {
        self.bell.take()
    }
}
