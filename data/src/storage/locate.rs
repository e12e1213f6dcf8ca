//! From what the user wrote to a list of files.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path as FilePath, PathBuf};

use object_store::path::Path;

use super::PathColumns;
use super::in_order::in_order;
use super::walk::files_below;
use crate::error::PlanError;

/// The endings of Parquet files, in any case.
const PARQUET_EXTENSIONS: [&str; 3] = ["parquet", "pq", "parq"];

/// Which files are data, and which columns their paths are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Endings of the names of data files, without the point and in any case; `None`: any name will do.
    pub extensions: Option<Vec<String>>,
    /// What the paths of files add to their columns.
    pub told: PathColumns,
    /// Whether a path that is not there is passed over, as long as there is another.
    pub ignores_missing: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            extensions: Some(PARQUET_EXTENSIONS.map(str::to_owned).to_vec()),
            told: PathColumns {
                is_hive: true,
                has_path: false,
            },
            ignores_missing: false,
        }
    }
}

impl ReadOptions {
    /// Whether a file of this name is data, if it is not hidden.
    fn takes(&self, name: &str) -> bool {
        let Some(extensions) = &self.extensions else {
            return true;
        };
        let name = name.to_lowercase();
        extensions.iter().any(|extension| {
            name.ends_with(&format!(
                ".{}",
                extension.trim_start_matches('.').to_lowercase()
            ))
        })
    }

    /// For messages.
    fn wanted(&self) -> String {
        let named = match &self.extensions {
            Some(extensions) => format!("files ending in .{}", extensions.join(" or .")),
            None => "files".to_owned(),
        };
        format!("{named} whose names do not begin with '.' or '_'")
    }
}

/// A file with data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataFile {
    /// Absolute path.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
    /// Another number when it has changed, as far as its store tells; 0: the store tells nothing but lengths.
    pub version: u64,
}

impl DataFile {
    /// A local file.
    pub(crate) fn here(path: &str, described: &std::fs::Metadata) -> Self {
        let mut hasher = DefaultHasher::new();
        // Of a file that another one has taken the place of, with its time and length, the number is another one, or the time of that.
        let times = (described.mtime(), described.mtime_nsec());
        let changes = (described.ctime(), described.ctime_nsec());
        (times, changes, described.ino()).hash(&mut hasher);
        Self {
            path: path.to_owned(),
            size_bytes: described.len(),
            version: hasher.finish(),
        }
    }

    /// The file's name in the object store.
    pub(crate) fn location(&self) -> Result<Path, PlanError> {
        Path::from_absolute_path(&self.path).map_err(|error| PlanError::storage(&self.path, &error))
    }
}

/// The files that `paths` mean, in order: each a file, a folder (searched through) or a pattern (`*`, `?`, `**`).
/// `operation`: the call of the user, for messages.
pub fn find_files(
    operation: &str,
    paths: &[String],
    options: &ReadOptions,
) -> Result<Vec<DataFile>, PlanError> {
    files_here(&find_paths(operation, paths, options)?)
}

/// Local files that are there, as they are now.
pub(crate) fn files_here(paths: &[String]) -> Result<Vec<DataFile>, PlanError> {
    let files = in_order(
        paths,
        || (),
        |(), path| match std::fs::metadata(path) {
            Ok(described) => Ok(Some(DataFile::here(path, &described))),
            // It has gone away since it was found.
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(PlanError::storage(path, &error)),
        },
    )?;
    Ok(files.into_iter().flatten().collect())
}

/// The same of files that were there; `None`: it has gone.
pub(crate) fn files_here_now(files: &[DataFile]) -> Result<Vec<Option<DataFile>>, PlanError> {
    in_order(
        files,
        || (),
        |(), file| match std::fs::metadata(&file.path) {
            Ok(described) => Ok(Some(DataFile::here(&file.path, &described))),
            Err(error) if is_absence(&error) => Ok(None),
            // Whoever reads it says what is wrong, and tries again where that may help.
            Err(_) => Ok(Some(file.clone())),
        },
    )
}

/// The same as [`find_files`], without their lengths.
pub(crate) fn find_paths(
    operation: &str,
    paths: &[String],
    options: &ReadOptions,
) -> Result<Vec<String>, PlanError> {
    if paths.is_empty() {
        return Err(PlanError::InvalidArgument(format!(
            "{operation} needs at least one path"
        )));
    }
    let mut files = Vec::new();
    let mut first_missing = None;
    for path in paths {
        match find_one(path, options) {
            Err(missing @ PlanError::FileMissing { .. }) if options.ignores_missing => {
                first_missing.get_or_insert(missing);
            }
            found => files.extend(found?),
        }
    }
    match first_missing {
        Some(missing) if files.is_empty() => Err(missing),
        _ => Ok(files),
    }
}

