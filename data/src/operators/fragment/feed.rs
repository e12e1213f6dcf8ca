//! The rows that relational work gets, in one form.

use std::collections::VecDeque;
use std::sync::Arc;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::block::{alone, data_bytes};
use crate::columns::{self, Misfit};
use crate::operators::stream::BatchStream;

/// A batch that holds on to so much more memory than it has bytes (or than a piece has) is copied.
const HELD_PER_BYTE: u64 = 2;

/// Rows of the step before.
pub(super) struct FragmentFeed {
    /// Whose rows these are, for messages.
    step: &'static str,
    rows: Box<dyn BatchStream>,
    /// Read already.
    held: VecDeque<RecordBatch>,
    /// Nothing more is to be read from `rows`.
    is_over: bool,
    /// Batches are not larger than this: operators count what they hold by batches, and can spill nothing smaller.
    piece_bytes: u64,
    /// The form of the rows that are handed out now.
    form: Option<Form>,
    /// What is known of rows that are too much to be read before work begins.
    known: Option<KnownRows>,
}

/// What is known of rows that nobody has read.
#[derive(Debug, Clone)]
pub(crate) struct KnownRows {
    /// The columns of all of them.
    pub(crate) schema: SchemaRef,
    /// How many there are, and their bytes, about.
    pub(crate) size: (u64, u64),
}

impl KnownRows {
    /// The same of these and others; `None`: they do not fit together.
    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        let (one, two) = (self.size, other.size);
        Some(Self {
            schema: columns::unify(&self.schema, &other.schema).ok()?,
            size: (one.0 + two.0, one.1 + two.1),
        })
    }
}

/// One form of rows.
struct Form {
    schema: SchemaRef,
    /// Rows with other columns than these end the run; `None`: rows of any columns are brought into the form.
    exactly: Option<SchemaRef>,
}

impl FragmentFeed {
    pub(super) fn new(step: &'static str, rows: Box<dyn BatchStream>, piece_bytes: u64) -> Self {
        Self {
            step,
            rows,
            held: VecDeque::new(),
            piece_bytes,
            is_over: false,
            form: None,
            known: None,
        }
    }

    /// The same of rows that are not to be read for this.
    pub(super) fn of_known(self, known: Option<KnownRows>) -> Self {
        Self { known, ..self }
    }

    /// The columns of the rows up to where they change; `None`: there are no more rows.
    pub(super) fn next_run(&mut self) -> Result<Option<SchemaRef>, TaskFailure> {
        if self.held.is_empty() {
            self.read()?;
        }
        let Some(first) = self.held.front() else {
            return Ok(None);
        };
        let exactly = first.schema();
        let schema = nullable(&exactly);
        self.form = Some(Form {
            schema: Arc::clone(&schema),
            exactly: Some(exactly),
        });
        Ok(Some(schema))
    }

    /// The columns of all rows. Only for rows that lie in blocks: they are all read, unless enough is known of them.
    pub(super) fn whole(&mut self) -> Result<Option<SchemaRef>, TaskFailure> {
        let all = match &self.known {
            Some(known) => Some(Arc::clone(&known.schema)),
            None => self.read_all()?,
        };
        let Some(all) = all else { return Ok(None) };
        let schema = nullable(&all);
        self.form = Some(Form {
            schema: Arc::clone(&schema),
            exactly: None,
        });
        Ok(Some(schema))
    }

    fn read_all(&mut self) -> Result<Option<SchemaRef>, TaskFailure> {
        while !self.is_over {
            self.read()?;
        }
        let mut all: Option<SchemaRef> = None;
        for batch in &self.held {
            let own = batch.schema();
            all = Some(match all {
                Some(all) => columns::unify(&all, &own).map_err(|error| self.misfit(&error))?,
                None => own,
            });
        }
        Ok(all)
    }

    /// Rows are brought into this form from now on: that of all of them, with some types changed.
    pub(super) fn bring_into(&mut self, schema: &SchemaRef) {
        self.form = Some(Form {
            schema: Arc::clone(schema),
            exactly: None,
        });
    }

    /// What was read and not handed out.
    pub(super) fn batches(&self) -> impl Iterator<Item = &RecordBatch> + Clone {
        self.held.iter()
    }

