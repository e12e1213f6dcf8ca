//! Values in the object store of the node.

pub(crate) mod layout;
