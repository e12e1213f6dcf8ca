//! The tables that heads leave for their successors.

use std::path::{Path, PathBuf};

use aktis_common::config::Settings;

use super::folder::existing_base;

/// Where the head on this port keeps its tables: heads of one user on one machine do not share them.
pub fn head_tables(base: &Path, port: u16) -> PathBuf {
    base.join(format!("head-{port}.redb"))
}

/// The tables that are there, of running heads too.
pub fn kept_tables(settings: &Settings) -> Vec<PathBuf> {
    let entries = existing_base(settings).and_then(|base| std::fs::read_dir(base).ok());
    let mut found: Vec<PathBuf> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("head-") && name.ends_with(".redb")
        })
        .collect();
    found.sort();
    found
}
