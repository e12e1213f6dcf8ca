//! Folders whose names say what all rows below them have in common: `day=2024-01-01/part.parquet`.

use arrow::datatypes::Schema;

/// Which columns the path of a file tells, beside those that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathColumns {
    /// Those of folders that are named `column=value`.
    pub is_hive: bool,
    /// The path itself, as `path`.
    pub has_path: bool,
}

impl PathColumns {
    /// The column of the path itself.
    pub(crate) const PATH: &str = "path";

    /// Names and values, in order; `None` is null.
    pub(crate) fn of(self, path: &str) -> Vec<(String, Option<String>)> {
        let mut values = if self.is_hive {
            partition_values(path)
        } else {
            Vec::new()
        };
        if self.has_path {
            values.retain(|(name, _)| name != Self::PATH);
            values.push((Self::PATH.to_owned(), Some(path.to_owned())));
        }
        values
    }
}

/// What paths tell, in the order in which it is met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FolderColumns {
    /// What files do not have themselves.
    pub(crate) beside: Vec<String>,
    /// What files have, too, or some of them.
    pub(crate) twice: Vec<String>,
}

/// What paths of files with these columns tell.
pub(crate) fn told_columns<'a>(
    told: PathColumns,
    paths: impl Iterator<Item = &'a str>,
    schema: &Schema,
) -> FolderColumns {
    let mut columns = FolderColumns::default();
    let mut last_folder = None;
    for path in paths {
        // What the paths in one folder tell are the same columns.
        let folder = path.rsplit_once('/').map(|(folder, _)| folder);
        if folder.is_some() && folder == last_folder {
            continue;
        }
        last_folder = folder;
        for (name, _) in told.of(path) {
            let names = match schema.field_with_name(&name) {
                Ok(_) => &mut columns.twice,
                Err(_) => &mut columns.beside,
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    columns
}

/// How Hive writes that there is no value.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Adds the folder of a column's value to a path: `name=value`, with the signs escaped that pyarrow escapes; `None` is null.
pub(crate) fn hive_folder(path: &mut String, name: &str, value: Option<&str>) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
    path.push('=');
    let Some(value) = value else {
        path.push_str(NULL);
        return;
    };
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(u32::from(digit), 16).unwrap_or('0');
                path.push(digit.to_ascii_uppercase());
            }
        }
    }
}

/// Names and values in the folders of a path, in order; `None` is null. Where a name comes twice, the last one counts.
fn partition_values(path: &str) -> Vec<(String, Option<String>)> {
    let mut values: Vec<(String, Option<String>)> = Vec::new();
    let Some((folders, _)) = path.rsplit_once('/') else {
        return values;
    };
    for folder in folders.split('/') {
        let Some((name, value)) = folder.split_once('=') else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let value = (value != NULL).then(|| decoded(value));
        values.retain(|(known, _)| known != name);
        values.push((name.to_owned(), value));
    }
    values
}

/// The text without its `%20` and the like; what is no such sign stays as it is.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_itself_is_a_column_where_that_was_asked_for() {
        let path = "/in/path=1/a.csv";
        let both = PathColumns {
            is_hive: true,
            has_path: true,
        };
        assert_eq!(both.of(path), [("path".to_owned(), Some(path.to_owned()))]);
        assert_eq!(PathColumns::default().of(path), []);
    }

    #[test]
    fn folder_that_is_made_of_a_value_tells_it() {
        let values = [Some("a b/c=%é~x"), Some(""), None];
        for value in values {
            let mut path = String::new();
            hive_folder(&mut path, "day", Some("2024-01-01"));
            hive_folder(&mut path, "k", value);
            let told = partition_values(&format!("{path}/a.parquet"));
            let day = ("day".to_owned(), Some("2024-01-01".to_owned()));
            assert_eq!(told, [day, ("k".to_owned(), value.map(str::to_owned))]);
        }
    }

    #[test]
    fn folders_tell_values_and_the_file_does_not() {
        let values =
            partition_values("/in/day=2024-01-01/city=S%C3%A3o%20Paulo/empty=/x=1.parquet");
        let pair = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let wanted = [
            pair("day", "2024-01-01"),
            pair("city", "São Paulo"),
            pair("empty", ""),
        ];
        assert_eq!(values, wanted);
        assert_eq!(partition_values("/in/=1/100%/a.parquet"), []);
        let null = partition_values("/in/x=1/x=__HIVE_DEFAULT_PARTITION__/a.parquet");
        assert_eq!(null, [("x".to_owned(), None)]);
    }
}
