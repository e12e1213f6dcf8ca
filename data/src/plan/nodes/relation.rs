//! What needs rows of all parts at once: sorting, grouping, shuffling, and what puts datasets together.
//!
//! The node names columns only. Where all columns below are known, its own are too, from the very operator that will run;
//! where a function hides them, they are found at run time.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, Result};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::openness::is_open;
use crate::columns;
use crate::graph::{Aggregate, AggregateCall, AggregatePhase, Join, RangeKey};
use crate::operators::fragment::{joined, output_of, zipped};
use crate::plan::Expression;

/// What is done with all rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Puts them in order.
    Sort(Vec<RangeKey>),
    /// Puts them in an order by chance; without a seed, in another one every time.
    Shuffle(Option<u64>),
    /// Keeps such a share of them (the bits of a 64-bit float between 0 and 1) by chance; without a seed, others every time.
    Sample {
        /// The share.
        share: u64,
        /// What chance begins with.
        seed: Option<u64>,
    },
    /// Puts them into parts.
    Repartition(Repartition),
    /// Puts them into blocks of so many rows.
    BlockRows(BlockRows),
    /// Rows with equal keys come to one worker one after another, and a function gets whole groups.
    Cluster(Vec<String>),
    /// Makes one row of each group.
    Group(Grouping),
    /// The rows of all inputs, one after the other. A column that an input lacks is null there.
    Union,
    /// Rows of two inputs side by side where keys say so.
    Join(Joining),
    /// Rows of all inputs side by side, the first with the first, the second with the second.
    Zip,
}

/// A join, and how it is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Joining {
    /// What comes out.
    pub join: Join,
    /// How many parts both sides are cut into by their keys, if they are.
    pub partitions: u32,
    /// What somebody knows of the sides.
    pub hint: Option<Hint>,
}

/// What a user knows of the sides of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// The right is small: all parts of the left get all of it, however large it is.
    Broadcast,
    /// A few keys have many rows.
    Salt,
}

impl Hint {
    /// The hint of this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "broadcast" => Some(Self::Broadcast),
            "salt" => Some(Self::Salt),
            _ => None,
        }
    }
}

/// One row of each group; one row of everything where there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grouping {
    /// The columns of the keys.
    pub keys: Vec<String>,
    /// What is told of each group.
    pub calls: Vec<AggregateCall>,
    /// The columns that come out, made of the keys and of what was told.
    pub outputs: Vec<(String, Expression)>,
}

impl Grouping {
    /// One half of the work.
    pub(crate) fn half(&self, phase: AggregatePhase) -> Aggregate {
        Aggregate {
            phase,
            keys: self.keys.clone(),
            calls: self.calls.clone(),
        }
    }

    /// The columns of the rows that it looks at.
    fn reads(&self) -> impl Iterator<Item = &String> {
        let columns = self.calls.iter().filter_map(|call| call.column.as_ref());
        self.keys.iter().chain(columns)
    }

    /// The columns that come out of rows with these.
    fn schema(&self, rows: &SchemaRef) -> Result<SchemaRef> {
        let groups = output_of(&self.half(AggregatePhase::Final), rows)?;
        let field = |(name, expression): &(String, Expression)| -> Result<FieldRef> {
            let field = expression.bind(&groups)?.return_field(&groups)?;
            Ok(Arc::new(
                Field::clone(&field).with_name(name).with_nullable(true),
            ))
        };
        let fields: Result<Vec<FieldRef>> = self.outputs.iter().map(field).collect();
        Ok(Arc::new(Schema::new(fields?)))
    }
}

/// [`Relation`] over its inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelationNode {
    /// What is done.
    pub relation: Relation,
    /// Whether columns may come out that the schema does not know.
    pub is_open: bool,
    inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

/// So many parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Repartition {
    /// How many.
    pub parts: u32,
    /// Which of them a row goes to.
    pub by: RepartitionBy,
}

