//! The output of a job: made beside what is there, visible as a whole, taken up or tidied up when a job has died.
//!
//! ```text
//!  prepare ──► is there something to take up?     leftovers: jobs that died
//!     │
//!  folder ───► begins, gets files of inputs ──► keeper: syncs them, says so in the ledger (book, record, frames)
//!     │        workers note rows in journals
//!     ▼
//!  commit ───► names change; the ledger says that it is finished, or all is undone
//!             together: the same of several outputs, of which one decides for all
//! ```

mod book;
mod durable;
mod far;
mod folder;
mod found;
mod frames;
mod identity;
pub(crate) mod journal;
#[cfg(test)]
mod judged_resume_tests;
mod keeper;
mod left_out;
mod leftovers;
mod legs;
#[cfg(test)]
mod legs_tests;
mod noted;
mod prepare;
mod ranges;
mod record;
#[cfg(test)]
mod resume_tests;
mod spans;
mod taken_up;
#[cfg(test)]
mod tests;
mod together;
#[cfg(test)]
mod together_resume_tests;
#[cfg(test)]
mod together_tests;
mod undo;

pub(crate) use far::FarFolder;
pub(crate) use folder::{
    FileFormat, FolderOutput, LettersPlace, OutputPlan, UNFINISHED, unfinished_folder,
};
pub(crate) use found::{JudgedOfLeg, LeftOutOfLeg, LegFound};
pub use identity::{JobIdentity, OneOfSeveral};
pub(crate) use journal::Salvaged;
pub(crate) use left_out::{LeftOut, LeftOutByStep};
pub(crate) use legs::{LEG_PREFIX, LegFolders, LegState};
pub(crate) use noted::FoundInRows;
pub use prepare::{
    PreparedFolder, Request, Resume, SaveMode, TakesUp, has_unfinished, prepare_folder,
};
pub(crate) use ranges::DoneRanges;
pub(crate) use record::JudgedRows;
pub use record::Trait;
pub(crate) use spans::{DonePart, END, SourceRange, Span, Spans};
pub(crate) use taken_up::OutputsLeft;
pub(crate) use together::close_together;
