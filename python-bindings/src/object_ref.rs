//! `ObjectRef` and `ObjectRefGenerator` as Python sees them.

#![allow(
    clippy::doc_markdown,
    clippy::doc_lazy_continuation,
    reason = "what is written about the methods is Python's docstrings, with examples that run as doctests"
)]

use std::hash::BuildHasher;

use aktis_worker::{ObjectRef, ObjectStream};
use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use rustc_hash::FxBuildHasher;

use crate::codec::{reduce_loose, scope_reference};
use crate::failure::{get_error, to_py_err};
use crate::interpreter_end::detached;
use crate::python_thread::CALLBACKS;
use crate::session::{refuse_in_forked_child, signal_check};

/// A counted reference to an object that may not exist yet: what `remote()` and `put` give, and `get` takes.
///
/// The object lives as long as a reference to it does, in any process. As an argument of a task a reference arrives as its
/// value; in a list, a dict or an object it stays a reference. In a coroutine, `await ref` gives the value. Equal are references
/// to the same object; whether their values are equal, `get` must find out first.
///
/// >>> import aktis
/// >>> @aktis.remote
/// ... def square(x):
/// ...     return x * x
/// >>> ref = square.remote(3)
/// >>> aktis.get(ref), aktis.get(square.remote(ref))
/// (9, 81)
#[pyclass(name = "ObjectRef", module = "aktis", frozen, weakref)]
pub(crate) struct PyObjectRef {
    reference: ObjectRef,
}

impl PyObjectRef {
    /// A reference as an object of Python.
    #[allow(unsafe_code, reason = "no safe binding to leave the collector")]
    pub(crate) fn new(py: Python<'_>, reference: ObjectRef) -> PyResult<Bound<'_, Self>> {
        let object = Bound::new(py, Self { reference })?;
        // It holds nothing of Python's, so it is part of no cycle. Looking through millions of them in vain took a quarter
        // of the time that making them takes.
        // SAFETY: the object is alive, and of a type that takes part in the collection. Freeing it untracks it again, which
        // does nothing then.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
        Ok(object)
    }

    pub(crate) fn reference(&self) -> &ObjectRef {
        &self.reference
    }
}

#[pymethods]
impl PyObjectRef {
    /// The id of the object, in hexadecimal.
    ///
    /// Returns:
    ///     40 characters: 32 for the task that makes it, 8 for which of its results it is.
    ///
    /// >>> import aktis
    /// >>> len(aktis.put(1).hex())
    /// 40
    fn hex(&self) -> String {
        self.reference.id().to_string()
    }

    /// The id of the object.
    ///
    /// Returns:
    ///     20 bytes, those of :meth:`hex`.
    ///
    /// >>> import aktis
    /// >>> ref = aktis.put(1)
    /// >>> ref.binary().hex() == ref.hex()
    /// True
    fn binary<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.reference.id().as_bytes())
    }

    /// The id of the task that makes the object.
    ///
    /// Returns:
    ///     16 bytes. Here they are plain bytes, where Ray has a class.
    ///
    /// >>> import aktis
    /// >>> ref = aktis.put(1)
    /// >>> ref.binary().startswith(ref.task_id())
    /// True
    fn task_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.reference.id().task().as_bytes())
    }

    /// Whether the object is there, or its task has failed; for many at once there is `wait`.
    ///
    /// Returns:
    ///     `True` if `get` need not wait for the task. The object may still lie on another node.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> aktis.put(1).is_ready()
    /// True
    fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        refuse_in_forked_child(py)?;
        Ok(self.reference.runtime().is_ready(&self.reference))
    }

    /// Whether `get` would return at once, without fetching anything.
    ///
    /// Returns:
    ///     `True` if the value is small and has arrived with its reference, or the task has failed.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> aktis.put(1).is_inline()
    /// True
    fn is_inline(&self, py: Python<'_>) -> PyResult<bool> {
        refuse_in_forked_child(py)?;
        Ok(self.reference.runtime().is_inline(&self.reference))
    }

    /// Calls back once when the object is ready or its task has failed. For values, :meth:`future` is the easier way.
    ///
    /// Args:
    ///     callback: takes no arguments. All callbacks run on one thread: do little in it. What it raises is printed.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis, threading
    /// >>> done = threading.Event()
    /// >>> aktis.put(1).on_ready(done.set)
    /// >>> done.wait(timeout=30)
    /// True
    fn on_ready(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        refuse_in_forked_child(py)?;
        CALLBACKS.start(py)?;
        let reference = self.reference.clone();
        detached(py, || {
            let runtime = self.reference.runtime();
            runtime.on_ready(&reference, python_callback(callback));
        });
        Ok(())
    }

    /// The value as a future, for code that knows no references.
    ///
    /// Returns:
    ///     A `concurrent.futures.Future`; it has the value, or the error that `get` would raise. To cancel it does not cancel the
    ///     task.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> aktis.put("one").future().result(timeout=30)
    /// 'one'
    fn future<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("aktis._calls.futures")?
            .call_method1("future", (slf,))
    }

    fn __await__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("aktis._calls.futures")?
            .call_method1("await_ref", (slf,))
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let Some(position) = scope_reference(&self.reference) else {
            return reduce_loose(py, &self.reference);
        };
        let restore = py.import("aktis._aktis")?.getattr("_restore_reference")?;
        Ok((restore, PyTuple::new(py, [position])?))
    }

    /// A reference never changes, so a copy of what holds it may hold the same one.
    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }

    fn __repr__(&self) -> String {
        format!("ObjectRef({})", self.reference.id())
    }

    /// What notebooks show.
    fn _repr_html_<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("aktis._messages.html")?
            .call_method1("reference", (slf,))
    }

    fn __hash__(&self) -> u64 {
        FxBuildHasher.hash_one(self.reference.id())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        if let Ok(other) = other.cast_exact::<Self>() {
            return Ok(other.get().reference == self.reference);
        }
        if !other.is_none() {
            other
                .py()
                .import("aktis._messages.forgotten_get")?
                .call_method1("compared", (other,))?;
        }
        Ok(false)
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, pyo3::types::PyType>,
        _item: Bound<'py, PyAny>,
    ) -> Bound<'py, PyAny> {
        cls.clone().into_any()
    }
}