/// What says which part a row goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub enum RepartitionBy {
    /// Where it stands: parts are of about the same size.
    Place,
    /// Chance.
    Chance,
    /// Its values in these columns: rows with equal ones are in one part.
    Keys {
        /// The columns.
        keys: Vec<String>,
        /// Whether the rows of a part are in their order.
        is_sorted: bool,
    },
}

/// Blocks of so many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub struct BlockRows {
    /// How many.
    pub rows: NonZeroU64,
    /// Whether only the last block of all may have fewer; otherwise it is the last of each input of a worker.
    pub is_exact: bool,
}

impl Repartition {
    fn keys(&self) -> &[String] {
        match &self.by {
            RepartitionBy::Keys { keys, .. } => keys,
            RepartitionBy::Place | RepartitionBy::Chance => &[],
        }
    }
}

impl RelationNode {
    /// The node that does `relation` with the rows of `inputs`.
    pub fn try_new(relation: Relation, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let is_open = inputs.iter().any(is_open);
        let schema = match &relation {
            Relation::Sort(_)
            | Relation::Shuffle(_)
            | Relation::Sample { .. }
            | Relation::Repartition(_)
            | Relation::BlockRows(_)
            | Relation::Cluster(_) => Arc::clone(inputs[0].schema()),
            _ if is_open => Arc::new(DFSchema::empty()),
            Relation::Join(Joining { join, .. }) => {
                let joined = joined(join, &columns_of(&inputs[0]), &columns_of(&inputs[1]));
                unqualified(&joined.map_err(DataFusionError::Plan)?)?
            }
            Relation::Zip => {
                let columns: Vec<SchemaRef> = inputs.iter().map(columns_of).collect();
                unqualified(&zipped(&columns))?
            }
            Relation::Group(grouping) => unqualified(&grouping.schema(&columns_of(&inputs[0]))?)?,
            Relation::Union => {
                let mut all = columns_of(&inputs[0]);
                for other in &inputs[1..] {
                    let unified = columns::unify(&all, &columns_of(other));
                    all = unified.map_err(|misfit| {
                        DataFusionError::Plan(misfit.between("in one dataset", "in another"))
                    })?;
                }
                unqualified(&all)?
            }
        };
        Ok(Self {
            relation,
            is_open,
            inputs,
            schema,
        })
    }

    /// What the node reads from, in order.
    pub fn sources(&self) -> &[LogicalPlan] {
        &self.inputs
    }

    /// The columns that come out, as far as they are known.
    pub(crate) fn columns(&self) -> SchemaRef {
        Arc::new(Schema::new(self.schema.fields().clone()))
    }

    /// The columns that its work itself looks at, beside those that are wanted.
    fn reads(&self) -> BTreeSet<&str> {
        match &self.relation {
            Relation::Sort(keys) => keys.iter().map(|key| key.column.as_str()).collect(),
            Relation::Cluster(keys) => keys.iter().map(String::as_str).collect(),
            Relation::Group(grouping) => grouping.reads().map(String::as_str).collect(),
            Relation::Repartition(repartition) => {
                repartition.keys().iter().map(String::as_str).collect()
            }
            Relation::Shuffle(_)
            | Relation::Sample { .. }
            | Relation::BlockRows(_)
            | Relation::Union
            | Relation::Join(_)
            | Relation::Zip => BTreeSet::new(),
        }
    }
}

impl RelationNode {
    /// Of each side the keys, what is wanted, and what has a namesake on the other side.
    fn columns_for_join(&self, join: &Join, wanted: &[usize]) -> Option<Vec<Vec<usize>>> {
        let wanted = wanted.iter().map(|&index| self.schema.field(index).name());
        let wanted: HashSet<&String> = wanted.collect();
        let sides = [columns_of(&self.inputs[0]), columns_of(&self.inputs[1])];
        let is_key = |side: usize, name: &String| {
            join.keys
                .iter()
                .any(|(one, other)| [one, other][side] == name)
        };
        let needed = |side: usize| {
            let other = &sides[1 - side];
            let fields = sides[side].fields().iter().enumerate();
            let needed = fields.filter(|(_, field)| {
                let name = field.name();
                is_key(side, name) || wanted.contains(name) || other.index_of(name).is_ok()
            });
            needed.map(|(index, _)| index).collect()
        };
        Some(vec![needed(0), needed(1)])
    }
}

