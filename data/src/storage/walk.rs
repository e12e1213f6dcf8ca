//! The files below a folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::PlanError;

/// The paths of the files below `folder` whose names are not hidden and which `is_data` says yes to, in order. Nothing is asked about
/// the files themselves: there may be very many. What goes away meanwhile was never there.
pub(super) fn files_below(
    folder: &Path,
    is_data: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, PlanError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = |error: io::Error| PlanError::storage(&folder.display().to_string(), &error);
        let found = match look_into(&folder, is_data) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.map_err(failed)?,
        };
        let prefix = folder.to_str().ok_or_else(|| failed(not_text()))?;
        let prefix = prefix.trim_end_matches('/');
        let path = |name: String| format!("{prefix}/{name}");
        files.extend(found.files.into_iter().map(path));
        folders.extend(found.folders.iter().map(|name| folder.join(name)));
    }
    files.sort_unstable();
    Ok(files)
}

/// What lies in one folder.
#[derive(Default)]
struct Contents {
    files: Vec<String>,
    folders: Vec<OsString>,
}

fn look_into(folder: &Path, is_data: &dyn Fn(&str) -> bool) -> io::Result<Contents> {
    let mut found = Contents::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_hidden(&name) {
            continue;
        }
        let kind = entry.file_type()?;
        let (is_folder, is_file) = if kind.is_symlink() {
            // A link to nothing, or to itself, is no file.
            let Ok(meant) = fs::metadata(entry.path()) else {
                continue;
            };
            if meant.is_dir() {
                refuse_loop(folder, &entry.path())?;
            }
            (meant.is_dir(), meant.is_file())
        } else {
            (kind.is_dir(), kind.is_file())
        };
        if is_folder {
            found.folders.push(name);
        } else if is_file && is_data(&name.to_string_lossy()) {
            found
                .files
                .push(name.into_string().map_err(|_| not_text())?);
        }
    }
    Ok(found)
}

fn is_hidden(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"_")
}

/// A link to a folder that it lies in would be followed for ever.
fn refuse_loop(folder: &Path, link: &Path) -> io::Result<()> {
    if fs::canonicalize(folder)?.starts_with(fs::canonicalize(link)?) {
        let link = link.display();
        let said = format!("{link} is a link to a folder that it lies in; remove it");
        return Err(io::Error::other(said));
    }
    Ok(())
}

fn not_text() -> io::Error {
    let said = "it has a name, or a file in it has one, that is not UTF-8; rename it";
    io::Error::new(ErrorKind::InvalidInput, said)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = files_below(folder, &|name| name.ends_with(".x")).expect("lists");
        let prefix = format!("{}/", folder.display());
        let name = |path: &String| path.strip_prefix(&prefix).map(str::to_owned);
        let names: Option<_> = files.iter().map(name).collect();
        names.expect("all lie below")
    }

    #[test]
    fn files_of_all_folders_come_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut wanted = Vec::new();
        for number in 0..300_usize {
            let name = format!("day={}/{number:03}.x", number % 3);
            let path = folder.path().join(&name);
            fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
            fs::write(path, b"1").expect("writes");
            wanted.push(name);
        }
        for hidden in [".a.x", "_a.x", "a.y", "day=0/_b/c.x"] {
            let path = folder.path().join(hidden);
            fs::create_dir_all(path.parent().expect("has a folder")).expect("creates");
            fs::write(path, b"1").expect("writes");
        }
        wanted.sort();
        assert_eq!(names(folder.path()), wanted);
    }

    #[test]
    fn links_are_what_they_mean() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        fs::create_dir(&inside).expect("creates");
        fs::create_dir(&outside).expect("creates");
        fs::write(outside.join("a.x"), b"123").expect("writes");
        symlink(outside.join("a.x"), inside.join("b.x")).expect("links");
        symlink(&outside, inside.join("c")).expect("links");
        symlink("nothing", inside.join("d.x")).expect("links");
        assert_eq!(names(&inside), ["b.x", "c/a.x"]);
    }

    #[test]
    fn link_to_a_folder_that_it_lies_in_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("a")).expect("creates");
        symlink("..", folder.path().join("a/b")).expect("links");
        let error = files_below(folder.path(), &|_| true).expect_err("has no end");
        let said = error.to_string();
        assert!(
            said.contains("a/b is a link to a folder that it lies in"),
            "{said}"
        );
    }
}
