//! Removes what killed processes left (`SES-3`).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aktis_common::config::Settings;

use super::announcement::announcement_base;
use super::folder::{existing_base, is_private};
use super::lock::{Holder, with_holder};
use super::owner::Owner;
use super::spill::spill_folders;

/// A folder without an owner's file may be one that is being made.
const MAKING: Duration = Duration::from_secs(60);

/// Removes the session folders of this user whose processes are gone, and their spill folders below the folder that the settings
/// name. Gives how many there were. Nothing is removed because a file says so.
pub fn sweep_stale(settings: &Settings) -> usize {
    let below = |base: Option<PathBuf>| base.map_or(Vec::new(), |base| folders_in(&base));
    let sessions = below(existing_base(settings));
    let swept = sessions.iter().filter(|path| sweep(path)).count();
    for announcement in below(announcement_base(settings)) {
        sweep(&announcement);
    }
    for spill in spill_folders(settings) {
        sweep(&spill);
    }
    swept
}

/// The folders of this user alone that lie in a folder.
pub(super) fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| is_private(path))
        .collect()
}

/// Removes a folder if nobody lives in it (`SES-3`).
fn sweep(path: &Path) -> bool {
    with_holder(path, |holder| {
        let is_stale = match holder {
            Holder::Nobody => true,
            Holder::Somebody => false,
            // Without a lock only what can be seen from here counts.
            Holder::Unknown => match Owner::read(path) {
                Some(owner) => owner.process.is_here() && !owner.process.is_running(),
                None => {
                    let has = |name: &str| path.join(name).exists();
                    age(path) > MAKING && !has("owner.json") && !has("lock")
                }
            },
        };
        is_stale && std::fs::remove_dir_all(path).is_ok()
    })
}

fn age(path: &Path) -> Duration {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.unwrap_or_default()
}

#[cfg(test)]
mod tests;
