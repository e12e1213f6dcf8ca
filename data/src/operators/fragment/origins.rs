//! Where the columns of a join come from.

use arrow::datatypes::DataType;

use super::join::{Layout, Place};

/// A side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JoinedSide {
    /// The first.
    Left,
    /// The second.
    Right,
}

impl Layout {
    /// The columns that are those of one side: their names and types behind the join, the side, and their place there.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (String, DataType, JoinedSide, usize)> {
        self.outputs.iter().filter_map(|output| {
            let (side, place) = match output.place {
                Place::Left(place) => (JoinedSide::Left, place),
                Place::Right(place) => (JoinedSide::Right, place),
                Place::Either(..) | Place::Mark => return None,
            };
            let field = &output.field;
            Some((field.name().clone(), field.data_type().clone(), side, place))
        })
    }

    /// The place of the column on the other side that a key is equal to.
    pub(crate) fn partner(&self, side: JoinedSide, place: usize) -> Option<usize> {
        self.keys.iter().find_map(|&(left, right)| match side {
            JoinedSide::Left => (left == place).then_some(right),
            JoinedSide::Right => (right == place).then_some(left),
        })
    }
}
