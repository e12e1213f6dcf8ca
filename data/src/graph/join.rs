//! Rows of two feeds, put side by side where they belong together.

use crate::plan::Expression;

/// A join of the first feed of a stage, the left one, with the second.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Join {
    /// Which rows come out.
    pub kind: JoinKind,
    /// Columns whose values must be equal: of the left feed, and of the right one. With none, every row goes with every other.
    pub keys: Vec<(String, String)>,
    /// Whether a null is equal to a null.
    pub has_equal_nulls: bool,
    /// What must be true besides, of all columns of both feeds, which have no name in common then.
    pub condition: Option<Expression>,
    /// Whether an anti join is the one of `NOT IN`: one null on the right, and nobody knows of any row that it is not in.
    pub is_not_in: bool,
    /// How the columns that come out are named.
    pub naming: JoinNaming,
}

/// How the columns of a join are named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JoinNaming {
    /// As they are: no name is on both sides, and all columns come out.
    Apart,
    /// Keys come out once, with the name that they have on the left, or that of the only side whose rows are all there. What
    /// both sides have besides gets these suffixes.
    KeysOnce {
        /// Of columns of the left; `None`: they keep their names.
        left_suffix: Option<String>,
        /// Of columns of the right; `None`: they keep their names.
        right_suffix: Option<String>,
    },
}

/// Which rows come out of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and rows of the left that have no partner.
    LeftOuter,
    /// Pairs, and rows of the right that have no partner.
    RightOuter,
    /// Pairs, and all rows that have no partner.
    FullOuter,
    /// Rows of the left that have a partner.
    LeftSemi,
    /// Rows of the right that have a partner.
    RightSemi,
    /// Rows of the left that have no partner.
    LeftAnti,
    /// Rows of the right that have no partner.
    RightAnti,
    /// Rows of the left, and in a last column [`JoinKind::MARK`] whether they have a partner.
    LeftMark,
}

/// All kinds that a user may name, as Ray Data does.
const NAMES: [(&str, JoinKind); 8] = [
    ("inner", JoinKind::Inner),
    ("left_outer", JoinKind::LeftOuter),
    ("right_outer", JoinKind::RightOuter),
    ("full_outer", JoinKind::FullOuter),
    ("left_semi", JoinKind::LeftSemi),
    ("right_semi", JoinKind::RightSemi),
    ("left_anti", JoinKind::LeftAnti),
    ("right_anti", JoinKind::RightAnti),
];

impl JoinKind {
    /// The column that tells whether a row has a partner.
    pub const MARK: &'static str = "mark";

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known.map(|&(_, kind)| kind)
    }

    /// The names that [`Self::parse`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let known = NAMES.iter().find(|(_, kind)| *kind == self);
        known.map_or("left_mark", |(name, _)| name)
    }

    /// Whether columns of the left come out, and of the right.
    pub(crate) fn gives(self) -> (bool, bool) {
        match self {
            Self::Inner | Self::LeftOuter | Self::RightOuter | Self::FullOuter => (true, true),
            Self::LeftSemi | Self::LeftAnti | Self::LeftMark => (true, false),
            Self::RightSemi | Self::RightAnti => (false, true),
        }
    }

    /// Whether a part of the left can be joined with all of the right by itself, and a part of the right with all of the left.
    pub(crate) fn goes_by_parts(self) -> (bool, bool) {
        match self {
            Self::Inner => (true, true),
            Self::LeftOuter | Self::LeftSemi | Self::LeftAnti | Self::LeftMark => (true, false),
            Self::RightOuter | Self::RightSemi | Self::RightAnti => (false, true),
            Self::FullOuter => (false, false),
        }
    }
}