    /// Whether all rows were read.
    pub(super) fn has_all(&self) -> bool {
        self.is_over
    }

    /// All that was read and not handed out, in the form that was asked for last, uncut.
    pub(super) fn take_all(&mut self) -> Result<Vec<RecordBatch>, TaskFailure> {
        let held = std::mem::take(&mut self.held);
        let Some(form) = &self.form else {
            return Ok(held.into());
        };
        let held = held.iter();
        held.map(|batch| columns::conform(batch, &form.schema).map_err(|error| self.misfit(&error)))
            .collect()
    }

    /// Rows that were read and not handed out, and their bytes; those of rows of which it is known, before any is handed out.
    pub(super) fn held(&self) -> (u64, u64) {
        if let Some(known) = &self.known {
            return known.size;
        }
        let held = self.held.iter();
        held.fold((0, 0), |(rows, bytes), batch| {
            (rows + batch.num_rows() as u64, bytes + data_bytes(batch))
        })
    }

    /// The next rows of the form that was asked for last.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        if self.held.is_empty() && !self.is_over {
            self.read()?;
        }
        let Some(form) = &self.form else {
            return Ok(None);
        };
        let Some(batch) = self.held.pop_front() else {
            return Ok(None);
        };
        if form
            .exactly
            .as_ref()
            .is_some_and(|exactly| *exactly != batch.schema())
        {
            self.held.push_front(batch);
            return Ok(None);
        }
        self.check_known(&batch.schema())?;
        let (piece, rest) = cut(batch, self.piece_bytes)?;
        if let Some(rest) = rest {
            self.held.push_front(rest);
        }
        columns::conform(&piece, &form.schema)
            .map(Some)
            .map_err(|error| self.misfit(&error))
    }

    fn read(&mut self) -> Result<(), TaskFailure> {
        match self.rows.next()? {
            Some(batch) => self.held.push_back(batch),
            None => self.is_over = true,
        }
        Ok(())
    }

    /// Fails for columns that nobody knew of: nothing would be left of them.
    fn check_known(&self, own: &SchemaRef) -> Result<(), TaskFailure> {
        let Some(KnownRows { schema, .. }) = &self.known else {
            return Ok(());
        };
        let all = columns::unify(schema, own).map_err(|error| self.misfit(&error))?;
        if Arc::ptr_eq(&all, schema) || nullable(&all) == nullable(schema) {
            return Ok(());
        }
        let text = format!("{}: some rows have columns that nobody has told", self.step);
        Err(TaskFailure::new(ErrorCode::Internal, text))
    }

    fn misfit(&self, misfit: &Misfit) -> TaskFailure {
        let between = misfit.between("in some rows", "in others");
        TaskFailure::new(ErrorCode::Application, format!("{}: {between}", self.step))
    }
}

/// The first rows of a batch, about `most` bytes of them, and the others. Rows of a block, and of a batch that is cut, are
/// copied: operators count the memory that a batch holds on to, which is that of the whole block.
pub(crate) fn cut(
    batch: RecordBatch,
    most: u64,
) -> Result<(RecordBatch, Option<RecordBatch>), TaskFailure> {
    let (rows, bytes) = (batch.num_rows(), data_bytes(&batch));
    if rows == 0 {
        return Ok((RecordBatch::new_empty(batch.schema()), None));
    }
    let pieces = usize::try_from(bytes.div_ceil(most.max(1))).unwrap_or(rows);
    let length = rows.div_ceil(pieces.max(1));
    let holds_more = batch.get_array_memory_size() as u64 > HELD_PER_BYTE * bytes.max(most);
    if length >= rows && !holds_more {
        return Ok((batch, None));
    }
    let piece = alone(&batch.slice(0, length))
        .map_err(|error| TaskFailure::new(ErrorCode::Internal, format!("cut a batch: {error}")))?;
    let rest = (length < rows).then(|| batch.slice(length, rows - length));
    Ok((piece, rest))
}

/// Parts of a dataset differ in whether there are nulls; operators must not.
pub(crate) fn nullable(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        if field.is_nullable() {
            return Arc::clone(field);
        }
        Arc::new(Field::clone(field).with_nullable(true))
    };
    Arc::new(Schema::new(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
    ))
}
