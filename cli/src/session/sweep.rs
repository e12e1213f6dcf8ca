//! Removes what killed processes left (`SES-3`).

use std::path::Path;
use std::time::{Duration, SystemTime};

use aktis_common::config::Settings;

use super::folder::base_dir;
use super::owner::Owner;

/// A folder without an owner's file may be one that is being made.
const MAKING: Duration = Duration::from_secs(60);

/// Removes the session folders of this user whose processes are gone. Gives how many there were.
pub fn sweep_stale(settings: &Settings) -> usize {
    let Ok(entries) = std::fs::read_dir(base_dir(settings)) else {
        return 0;
    };
    let mut swept = 0;
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let owner = Owner::read(&path);
        let is_stale = match &owner {
            Some(owner) => !owner.process.is_alive(),
            None => age(&path) > MAKING,
        };
        if !is_stale {
            continue;
        }
        for folder in owner.iter().flat_map(|owner| &owner.extra_dirs) {
            let _ = std::fs::remove_dir_all(folder);
        }
        if std::fs::remove_dir_all(&path).is_ok() {
            swept += 1;
        }
    }
    swept
}

fn age(path: &Path) -> Duration {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    age.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{ProcessMark, Role, SessionFolder, new_session_id, owners};
    use super::*;

    fn settings() -> (tempfile::TempDir, Settings) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            temp_dir: folder.path().to_owned(),
            ..Settings::default()
        };
        (folder, settings)
    }

    fn owner(process: ProcessMark) -> Owner {
        Owner {
            process,
            role: Role::Laptop,
            session_id: "s".to_owned(),
            gcs_address: "unix:/x".to_owned(),
            extra_dirs: Vec::new(),
        }
    }

    #[test]
    fn folders_of_dead_processes_are_removed_and_others_stay() {
        let (_temp, settings) = settings();
        let living = SessionFolder::create(&settings, "a").unwrap();
        let dead = SessionFolder::create(&settings, "b").unwrap();
        let young = SessionFolder::create(&settings, "c").unwrap();
        let own = ProcessMark::own();
        owner(own).write(living.path()).unwrap();
        let spill = settings.temp_dir.join("spill");
        std::fs::create_dir(&spill).unwrap();
        let gone = ProcessMark {
            started: own.started + 1,
            ..own
        };
        let gone = Owner {
            extra_dirs: vec![spill.clone()],
            ..owner(gone)
        };
        gone.write(dead.path()).unwrap();
        assert_eq!(owners(&settings).len(), 1);
        assert_eq!(sweep_stale(&settings), 1, "SES-3");
        assert!(living.path().exists() && young.path().exists());
        assert!(!dead.path().exists() && !spill.exists());
    }

    #[test]
    fn session_folders_are_private_and_go_with_their_owner() {
        let (_temp, settings) = settings();
        let folder = SessionFolder::create(&settings, &new_session_id()).unwrap();
        let path = folder.path().to_owned();
        for path in [&path, &base_dir(&settings)] {
            let mode = path.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "SES-1");
        }
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn folder_in_a_place_that_is_not_ours_is_refused() {
        let (temp, settings) = settings();
        let elsewhere = temp.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, base_dir(&settings)).unwrap();
        let error = SessionFolder::create(&settings, "a")
            .unwrap_err()
            .to_string();
        assert!(error.contains("another user"), "SES-1: {error}");
    }
}
