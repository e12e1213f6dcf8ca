//! What happens is given to the table whose business it is, and what follows is passed on.
//!
//! Nothing is decided here. [`route`] says which table takes an event, [`news`] who hears of what happened in one, and
//! [`settle`] brings claims, workers and reports into order after that. A verb of a table changes that table alone, and returns
//! before others hear of it.
//!
//! ```text
//!  Event ──► route ──► a verb of a table ──► effects
//!                         │ TableEvent
//!                         ▼
//!                       news ──► verbs of others ──► ...
//!                         │ nobody has anything to tell
//!                         ▼
//!                       settle ──► serve, seat, fork, report
//! ```

mod calls;
mod frames;
mod news;
mod route;
mod settle;
