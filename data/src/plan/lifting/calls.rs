//! From a call to the step that makes it.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, plan_err};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::{Expr, LogicalPlanBuilder, lit};

use super::Lifting;
use super::rows::LiftedRows;
use crate::plan::dataset::Dataset;
use crate::plan::planner::planner;
use crate::plan::query_functions::{Called, QueryArgument, QueryFunction};

/// What names of columns have that are made on the way: a character for private use, which no user's has.
const MADE_ON_THE_WAY: char = '\u{e000}';
/// Characters of an argument that become part of a name.
const MOST_OF_NAME: usize = 60;

impl<'a> Lifting<'a> {
    /// The expressions without calls, each with the name that it had.
    pub(super) fn named(&mut self, exprs: Vec<Expr>, rows: &mut LiftedRows) -> Result<Vec<Expr>> {
        let names = NamePreserver::new_for_projection();
        let named = exprs.into_iter().map(|expr| {
            let name = names.save(&expr);
            Ok(name.restore(self.replaced(expr, rows)?))
        });
        named.collect()
    }

    /// The expression with columns in the place of calls, which the rows have then.
    pub(super) fn replaced(&mut self, expr: Expr, rows: &mut LiftedRows) -> Result<Expr> {
        let replaced = expr.transform_up(|part| match self.functions.called(&part) {
            Some(function) => self.call(function, part, rows).map(Transformed::yes),
            None => Ok(Transformed::no(part)),
        });
        Ok(replaced?.data)
    }

    /// The same of a condition over two sides.
    pub(super) fn replaced_beside(
        &mut self,
        condition: Expr,
        sides: &mut [LiftedRows; 2],
    ) -> Result<Expr> {
        let replaced = condition.transform_up(|part| {
            let Some(function) = self.functions.called(&part) else {
                return Ok(Transformed::no(part));
            };
            let columns = part.column_refs();
            let own = sides.iter_mut().find(|side| {
                let schema = side.schema();
                columns.iter().all(|column| schema.has_column(column))
            });
            let Some(own) = own else {
                return self.refuse(format!(
                    "{0}() is called in ON with columns of both sides, which meet behind it: write the condition into WHERE, {0}(...) is \
                     then called for rows that the rest of ON brings together",
                    function.name
                ));
            };
            drop(columns);
            self.call(function, part, own).map(Transformed::yes)
        });
        Ok(replaced?.data)
    }

    /// The column that a call makes, whose arguments call nothing any more.
    fn call(
        &mut self,
        function: &'a QueryFunction<'a>,
        call: Expr,
        rows: &mut LiftedRows,
    ) -> Result<Expr> {
        if let Some(known) = rows.known.get(&call) {
            return Ok(known.clone());
        }
        let Expr::ScalarFunction(parts) = &call else {
            return Ok(call);
        };
        self.check_arguments(&function.name, &call)?;
        let is_constant = |arg: &Expr| planner().constant(arg).is_some();
        let made = if parts.args.iter().all(is_constant) {
            self.call_once(function, &parts.args, rows)?
        } else {
            let arguments = self.arguments(function, &parts.args, rows, false)?;
            self.step(function, &arguments, rows)?
        };
        if !call.is_volatile() {
            rows.known.insert(call, made.clone());
        }
        Ok(made)
    }

    /// What the function gets: values that are the same in all rows, and columns, which the rows have then. `has_column`: at least one of
    /// them must be a column.
    fn arguments(
        &mut self,
        function: &'a QueryFunction<'a>,
        args: &[Expr],
        rows: &mut LiftedRows,
        has_column: bool,
    ) -> Result<Vec<QueryArgument>> {
        let (mut arguments, mut computed) = (Vec::with_capacity(args.len()), Vec::new());
        for (place, arg) in args.iter().enumerate() {
            let own = match arg {
                Expr::Column(column) => rows.name_of(column),
                _ => None,
            };
            let takes_value = function.takes_values && !(has_column && place == 0);
            let constant = takes_value.then(|| planner().constant(arg)).flatten();
            arguments.push(match (constant, own) {
                (Some(value), _) => QueryArgument::value(&value)?,
                (None, Some(name)) => QueryArgument::Column(name),
                (None, None) => {
                    // Whoever reads a plan or a dead letter sees what it is.
                    let text = arg.human_display().to_string();
                    let name = self.new_name(&text.chars().take(MOST_OF_NAME).collect::<String>());
                    computed.push(arg.clone().alias(&name));
                    QueryArgument::Column(name)
                }
            });
        }
        rows.compute(computed)?;
        Ok(arguments)
    }

    /// A call that is the same for all rows: it is made for one row, which then stands beside all.
    fn call_once(
        &mut self,
        function: &'a QueryFunction<'a>,
        args: &[Expr],
        rows: &mut LiftedRows,
    ) -> Result<Expr> {
        let mut once = LiftedRows::of(LogicalPlanBuilder::empty(true).build()?)?;
        let arguments = self.arguments(function, args, &mut once, true)?;
        let made = self.step(function, &arguments, &mut once)?;
        let name = self.new_name(&function.name);
        let only =
            LogicalPlanBuilder::from(once.plan().clone()).project(vec![made.alias(&name)])?;
        let beside = LogicalPlanBuilder::from(rows.plan().clone()).cross_join(only.build()?)?;
        rows.widen(beside.build()?);
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    /// Adds the step, and gives what it makes.
    fn step(
        &mut self,
        function: &'a QueryFunction<'a>,
        arguments: &[QueryArgument],
        rows: &mut LiftedRows,
    ) -> Result<Expr> {
        let name = self.new_name(&function.name);
        let before = Dataset::from_plan(rows.plan().clone());
        let called = (function.step)(&before, arguments, &name);
        let Called { dataset, columns } = match called {
            Ok(called) => called,
            Err(failure) => {
                self.failure = Some(failure);
                return plan_err!("{}() makes no step", function.name);
            }
        };
        rows.widen(dataset.plan().clone());
        let column = |name: &String| Expr::Column(Column::new_unqualified(name));
        if let [only] = columns.as_slice() {
            return Ok(column(only));
        }
        let DataType::Struct(fields) = &function.returns else {
            return plan_err!("{}() gives several columns and no struct", function.name);
        };
        let pairs = fields.iter().zip(&columns);
        let parts = pairs.flat_map(|(field, name)| [lit(field.name().as_str()), column(name)]);
        let named_struct = planner().scalar("named_struct");
        Ok(named_struct
            .expect("it is a function of the engine")
            .call(parts.collect()))
    }

    fn new_name(&mut self, what: &str) -> String {
        // Results that are kept in files are found by names, too: those of one call need not change with another.
        let made = self.made.entry(what.to_owned()).or_insert(0);
        *made += 1;
        match *made {
            1 => format!("{what}{MADE_ON_THE_WAY}"),
            number => format!("{what}{MADE_ON_THE_WAY}{number}"),
        }
    }

    /// Fails for arguments that are no columns of the rows at hand.
    fn check_arguments(&mut self, name: &str, call: &Expr) -> Result<()> {
        if call.contains_outer() {
            return self.refuse(format!(
                "{name}() is called in a subquery with a column of the query around it: call it there, in a subquery in FROM, \
                 (SELECT *, {name}(...) AS y FROM ...), and use y"
            ));
        }
        #[expect(deprecated, reason = "the planner makes it all the same")]
        let is_star = |part: &Expr| Ok(matches!(part, Expr::Wildcard { .. }));
        if call.exists(is_star)? {
            return self.refuse(format!("{name}(*): name the columns that it takes"));
        }
        Ok(())
    }
}
