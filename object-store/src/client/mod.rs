//! What a worker or driver process holds of an arena: a read-only mapping, and ways to write into
//! a range it is creating.
//!
//! ```text
//!               read-only mapping of all of it            a range being created
//!   view() ---> |  sealed  |  sealed  |   free  |        |...........|
//!                                                          ^       ^
//!                       write_vectored(): copies a value --'       '-- writable(): builds in place
//! ```
//! A stray write through a view faults; it cannot change a sealed object
//! (`OBJ-3 (sealed-is-immutable)`). A [`WritableRange`] reaches only the pages of its own object.
//!
//! # How values are copied in
//! Measured with `cargo run --release -p aktis-object-store --example arena_write` (200 MB from
//! anonymous memory, one thread, GB/s, best of several; see the example for the machine to
//! compare with). *Cold* pages do not exist yet, *resident* pages exist but this process has not
//! touched them, *mapped* pages were written by this process before.
//!
//! | way | cold | resident | mapped |
//! |---|---|---|---|
//! | copy into a shared mapping, page faults as they come | 1.3 | 3.1 | 12.0 |
//! | `MADV_POPULATE_WRITE`, then copy | 1.8 | 5.9 | 9.9 |
//! | map only the range with `MAP_POPULATE`, then copy | 1.8 | 6.8 | - |
//! | `pwritev` | **3.2** | 4.2 | 4.2 |
//! | non-temporal stores | 1.3 | 6.1 | 8.9 |
//! | **what this module does** | **3.2** | **5.9** | **10.5** |
//!
//! So: `pwritev` for cold pages (it neither clears pages nor faults), and for the others a copy
//! through the mapping, whose pages are made writable for just that long (`mprotect`, 2 x 0.2 ns
//! per KiB) and populated first unless this process has written them before. `mincore` tells cold
//! from resident, once per 2 MiB. Non-temporal stores bring nothing: `memcpy` uses them itself
//! for large copies.

mod map;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "serves the Linux way of writing")
)]
mod residency;
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "serves the Linux way of writing")
)]
mod window;
mod writable;
mod write;

pub use map::ArenaMap;
pub use writable::WritableRange;
