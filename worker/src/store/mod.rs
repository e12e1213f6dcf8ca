//! Values in the object store of the node.

pub(crate) mod client;
pub(crate) mod layout;
mod recent;