fn find_one(text: &str, options: &ReadOptions) -> Result<Vec<String>, PlanError> {
    let path = local_path(text)?;
    let found = match std::fs::metadata(&path) {
        Ok(found) => Some(found),
        Err(error) if is_absence(&error) => None,
        Err(error) => return Err(PlanError::storage(text, &error)),
    };
    if found.as_ref().is_some_and(std::fs::Metadata::is_file) {
        return Ok(vec![path.display().to_string()]);
    }
    if found.is_some_and(|found| found.is_dir()) {
        return non_empty(text, options, list_folder(&path, options)?);
    }
    if text.contains(['*', '?', '[']) {
        return non_empty(text, options, expand_pattern(text, &path, options)?);
    }
    Err(PlanError::FileMissing {
        path: text.to_owned(),
    })
}

/// Whether nothing is there, and not just nothing that may be looked at.
fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    // A pattern may be longer than any name.
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

fn non_empty(
    text: &str,
    options: &ReadOptions,
    files: Vec<String>,
) -> Result<Vec<String>, PlanError> {
    if files.is_empty() {
        return Err(PlanError::NoFiles {
            path: text.to_owned(),
            wanted: options.wanted(),
        });
    }
    Ok(files)
}

/// The absolute local path of a path or `file://` URL.
fn local_path(text: &str) -> Result<PathBuf, PlanError> {
    let Some((scheme, _)) = text.split_once("://") else {
        let expanded = expand_home(text)?;
        return std::path::absolute(&expanded)
            .and_then(|path| without_parents(&path))
            .map_err(|error| PlanError::storage(text, &error));
    };
    let unsupported = || PlanError::UnsupportedStore {
        url: text.to_owned(),
    };
    if scheme != "file" && scheme != "local" {
        return Err(unsupported());
    }
    let plain = text
        .strip_prefix(scheme)
        .and_then(|rest| rest.strip_prefix("://"));
    let path = plain
        .filter(|path| path.starts_with('/'))
        .ok_or_else(unsupported)?;
    Ok(PathBuf::from(path))
}

/// `~` and what is below it, as a shell reads them.
fn expand_home(text: &str) -> Result<PathBuf, PlanError> {
    let below = match text.strip_prefix('~') {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => rest.trim_start_matches('/'),
        _ => return Ok(PathBuf::from(text)),
    };
    std::env::home_dir()
        .map(|home| home.join(below))
        .ok_or_else(|| {
            PlanError::InvalidArgument(format!(
                "{text:?}: there is no home folder; write the path in full"
            ))
        })
}

/// The path without `..`. Folders that are there are asked, because behind a link `..` is not the folder before it;
/// what is not there has no links.
fn without_parents(path: &FilePath) -> std::io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        if component != Component::ParentDir {
            plain.push(component);
            continue;
        }
        if plain.is_symlink() {
            plain = plain.canonicalize()?;
        }
        plain.pop();
    }
    Ok(plain)
}

/// The folder that a sink writes into, as an absolute path.
pub fn local_folder(text: &str) -> Result<PathBuf, PlanError> {
    local_path(text)
}

fn list_folder(folder: &FilePath, options: &ReadOptions) -> Result<Vec<String>, PlanError> {
    files_below(folder, &|name| {
        options.takes(name) && !is_half_written(name)
    })
}

/// Whether the store that files are read from takes a name for that of a file that it has not finished: `a.parquet#1`.
fn is_half_written(name: &str) -> bool {
    let suffix = name.split_once('#').map_or("", |(_, suffix)| suffix);
    !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_digit())
}

