//! Relational work of a stage over all rows of an input: sorting, grouping, joining.
//!
//! A fragment names columns and nothing else. What must be computed for it is computed by a projection before it, and a worker
//! makes DataFusion's operator of it when it sees the columns: what comes out of a function is known only then. How that is
//! done is told in [`operators`](crate::operators), how it travels in `wire`.

use super::fold::Fold;
use super::join::Join;
use super::partition::RangeKey;
use super::window::Window;

/// What one relational step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fragment {
    /// Puts the rows of an input in order.
    Sort(Sort),
    /// Of every run of rows keeps the first ones of an order, if it says how many: what a sort after it needs to see.
    First(Sort),
    /// Of some rows of an input tells the keys, and for how many bytes each of them stands.
    Sample(Vec<RangeKey>),
    /// Of such keys chooses those that rows are told apart by, so that there are about as many bytes between any two.
    Bounds(Bounds),
    /// Puts the rows of an input in an order by chance, the same with the same seed.
    Shuffle(u64),
    /// Makes one row of all rows with the same keys.
    Aggregate(Aggregate),
    /// The same by functions of SQL, over columns that the plan knows.
    Fold(Fold),
    /// Tells of each row what functions of SQL make of the rows around it.
    Window(Window),
    /// Leaves out so many first rows of an input.
    Skip(u64),
    /// Puts rows of two feeds side by side where they belong together.
    Join(Join),
    /// Puts rows of several feeds side by side, the first with the first, the second with the second.
    Zip,
}

/// An order of rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sort {
    /// The columns, the most important first.
    pub keys: Vec<RangeKey>,
    /// More rows than these are not wanted; `None`: all are.
    pub limit: Option<u64>,
}

/// Where sorted rows are cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The columns, the most important first.
    pub keys: Vec<RangeKey>,
    /// Ranges that there should be, if none of them becomes tiny by that: so many workers can sort at once.
    pub least: u32,
    /// More ranges than these there are not.
    pub most: u32,
}

/// One row for all rows with the same keys; one for all rows where there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// Which half of the work this is.
    pub phase: AggregatePhase,
    /// The columns of the keys. Nulls are equal to each other.
    pub keys: Vec<String>,
    /// What is told of each group, behind the keys.
    pub calls: Vec<AggregateCall>,
}

/// Which half of an aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregatePhase {
    /// From rows to states: one row of states per group of an input.
    Partial,
    /// From states to results.
    Final,
}

/// One result per group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AggregateCall {
    /// What is told.
    pub function: AggregateFunction,
    /// Of which column; `None`: of whole rows.
    pub column: Option<String>,
    /// The column of the result.
    pub name: String,
}

/// What can be told of a group. Nulls of the column are left out, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// How many there are.
    Count,
    /// How many different ones there are.
    CountDistinct,
    /// Their sum: of integers as integers, of decimals as decimals.
    Sum,
    /// Their sum as a float.
    SumOfFloats,
    /// The least one; NaN is greater than any number.
    Min,
    /// The greatest one; NaN is greater than any number.
    Max,
    /// The variance of just these: the squares of their distances from the mean, divided by their number.
    Variance,
    /// What such a share of them (the bits of a 64-bit float between 0 and 1) is not greater than, between two of them in
    /// proportion.
    Quantile(u64),
    /// All of them as a list, nulls too, in no particular order.
    List,
    /// All of them as a list.
    ListOfValues,
    /// The different ones as a list, null too, in no particular order.
    Distinct,
    /// The different ones as a list.
    DistinctValues,
}

impl Fragment {
    /// Its step, for people.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Sort(Sort { limit: None, .. }) => "Sort",
            Self::Sort(_) => "TopK",
            Self::First(_) => "TopK(partial)",
            Self::Sample(_) => "Sort(sample)",
            Self::Bounds(_) => "Sort(bounds)",
            Self::Shuffle(_) => "Shuffle",
            Self::Aggregate(Aggregate { phase, .. }) | Self::Fold(Fold { phase, .. }) => {
                match phase {
                    AggregatePhase::Partial => "Aggregate(partial)",
                    AggregatePhase::Final => "Aggregate",
                }
            }
            Self::Skip(_) => "Skip",
            Self::Window(_) => "Window",
            Self::Join(_) => "Join",
            Self::Zip => "Zip",
        }
    }

    /// Whether it makes one row of all rows.
    pub(super) fn is_total(&self) -> bool {
        match self {
            Self::Aggregate(work) => work.phase == AggregatePhase::Final && work.keys.is_empty(),
            Self::Fold(work) => {
                let has_groups = !(work.keys.is_empty() && work.sets.is_empty());
                work.phase == AggregatePhase::Final && !has_groups
            }
            _ => false,
        }
    }

    /// Whether it holds the rows that it gets, or what it makes of them.
    pub(crate) fn holds_rows(&self) -> bool {
        !matches!(self, Self::Sample(_) | Self::Bounds(_))
    }

    /// Whether it takes the feeds of an input one by one, and not their rows one after another.
    pub(crate) fn takes_feeds(&self) -> bool {
        matches!(self, Self::Join(_) | Self::Zip)
    }
}
