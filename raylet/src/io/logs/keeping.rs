//! Output that outlives its session: how much, and for how long.
//!
//! ```text
//!  <root>/<session>/<node>/worker-<id>.out, .err, zygote.log     written by the processes of a node
//!                          .lock                                 held by its raylet while it lives
//!  <root>/.swept-<user>                                          when a process of the user last looked for what is to go
//! ```
//! Only the raylet that holds the lock removes files of a folder, or anybody if nobody holds it; and never files of
//! workers that live. Files without a byte go with the session, or after a minute: many that were removed just now make
//! the next one dear (ext4 looks for an inode that was not freed lately).

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::shorten::drop_beginning;

const LOCK_NAME: &str = ".lock";
/// A folder that nobody holds may be one that is being made, an empty file that of a worker that is being forked.
const MAKING: Duration = Duration::from_secs(60);
/// Sessions that begin or end within this time of the last sweep leave the others' output alone: there may be thousands of
/// folders, and thousands of short sessions.
const SWEPT_LATELY: Duration = Duration::from_secs(600);

/// Where output lies, and what limits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLimits {
    /// A file is kept below this: its oldest lines go.
    pub file_bytes: u64,
    /// The files of workers that have ended are kept below this, all sessions together: the oldest go.
    pub total_bytes: u64,
    /// They go after this time in any case.
    pub age: Duration,
}

/// The folder of one node's output.
#[derive(Debug)]
pub(crate) struct LogFolder {
    pub(crate) path: PathBuf,
    /// Folder of the folders of all sessions, if output outlives them.
    root: Option<PathBuf>,
    limits: LogLimits,
    _lock: Option<File>,
}

/// A file that may go.
struct KeptFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl LogFolder {
    /// Takes the folder of a node, which exists.
    pub(crate) fn hold(path: PathBuf, root: Option<PathBuf>, limits: LogLimits) -> Self {
        let lock = root.as_ref().and_then(|_| lock(&path));
        Self {
            path,
            root,
            limits,
            _lock: lock,
        }
    }

    pub(crate) fn limits(&self) -> &LogLimits {
        &self.limits
    }

    /// Removes what is too old or too much. Files of the folder that `is_written` says are in use stay. Folders of others are
    /// looked at now and then.
    pub(crate) fn sweep(&self, is_written: &HashSet<PathBuf>) {
        let mut kept = files_of(&self.path);
        let now = SystemTime::now();
        kept.retain(|file| {
            let is_old = now
                .duration_since(file.modified)
                .is_ok_and(|age| age > MAKING);
            !is_written.contains(&file.path) && (file.bytes > 0 || is_old)
        });
        let abandoned = match self.is_others_turn() {
            true => self.abandoned(),
            false => Vec::new(),
        };
        for folder in &abandoned {
            kept.extend(files_of(folder));
        }
        let mut surplus = self.surplus_of(kept);
        remove_files(surplus.remove(&self.path));
        for folder in &abandoned {
            let files = surplus.remove(folder);
            if files.is_none() && !files_of(folder).is_empty() {
                continue;
            }
            if let Some(_held) = lock(folder) {
                remove_files(files);
                remove_if_empty(folder);
            }
        }
    }

    /// The files that are to go, by their folders.
    fn surplus_of(&self, mut kept: Vec<KeptFile>) -> HashMap<PathBuf, Vec<PathBuf>> {
        let now = SystemTime::now();
        kept.sort_by_key(|file| std::cmp::Reverse(file.modified));
        let mut total_bytes = 0;
        let mut surplus: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
        for file in kept {
            total_bytes += file.bytes;
            let age = now.duration_since(file.modified).unwrap_or_default();
            if file.bytes == 0 || total_bytes > self.limits.total_bytes || age > self.limits.age {
                let folder = file.path.parent().map(Path::to_owned);
                surplus
                    .entry(folder.unwrap_or_default())
                    .or_default()
                    .push(file.path);
            }
        }
        surplus
    }

    /// Nobody writes into the file any more: it gets its last size if it is too large.
    pub(super) fn close_file(&self, path: &Path) {
        let length = path.metadata().map_or(0, |metadata| metadata.len());
        let surplus = length.saturating_sub(self.limits.file_bytes);
        if surplus > 0
            && let Err(error) = drop_beginning(path, surplus)
        {
            tracing::warn!(?path, %error, "a file of output cannot be shortened");
        }
    }

    /// The node ends: empty files and folders go, the others stay, also those that nobody has closed.
    pub(crate) fn leave(self) {
        if self.root.is_some() {
            for file in files_of(&self.path) {
                if file.bytes == 0 {
                    let _ = std::fs::remove_file(&file.path);
                } else {
                    self.close_file(&file.path);
                }
            }
            self.sweep(&HashSet::new());
            remove_if_empty(&self.path);
        }
    }

