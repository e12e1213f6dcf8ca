//! Daemons: `aktis start` spawns the aktis command again, which becomes one.
//!
//! ```text
//!  aktis start ──spawns──► aktis daemon <plan as JSON>   on its own, output in <session>/daemon.log
//!       │                        │ starts gcs and raylet
//!       └──waits for─────────────┴► ready.json: where it listens, or why it could not
//! ```

mod ready;
mod run;
mod spawn;
mod threads;

pub(crate) use ready::Ready;
pub(crate) use run::{run_daemon, run_here};
pub(crate) use spawn::spawn_daemon;

use std::path::PathBuf;

use aktis_common::ids::SessionId;
use aktis_proto::transport::Address;
use serde::{Deserialize, Serialize};

/// What a daemon is to be. Settings travel by environment variables, as they hold secrets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DaemonPlan {
    /// Name of the session folder, made by the daemon.
    pub(crate) folder_name: String,
    /// The session; a head with kept tables goes on with the session of those.
    pub(crate) session_id: SessionId,
    pub(crate) part: Part,
    /// IP address of this node for others.
    pub(crate) node_ip: String,
    pub(crate) zygote_command: Vec<String>,
    /// File that takes the daemon's output until it has a folder to put it into; not set in the foreground.
    pub(crate) output: Option<PathBuf>,
}

/// Head or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// gcs and raylet.
    Head {
        port: u16,
        /// Where tables are kept; in memory if not set.
        storage: Option<PathBuf>,
    },
    /// A raylet of the cluster at this address.
    Node { head: String },
}

impl DaemonPlan {
    /// Where the raylet listens for other nodes: any port of this node's address.
    fn raylet_listen(&self) -> Address {
        Address::Tcp {
            host: self.node_ip.clone(),
            port: 0,
        }
    }
}
