//! Which partition a row goes to, where a stage ends in an exchange. How it is computed is told in
//! [`operators`](crate::operators), how it travels in `wire`.

/// What tells rows apart at the end of a stage. The same rows of the same input always go to the same partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioner {
    /// How many partitions there are.
    pub partitions: u32,
    /// How a row finds its own.
    pub by: PartitionBy,
}

/// How a row finds its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionBy {
    /// Rows with equal keys meet. Nulls are equal to each other. Keys of two exchanges meet only if they are of the same types.
    Hash {
        /// The columns.
        keys: Vec<String>,
    },
    /// Rows between the same two bounds meet, and partitions come in the order of the keys.
    Range {
        /// The columns, the most important first.
        keys: Vec<RangeKey>,
        /// Which edge of the stage, in their order, brings the bounds: a broadcast edge. Its rows are the bounds in any
        /// order, in columns named like the keys; the partition of a row is the number of bounds before it. Rows whose key
        /// several bounds have go in turn to the partitions that end with it.
        bounds_feed: u32,
    },
    /// By chance, the same with the same seed.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// A column that rows are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RangeKey {
    /// The column.
    pub column: String,
    /// Large values first.
    pub is_descending: bool,
    /// Nulls first; otherwise last.
    pub has_nulls_first: bool,
}