    /// Whether there is output of others, and nobody has looked at it lately; notes that somebody does now.
    fn is_others_turn(&self) -> bool {
        let Some(root) = &self.root else {
            return false;
        };
        let is_others = |session: &PathBuf| !self.path.starts_with(session);
        if !subfolders(root).iter().any(is_others) {
            return false;
        }
        // Users may share the folder: what another one has put there neither counts nor is written through.
        let Ok(swept) = open_own(&swept_path(root)) else {
            return true;
        };
        let noted = swept
            .metadata()
            .ok()
            .filter(|metadata| metadata.len() > 0 && is_own(metadata))
            .and_then(|metadata| metadata.modified().ok());
        // A time that is yet to come is of a clock that was set back.
        let is_lately = |at: SystemTime| at.elapsed().is_ok_and(|age| age < SWEPT_LATELY);
        if noted.is_some_and(is_lately) {
            return false;
        }
        // Where it cannot be noted, the next session looks again.
        let _ = swept.write_all_at(b"swept", 0);
        true
    }

    /// Folders of nodes whose raylet is gone. They are not held: there may be thousands, and each lock is a descriptor.
    fn abandoned(&self) -> Vec<PathBuf> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let nodes = subfolders(root)
            .into_iter()
            .flat_map(|session| subfolders(&session));
        nodes
            .filter(|node| *node != self.path && is_of_node(node) && age_of(node) > MAKING)
            .filter(|node| lock(node).is_some())
            .collect()
    }
}

fn remove_files(files: Option<Vec<PathBuf>>) {
    for file in files.into_iter().flatten() {
        let _ = std::fs::remove_file(file);
    }
}

/// Whether a node of this user made the folder: what else lies below `log_dir` is not ours.
fn is_of_node(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let is_named_so = name
        .and_then(|name| name.strip_prefix('n'))
        .is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let is_of_user = std::fs::symlink_metadata(folder).is_ok_and(|metadata| is_own(&metadata));
    let has_lock = || std::fs::symlink_metadata(folder.join(LOCK_NAME)).is_ok();
    is_named_so && is_of_user && (has_lock() || !files_of(folder).is_empty())
}

fn swept_path(root: &Path) -> PathBuf {
    root.join(format!(".swept-{}", rustix::process::getuid().as_raw()))
}

fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::getuid().as_raw()
}

/// A file of this user's, made if it is not there; never what a link points to.
fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// The lock of a folder, unless a living raylet has it.
fn lock(folder: &Path) -> Option<File> {
    let file = open_own(&folder.join(LOCK_NAME)).ok()?;
    flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn files_of(folder: &Path) -> Vec<KeptFile> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(is_output);
        is_ours && entry.file_type().is_ok_and(|kind| kind.is_file())
    });
    files
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(KeptFile {
                path: entry.path(),
                bytes: metadata.len(),
                modified: metadata.modified().ok()?,
            })
        })
        .collect()
}

fn is_output(name: &str) -> bool {
    let is_worker =
        name.starts_with("worker-") && (name.ends_with(".out") || name.ends_with(".err"));
    is_worker || name == "zygote.log"
}

/// Folders in a folder; links are none.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn age_of(path: &Path) -> Duration {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    modified.map_or(Duration::ZERO, |at| {
        SystemTime::now().duration_since(at).unwrap_or_default()
    })
}

