//! The output of a job: made beside what is there, visible as a whole, tidied up when a job has died.

mod folder;
mod leftovers;
mod prepare;
#[cfg(test)]
mod tests;

pub(crate) use folder::{FileFormat, FolderOutput, unfinished_folder};
pub use prepare::{PreparedFolder, SaveMode, prepare_folder};
