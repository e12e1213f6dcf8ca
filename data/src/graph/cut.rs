//! Cutting an optimised plan into stages.
//!
//! A new stage begins where the next map wants other workers than the one before, and behind a limit, which only the
//! executor can count. So reading, a map and writing are one stage.

use std::sync::Arc;

use datafusion_expr::{Expr, FetchType, Limit, LogicalPlan, TableScan};

use super::edge::Edge;
use super::job::{JobPlan, PlannedStep, SourcePlan, StagePlan};
use super::operator::{NamedExpression, Operator};
use crate::error::PlanError;
use crate::plan::{Dataset, Expression, LateNode, LateStep, MapNode, MapSpec, Produces};
use crate::sinks::{OwnStage, Sink};
use crate::sources;

/// Optimises `dataset` and cuts it.
pub fn plan_job(dataset: &Dataset, sink: &Sink) -> Result<JobPlan, PlanError> {
    // Whoever only counts wants no columns.
    let counted = (!sink.wants_columns() && !dataset.is_open()).then(|| dataset.select(&[]));
    let plan = counted
        .transpose()?
        .as_ref()
        .unwrap_or(dataset)
        .optimized()?;
    let mut cutter = Cutter::default();
    cutter.visit(&plan)?;
    cutter.end_with(sink);
    Ok(JobPlan {
        stages: cutter.stages,
        edges: cutter.edges,
        schema: dataset.schema(),
        known_rows: cutter.known_rows,
    })
}

#[derive(Default)]
struct Cutter {
    /// Until a stage takes it.
    source: Option<SourcePlan>,
    stages: Vec<StagePlan>,
    edges: Vec<Edge>,
    /// Rows so far, as long as every step keeps them.
    known_rows: Option<u64>,
}

