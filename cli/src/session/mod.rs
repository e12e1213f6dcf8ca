//! Session folders: one for each laptop session and each daemon.
//!
//! ```text
//!  <temp_dir>/aktis-<uid>/<session id>[-<4 hex>]/   0700 (SES-1)
//!      owner.json      who runs here: pid, start time, role, addresses
//!      gcs.sock        only where the gcs runs
//!      n<8 hex>/       the node's sockets, logs and spilled objects
//!      daemon.log      output of a daemon
//! ```
//! Paths are short, because those of unix sockets have at most 107 bytes.

mod folder;
mod owner;
mod process;
mod sweep;

pub use folder::{SessionError, SessionFolder, base_dir, new_session_id};
pub use owner::{Owner, Role, owners};
pub use process::ProcessMark;
pub use sweep::sweep_stale;
