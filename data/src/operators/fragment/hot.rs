//! Keys with very many rows, for people: looked for in inputs of partitions that were too large for one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parking_lot::Mutex;

use super::feed::FragmentFeed;

/// So many rows are looked at, evenly spread over all.
const SAMPLE_ROWS: usize = 1024;
/// A key is hot that has at least one in so many of them.
const ONE_IN: usize = 10;
/// Longer values are cut.
const MOST_CHARACTERS: usize = 60;

/// The hot keys of an input, as far as they were found.
#[derive(Debug, Clone, Default)]
pub(crate) struct HotKeys(Arc<Mutex<Vec<String>>>);

impl HotKeys {
    /// What was found, once.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    /// Looks at columns of the rows that the feed holds.
    pub(super) fn look_for(&self, names: Vec<&String>, feed: &FragmentFeed) {
        self.look_at(&names, feed.batches());
    }

    fn look_at<'a>(
        &self,
        names: &[&String],
        batches: impl Iterator<Item = &'a RecordBatch> + Clone,
    ) {
        let rows: usize = batches.clone().map(RecordBatch::num_rows).sum();
        let step = rows.div_ceil(SAMPLE_ROWS).max(1);
        let mut counts: HashMap<String, usize> = HashMap::new();
        let (mut before, mut next) = (0, 0);
        for batch in batches {
            let end = before + batch.num_rows();
            while next < end {
                if let Some(key) = key_of(batch, next - before, names) {
                    *counts.entry(key).or_default() += 1;
                }
                next += step;
            }
            before = end;
        }
        let all: usize = counts.values().sum();
        let hot = counts
            .into_iter()
            .filter(|&(_, count)| count > 1 && count * ONE_IN >= all);
        let mut hot: Vec<(usize, String)> = hot.map(|(key, count)| (count, key)).collect();
        hot.sort_by(|one, other| other.cmp(one));
        *self.0.lock() = hot.into_iter().map(|(_, key)| key).collect();
    }
}

/// As people write it: `user = 7, day = null`.
fn key_of(batch: &RecordBatch, row: usize, names: &[&String]) -> Option<String> {
    let options = FormatOptions::default().with_null("null");
    let mut parts = Vec::with_capacity(names.len());
    for &name in names {
        let column = batch.column_by_name(name)?;
        let formatter = ArrayFormatter::try_new(column, &options).ok()?;
        let mut value = formatter.value(row).to_string();
        if let Some((end, _)) = value.char_indices().nth(MOST_CHARACTERS) {
            value.truncate(end);
            value.push('…');
        }
        parts.push(format!("{name} = {value}"));
    }
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn keys_that_have_a_large_part_of_the_rows_are_named_the_largest_first() {
        let rows = 50_000i64;
        let user = |row: i64| match row % 10 {
            0..6 => Some(7),
            6..9 => None,
            _ => Some(row),
        };
        let users = Int64Array::from_iter((0..rows).map(user));
        let texts = StringArray::from_iter_values((0..rows).map(|_| "ö".repeat(70)));
        let columns: [(&str, arrow::array::ArrayRef); 2] =
            [("user", Arc::new(users)), ("text", Arc::new(texts))];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let parts = [batch.slice(0, 10_000), batch.slice(10_000, 40_000)];
        let hot = HotKeys::default();
        hot.look_at(&[&"user".to_owned()], parts.iter());
        assert_eq!(hot.take(), ["user = 7", "user = null"]);
        assert!(hot.take().is_empty(), "it is told once");
        hot.look_at(&[&"text".to_owned()], parts.iter());
        assert_eq!(hot.take(), [format!("text = {}…", "ö".repeat(60))]);
        hot.look_at(&[&"nobody has it".to_owned()], parts.iter());
        assert!(hot.take().is_empty());
    }
}