/// The columns of a plan that knows them all.
pub(crate) fn columns_of(plan: &LogicalPlan) -> SchemaRef {
    Arc::new(Schema::new(plan.schema().fields().clone()))
}

fn unqualified(schema: &SchemaRef) -> Result<DFSchemaRef> {
    let fields = schema
        .fields()
        .iter()
        .map(|field| (None, Arc::clone(field)));
    let schema = DFSchema::new_with_metadata(fields.collect(), HashMap::new())?;
    Ok(Arc::new(schema))
}

impl PartialOrd for RelationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for RelationNode {
    fn name(&self) -> &str {
        "Relation"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        // The same rows come out of these, so that it does not matter when some are left out.
        if matches!(self.relation, Relation::Sort(_) | Relation::Shuffle(_)) {
            return HashSet::new();
        }
        let fields = self.schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.relation {
            Relation::Sort(keys) => {
                let key = |key: &RangeKey| {
                    let direction = if key.is_descending { " descending" } else { "" };
                    format!("{}{direction}", key.column)
                };
                let keys: Vec<String> = keys.iter().map(key).collect();
                write!(f, "Sort: {}", keys.join(", "))
            }
            Relation::Shuffle(_) => f.write_str("Shuffle"),
            Relation::Sample { share, .. } => write!(f, "Sample: {}", f64::from_bits(*share)),
            Relation::Repartition(Repartition { parts, by }) => match by {
                RepartitionBy::Keys { keys, .. } => {
                    write!(f, "Repartition: {parts} by {}", keys.join(", "))
                }
                RepartitionBy::Place | RepartitionBy::Chance => write!(f, "Repartition: {parts}"),
            },
            Relation::BlockRows(BlockRows { rows, is_exact }) => {
                let most = if *is_exact { "" } else { "at most " };
                write!(f, "Repartition: {most}{rows} rows")
            }
            Relation::Cluster(keys) => write!(f, "Group: {}", keys.join(", ")),
            Relation::Group(grouping) => {
                let outputs = grouping.outputs.iter().map(|(name, _)| name.as_str());
                let outputs: Vec<&str> = outputs.collect();
                let keys = grouping.keys.join(", ");
                write!(f, "Aggregate: [{keys}] gives [{}]", outputs.join(", "))
            }
            Relation::Union => f.write_str("Union"),
            Relation::Join(Joining { join, .. }) => {
                let pair = |(one, other): &(String, String)| format!("{one} = {other}");
                let pairs: Vec<String> = join.keys.iter().map(pair).collect();
                write!(f, "Join: {} on {}", join.kind.name(), pairs.join(" and "))
            }
            Relation::Zip => f.write_str("Zip"),
        }
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(self.relation.clone(), inputs)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        // What is left out on one side may change the names of what is there on the other.
        if self.is_open || self.relation == Relation::Zip {
            return None;
        }
        if let Relation::Join(Joining { join, .. }) = &self.relation {
            return self.columns_for_join(join, output_columns);
        }
        let mut wanted = self.reads();
        if !matches!(self.relation, Relation::Group(_)) {
            let names = output_columns
                .iter()
                .map(|&index| self.schema.field(index).name());
            wanted.extend(names.map(String::as_str));
        }
        let needed = |input: &LogicalPlan| {
            let fields = input.schema().fields().iter().enumerate();
            let needed = fields.filter(|(_, field)| wanted.contains(field.name().as_str()));
            needed.map(|(index, _)| index).collect()
        };
        Some(self.inputs.iter().map(needed).collect())
    }
}
