//! Where processes of this user find the token of a daemon whose session folder they do not know.
//!
//! A driver and a daemon may have different temporary folders. So a daemon whose own is not the usual one puts its address and
//! token into a folder below the usual one as well.

use std::path::PathBuf;

use aktis_common::config::{Secret, Settings};

use super::folder::{SessionError, SessionFolder, base_dir, existing_base, make_base};
use super::owner::{Owner, Role, owners_in, write_token};

/// The usual base folder, if the settings name another one.
pub(super) fn announcement_base(settings: &Settings) -> Option<PathBuf> {
    let usual = Settings::default();
    (base_dir(&usual) != base_dir(settings)).then(|| existing_base(&usual))?
}

/// Announces a daemon for as long as the folder lives; `None` where its session folder says it all.
///
/// # Errors
/// When the usual base folder is another user's, or the disk does not take it.
pub fn announce_daemon(
    settings: &Settings,
    name: &str,
    owner: &Owner,
    token: &Secret,
) -> Result<Option<SessionFolder>, SessionError> {
    let usual = Settings::default();
    if base_dir(&usual) == base_dir(settings) {
        return Ok(None);
    }
    let folder = SessionFolder::below(&make_base(&usual)?, &format!("at-{name}"))?;
    let owner = Owner {
        role: Role::Announcement,
        ..owner.clone()
    };
    write_token(folder.path(), token)?;
    owner.write(folder.path())?;
    Ok(Some(folder))
}

/// Daemons of this user that run here, and announcements of such: their folders have the token.
pub fn known_daemons(settings: &Settings) -> Vec<(PathBuf, Owner)> {
    let bases = [existing_base(settings), announcement_base(settings)];
    let found = bases.iter().flatten().flat_map(|base| owners_in(base));
    found
        .filter(|(_, owner)| owner.role != Role::Laptop)
        .collect()
}
