//! `map_batches` and its kin as a node of the logical plan.
//!
//! The node says which columns its function reads and which columns pass by the function untouched. From that the
//! planner's ordinary rules do the rest:
//!
//! - PLAN-1 (projection-prunes): below the node only the columns remain that the function reads or that somebody above
//!   wants and that pass by.
//! - PLAN-2 (predicate-passes-untouched): a filter goes below the node if all its columns pass by.
//! - PLAN-3 (limit-passes-row-preserving): a limit goes below the node only if one row comes out for one row in.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef};
use bytes::Bytes;
use datafusion_common::{DFSchema, DFSchemaRef, Result, TableReference};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::openness::is_open;
use crate::block::BlockHandle;
use crate::plan::{Batching, Compute, FailurePolicy};

/// A function written in Python, as the bindings describe it. Aktis never looks inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonFunction {
    /// What the worker's `UdfHost` needs to make the function ready (pickled function or class, arguments, formats).
    pub definition: Bytes,
    /// References that occur in it, as the pool knows the object that holds them: they live as long as the plan.
    pub captured: Option<BlockHandle>,
}

/// What a map runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapFunction {
    /// A Python function or callable class.
    Python(PythonFunction),
    /// A model that runs in Rust, and its columns.
    Model(Box<aktis_inference::ModelSpec>),
}

/// Which input columns pass by the function and appear beside what it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// None: the function's output is all there is (`map_batches`).
    Nothing,
    /// These.
    Named(Vec<String>),
    /// All but these.
    AllExcept(Vec<String>),
}

impl Kept {
    /// Whether the column passes by.
    pub fn keeps(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Named(names) => names.iter().any(|kept| kept == name),
            Self::AllExcept(names) => !names.iter().any(|left_out| left_out == name),
        }
    }
}

/// What the function returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Produces {
    /// Nobody knows before it has run.
    Unknown,
    /// These columns.
    Fields(Vec<FieldRef>),
    /// One boolean column: which rows stay. All input columns pass by.
    Mask,
}

/// Where results are kept, so that no row is done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// Absolute path of a folder.
    pub folder: String,
    /// What the function is: results of others are not its.
    pub sign: String,
}

/// A map over batches of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSpec {
    /// For messages and progress: `MapBatches(Embedder)`.
    pub name: String,
    /// What runs.
    pub function: MapFunction,
    /// The columns the function gets; `None`: all.
    pub reads: Option<Vec<String>>,
    /// The columns that pass by.
    pub keeps: Kept,
    /// The columns that come out of the function.
    pub produces: Produces,
    /// Whether one row comes out for one row in, in the same order.
    pub keeps_rows: bool,
    /// Rows per call; `None`: as many as a block has.
    pub batch_rows: Option<usize>,
    /// Rows that the function likes to have at hand at once, over several calls; 0: one call's.
    pub window_rows: usize,
    /// Where and how wide it runs.
    pub compute: Compute,
    /// What becomes of rows that it fails for.
    pub failures: FailurePolicy,
    /// Where its results are kept, if they are.
    pub cache: Option<CacheSpec>,
    /// How batches are made besides `batch_rows`.
    pub batching: Batching,
}

impl MapSpec {
    /// Whether the column comes out just as it went in.
    pub fn passes(&self, name: &str) -> bool {
        self.produces == Produces::Mask || self.keeps.keeps(name)
    }

    /// Whether one row comes out for one row in, whatever happens: where rows that fail are left out, none does.
    pub(crate) fn keeps_all_rows(&self) -> bool {
        self.keeps_rows && self.produces != Produces::Mask && !self.failures.loses_rows()
    }

    /// Whether the function gets the column, or its batches are measured by it.
    pub fn is_read(&self, name: &str) -> bool {
        let reads = self.reads.as_ref();
        reads.is_none_or(|reads| reads.iter().any(|read| read == name)) || self.batching.reads(name)
    }
}

/// [`MapSpec`] over an input.
#[derive(Debug, Clone)]
pub struct MapNode {
    /// What to run.
    pub spec: Arc<MapSpec>,
    /// Whether columns may come out that [`UserDefinedLogicalNodeCore::schema`] does not know.
    pub is_open: bool,
    input: LogicalPlan,
    schema: DFSchemaRef,
}

