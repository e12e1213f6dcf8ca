//! Plans that run in threads of this process, for `aktis.testing.local`.

use std::collections::HashMap;

use aktis_data::executor::pool::InProcessPool;
use pyo3::prelude::*;

use super::map_options::resource_set;
use crate::failure::describe;
use crate::interpreter_end::attached;

/// Stage workers as threads of this process, each of which begins with a call of `begin`.
pub(super) fn threads(resources: &HashMap<String, f64>, begin: Py<PyAny>) -> InProcessPool {
    InProcessPool::new(resource_set(resources)).beginning_with(move || {
        attached(|py| {
            let begun = begin.call0(py);
            begun.map(drop).map_err(|error| {
                describe(py, &error, "a thread of aktis.testing.local()", None).failure
            })
        })
    })
}
