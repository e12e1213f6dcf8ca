//! Reading by Python: a reader gets positions as a batch of rows, and gives the rows that lie there.
//!
//! Formats that Python's libraries read well are read by them: they cost this module no code, and their arguments mean what
//! they mean there (ADR 105).

use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion_common::DataFusionError;
use prost::Message;

use crate::block;
use crate::columns;
use crate::graph::Function;
use crate::operators::function::{self, SharedFunction};
use crate::operators::stream::BatchStream;

/// A reader of the bindings.
#[derive(Debug, Clone)]
pub struct PythonReader {
    /// What the worker's `UdfHost` makes it ready of.
    pub definition: Bytes,
    /// The columns of all of its rows; `None`: only reading will show.
    pub schema: Option<SchemaRef>,
}

impl PythonReader {
    /// Its columns, as far as they are known.
    pub(super) fn known_schema(&self) -> SchemaRef {
        let schema = self.schema.as_ref().map(Arc::clone);
        schema.unwrap_or_else(|| Arc::new(Schema::empty()))
    }

    /// What workers must know, if rows have the columns of `schema`; `None`: only reading will show.
    pub(super) fn spec(&self, schema: Option<&SchemaRef>) -> Result<ReaderSpec, DataFusionError> {
        let schema = schema.map(|schema| block::encode_schema(schema));
        Ok(ReaderSpec {
            definition: self.definition.clone(),
            schema: schema.transpose()?.unwrap_or_default(),
        })
    }
}

/// As [`PythonReader`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReaderSpec {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) definition: Bytes,
    /// Empty: only reading will show.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) schema: Bytes,
}

/// A reader in a worker, made ready for its first input.
pub(super) struct LoadedReader {
    spec: ReaderSpec,
    function: Option<SharedFunction>,
}

impl LoadedReader {
    /// Not ready yet.
    pub(super) fn new(spec: ReaderSpec) -> Self {
        let function = None;
        Self { spec, function }
    }

    /// The rows at `positions`.
    pub(super) fn rows(
        &mut self,
        positions: RecordBatch,
    ) -> Result<Box<dyn BatchStream>, TaskFailure> {
        let function = match &self.function {
            Some(function) => Arc::clone(function),
            None => {
                let definition = Function::Python(self.spec.definition.clone());
                let loaded = function::load(&definition, None)?;
                Arc::clone(self.function.insert(loaded))
            }
        };
        let schema = Some(&self.spec.schema).filter(|schema| !schema.is_empty());
        let schema = schema.map(|schema| block::decode_schema(schema.clone()));
        let schema = schema.transpose().map_err(|error| {
            TaskFailure::new(ErrorCode::Internal, format!("read columns: {error}"))
        })?;
        function.lock().begin(positions)?;
        Ok(Box::new(Rows {
            function,
            schema,
            is_over: false,
        }))
    }
}

/// The rows of one call.
struct Rows {
    function: SharedFunction,
    schema: Option<SchemaRef>,
    /// The call has ended: the function knows it no more.
    is_over: bool,
}

impl BatchStream for Rows {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.is_over {
            return Ok(None);
        }
        let Some(batch) = self.function.lock().next_output()? else {
            self.is_over = true;
            return Ok(None);
        };
        let Some(schema) = &self.schema else {
            return Ok(Some(batch));
        };
        let conformed = columns::conform(&batch, schema);
        conformed.map(Some).map_err(|misfit| {
            let between = misfit.between("in the dataset", "in what was read");
            TaskFailure::new(ErrorCode::InvalidArgument, between)
        })
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // The reader outlives the input.
        if !self.is_over {
            self.function.lock().forget_calls();
        }
    }
}
