//! The functions that SQL may call with `OVER` alone. Those over many rows ([`aggregates`](super::aggregates)) may be, too.

use std::sync::Arc;

use datafusion_expr::WindowUDF;

use super::planner::planner;

/// The function of this name.
pub(crate) fn window_function(name: &str) -> Option<Arc<WindowUDF>> {
    planner().window(name)
}

/// All that the engine has.
pub(super) fn all() -> Vec<Arc<WindowUDF>> {
    datafusion_functions_window::all_default_window_functions()
}