impl MapNode {
    /// The node that runs `spec` over `input`.
    pub fn try_new(spec: Arc<MapSpec>, input: LogicalPlan) -> Result<Self> {
        let passing = input
            .schema()
            .iter()
            .filter(|(_, field)| spec.passes(field.name()) && !is_produced(&spec, field.name()))
            .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let produced = match &spec.produces {
            Produces::Fields(fields) => fields.clone(),
            Produces::Unknown | Produces::Mask => Vec::new(),
        };
        let fields: Vec<(Option<TableReference>, FieldRef)> = passing
            .chain(produced.into_iter().map(|field| (None, field)))
            .collect();
        let schema = DFSchema::new_with_metadata(fields, HashMap::new())?;
        let passes_unknown = spec.keeps != Kept::Nothing || spec.produces == Produces::Mask;
        let is_open = spec.produces == Produces::Unknown || (passes_unknown && is_open(&input));
        Ok(Self {
            spec,
            is_open,
            input,
            schema: Arc::new(schema),
        })
    }

    /// What the node reads from.
    pub fn input(&self) -> &LogicalPlan {
        &self.input
    }

    /// Whether the function is known to make the column.
    pub(crate) fn makes(&self, name: &str) -> bool {
        is_produced(&self.spec, name)
    }
}

fn is_produced(spec: &MapSpec, name: &str) -> bool {
    matches!(&spec.produces, Produces::Fields(fields) if fields.iter().any(|field| field.name() == name))
}

/// A column of embeddings: one fixed-size list of floats per row.
pub fn embedding_field(name: &str, dimension: usize) -> FieldRef {
    Arc::new(Field::new(
        name,
        aktis_inference::embedding_type(dimension),
        true,
    ))
}

impl UserDefinedLogicalNodeCore for MapNode {
    fn name(&self) -> &str {
        "Map"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    // PLAN-2: what does not pass by holds back the filters that read it.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let fields = self.schema.fields().iter().map(|field| field.name());
        fields
            .filter(|name| !self.spec.passes(name) || is_produced(&self.spec, name))
            .cloned()
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.spec.name)?;
        if let Some(reads) = &self.spec.reads {
            write!(f, " reads=[{}]", reads.join(", "))?;
        }
        match &self.spec.keeps {
            Kept::Nothing => {}
            Kept::Named(names) => write!(f, " keeps=[{}]", names.join(", "))?,
            Kept::AllExcept(names) => write!(f, " keeps=all except [{}]", names.join(", "))?,
        }
        let compute = &self.spec.compute;
        if let Some(rows) = self.spec.batch_rows.filter(|_| !compute.is_mixed()) {
            write!(f, " batch_size={rows}")?;
        }
        let Batching {
            is_auto,
            token_budget,
            byte_budget,
            ..
        } = &self.spec.batching;
        if *is_auto {
            write!(f, " batch_size=auto")?;
        }
        if let Some(tokens) = token_budget {
            write!(f, " token_budget={tokens}")?;
        }
        if let Some(bytes) = byte_budget {
            write!(f, " byte_budget={bytes}")?;
        }
        let first_rows = self.spec.batch_rows.map(|rows| rows as u64);
        write!(f, " {}", compute.kinds_text(first_rows))
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Self::try_new(Arc::clone(&self.spec), inputs.swap_remove(0))
    }

    // PLAN-1.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let wanted: HashSet<&str> = output_columns
            .iter()
            .map(|&index| self.schema.field(index).name().as_str())
            .collect();
        let needed = |name: &str| {
            self.spec.is_read(name) || (self.spec.passes(name) && wanted.contains(name))
        };
        let fields = self.input.schema().fields().iter().enumerate();
        let indices = fields
            .filter(|(_, field)| needed(field.name()))
            .map(|(index, _)| index);
        Some(vec![indices.collect()])
    }

    // PLAN-3.
    fn supports_limit_pushdown(&self) -> bool {
        self.spec.keeps_all_rows()
    }
}

impl PartialEq for MapNode {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.input == other.input
    }
}

impl Eq for MapNode {}

impl Hash for MapNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.name.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for MapNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}
