//! Names that the user gives to files, when all of them are there.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;

use crate::wire::spec::WrittenFile;

/// A file that is to be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Which input of the last stage its rows are of, those without files not counted.
    pub task: u64,
    /// Which of the files of that input it is.
    pub number: u64,
    /// The name that it would have.
    pub name: String,
}

/// Gives a name to each file, without its folder.
#[derive(Clone)]
pub struct FileNames(Arc<NameFiles>);

type NameFiles = dyn Fn(Vec<Named>) -> Result<Vec<String>, TaskFailure> + Send + Sync;

impl FileNames {
    /// Names by this function, which gives as many as it gets.
    pub fn new(
        names: impl Fn(Vec<Named>) -> Result<Vec<String>, TaskFailure> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(names))
    }

    /// Names the files. `operation`: the call of the user, for messages.
    pub(crate) fn apply(
        &self,
        operation: &str,
        files: &mut [WrittenFile],
    ) -> Result<(), TaskFailure> {
        files.sort_by(|one, other| (one.sequence, &one.path).cmp(&(other.sequence, &other.path)));
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        let named = files.iter().map(|file| {
            let tasks = counts.len() as u64;
            let is_new = !counts.contains_key(&file.sequence);
            let count = counts.entry(file.sequence).or_default();
            *count += 1;
            Named {
                task: if is_new { tasks } else { tasks - 1 },
                number: *count - 1,
                name: name_of(&file.path),
            }
        });
        let names = (self.0)(named.collect())?;
        let mut taken = HashSet::new();
        for (file, name) in files.iter_mut().zip(names) {
            let path = Path::new(&file.path).with_file_name(name);
            let path = path.display().to_string();
            if !taken.insert(path.clone()) {
                let message = format!("{operation}: two files would be called {path}");
                return Err(TaskFailure::new(ErrorCode::InvalidArgument, message));
            }
            file.path = path;
        }
        Ok(())
    }
}

fn name_of(path: &str) -> String {
    let name = Path::new(path).file_name();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

impl fmt::Debug for FileNames {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("FileNames")
    }
}

impl PartialEq for FileNames {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for FileNames {}