/// Removes the folder of a node without output, and that of its session if it is the last.
fn remove_if_empty(folder: &Path) {
    if files_of(folder).is_empty() {
        let _ = std::fs::remove_file(folder.join(LOCK_NAME));
        // They fail where something is left.
        let _ = std::fs::remove_dir(folder);
        if let Some(session) = folder.parent() {
            let _ = std::fs::remove_dir(session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LogLimits = LogLimits {
        file_bytes: 1 << 20,
        total_bytes: 2_500,
        age: Duration::from_secs(3600),
    };

    fn node(root: &Path, session: &str) -> PathBuf {
        let path = root.join(session).join("n1");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file of 1000 bytes that was written so many seconds ago.
    fn file(folder: &Path, name: &str, bytes: usize, age_secs: u64) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        let at = SystemTime::now() - Duration::from_secs(age_secs);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(at)
            .unwrap();
        path
    }

    fn make_old(folder: &Path) {
        let at = SystemTime::now() - MAKING * 2;
        File::open(folder).unwrap().set_modified(at).unwrap();
    }

    fn hold(root: &Path, path: PathBuf) -> LogFolder {
        LogFolder::hold(path, Some(root.to_owned()), LIMITS)
    }

    /// The raylet may end before it has read all that its workers have written.
    #[test]
    fn files_that_nobody_has_closed_have_no_more_than_their_limit_when_the_node_has_left() {
        let root = tempfile::tempdir().unwrap();
        let limits = LogLimits {
            file_bytes: 64 << 10,
            total_bytes: 1 << 20,
            ..LIMITS
        };
        let path = node(root.path(), "s");
        let folder = LogFolder::hold(path.clone(), Some(root.path().to_owned()), limits);
        let long = file(&path, "worker-1.out", 200 << 10, 0);
        let end = b"the last line";
        let mut written = OpenOptions::new().append(true).open(&long).unwrap();
        std::io::Write::write_all(&mut written, end).unwrap();
        folder.leave();
        let left = std::fs::read(&long).unwrap();
        assert!(
            left.len() <= 64 << 10 && left.ends_with(end),
            "{}",
            left.len()
        );
    }

    #[test]
    fn files_of_ended_workers_go_by_age_and_size_and_those_in_use_stay() {
        let root = tempfile::tempdir().unwrap();
        let folder = hold(root.path(), node(root.path(), "s"));
        let old = file(&folder.path, "worker-1.out", 1000, 4000);
        let written = file(&folder.path, "worker-2.out", 1000, 5000);
        let newest = file(&folder.path, "worker-3.err", 1000, 1);
        let newer = file(&folder.path, "worker-4.out", 1000, 2);
        let surplus = file(&folder.path, "worker-5.out", 1000, 3);
        let starting = file(&folder.path, "worker-6.out", 0, 1);
        let silent = file(&folder.path, "worker-7.out", 0, 100);
        let foreign = file(&folder.path, "notes.txt", 1000, 9000);
        folder.sweep(&HashSet::from([written.clone()]));
        assert!(
            [&written, &newest, &newer, &foreign, &starting]
                .iter()
                .all(|path| path.exists())
        );
        assert!([&old, &surplus, &silent].iter().all(|path| !path.exists()));
    }

    #[test]
    fn folders_of_living_nodes_are_left_alone_and_those_of_dead_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let own = hold(root.path(), node(root.path(), "own"));
        let other = hold(root.path(), node(root.path(), "other"));
        let of_other = file(&other.path, "worker-1.out", 1000, 9000);
        let dead = node(root.path(), "dead");
        file(&dead, "worker-1.out", 1000, 9000);
        for folder in [&other.path, &dead] {
            make_old(folder);
        }
        own.sweep(&HashSet::new());
        assert!(of_other.exists());
        assert!(!root.path().join("dead").exists());
    }

    #[test]
    fn output_of_others_is_looked_at_now_and_then() {
        let root = tempfile::tempdir().unwrap();
        let own = hold(root.path(), node(root.path(), "own"));
        let dead = node(root.path(), "dead");
        own.sweep(&HashSet::new());
        let old = file(&dead, "worker-1.out", 1000, 9000);
        make_old(&dead);
        own.sweep(&HashSet::new());
        assert!(old.exists());
        let swept = File::options().write(true).open(swept_path(root.path()));
        swept
            .unwrap()
            .set_modified(SystemTime::now() - SWEPT_LATELY)
            .unwrap();
        own.sweep(&HashSet::new());
        assert!(!old.exists());
    }

    #[test]
    fn note_of_the_sweep_is_not_written_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let own = hold(root.path(), node(root.path(), "own"));
        node(root.path(), "other");
        let precious = root.path().join("precious");
        std::fs::write(&precious, "kept").unwrap();
        std::os::unix::fs::symlink(&precious, swept_path(root.path())).unwrap();
        assert!(own.is_others_turn() && own.is_others_turn());
        assert_eq!(std::fs::read(&precious).unwrap(), b"kept");
    }

    #[test]
    fn folders_to_be_swept_are_not_held_all_at_once() {
        let root = tempfile::tempdir().unwrap();
        let own = hold(root.path(), node(root.path(), "own"));
        for session in 0..100 {
            let dead = node(root.path(), &format!("dead-{session}"));
            file(&dead, "worker-1.out", 10, 0);
            make_old(&dead);
        }
        let abandoned = own.abandoned();
        assert_eq!(abandoned.len(), 100);
        assert!(abandoned.iter().all(|folder| lock(folder).is_some()));
    }

    #[test]
    fn node_that_printed_nothing_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let quiet = hold(root.path(), node(root.path(), "quiet"));
        file(&quiet.path, "worker-1.out", 0, 0);
        quiet.leave();
        assert!(!root.path().join("quiet").exists());
        let loud = hold(root.path(), node(root.path(), "loud"));
        let said = file(&loud.path, "worker-1.out", 10, 0);
        loud.leave();
        assert!(said.exists());
    }

    #[test]
    fn folders_that_no_node_made_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let own = hold(root.path(), node(root.path(), "own"));
        let empty = root.path().join("project").join("empty");
        let locked = root.path().join("tool").join("state");
        for folder in [&empty, &locked] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(locked.join(LOCK_NAME), "not ours").unwrap();
        for folder in [&empty, &locked] {
            make_old(folder);
        }
        own.sweep(&HashSet::new());
        assert!(empty.exists() && locked.join(LOCK_NAME).exists());
        assert!(!empty.join(LOCK_NAME).exists());
    }
}
