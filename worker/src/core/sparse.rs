//! Tables that were large once.

use std::collections::HashMap;
use std::hash::Hash;

use aktis_common::ids::IdBuildHasher;

/// Gives back most of a table's memory when hardly anything is left in it, to be called after each removal. True: it did.
/// `peak`: the most entries since the last time. The table's own capacity does not count places that were emptied.
pub(super) fn shrink_if_sparse<K: Eq + Hash, V>(
    table: &mut HashMap<K, V, IdBuildHasher>,
    peak: &mut usize,
) -> bool {
    const WORTH_IT: usize = 1 << 12;
    *peak = (*peak).max(table.len() + 1);
    let is_sparse = *peak > WORTH_IT && table.len() < *peak / 16;
    if is_sparse {
        table.shrink_to(table.len() * 2);
        *peak = table.len();
    }
    is_sparse
}
