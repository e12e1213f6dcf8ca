//! How rows are put into batches, where a number of rows does not say it.

/// What a batch is measured by besides its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batching {
    /// How many rows a batch has is found while the job runs: as many as pay and fit into memory.
    pub is_auto: bool,
    /// Most tokens of a batch, all rows counted as long as the longest.
    pub token_budget: Option<u64>,
    /// The column that tells how many tokens a row has; `None`: the function counts them.
    pub token_column: Option<String>,
    /// Most bytes of a batch.
    pub byte_budget: Option<u64>,
    /// So many rows are sorted by their tokens and cut into batches of similar length; 0: rows are called in their order.
    pub sorted_rows: u64,
}

impl Batching {
    /// Whether somebody has to know how many tokens rows have.
    pub(crate) fn counts_tokens(&self) -> bool {
        self.token_budget.is_some() || self.sorted_rows > 0
    }

    /// Whether rows come in frames, and batches are pieces of these: what a frame gives goes on as a whole.
    pub(crate) fn is_framed(&self) -> bool {
        self.is_auto || self.sorted_rows > 0
    }

    /// Whether it is needed for measuring, whatever the function reads.
    pub(crate) fn reads(&self, column: &str) -> bool {
        self.counts_tokens() && self.token_column.as_deref() == Some(column)
    }
}
