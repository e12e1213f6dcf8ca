//! References pickled outside of aktis: by `pickle.dumps`, for a file, a queue or another process.
//!
//! Nobody can count such bytes, so the object stays for as long as this session does (as in Ray). Whoever unpickles them holds a
//! reference like any other, as long as the owner lives.

use std::collections::HashMap;

use aktis_common::ids::{NodeId, ObjectId, WorkerId};
use aktis_worker::{ObjectRef, ProcessAddress};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::object_ref::PyObjectRef;
use crate::session::runtime;

/// Kept for bytes that may be read at any time.
static PINNED: Mutex<Option<HashMap<ObjectId, ObjectRef>>> = Mutex::new(None);

/// What the reference is pickled as: object, node and process of the owner.
pub(crate) fn reduce_loose<'py>(
    py: Python<'py>,
    reference: &ObjectRef,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    // Let go at once: a lock must not be held by a thread that waits for the interpreter's.
    PINNED
        .lock()
        .get_or_insert_default()
        .insert(reference.id(), reference.clone());
    let owner = reference.owner();
    let restore = py
        .import("aktis._aktis")?
        .getattr("_restore_loose_reference")?;
    let parts = [
        PyBytes::new(py, reference.id().as_bytes()),
        PyBytes::new(py, owner.node.as_bytes()),
        PyBytes::new(py, owner.worker.as_bytes()),
    ];
    Ok((restore, PyTuple::new(py, parts)?))
}

/// The reference that [`reduce_loose`] took apart.
#[pyfunction]
#[pyo3(name = "_restore_loose_reference")]
pub(crate) fn restore_loose_reference<'py>(
    py: Python<'py>,
    object: &[u8],
    node: &[u8],
    worker: &[u8],
) -> PyResult<Bound<'py, PyObjectRef>> {
    let invalid = |error: aktis_common::ids::InvalidId| PyValueError::new_err(error.to_string());
    let object = ObjectId::from_bytes(object).map_err(invalid)?;
    let owner = ProcessAddress {
        node: NodeId::from_bytes(node).map_err(invalid)?,
        worker: WorkerId::from_bytes(worker).map_err(invalid)?,
    };
    PyObjectRef::new(py, runtime(py)?.adopt_reference(object, owner))
}

/// The session is over, and with it all its objects.
pub(crate) fn unpin() {
    let pinned = PINNED.lock().take();
    drop(pinned);
}
