//! Carries effects out, and brings events in: sockets, processes, files, calls to others.

pub(crate) mod at_work;
pub(crate) mod descriptor;
pub(crate) mod frames;
pub(crate) mod gcs;
pub(crate) mod held;
pub(crate) mod lane_proxy;
pub(crate) mod links;
pub(crate) mod logs;
pub(crate) mod orphans;
pub(crate) mod peers;
pub(crate) mod process_socket;
pub(crate) mod store;
pub(crate) mod zygote;