fn python_callback(callback: Py<PyAny>) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        CALLBACKS.run(move |py| Ok((callback, PyTuple::empty(py).unbind())));
    })
}

/// The results of a remote generator, as references, one by one while it runs.
///
/// Iterate over it with `for`, in a coroutine with `async for`; each step waits for the next result. What the generator raises
/// is its last reference: `get` of it raises. When nobody holds the generator any more, the task is told to end.
///
/// >>> import aktis
/// >>> @aktis.remote
/// ... def count(n):
/// ...     for i in range(n):
/// ...         yield i
/// >>> [aktis.get(ref) for ref in count.remote(3)]
/// [0, 1, 2]
#[pyclass(name = "ObjectRefGenerator", module = "aktis", frozen)]
pub(crate) struct PyObjectStream {
    stream: ObjectStream,
}

impl PyObjectStream {
    pub(crate) fn new(stream: ObjectStream) -> Self {
        Self { stream }
    }

    pub(crate) fn stream(&self) -> &ObjectStream {
        &self.stream
    }
}

#[pymethods]
impl PyObjectStream {
    /// The id of the generator's task.
    ///
    /// Returns:
    ///     16 bytes.
    ///
    /// >>> import aktis
    /// >>> @aktis.remote
    /// ... def one():
    /// ...     yield 1
    /// >>> len(one.remote().task_id())
    /// 16
    fn task_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.stream.task().as_bytes())
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyObjectRef>> {
        self.next_within(py, None)
    }

    /// The next reference, with a limit to the time it may take.
    ///
    /// Args:
    ///     timeout: seconds to wait at most; 0 looks once; `None` waits as long as it takes, as `next` does.
    ///
    /// Returns:
    ///     A reference that is ready.
    ///
    /// Raises:
    ///     StopIteration: the generator has ended, and all was taken.
    ///     GetTimeoutError: `timeout` has passed. It is a `TimeoutError`, and the same can be asked again.
    ///
    /// >>> import aktis
    /// >>> @aktis.remote
    /// ... def one():
    /// ...     yield 1
    /// >>> aktis.get(one.remote().next_within(timeout=30))
    /// 1
    #[pyo3(signature = (timeout=None))]
    fn next_within<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyObjectRef>> {
        refuse_in_forked_child(py)?;
        let deadline = crate::session::deadline_of(timeout)?;
        let next = detached(py, || self.stream.next_item(deadline, &signal_check));
        match next {
            Ok(Some(reference)) => PyObjectRef::new(py, reference),
            Ok(None) => Err(PyStopIteration::new_err(())),
            // As in Ray: the failure is the last reference, get() of which raises.
            Err(aktis_worker::GetError::Failed(failure)) => {
                match self.stream.failed_reference(&failure) {
                    Ok(reference) => PyObjectRef::new(py, reference),
                    Err(failure) => Err(to_py_err(py, &failure)),
                }
            }
            Err(error) => Err(get_error(py, error, timeout)),
        }
    }

    /// A reference to the end of the generator, to wait for it without taking its results.
    ///
    /// Returns:
    ///     A reference that is ready when the task has ended. Its value is `None`; if the task failed, `get` raises its error.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> @aktis.remote
    /// ... def one():
    /// ...     yield 1
    /// >>> aktis.get(one.remote().completed(), timeout=30)
    fn completed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyObjectRef>> {
        refuse_in_forked_child(py)?;
        let nothing = crate::codec::to_value(py.None().bind(py))?;
        PyObjectRef::new(py, detached(py, || self.stream.completed(nothing)))
    }

    /// A reference that is ready when there is a next item, or none any more.
    fn _peek<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyObjectRef>> {
        refuse_in_forked_child(py)?;
        PyObjectRef::new(py, detached(py, || self.stream.peek()))
    }

    /// Whether `next` would give a reference at once.
    ///
    /// Returns:
    ///     `False` while the next result is being made, and at the end.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> @aktis.remote
    /// ... def one():
    /// ...     yield 1
    /// >>> stream = one.remote()
    /// >>> ready, _ = aktis.wait([stream], timeout=30)
    /// >>> stream.next_ready()
    /// True
    fn next_ready(&self, py: Python<'_>) -> PyResult<bool> {
        refuse_in_forked_child(py)?;
        Ok(self.stream.has_next() && !self.stream.is_finished())
    }

    /// Whether everything was taken.
    ///
    /// Returns:
    ///     `True` if the generator has ended and all its references were taken.
    ///
    /// Raises:
    ///     RuntimeError: this is a forked child of the process that has the session.
    ///
    /// >>> import aktis
    /// >>> @aktis.remote
    /// ... def one():
    /// ...     yield 1
    /// >>> stream = one.remote()
    /// >>> len(list(stream)), stream.is_finished()
    /// (1, True)
    fn is_finished(&self, py: Python<'_>) -> PyResult<bool> {
        refuse_in_forked_child(py)?;
        Ok(self.stream.is_finished())
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, pyo3::types::PyType>,
        _item: Bound<'py, PyAny>,
    ) -> Bound<'py, PyAny> {
        cls.clone().into_any()
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py()
            .import("aktis._calls.futures")?
            .call_method1("anext_ref", (slf,))
    }
}
