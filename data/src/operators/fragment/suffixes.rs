//! Names of the columns of a join that both sides have.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Field;

use super::join::JoinedColumn;
use crate::error::quoted;

/// Gives suffixes to the names that both sides have.
pub(super) fn tell_apart(
    left: &mut [JoinedColumn],
    right: &mut [JoinedColumn],
    left_suffix: Option<&str>,
    right_suffix: Option<&str>,
) -> std::result::Result<(), String> {
    let names = |side: &[JoinedColumn]| -> HashSet<String> {
        side.iter()
            .map(|output| output.field.name().clone())
            .collect()
    };
    let (left_names, right_names) = (names(left), names(right));
    let mut both: Vec<String> = left_names.intersection(&right_names).cloned().collect();
    if both.is_empty() {
        return Ok(());
    }
    if left_suffix.is_none() && right_suffix.is_none() {
        both.sort();
        return Err(format!(
            "both sides have columns {}: give left_suffix or right_suffix to tell them apart, or drop_columns() of one side",
            quoted(&both)
        ));
    }
    let suffix = |side: &mut [JoinedColumn], suffix: Option<&str>| {
        for output in side {
            let name = output.field.name();
            if both.contains(name) {
                let name = format!("{name}{}", suffix.unwrap_or_default());
                output.field = Arc::new(Field::clone(&output.field).with_name(name));
            }
        }
    };
    suffix(left, left_suffix);
    suffix(right, right_suffix);
    Ok(())
}
