//! What the engine and Arrow say of a failure, as our own errors say it: the cause alone, in the words that are used for it elsewhere.
//!
//! Who is told knows the call that was made, which is named before it; so what kind of failure it was for the engine is left out.

use arrow::error::ArrowError;
use datafusion_common::{Column, DataFusionError, SchemaError};

use super::quoted;

/// What a failure began with, in one line and without its back trace: what stands around it names rules of the planner.
pub(crate) fn reason_of(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::SchemaError(reason, _) => of_columns(reason),
        DataFusionError::ArrowError(reason, _) => reason_of_arrow(reason),
        DataFusionError::SQL(reason, _) => {
            let said = line(&reason.to_string());
            said.strip_prefix("sql parser error: ")
                .unwrap_or(&said)
                .to_owned()
        }
        DataFusionError::NotImplemented(what) => format!(
            "this cannot be run yet: {}; write that part in another way, or as a step of its own",
            line(what)
        ),
        DataFusionError::Internal(what) => format!("the engine failed: {}", line(what)),
        other => line(&other.message()),
    }
}

/// The same of a failure of Arrow.
pub(crate) fn reason_of_arrow(error: &ArrowError) -> String {
    match error {
        ArrowError::CastError(what)
        | ArrowError::ComputeError(what)
        | ArrowError::InvalidArgumentError(what)
        | ArrowError::ParseError(what)
        | ArrowError::SchemaError(what) => line(what),
        ArrowError::DivideByZero => "division by zero".to_owned(),
        ArrowError::ExternalError(what) => line(&what.to_string()),
        ArrowError::NotYetImplemented(what) => {
            format!("this cannot be computed yet: {}", line(what))
        }
        other => line(&other.to_string()),
    }
}

fn of_columns(error: &SchemaError) -> String {
    let name = |column: &Column| column.flat_name();
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let known: Vec<String> = valid_fields.iter().map(name).collect();
            format!(
                "there is no column '{}'; the columns are {}",
                name(field),
                quoted(&known)
            )
        }
        SchemaError::AmbiguousReference { field } => format!(
            "several tables have a column '{0}': say which is meant, table.{0}",
            field.name
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => format!(
            "there would be two columns named '{name}': give one of them another name with AS"
        ),
    }
}

fn line(text: &str) -> String {
    text.split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .and_then(|said| said.lines().next())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_the_engine_are_not_told() {
        let missing = SchemaError::FieldNotFound {
            field: Box::new(Column::from_name("x")),
            valid_fields: vec![Column::from_name("id"), Column::new(Some("docs"), "k")],
        };
        let arrow = |error| DataFusionError::ArrowError(Box::new(error), None);
        for (error, said) in [
            (
                DataFusionError::Plan("nothing to do\nDid you mean it?".to_owned()),
                "nothing to do",
            ),
            (
                DataFusionError::SchemaError(Box::new(missing), Box::new(None)),
                "there is no column 'x'; the columns are 'id', 'docs.k'",
            ),
            (
                DataFusionError::NotImplemented("GROUP BY ALL".to_owned()),
                "this cannot be run yet: GROUP BY ALL; write that part in another way, or as a step of its own",
            ),
            (DataFusionError::Execution("too far".to_owned()), "too far"),
            (arrow(ArrowError::DivideByZero), "division by zero"),
            (
                arrow(ArrowError::CastError("Cannot cast 'a'".to_owned())),
                "Cannot cast 'a'",
            ),
        ] {
            assert_eq!(reason_of(&error), said);
            let around = error.context("rule simplify_expressions");
            assert_eq!(reason_of(&around), said);
        }
    }
}
