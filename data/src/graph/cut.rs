//! Cutting an optimised plan into stages.
//!
//! A new stage begins where the next map wants other workers than the one before, and behind a limit, which only the
//! executor can count. So reading, a map and writing are one stage.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_expr::{
    Expr, FetchType, Limit, LogicalPlan, Projection, SkipType, TableScan, TableSource,
};

use super::edge::{Edge, EdgeKind};
use super::fork::Forks;
use super::job::{SourcePlan, StagePlan};
use super::names::{column_of, names_of, over};
use super::operator::{NamedExpression, Operator};
use super::output::StageEnd;
use super::outputs::{CutPart, is_all_of_part};
use crate::error::PlanError;
use crate::plan::{
    ExpectNode, Expectation, Expression, LateNode, LateStep, MapNode, MapSpec, PartNode,
    RelationNode, part_of,
};
use crate::sinks::OwnStage;
use crate::sources::{self, RangeTable};

#[derive(Default)]
pub(super) struct StageCutter {
    /// Where the next step goes.
    pub(super) end: End,
    pub(super) stages: Vec<StagePlan>,
    pub(super) edges: Vec<Edge>,
    /// Rows so far, as long as every step keeps them.
    pub(super) known_rows: Option<u64>,
    /// What comes more than once.
    pub(super) forks: Forks,
    /// What several outputs share, by its number.
    pub(super) parts: HashMap<usize, CutPart>,
    /// How many inputs sources are cut into, if somebody has said so.
    pub(super) parts_wanted: Option<u64>,
    /// What chance begins with where rows are shuffled and nobody has said it; `None`: something else every time.
    pub(super) chance: Option<u64>,
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
        let Some(part) = self.forks.part(plan) else {
            return self.visit_node(plan);
        };
        if let Some((stage, rows)) = self.forks.made(part) {
            (self.end, self.known_rows) = (End::Stage(stage), rows);
            return Ok(());
        }
        self.visit_node(plan)?;
        let stage = self.giver();
        self.forks.set_made(part, stage, self.known_rows);
        Ok(())
    }

    fn visit_node(&mut self, plan: &LogicalPlan) -> Result<(), PlanError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::EmptyRelation(empty) => {
                self.nothing(empty.produce_one_row);
                Ok(())
            }
            LogicalPlan::Projection(projection) => {
                self.visit(&projection.input)?;
                self.project(projection)
            }
            LogicalPlan::Filter(filter) => {
                self.visit(&filter.input)?;
                self.known_rows = None;
                let predicate = over(&filter.predicate, filter.input.schema())?;
                self.step("Filter", Operator::Filter(predicate));
                Ok(())
            }
            LogicalPlan::Limit(limit) => {
                self.visit(&limit.input)?;
                let (skip, fetch) = rows_of(limit)?;
                if let Some(rows) = fetch {
                    self.limit(rows.saturating_add(skip));
                }
                if skip > 0 {
                    self.skip(skip);
                }
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
                } else if let Some(expect) = node.downcast_ref::<ExpectNode>() {
                    self.visit(expect.input())?;
                    self.expect(&expect.expectation);
                    Ok(())
                } else if let Some(relation) = node.downcast_ref::<RelationNode>() {
                    self.relation(relation)
                } else if let Some(part) = node.downcast_ref::<PartNode>() {
                    self.go_on_with(part.part);
                    Ok(())
                } else {
                    Err(unsupported(plan))
                }
            }
            other => self.query_node(other),
        }
    }

    /// No row, or one that has no column of its own.
    fn nothing(&mut self, has_row: bool) {
        let row: Option<Arc<dyn TableSource>> =
            has_row.then(|| Arc::new(RangeTable::new(1)) as Arc<dyn TableSource>);
        self.known_rows = Some(u64::from(has_row));
        self.end = End::Source(SourcePlan {
            columns: if has_row { vec![0] } else { Vec::new() },
            table: row,
            filters: Vec::new(),
            row_limit: Some(u64::from(has_row)),
            parts: self.parts_wanted,
            is_by_file: false,
        });
    }

    fn scan(&mut self, scan: &TableScan) -> Result<(), PlanError> {
        if let Some(table) = part_of(scan) {
            self.columns_of_part(scan, table);
            return Ok(());
        }
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
            parts: self.parts_wanted,
            is_by_file: false,
        });
        if let Some(names) = selected {
            self.step("Select", Operator::Select(names));
        }
        Ok(())
    }

    /// The stage that the next step belongs to.
    pub(super) fn stage(&mut self) -> &mut StagePlan {
        let index = match self.end {
            End::Stage(index) if self.may_go_on(index) => index,
            _ => self.begin_stage(),
        };
        &mut self.stages[index]
    }

    /// Whether a step may be added to the stage: only the executor can count what a limit lets through, and others may get its rows.
    fn may_go_on(&self, stage: usize) -> bool {
        self.stages[stage].row_limit.is_none() && !self.is_shared(stage)
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
        self.stage().push(name, operator);
    }

    fn project(&mut self, projection: &Projection) -> Result<(), PlanError> {
        let (names, input) = (names_of(&projection.schema), projection.input.schema());
        let column = |(expr, name): (&Expr, &String)| -> Result<NamedExpression, PlanError> {
            Ok(NamedExpression {
                name: name.clone(),
                // Its name is that of the schema.
                expression: over(&expr.clone().unalias(), input)?,
            })
        };
        let columns: Result<_, PlanError> =
            projection.expr.iter().zip(&names).map(column).collect();
        let columns: Vec<NamedExpression> = columns?;
        let is_plain =
            |one: &NamedExpression| column_of(&one.expression) == Some(one.name.as_str());
        if columns.iter().all(is_plain) {
            if !is_all_of_part(&projection.input, &names) {
                self.step("Select", Operator::Select(names));
            }
        } else {
            self.step("Project", Operator::Project(columns));
        }
        Ok(())
    }

    fn late(&mut self, step: &LateStep) {
        if matches!(step, LateStep::Filter(_) | LateStep::Unnest(_)) {
            self.known_rows = None;
        }
        let (name, operator) = Operator::late(step);
        self.step(name, operator);
    }

    pub(super) fn limit(&mut self, rows: u64) {
        if let Some(known) = self.known_rows
            && known <= rows
        {
            // The source gives no more than that by itself.
            return;
        }
        self.known_rows = self.known_rows.map(|known| known.min(rows));
        let limited = match self.end {
            End::Stage(index) if !self.is_shared(index) => self.stages[index].row_limit.as_mut(),
            _ => None,
        };
        if let Some(before) = limited {
            // The planner leaves several where it has pushed one down: the lowest holds, and none takes a stage of its own.
            *before = rows.min(*before);
            return;
        }
        self.sort_only_first(rows);
        self.stage().row_limit = Some(rows);
    }

    fn expect(&mut self, expectation: &Expectation) {
        // Whoever only counts rows wants them judged all the same.
        self.known_rows = None;
        let name = format!("Expect({})", expectation.name);
        self.step(&name, Operator::Expect(expectation.clone()));
    }

    fn map(&mut self, map: &MapSpec) {
        if !map.keeps_all_rows() {
            self.known_rows = None;
        }
        let block_rows = self.stage().block_rows();
        if !self.stage().takes(map) {
            self.begin_stage();
        }
        self.stage().push_map(map, block_rows);
    }

    /// A stage that only writes.
    fn begin_write(&mut self, own: OwnStage) {
        self.giver();
        let write = self.begin_stage();
        let write = &mut self.stages[write];
        write.window_rows = usize::try_from(own.min_rows).unwrap_or(usize::MAX);
        if let Some(bytes) = own.min_bytes {
            (write.window_rows, write.window_bytes) = (usize::MAX, bytes);
        }
        write.is_apart = true;
        write.compute.max_workers = own.max_writers;
    }

    pub(super) fn end_with(&mut self, end: StageEnd) {
        if let Some(own) = end.sink.own_stage() {
            self.begin_write(own);
        }
        // Behind a limit that only the executor can count, a consumer reads from the stage itself.
        let last = match self.end {
            End::Stage(index) if end.sink.settings().is_none() && !self.is_shared(index) => {
                &mut self.stages[index]
            }
            _ => self.stage(),
        };
        last.end = Some(end);
    }
}

/// The expression, if workers can compute it.
fn planned(expr: &Expr) -> Result<Expression, PlanError> {
    Expression::planned(expr).map_err(PlanError::planner)
}

/// How many rows a limit leaves out, and how many it takes then.
fn rows_of(limit: &Limit) -> Result<(u64, Option<u64>), PlanError> {
    let skip = limit.get_skip_type().map_err(PlanError::planner)?;
    let fetch = limit.get_fetch_type().map_err(PlanError::planner)?;
    match (skip, fetch) {
        (SkipType::Literal(skip), FetchType::Literal(fetch)) => {
            Ok((skip as u64, fetch.map(|rows| rows as u64)))
        }
        _ => Err(PlanError::InvalidArgument(
            "a limit needs numbers".to_owned(),
        )),
    }
}

fn unsupported(plan: &LogicalPlan) -> PlanError {
    PlanError::InvalidArgument(format!("this step cannot be run yet: {}", plan.display()))
}
