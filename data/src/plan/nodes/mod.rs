//! The nodes of a logical plan that DataFusion does not have.

pub(crate) mod expect;
pub(crate) mod late;
pub(crate) mod map;
pub(crate) mod openness;
pub(crate) mod part;
pub(crate) mod relation;
