//! From what the user wrote to a list of files.

use std::path::{Path as FilePath, PathBuf};

use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::local_store;
use crate::error::PlanError;

const WANTED: &str = "files ending in .parquet whose names do not begin with '.' or '_'";

/// A file with data.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataFile {
    /// Absolute path.
    pub path: String,
    /// Its length.
    pub size_bytes: u64,
}

impl DataFile {
    /// The file's name in the object store.
    pub(crate) fn location(&self) -> Result<Path, PlanError> {
        Path::from_absolute_path(&self.path).map_err(|error| storage_error(&self.path, &error))
    }
}

/// The Parquet files that `paths` mean, in order: each a file, a folder (searched through) or a pattern (`*`, `?`, `**`).
pub fn find_parquet_files(paths: &[String]) -> Result<Vec<DataFile>, PlanError> {
    if paths.is_empty() {
        return Err(PlanError::InvalidArgument(
            "read_parquet() needs at least one path".to_owned(),
        ));
    }
    let mut files = Vec::new();
    for path in paths {
        files.extend(find_one(path)?);
    }
    Ok(files)
}

fn find_one(text: &str) -> Result<Vec<DataFile>, PlanError> {
    let path = local_path(text)?;
    if path.is_file() {
        return Ok(vec![data_file(&path)?]);
    }
    if path.is_dir() {
        return non_empty(text, list_folder(&path)?);
    }
    if text.contains(['*', '?', '[']) {
        return non_empty(text, expand_pattern(text, &path)?);
    }
    Err(PlanError::FileMissing {
        path: text.to_owned(),
    })
}

fn non_empty(text: &str, files: Vec<DataFile>) -> Result<Vec<DataFile>, PlanError> {
    if files.is_empty() {
        return Err(PlanError::NoFiles {
            path: text.to_owned(),
            wanted: WANTED,
        });
    }
    Ok(files)
}

/// The absolute local path of a path or `file://` URL.
fn local_path(text: &str) -> Result<PathBuf, PlanError> {
    let Some((scheme, _)) = text.split_once("://") else {
        return std::path::absolute(text).map_err(|error| storage_error(text, &error));
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

/// The folder that a sink writes into, as an absolute path.
pub fn local_folder(text: &str) -> Result<PathBuf, PlanError> {
    local_path(text)
}

fn list_folder(folder: &FilePath) -> Result<Vec<DataFile>, PlanError> {
    let text = folder.display().to_string();
    let prefix = Path::from_absolute_path(folder).map_err(|error| storage_error(&text, &error))?;
    let listed: Vec<ObjectMeta> =
        futures::executor::block_on(local_store().list(Some(&prefix)).try_collect())
            .map_err(|error| storage_error(&text, &error))?;
    let mut files: Vec<DataFile> = listed
        .into_iter()
        .filter(|meta| is_data_path(&meta.location, &prefix))
        .map(|meta| DataFile {
            path: object_store::local::LocalFileSystem::new()
                .path_to_filesystem(&meta.location)
                .map_or_else(
                    |_| format!("/{}", meta.location),
                    |path| path.display().to_string(),
                ),
            size_bytes: meta.size,
        })
        .collect();
    files.sort();
    Ok(files)
}

/// Whether a listed file is data: hidden and temporary files and folders are not.
fn is_data_path(location: &Path, folder: &Path) -> bool {
    let Some(mut parts) = location.prefix_match(folder) else {
        return false;
    };
    let is_visible =
        parts.all(|part| !part.as_ref().starts_with('.') && !part.as_ref().starts_with('_'));
    is_visible
        && location
            .extension()
            .is_some_and(|extension| extension == "parquet")
}

fn expand_pattern(text: &str, pattern: &FilePath) -> Result<Vec<DataFile>, PlanError> {
    let paths = glob::glob(&pattern.to_string_lossy()).map_err(|error| {
        PlanError::InvalidArgument(format!("the pattern {text:?} cannot be read: {error}"))
    })?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|error| storage_error(text, &error))?;
        if path.is_dir() {
            files.extend(list_folder(&path)?);
        } else {
            files.push(data_file(&path)?);
        }
    }
    Ok(files)
}

fn data_file(path: &FilePath) -> Result<DataFile, PlanError> {
    let text = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|error| storage_error(&text, &error))?;
    Ok(DataFile {
        path: text,
        size_bytes: metadata.len(),
    })
}

fn storage_error(path: &str, error: &dyn std::error::Error) -> PlanError {
    PlanError::Storage {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let files = find_parquet_files(&[folder.path().display().to_string()]).expect("lists");
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
        let error = find_parquet_files(&[pattern]).expect_err("nothing matches");
        assert!(matches!(error, PlanError::NoFiles { .. }), "{error}");
    }

    #[test]
    fn missing_file_and_foreign_store_are_told_apart() {
        let missing = find_parquet_files(&["/nowhere/x.parquet".to_owned()]).expect_err("missing");
        assert!(
            matches!(missing, PlanError::FileMissing { .. }),
            "{missing}"
        );
        let foreign = find_parquet_files(&["s3://bucket/x".to_owned()]).expect_err("foreign");
        assert!(
            matches!(foreign, PlanError::UnsupportedStore { .. }),
            "{foreign}"
        );
    }
}
