//! Failures of building a plan and of finding its data. Failures of running it are
//! [`TaskFailure`](aktis_worker::TaskFailure)s, because they come from other processes.

mod engine;

use aktis_worker::TaskFailure;
use datafusion_common::DataFusionError;

use crate::os_error;
use crate::storage::StoreRefusal;

pub(crate) use engine::{reason_of, reason_of_arrow};

/// What kind of mistake a [`PlanError`] is; the bindings choose the exception class by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanErrorKind {
    /// A path that does not exist.
    FileNotFound,
    /// A file that is there but cannot be read as what it should be.
    Unreadable,
    /// An argument that makes no sense.
    InvalidArgument,
}

/// Why a dataset could not be described.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A path that does not exist.
    #[error("read {path}: there is no such file or folder")]
    FileMissing {
        /// As the user wrote it.
        path: String,
    },
    /// A file that was there when the dataset was made.
    #[error("read {path}: it has gone since the dataset was made; make the dataset again")]
    FileGone {
        /// Its path.
        path: String,
    },
    /// A pattern or folder without any matching file.
    #[error("read {path}: no file matches (looked for {wanted})")]
    NoFiles {
        /// As the user wrote it.
        path: String,
        /// What would have matched.
        wanted: String,
    },
    /// A place that this build cannot read or write.
    #[error("use {url}: only local files are meant here (paths and file:// URLs)")]
    UnsupportedStore {
        /// As the user wrote it.
        url: String,
    },
    /// The storage refused something.
    #[error("{doing} {path}: {detail}")]
    Storage {
        /// What was done: "read", "write into".
        doing: &'static str,
        /// The file or folder.
        path: String,
        /// The system's words.
        detail: String,
        /// The system's error number, if it was the system.
        number: Option<i32>,
    },
    /// A store that files lie in could not be reached.
    #[error("{0}")]
    Store(TaskFailure),
    /// A file that is not local could not be read.
    #[error(transparent)]
    Refused(StoreRefusal),
    /// Not a Parquet file, or a damaged one.
    #[error(
        "read {path}: it is not a valid Parquet file ({detail}). It was cut off, or has another format: read_csv(), read_json(), \
         read_text(), read_images() and read_binary_files() read others"
    )]
    InvalidParquet {
        /// The file.
        path: String,
        /// What the reader found.
        detail: String,
    },
    /// A Parquet file whose columns this build cannot understand.
    #[error(
        "read {path}: its columns cannot be understood ({detail}); write it anew without the types that only its writer knows"
    )]
    UnknownTypes {
        /// The file.
        path: String,
        /// What the reader stumbled over.
        detail: String,
    },
    /// Columns that are not there.
    #[error("{operation}: there is no column {}; the columns are {}", quoted(.missing), quoted(.available))]
    UnknownColumns {
        /// The call the user made.
        operation: &'static str,
        /// The columns asked for.
        missing: Vec<String>,
        /// The columns there are.
        available: Vec<String>,
    },
    /// An expression that cannot be understood.
    #[error("{operation}: {expression:?}: {detail}; the columns are {} (SQL: text goes in single quotes, AND and OR join conditions)", quoted(.available))]
    InvalidExpression {
        /// The call the user made.
        operation: &'static str,
        /// As the user wrote it.
        expression: String,
        /// What is wrong with it.
        detail: String,
        /// The columns there are.
        available: Vec<String>,
    },
    /// An expression whose types do not fit together.
    #[error("{operation}: {expression}: {detail}{}", where_columns(.types))]
    Misfit {
        /// The call the user made.
        operation: &'static str,
        /// For people.
        expression: String,
        /// What is wrong with it.
        detail: String,
        /// Its columns with their types.
        types: Vec<String>,
    },
    /// Two columns would have one name.
    #[error("{operation}: there would be two columns named '{name}'")]
    DuplicateColumn {
        /// The call the user made.
        operation: &'static str,
        /// The name.
        name: String,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The planner refused.
    #[error("plan the dataset: {detail}")]
    Planner {
        /// What it said.
        detail: String,
        /// The failure itself.
        #[source]
        source: Box<DataFusionError>,
    },
}

impl PlanError {
    /// The kind of mistake.
    pub fn kind(&self) -> PlanErrorKind {
        match self {
            Self::FileMissing { .. } | Self::FileGone { .. } | Self::NoFiles { .. } => {
                PlanErrorKind::FileNotFound
            }
            Self::Storage { .. }
            | Self::Store(_)
            | Self::Refused(_)
            | Self::InvalidParquet { .. }
            | Self::UnknownTypes { .. } => PlanErrorKind::Unreadable,
            _ => PlanErrorKind::InvalidArgument,
        }
    }

    /// The number of the operating system's error, if it refused something.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Self::Storage { number, .. } => *number,
            Self::Refused(refused) => Some(refused.number),
            _ => None,
        }
    }

    /// Listing, opening or reading `path` failed.
    pub(crate) fn storage(path: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::refused("read", path, error)
    }

    /// Preparing `folder` for files failed.
    pub(crate) fn not_writable(folder: &str, error: &std::io::Error) -> Self {
        Self::refused("write into", folder, error)
    }

    fn refused(doing: &'static str, path: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let number = os_error::number(error);
        Self::Storage {
            doing,
            path: path.to_owned(),
            detail: number.map_or_else(|| error.to_string(), os_error::text),
            number,
        }
    }

    pub(crate) fn planner(source: DataFusionError) -> Self {
        Self::Planner {
            detail: reason_of(&source),
            source: Box::new(source),
        }
    }
}

/// `; a is Int64, b is Utf8`
fn where_columns(types: &[String]) -> String {
    if types.is_empty() {
        return String::new();
    }
    format!(
        "; {} (cast() makes another type of a column)",
        types.join(", ")
    )
}

/// `'a', 'b'`, shortened after twenty names.
pub(crate) fn quoted(names: &[String]) -> String {
    const SHOWN: usize = 20;
    if names.is_empty() {
        return "(none known)".to_owned();
    }
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("'{name}'"))
        .collect();
    let rest = names.len().saturating_sub(SHOWN);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("{}{more}", shown.join(", "))
}
