//! How this program starts others.

/// Commands that differ between the Rust binary and the Python package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// Program and arguments that run the aktis command again, to become a daemon.
    pub self_command: Vec<String>,
    /// Program and arguments of the zygote that forks workers.
    pub zygote_command: Vec<String>,
}
