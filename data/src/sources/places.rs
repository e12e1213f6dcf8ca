//! Where the rows of an input lie, for people who look for one of them.

/// The rows of an input, part by part, in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) parts: Vec<PartPlace>,
    /// Whether all of these rows come, so that the number of a row tells which it is.
    pub(crate) is_exact: bool,
}

/// Rows that lie together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartPlace {
    /// The file.
    pub(crate) file: Option<String>,
    /// The row group of a Parquet file.
    pub(crate) row_group: Option<u64>,
    /// The first row, in the row group, or in whatever else it is.
    pub(crate) first_row: u64,
    /// How many.
    pub(crate) rows: u64,
}

/// Where one row lies, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// The file.
    pub(crate) file: Option<String>,
    /// The row group of a Parquet file.
    pub(crate) row_group: Option<u64>,
    /// The row in it, or in whatever else rows are counted in.
    pub(crate) row: Option<u64>,
}

impl Places {
    /// The same, where rows may be missing.
    pub(crate) fn inexact(self) -> Self {
        Self {
            is_exact: false,
            ..self
        }
    }

    /// Where the row with this number lies.
    pub(crate) fn at(&self, mut row: u64) -> Option<Position> {
        if !self.is_exact {
            let file = self.parts.first()?.file.as_ref()?;
            let is_one = self
                .parts
                .iter()
                .all(|part| part.file.as_ref() == Some(file));
            return is_one.then(|| Position {
                file: Some(file.clone()),
                ..Position::default()
            });
        }
        for part in &self.parts {
            if row < part.rows {
                return Some(Position {
                    file: part.file.clone(),
                    row_group: part.row_group,
                    row: Some(part.first_row + row),
                });
            }
            row -= part.rows;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(file: &str, row_group: u64, first_row: u64, rows: u64) -> PartPlace {
        PartPlace {
            file: Some(file.to_owned()),
            row_group: Some(row_group),
            first_row,
            rows,
        }
    }

    #[test]
    fn row_of_an_input_is_found_in_its_row_group_or_at_least_in_its_file() {
        let parts = vec![part("a", 0, 10, 5), part("a", 1, 0, 5)];
        let places = Places {
            parts,
            is_exact: true,
        };
        let position = places.at(7).expect("is there");
        assert_eq!((position.row_group, position.row), (Some(1), Some(2)));
        assert_eq!(places.at(0).expect("is there").row, Some(10));
        assert_eq!(places.at(10), None);
        let position = places.inexact().at(7).expect("one file");
        assert_eq!((position.file.as_deref(), position.row), (Some("a"), None));
        let two = Places {
            parts: vec![part("a", 0, 0, 5), part("b", 0, 0, 5)],
            is_exact: false,
        };
        assert_eq!(two.at(7), None);
    }
}
