//! Where the columns of a join come from.

use arrow::datatypes::DataType;

use super::join::{Layout, Place};

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

impl Layout {
    /// The columns that are those of one side: their names and types behind the join, the side, and their place there.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (String, DataType, Side, usize)> {
        self.outputs.iter().filter_map(|output| {
            let (side, place) = match output.place {
                Place::Left(place) => (Side::Left, place),
                Place::Right(place) => (Side::Right, place),
                Place::Either(..) | Place::Mark => return None,
            };
            let field = &output.field;
            Some((field.name().clone(), field.data_type().clone(), side, place))
        })
    }

    /// The place of the column on the other side that a key is equal to.
    pub(crate) fn partner(&self, side: Side, place: usize) -> Option<usize> {
        self.keys.iter().find_map(|&(left, right)| match side {
            Side::Left => (left == place).then_some(right),
            Side::Right => (right == place).then_some(left),
        })
    }
}