impl Cutter {
    /// Walks from the source up.
    fn visit(&mut self, plan: &LogicalPlan) -> Result<(), PlanError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(_) => {
                self.known_rows = Some(0);
                self.source = Some(SourcePlan {
                    table: None,
                    columns: Vec::new(),
                    filters: Vec::new(),
                    row_limit: Some(0),
                });
                Ok(())
            }
            LogicalPlan::Projection(projection) => {
                self.visit(&projection.input)?;
                self.project(&projection.expr, plan)
            }
            LogicalPlan::Filter(filter) => {
                self.visit(&filter.input)?;
                self.known_rows = None;
                let predicate = planned(&filter.predicate)?;
                self.relational("Filter", Operator::Filter(predicate));
                Ok(())
            }
            LogicalPlan::Limit(limit) => {
                self.visit(&limit.input)?;
                self.limit(limit_rows(limit)?);
                Ok(())
            }
            LogicalPlan::SubqueryAlias(alias) => self.visit(&alias.input),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(map) = node.downcast_ref::<MapNode>() {
                    self.visit(map.input())?;
                    self.map(&map.spec);
                    Ok(())
                } else if let Some(late) = node.downcast_ref::<LateNode>() {
                    self.visit(late.input())?;
                    self.late(&late.step);
                    Ok(())
                } else {
                    Err(unsupported(plan))
                }
            }
            other => Err(unsupported(other)),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<(), PlanError> {
        let all = scan.source.schema();
        let columns: Vec<usize> = scan
            .projection
            .clone()
            .unwrap_or_else(|| (0..all.fields().len()).collect());
        let pruned = match sources::of_table(scan.source.as_ref()) {
            Some(source) => source.pruned(&scan.filters).map_err(PlanError::planner)?,
            None => None,
        };
        let table = pruned.unwrap_or_else(|| Arc::clone(&scan.source));
        let Some(source) = sources::of_table(table.as_ref()) else {
            return Err(unsupported(&LogicalPlan::TableScan(scan.clone())));
        };
        for filter in &scan.filters {
            planned(filter)?;
        }
        let limit = scan.fetch.map(|rows| rows as u64);
        if scan.filters.is_empty() {
            let rows = source.rows();
            self.known_rows = rows.map(|rows| rows.min(limit.unwrap_or(u64::MAX)));
        }
        let is_identity = columns.iter().copied().eq(0..all.fields().len());
        let names = columns.iter().map(|&index| all.field(index).name().clone());
        let selected =
            (!source.reads_columns() && !is_identity).then(|| names.collect::<Vec<String>>());
        self.source = Some(SourcePlan {
            table: Some(Arc::clone(&table)),
            columns,
            filters: scan.filters.clone(),
            row_limit: limit,
        });
        if let Some(names) = selected {
            self.relational("Select", Operator::Select(names));
        }
        Ok(())
    }

    /// The stage that the next step belongs to.
    fn stage(&mut self) -> &mut StagePlan {
        let is_open = self
            .stages
            .last()
            .is_some_and(|stage| stage.row_limit.is_none());
        if !is_open {
            self.begin_stage();
        }
        self.stages.last_mut().expect("there is one now")
    }

    /// One more stage, whose rows are those of the source or of the stage before.
    fn begin_stage(&mut self) {
        let source = self.source.take();
        let to = self.stages.len();
        if source.is_none() {
            self.edges.push(Edge::forward(to - 1, to));
        }
        self.stages.push(StagePlan::new(source));
    }

    fn relational(&mut self, name: &str, operator: Operator) {
        self.stage().steps.push(PlannedStep {
            name: name.to_owned(),
            operator,
            captured: None,
        });
    }

    fn project(&mut self, expressions: &[Expr], plan: &LogicalPlan) -> Result<(), PlanError> {
        let names = plan.schema().fields().iter();
        let names: Vec<String> = names.map(|field| field.name().clone()).collect();
        let is_plain = |(expression, name): (&Expr, &String)| matches!(expression, Expr::Column(source) if source.name == *name);
        if expressions.iter().zip(&names).all(is_plain) {
            self.relational("Select", Operator::Select(names));
            return Ok(());
        }
        let column = |(expression, name): (&Expr, String)| {
            let expression = planned(expression)?;
            Ok(NamedExpression { name, expression })
        };
        let columns: Result<_, PlanError> = expressions.iter().zip(names).map(column).collect();
        self.relational("Project", Operator::Project(columns?));
        Ok(())
    }

    fn late(&mut self, step: &LateStep) {
        if matches!(step, LateStep::Filter(_)) {
            self.known_rows = None;
        }
        let (name, operator) = Operator::late(step);
        self.relational(name, operator);
    }

    fn limit(&mut self, rows: u64) {
        if let Some(known) = self.known_rows
            && known <= rows
        {
            // The source gives no more than that by itself.
            return;
        }
        self.known_rows = self.known_rows.map(|known| known.min(rows));
        let stage = self.stage();
        stage.row_limit = Some(rows);
    }

    fn map(&mut self, map: &MapSpec) {
        if !map.keeps_rows || map.produces == Produces::Mask {
            self.known_rows = None;
        }
        if !self.stage().takes(map) {
            self.begin_stage();
        }
        self.stage().push_map(map);
    }

    /// A stage that only writes.
    fn begin_write(&mut self, own: OwnStage) {
        if self.stages.is_empty() {
            self.begin_stage();
        }
        self.begin_stage();
        let write = self.stages.last_mut().expect("begun just above");
        write.window_rows = usize::try_from(own.min_rows).unwrap_or(usize::MAX);
        write.is_apart = true;
        write.compute.max_workers = own.max_writers;
    }

    fn end_with(&mut self, sink: &Sink) {
        if let Some(own) = sink.own_stage() {
            self.begin_write(own);
        }
        // Behind a limit that only the executor can count, a consumer reads from the stage itself.
        let needs_stage = sink.settings().is_some() || self.stages.is_empty();
        let last = if needs_stage {
            Some(self.stage())
        } else {
            self.stages.last_mut()
        };
        if let Some(last) = last {
            last.sink = Some(sink.clone());
        }
    }
}

/// The expression, if workers can compute it.
fn planned(expr: &Expr) -> Result<Expression, PlanError> {
    Expression::planned(expr).map_err(PlanError::planner)
}

/// The number in a limit.
fn limit_rows(limit: &Limit) -> Result<u64, PlanError> {
    match limit.get_fetch_type().map_err(PlanError::planner)? {
        FetchType::Literal(Some(rows)) => Ok(rows as u64),
        FetchType::Literal(None) => Ok(u64::MAX),
        FetchType::UnsupportedExpr => Err(PlanError::InvalidArgument(
            "limit() needs a number".to_owned(),
        )),
    }
}

fn unsupported(plan: &LogicalPlan) -> PlanError {
    PlanError::InvalidArgument(format!("this step cannot be run yet: {}", plan.display()))
}