fn expand_pattern(
    text: &str,
    pattern: &FilePath,
    options: &ReadOptions,
) -> Result<Vec<String>, PlanError> {
    let paths = glob::glob(&pattern.to_string_lossy()).map_err(|error| {
        PlanError::InvalidArgument(format!("the pattern {text:?} cannot be read: {error}"))
    })?;
    // As in a shell: hidden names must be written out, and with them those of what jobs have not finished.
    let names = || pattern.components().map(Component::as_os_str);
    let asks_for_hidden = names().any(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') && name.contains(['*', '?', '['])
    });
    let is_hidden = |path: &FilePath| {
        path.components().map(Component::as_os_str).any(|part| {
            part.as_encoded_bytes().starts_with(b".") && names().all(|name| name != part)
        })
    };
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            PlanError::storage(&error.path().display().to_string(), error.error())
        })?;
        if !asks_for_hidden && is_hidden(&path) {
            continue;
        }
        let text = path.display().to_string();
        let found = std::fs::metadata(&path).map_err(|error| PlanError::storage(&text, &error))?;
        if found.is_dir() {
            files.extend(list_folder(&path, options)?);
        } else {
            files.push(text);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(path: &str) -> Result<Vec<DataFile>, PlanError> {
        find_files(
            "read_parquet()",
            &[path.to_owned()],
            &ReadOptions::default(),
        )
    }

    fn names(files: &[DataFile]) -> Vec<String> {
        let name = |file: &DataFile| {
            FilePath::new(&file.path)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        files.iter().filter_map(name).collect()
    }

    #[test]
    fn folder_lists_data_files_in_order_without_hidden_ones() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "b.parquet",
            "a.parquet",
            "_temporary.parquet",
            ".hidden.parquet",
            "notes.txt",
        ] {
            std::fs::write(folder.path().join(name), b"x").expect("writes");
        }
        std::fs::create_dir(folder.path().join("part=1 ä")).expect("creates");
        std::fs::write(folder.path().join("part=1 ä").join("c.parquet"), b"x").expect("writes");
        let files = find(&folder.path().display().to_string()).expect("lists");
        assert_eq!(names(&files), ["a.parquet", "b.parquet", "c.parquet"]);
        assert!(
            files.iter().all(|file| FilePath::new(&file.path).is_file()),
            "{files:?}"
        );
    }

    #[test]
    fn pattern_without_match_says_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pattern = folder.path().join("*.parquet").display().to_string();
        let error = find(&pattern).expect_err("nothing matches");
        assert!(matches!(error, PlanError::NoFiles { .. }), "{error}");
    }

    #[test]
    fn missing_file_and_foreign_store_are_told_apart() {
        let missing = find("/nowhere/x.parquet").expect_err("missing");
        assert!(
            matches!(missing, PlanError::FileMissing { .. }),
            "{missing}"
        );
        let foreign = find("s3://bucket/x").expect_err("foreign");
        assert!(
            matches!(foreign, PlanError::UnsupportedStore { .. }),
            "{foreign}"
        );
    }

    #[test]
    fn missing_paths_are_passed_over_where_that_was_asked_for_but_not_all_of_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let there = folder.path().join("a.parquet");
        std::fs::write(&there, b"x").expect("writes");
        let options = ReadOptions {
            ignores_missing: true,
            ..ReadOptions::default()
        };
        let find = |paths: &[String]| find_files("read_parquet()", paths, &options);
        let missing = "/nowhere/x.parquet".to_owned();
        let found = find(&[missing.clone(), there.display().to_string()]).expect("one is there");
        assert_eq!(names(&found), ["a.parquet"]);
        let none = find(&[missing]).expect_err("none is there");
        assert!(matches!(none, PlanError::FileMissing { .. }), "{none}");
    }

    #[test]
    fn endings_may_be_in_capitals_and_may_be_chosen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["A.PARQUET", "b.pq", "c.txt", "d", "_SUCCESS"] {
            std::fs::write(folder.path().join(name), b"x").expect("writes");
        }
        let path = [folder.path().display().to_string()];
        let found = |extensions: Option<&[&str]>| {
            let extensions = extensions.map(|all| all.iter().map(|&one| one.to_owned()).collect());
            let options = ReadOptions {
                extensions,
                ..ReadOptions::default()
            };
            names(&find_files("read_parquet()", &path, &options).expect("lists"))
        };
        assert_eq!(found(Some(&["parquet"])), ["A.PARQUET"]);
        assert_eq!(found(Some(&[".Pq", "txt"])), ["b.pq", "c.txt"]);
        assert_eq!(found(None), ["A.PARQUET", "b.pq", "c.txt", "d"]);
        assert_eq!(
            names(&find(&path[0]).expect("lists")),
            ["A.PARQUET", "b.pq"]
        );
    }

    #[test]
    fn path_may_go_up_also_behind_a_link_and_begin_at_home() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("is there");
        std::fs::create_dir_all(root.join("far/away")).expect("creates");
        std::fs::write(root.join("far/a.parquet"), b"x").expect("writes");
        std::os::unix::fs::symlink(root.join("far/away"), root.join("link")).expect("links");
        for text in [
            "far/away/../a.parquet",
            "link/../a.parquet",
            "far/../far/*.parquet",
        ] {
            let files = find(&root.join(text).display().to_string()).expect(text);
            assert_eq!(
                files[0].path,
                root.join("far/a.parquet").display().to_string()
            );
        }
        let home = std::env::home_dir().expect("has a home");
        assert_eq!(local_folder("~/x").expect("expands"), home.join("x"));
        assert_eq!(
            local_folder("/a/~").expect("is plain"),
            PathBuf::from("/a/~")
        );
    }
}
