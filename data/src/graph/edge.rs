//! Ways of rows from one stage to another.

/// How rows go from one stage to another.
///
/// A stage gets its rows along forward edges (an ordered union of them), or along exchange edges or even ones, with the same
/// number of partitions each; broadcast edges may come with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeKind {
    /// Block by block, as they are made.
    Forward,
    /// By partition: an input is all rows of one partition (or of small neighbours), from every exchange edge of the stage.
    /// It begins when all of these are over. One partition is a gather: everything is one input.
    Exchange {
        /// How many there are: those of the giving stage's [`Partitioner`](super::Partitioner), or one.
        partitions: u32,
    },
    /// By place: all rows, those of one edge after those of the edge before and in the order of the giving stages, are cut into so
    /// many runs that differ by a row at most, and an input is such a run. It begins when all of these edges are over.
    Even {
        /// How many there are, if there are as many rows.
        partitions: u32,
    },
    /// Every input of the stage gets all rows of the edge too, and waits until they are there.
    Broadcast,
}

impl EdgeKind {
    /// Everything as one input.
    pub const GATHER: Self = Self::Exchange { partitions: 1 };
}

/// Rows of one stage are those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The stage that gives, by its position in the job.
    pub from: usize,
    /// The stage that gets.
    pub to: usize,
    /// How.
    pub kind: EdgeKind,
}

impl Edge {
    /// Rows go on block by block.
    pub fn forward(from: usize, to: usize) -> Self {
        let kind = EdgeKind::Forward;
        Self { from, to, kind }
    }
}
