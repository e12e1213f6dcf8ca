//! Files as they are now. What was learned of them holds for as long as they stay the same: what runs or is told begins with a look at each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{Field, Schema};
use parking_lot::Mutex;

use crate::error::PlanError;
use crate::storage::{DataFile, Described, StoreSpec, files_here_now};

/// A look at files that are far is as good as another one for so long: it takes about that, where they are many.
const FAR_LOOK_LASTS: Duration = Duration::from_secs(1);

/// When files that are far were looked at last, and what was found.
#[derive(Debug, Clone)]
pub(super) struct Looks(Arc<Mutex<LastLook>>);

#[derive(Debug)]
struct LastLook {
    at: Instant,
    changed: Option<Vec<DataFile>>,
}

impl Looks {
    /// They have just been looked at.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(LastLook {
            at: Instant::now(),
            changed: None,
        })))
    }

    /// The files as they are now; `None`: all are as they were. Fails if one has gone.
    pub(super) fn again<'a>(
        &self,
        store: &StoreSpec,
        files: impl Iterator<Item = &'a DataFile>,
    ) -> Result<Option<Vec<DataFile>>, PlanError> {
        let known: Vec<DataFile> = files.cloned().collect();
        if store.definition.is_empty() {
            return changed(&known, files_here_now(&known)?);
        }
        let mut last = self.0.lock();
        if last.at.elapsed() >= FAR_LOOK_LASTS {
            last.changed = changed(&known, far_now(store, &known)?)?;
            last.at = Instant::now();
        }
        Ok(last.changed.clone())
    }
}

fn far_now(store: &StoreSpec, known: &[DataFile]) -> Result<Vec<Option<DataFile>>, PlanError> {
    let paths: Vec<&str> = known.iter().map(|file| file.path.as_str()).collect();
    let described = store.files().map_err(PlanError::Store)?.describe(&paths);
    let described = described.map_err(PlanError::Refused)?;
    let file = |(path, described): (&str, Option<Described>)| {
        described.map(|described| DataFile {
            path: path.to_owned(),
            size_bytes: described.size_bytes,
            version: described.version,
        })
    };
    Ok(paths.into_iter().zip(described).map(file).collect())
}

fn changed(
    known: &[DataFile],
    now: Vec<Option<DataFile>>,
) -> Result<Option<Vec<DataFile>>, PlanError> {
    let gone = known.iter().zip(&now).find(|(_, now)| now.is_none());
    if let Some((file, _)) = gone {
        return Err(PlanError::FileGone {
            path: file.path.clone(),
        });
    }
    let now: Vec<DataFile> = now.into_iter().flatten().collect();
    Ok((now != known).then_some(now))
}

/// A number for files as they were found: another one when one of them has changed.
pub(super) fn number<'a>(files: impl Iterator<Item = &'a DataFile>) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.for_each(|file| file.hash(&mut hasher));
    hasher.finish()
}

/// Fails unless rows with the columns `now` are rows with those that the dataset was made with. `function`: the call of the user.
pub(super) fn check_columns(
    function: &str,
    before: &Schema,
    now: &Schema,
) -> Result<(), PlanError> {
    let names = before.fields().iter().chain(now.fields());
    let mut names = names.map(|field| field.name());
    let Some(difference) = names.find_map(|name| {
        let field = |schema: &Schema| schema.field_with_name(name).ok().cloned();
        difference(field(before).as_ref(), field(now).as_ref())
    }) else {
        return Ok(());
    };
    Err(PlanError::InvalidArgument(format!(
        "{function}: files were replaced since the dataset was made, and have other columns ({difference}); make the dataset again"
    )))
}

/// What is not the same of a column, in words.
fn difference(before: Option<&Field>, now: Option<&Field>) -> Option<String> {
    let told = |field: &Field| {
        let null = if field.is_nullable() {
            ""
        } else {
            " that is never null"
        };
        format!("{}{null}", field.data_type())
    };
    match (before, now) {
        (Some(before), Some(now)) => {
            let is_same = before.data_type() == now.data_type();
            let fits = is_same && (before.is_nullable() || !now.is_nullable());
            (!fits).then(|| format!("'{}' was {} and is {}", now.name(), told(before), told(now)))
        }
        (Some(gone), None) => Some(format!("'{}' is not there any more", gone.name())),
        (None, now) => now.map(|new| format!("'{}' is new", new.name())),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;
    use crate::plan::Dataset;
    use crate::testing::{far_files, install_test_host, write_file};

    fn columns(columns: &[(&str, DataType, bool)]) -> Schema {
        let field = |(name, kind, is_nullable): &(&str, DataType, bool)| {
            Field::new(*name, kind.clone(), *is_nullable)
        };
        Schema::new(columns.iter().map(field).collect::<Vec<_>>())
    }

    #[test]
    fn columns_in_another_order_fit_and_others_are_named() {
        use DataType::{Int32, Int64};
        let before = columns(&[("a", Int64, true), ("b", Int64, false)]);
        let check = |now: &[(&str, DataType, bool)]| {
            check_columns("read_x()", &before, &columns(now)).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[("b", Int64, false), ("a", Int64, false)]), Ok(()));
        for (now, told) in [
            (vec![("a", Int64, true)], "'b' is not there any more"),
            (
                vec![("a", Int32, true), ("b", Int64, false)],
                "'a' was Int64 and is Int32",
            ),
            (
                vec![("a", Int64, true), ("b", Int64, true)],
                "'b' was Int64 that is never null and is Int64",
            ),
            (
                vec![("a", Int64, true), ("b", Int64, false), ("c", Int64, true)],
                "'c' is new",
            ),
        ] {
            let error = check(&now).expect_err(told);
            assert!(
                error.contains(told) && error.contains("make the dataset again"),
                "{error}"
            );
        }
    }

    #[test]
    fn dataset_over_files_that_stay_is_the_same_and_one_over_others_knows_their_rows() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.parquet");
        write_file(&path, 0, 10, 5);
        let near = Dataset::read_parquet(&[path.display().to_string()]).expect("reads");
        let again = near.as_files_are_now().expect("looks");
        assert_eq!((again.look(), again.num_blocks()), (near.look(), 2));
        write_file(&path, 0, 20, 5);
        let again = near.as_files_are_now().expect("looks");
        assert_ne!(again.look(), near.look());
        assert_eq!(again.num_blocks(), 4);
    }

    #[test]
    fn look_at_files_that_are_far_holds_for_a_while() {
        install_test_host();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.parquet");
        write_file(&path, 0, 10, 5);
        let far = far_files(folder.path(), &["a.parquet"]);
        write_file(&path, 0, 20, 5);
        let deadline = Instant::now() + Duration::from_secs(30);
        let now = || far.as_files_are_now().expect("looks");
        while now().num_blocks() != 4 {
            assert!(Instant::now() < deadline, "it is never looked at again");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::remove_file(&path).expect("removes");
        while far.as_files_are_now().is_ok() {
            assert!(Instant::now() < deadline, "that it has gone is never seen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
