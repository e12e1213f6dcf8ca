//! The end of a job whose folder is not local (ADR 130): what workers have uploaded gets its names there.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use aktis_worker::TaskFailure;

use crate::storage::{Published, RemoteFiles, StoreRefusal, Transfer};
use crate::wire::spec::WrittenFile;

/// A folder that is not local. The job has one here besides, which is nobody else's and empty at its end.
pub(crate) struct FarFolder {
    pub(crate) files: Arc<dyn RemoteFiles>,
    /// What it is called.
    pub(crate) target: String,
    /// Whether what is in it goes.
    pub(crate) replaces: bool,
    /// Whether it takes other files than those of rows that are written.
    pub(crate) holds_letters: bool,
}

impl FarFolder {
    /// What a file is called in `target` that is called so in the folder here.
    pub(crate) fn name(target: &str, folder: &str, local: &str) -> String {
        let below = local.strip_prefix(folder).unwrap_or(local);
        format!(
            "{}/{}",
            target.trim_end_matches('/'),
            below.trim_start_matches('/')
        )
    }

    /// Brings files here if they have not all the same columns, so that they can be made alike.
    pub(super) fn bring_back(
        &self,
        folder: &Path,
        files: &[WrittenFile],
    ) -> Result<(), TaskFailure> {
        let kinds: HashSet<&[u8]> = files.iter().map(|file| &*file.schema).collect();
        if kinds.len() < 2 {
            return Ok(());
        }
        let transfer = |file: &WrittenFile| Transfer {
            local: file.unfinished.clone(),
            name: self.named(folder, &file.unfinished),
        };
        let transfers: Vec<Transfer> = files.iter().map(transfer).collect();
        self.files.download(&transfers).map_err(failed)
    }

    /// Gives the files their names (`SINK-1`). What is here was made after what was uploaded, and takes its place.
    pub(super) fn publish(&self, folder: &Path, files: &[WrittenFile]) -> Result<(), TaskFailure> {
        let hidden = |file: &WrittenFile| self.named(folder, &file.unfinished);
        let here = files.iter();
        let here: Vec<Transfer> = here
            .filter(|file| Path::new(&file.unfinished).is_file())
            .map(|file| Transfer {
                local: file.unfinished.clone(),
                name: hidden(file),
            })
            .collect();
        self.files.upload(&here).map_err(failed)?;
        let published = |file: &WrittenFile| Published {
            hidden: hidden(file),
            name: self.named(folder, &file.path),
        };
        let new: Vec<Published> = files.iter().map(published).collect();
        let published = self.files.publish(&self.target, &new, self.replaces);
        published.map_err(failed)
    }

    /// Removes what the job has uploaded under names of its own.
    pub(super) fn sweep(&self, job_folder: &str) {
        let folder = format!("{}/{job_folder}", self.target.trim_end_matches('/'));
        if let Err(error) = self.files.sweep(&folder) {
            tracing::warn!(%error, folder, "unfinished files are left, hidden");
        }
    }

    fn named(&self, folder: &Path, local: &str) -> String {
        Self::name(&self.target, &folder.display().to_string(), local)
    }
}

fn failed(refused: StoreRefusal) -> TaskFailure {
    TaskFailure::of_os(refused.number, refused.text)
}
