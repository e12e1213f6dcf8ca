//! Session folders: one for each laptop session and each daemon.
//!
//! ```text
//!  <temp_dir>/aktis-<uid>/<session id>[-<4 hex>]/   0700 (SES-1)
//!      lock            locked while its process lives (SES-4)
//!      owner.json      who runs here: process, role, addresses
//!      token           of the cluster, for processes of this user; 0600
//!      gcs.sock        only where the gcs runs
//!      n<8 hex>/       the node's sockets, logs and spilled objects
//!      daemon.log      output of a daemon
//!  <temp_dir>/aktis-<uid>/head-<port>.redb          a head's tables, which outlive it
//!  /tmp/aktis-<uid>/at-<session folder>/            address and token of a daemon with another temp_dir
//!  <spill_dir>/aktis-<session folder>/              spilled objects, if the setting is there; with a lock, too
//! ```
//! Paths are short, because those of unix sockets have at most 107 bytes.

mod announcement;
mod file;
mod folder;
mod lock;
mod owner;
mod process;
mod spill;
mod sweep;
mod tables;

pub use announcement::{announce_daemon, known_daemons};
pub(crate) use folder::make_base;
pub use folder::{SessionError, SessionFolder, base_dir, existing_base, new_session_id};
pub use owner::{Owner, Role, owners, read_token, write_token};
pub use process::ProcessMark;
pub use spill::make_spill_folder;
pub use sweep::sweep_stale;
pub use tables::{head_tables, kept_tables};
