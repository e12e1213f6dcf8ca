use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};

use aktis_common::ids::SessionId;

use super::super::{
    ProcessMark, Role, SessionFolder, base_dir, make_spill_folder, new_session_id, owners,
};
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
        session_id: SessionId::parse("s").unwrap(),
        gcs_address: "unix:/x".to_owned(),
    }
}

/// A process with our number in another container.
fn elsewhere() -> ProcessMark {
    let own = ProcessMark::own();
    ProcessMark {
        pid_namespace: own.pid_namespace + 1,
        ..own
    }
}

/// As a killed process leaves it: nobody holds the lock.
fn leave(folder: SessionFolder) -> PathBuf {
    let path = folder.path().to_owned();
    std::fs::rename(path.join("lock"), path.join("kept")).unwrap();
    std::fs::copy(path.join("kept"), path.join("lock")).unwrap();
    std::mem::forget(folder);
    path
}

#[test]
fn folders_of_dead_processes_are_removed_and_others_stay() {
    let (temp, mut settings) = settings();
    settings.spill_dir = Some(temp.path().join("spill"));
    let living = SessionFolder::create(&settings, "a").unwrap();
    let living_spill = make_spill_folder(&settings, living.path())
        .unwrap()
        .unwrap();
    let dead = SessionFolder::create(&settings, "b").unwrap();
    let dead_spill = make_spill_folder(&settings, dead.path()).unwrap().unwrap();
    let young = base_dir(&settings).join("c");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&young)
        .unwrap();
    owner(ProcessMark::own()).write(living.path()).unwrap();
    owner(ProcessMark::own()).write(dead.path()).unwrap();
    let (dead, dead_spill) = (leave(dead), leave(dead_spill));
    assert_eq!(owners(&settings).len(), 1);
    assert_eq!(sweep_stale(&settings), 1, "SES-3");
    assert!(living.path().exists() && living_spill.path().exists() && young.exists());
    assert!(!dead.exists() && !dead_spill.exists());
}

#[test]
fn living_sessions_of_other_containers_stay() {
    let (_temp, settings) = settings();
    let folder = SessionFolder::create(&settings, "a").unwrap();
    owner(elsewhere()).write(folder.path()).unwrap();
    assert_eq!(owners(&settings), [], "nothing here can be signalled");
    assert_eq!(sweep_stale(&settings), 0, "SES-4");
    // Where the file system has no locks, a process that cannot be seen from here may live.
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    assert_eq!(sweep_stale(&settings), 0, "SES-4");
    assert!(folder.path().exists());
}

#[test]
fn sweep_removes_no_folder_that_a_file_names() {
    let (temp, settings) = settings();
    let mine = temp.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    let folder = SessionFolder::create(&settings, "a").unwrap();
    let mut text = serde_json::to_value(owner(ProcessMark::own())).unwrap();
    text["extra_dirs"] = serde_json::json!([mine]);
    std::fs::write(folder.path().join("owner.json"), text.to_string()).unwrap();
    let folder = leave(folder);
    assert_eq!(sweep_stale(&settings), 1);
    assert!(!folder.exists() && mine.exists(), "SES-3");
}

#[test]
fn sweep_follows_no_link_and_takes_no_folder_that_others_can_write() {
    let (temp, settings) = settings();
    let kept = SessionFolder::create(&settings, "a").unwrap();
    let mine = temp.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("lock"), "").unwrap();
    std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&mine, base_dir(&settings).join("b")).unwrap();
    let open = leave(SessionFolder::create(&settings, "c").unwrap());
    owner(ProcessMark::own()).write(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(sweep_stale(&settings), 0);
    assert_eq!(owners(&settings), [], "SES-1");
    assert!(mine.join("lock").exists() && open.exists() && kept.path().exists());
}

#[test]
fn what_an_open_file_says_is_not_believed() {
    let (_temp, settings) = settings();
    let folder = SessionFolder::create(&settings, "a").unwrap();
    owner(ProcessMark::own()).write(folder.path()).unwrap();
    assert_eq!(owners(&settings).len(), 1);
    let file = folder.path().join("owner.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(owners(&settings), [], "SES-1");
}

#[test]
fn session_folders_are_private_and_go_with_their_owner() {
    let (_temp, settings) = settings();
    let folder = SessionFolder::create(&settings, new_session_id().as_str()).unwrap();
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
    symlink(&elsewhere, base_dir(&settings)).unwrap();
    let error = SessionFolder::create(&settings, "a")
        .unwrap_err()
        .to_string();
    assert!(error.contains("another user"), "SES-1: {error}");
    assert_eq!(existing_base(&settings), None);
}
