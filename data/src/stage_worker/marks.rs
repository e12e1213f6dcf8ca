//! Where in an input's rows it is known that all that becomes of what came before a place is out: what a later run needs to tell
//! rows that are done from others ([`Origins`](crate::executor::origins::Origins)).

/// So many are told with a block, at most: fewer say less precisely what is done.
const MOST: usize = 64;

/// Marks of an input.
pub(super) struct Marks {
    /// Rows so far.
    rows: u64,
    /// Places that an earlier run has done, and that do not come: ranges.
    done: Vec<u64>,
    /// Rows and places, in pairs.
    untold: Vec<u64>,
}

impl Marks {
    /// Of an input whose rows come without those at the places `done`.
    pub(super) fn new(done: Vec<u64>) -> Self {
        Self {
            rows: 0,
            done,
            untold: Vec::new(),
        }
    }

    /// So many rows have come out. `before`: those before them are all that becomes of so many rows that came to the first function;
    /// `after`: so they are with these.
    pub(super) fn took(&mut self, rows: u64, before: Option<u64>, after: Option<u64>) {
        self.mark(before);
        self.rows += rows;
        self.mark(after);
    }

    fn mark(&mut self, came: Option<u64>) {
        let Some(came) = came else { return };
        if self.rows == 0 || self.untold.iter().rev().nth(1) == Some(&self.rows) {
            return;
        }
        if self.untold.len() == 2 * MOST {
            let pairs = self.untold.chunks_exact(2);
            self.untold = pairs.skip(1).step_by(2).flatten().copied().collect();
        }
        let place = self.place_of(came);
        self.untold.extend([self.rows, place]);
    }

    /// Where so many rows end of those that came.
    fn place_of(&self, came: u64) -> u64 {
        let ranges = self.done.chunks_exact(2);
        ranges.fold(came, |place, range| {
            if place >= range[0] {
                place + range[1] - range[0]
            } else {
                place
            }
        })
    }

    /// Those that nobody was told.
    pub(super) fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_rows_that_do_not_come_and_marks_are_thinned_out() {
        let mut marks = Marks::new(vec![0, 10, 15, 20]);
        marks.took(4, Some(0), None);
        marks.took(4, Some(2), Some(5));
        marks.took(4, Some(5), Some(6));
        assert_eq!(marks.take(), [4, 12, 8, 20, 12, 21]);
        for place in 0..1000 {
            marks.took(1, None, Some(place));
        }
        let told = marks.take();
        assert!(told.len() <= 2 * MOST && told.len() >= MOST);
        assert_eq!(told[told.len() - 2..], [1012, 999 + 15]);
    }
}
