//! How rows are put into batches, where a number of rows does not say it.

use prost::Message;

/// What a batch is measured by besides its rows. Workers get it as it is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Batching {
    /// How many rows a batch has is found while the job runs: as many as pay and fit into memory.
    #[prost(bool, tag = "1")]
    pub is_auto: bool,
    /// Most tokens of a batch, all rows counted as long as the longest.
    #[prost(uint64, optional, tag = "2")]
    pub token_budget: Option<u64>,
    /// The column that tells how many tokens a row has; `None`: the function counts them.
    #[prost(string, optional, tag = "3")]
    pub token_column: Option<String>,
    /// Most bytes of a batch.
    #[prost(uint64, optional, tag = "4")]
    pub byte_budget: Option<u64>,
    /// So many rows are sorted by their tokens and cut into batches of similar length; 0: rows are called in their order.
    #[prost(uint64, tag = "5")]
    pub sorted_rows: u64,
    /// Rows come sorted by these columns, and a batch has all rows of each of its groups: no more of them than are worth a call.
    #[prost(string, repeated, tag = "6")]
    pub group_keys: Vec<String>,
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
