//! Cutting an optimised plan into stages.
//!
//! A new stage begins where the next map wants other workers than the one before, and behind a limit, which only the
//! executor can count. So reading, a map and writing are one stage.

use std::sync::Arc;

use datafusion_expr::{Expr, FetchType, Limit, LogicalPlan, TableScan};

use super::edge::{Edge, EdgeKind};
use super::job::{JobPlan, PlannedStep, SourcePlan, StagePlan};
use super::operator::{NamedExpression, Operator};
use crate::error::PlanError;
use crate::plan::{
    Dataset, Expression, LateNode, LateStep, MapNode, MapSpec, Produces, RelationNode,
};
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
    let mut cutter = StageCutter::default();
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
pub(super) struct StageCutter {
    /// Where the next step goes.
    pub(super) end: End,
    stages: Vec<StagePlan>,
    edges: Vec<Edge>,
    /// Rows so far, as long as every step keeps them.
    pub(super) known_rows: Option<u64>,
}

/// What the rows of the next step come from.
#[derive(Default)]
pub(super) enum End {
    /// Nothing was visited.
    #[default]
    Nothing,
    /// A source that no stage has taken yet.
    Source(SourcePlan),
    /// A stage.
    Stage(usize),
    /// Stages, along edges to one that has not begun yet.
    Edges(Vec<(usize, EdgeKind)>),
}

impl StageCutter {
    /// Walks from the source up.
    pub(super) fn visit(&mut self, plan: &LogicalPlan) -> Result<(), PlanError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(_) => {
                self.known_rows = Some(0);
                self.end = End::Source(SourcePlan {
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
                self.step("Filter", Operator::Filter(predicate));
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
                } else if let Some(relation) = node.downcast_ref::<RelationNode>() {
                    self.relation(relation)
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
        self.end = End::Source(SourcePlan {
            table: Some(Arc::clone(&table)),
            columns,
            filters: scan.filters.clone(),
            row_limit: limit,
        });
        if let Some(names) = selected {
            self.step("Select", Operator::Select(names));
        }
        Ok(())
    }

    /// The stage that the next step belongs to.
    pub(super) fn stage(&mut self) -> &mut StagePlan {
        let index = match self.end {
            End::Stage(index) if self.stages[index].row_limit.is_none() => index,
            _ => self.begin_stage(),
        };
        &mut self.stages[index]
    }

    /// The stage that all rows so far come out of.
    pub(super) fn giver(&mut self) -> usize {
        match self.end {
            End::Stage(index) => index,
            _ => self.begin_stage(),
        }
    }

    /// One more stage, whose rows are those of the source or of the stages before.
    fn begin_stage(&mut self) -> usize {
        let to = self.stages.len();
        let mut stage = StagePlan::new(None);
        match std::mem::replace(&mut self.end, End::Stage(to)) {
            End::Nothing => {}
            End::Source(source) => stage.source = Some(source),
            End::Stage(from) => {
                stage.is_ordered = self.stages[from].is_ordered;
                self.edges.push(Edge::forward(from, to));
            }
            End::Edges(edges) => {
                let edges = edges.into_iter();
                self.edges
                    .extend(edges.map(|(from, kind)| Edge { from, to, kind }));
            }
        }
        self.stages.push(stage);
        to
    }

    pub(super) fn step(&mut self, name: &str, operator: Operator) {
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
            self.step("Select", Operator::Select(names));
            return Ok(());
        }
        let column = |(expression, name): (&Expr, String)| {
            let expression = planned(expression)?;
            Ok(NamedExpression { name, expression })
        };
        let columns: Result<_, PlanError> = expressions.iter().zip(names).map(column).collect();
        self.step("Project", Operator::Project(columns?));
        Ok(())
    }

    fn late(&mut self, step: &LateStep) {
        if matches!(step, LateStep::Filter(_)) {
            self.known_rows = None;
        }
        let (name, operator) = Operator::late(step);
        self.step(name, operator);
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
        self.giver();
        let write = self.begin_stage();
        let write = &mut self.stages[write];
        write.window_rows = usize::try_from(own.min_rows).unwrap_or(usize::MAX);
        write.is_apart = true;
        write.compute.max_workers = own.max_writers;
    }

    fn end_with(&mut self, sink: &Sink) {
        if let Some(own) = sink.own_stage() {
            self.begin_write(own);
        }
        // Behind a limit that only the executor can count, a consumer reads from the stage itself.
        let last = if sink.settings().is_some() {
            self.stage()
        } else {
            let giver = self.giver();
            &mut self.stages[giver]
        };
        last.sink = Some(sink.clone());
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
