//! The aktis command and the composition of its processes, laptop mode included.
//!
//! Owns: session folders and who runs in them, how gcs and raylet are put together in one process, the command line.
//! Does not own: what gcs and raylet do, Python, drivers.
//!
//! ```text
//!  aktis start --head ──spawns──► daemon: gcs + raylet ─┐
//!  aktis start --address ───────► daemon: raylet ───────┤ each with a session folder and a pid file
//!  aktis.init() ──► LaptopSession: thread with both ────┘
//!  aktis status / list ──gRPC──► gcs          aktis stop ──SIGTERM──► daemons of the pid files
//!  aktis.init(address) ──► join::find_raylet ──► the raylet of this machine
//! ```
//!
//! # Invariants
//! - `SES-1 (private)`: session folders have mode 0700 and belong to this user; what lies in others is not believed.
//! - `SES-2 (own-only)`: only processes are ended that a file of ours names, whose machine, boot, pid namespace, start time and
//!   user match: never one that got a dead daemon's number.
//! - `SES-3 (swept)`: a folder whose process is gone is removed by the next start, and nothing but such folders: no name in a
//!   file is followed.
//! - `SES-4 (lock-is-life)`: whose lock is held lives, in whatever container or machine; the file goes only with the lock.
//! - `NET-4 (always-a-token)`: a daemon has a token. The head makes one if it is given none; processes of the same user find it
//!   in the session folder.

mod commands;
mod daemon;
pub mod join;
pub mod laptop;
mod launcher;
mod node;
pub mod session;

pub use commands::main;
pub use launcher::Launcher;
pub use node::{NodeError, node_resources};
