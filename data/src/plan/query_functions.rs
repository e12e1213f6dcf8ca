//! Functions that a query calls by name and that the engine does not have: functions and classes of Python, native models.
//!
//! The planner of the engine knows them by their names and the types of what they return, so that a query that calls them can be planned.
//! No worker ever computes such a call: [`lifting`](super::lifting) makes a step of it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::dataset::Dataset;
use super::planner::planner;
use crate::error::PlanError;

/// What a call is given.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryArgument {
    /// The column of this name.
    Column(String),
    /// The same value in all rows: the only one of a batch.
    Value(RecordBatch),
}

impl QueryArgument {
    pub(super) fn value(value: &ScalarValue) -> Result<Self> {
        let field = Field::new("value", value.data_type(), true);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema, vec![value.to_array()?])?;
        Ok(Self::Value(batch))
    }
}

/// What a call of a [`QueryFunction`] became.
pub struct Called {
    /// The rows, with what the function made of each.
    pub dataset: Dataset,
    /// The columns that it made. Several are the fields of a struct, in their order.
    pub columns: Vec<String>,
}

/// Makes a step of a call: adds to the rows what the function makes of its arguments, in columns whose names begin with the given one.
pub type CallStep<'a> = dyn Fn(&Dataset, &[QueryArgument], &str) -> Result<Called, PlanError> + 'a;

/// A function that a query may call, and that runs as a step of its own.
pub struct QueryFunction<'a> {
    /// As queries call it.
    pub name: String,
    /// What it returns.
    pub returns: DataType,
    /// Whether it takes values where they are the same in all rows; if not, they are columns for it, too.
    pub takes_values: bool,
    /// Makes a step of a call.
    pub step: Box<CallStep<'a>>,
}

/// The functions of a query, by their names in lower case: capitals make no difference to SQL.
pub(super) struct QueryFunctions<'a> {
    by_name: HashMap<String, (Arc<ScalarUDF>, &'a QueryFunction<'a>)>,
}

impl<'a> QueryFunctions<'a> {
    pub(super) fn of(functions: &'a [QueryFunction<'a>]) -> Result<Self, PlanError> {
        let mut by_name = HashMap::new();
        for function in functions {
            let name = function.name.to_lowercase();
            let known = planner();
            if known.scalar(&name).is_some()
                || known.aggregate(&name).is_some()
                || known.window(&name).is_some()
            {
                return Err(PlanError::InvalidArgument(format!(
                    "sql(): there is a function {name}() in SQL already: give yours another name"
                )));
            }
            let call = ScalarUDF::new_from_impl(CallToLift {
                name: name.clone(),
                returns: function.returns.clone(),
                signature: Signature::variadic_any(Volatility::Immutable),
            });
            if by_name.insert(name, (Arc::new(call), function)).is_some() {
                return Err(PlanError::InvalidArgument(format!(
                    "sql(): two functions are called {}, and capitals make no difference to SQL: give one of them another name",
                    function.name
                )));
            }
        }
        Ok(Self { by_name })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// What the planner knows of the function.
    pub(super) fn known(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let (known, _) = self.by_name.get(&name.to_lowercase())?;
        Some(Arc::clone(known))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.by_name.keys()
    }

    /// The function that is called, if it is one of these.
    pub(super) fn called(&self, expr: &Expr) -> Option<&'a QueryFunction<'a>> {
        let Expr::ScalarFunction(call) = expr else {
            return None;
        };
        self.by_name
            .get(call.func.name())
            .map(|(_, function)| *function)
    }

    /// The name of one of these that the expression calls, if it does.
    pub(super) fn name_in(&self, expr: &Expr) -> Option<String> {
        let mut found = None;
        let looked = expr.exists(|part| {
            found = self.called(part).map(|function| function.name.clone());
            Ok(found.is_some())
        });
        // The walk itself cannot fail.
        looked.ok().and(found)
    }
}

/// A call in a plan that is not lifted yet.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CallToLift {
    name: String,
    returns: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for CallToLift {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{}() is a step and no expression", self.name)
    }
}
