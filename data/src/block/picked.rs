//! Rows that are picked from batches when they are written to where they will lie.
//!
//! A row that is copied into memory of its own before it is copied into the store costs twice, and most of it is not the copying: the kernel
//! clears that memory each time. So only what is short is picked at once. Of long values it is noted where they lie:
//!
//! ```text
//!  batches ── long values ──► Picked: where each lies ──────────────┐ copied once
//!     │       the rest                                              ▼
//!     └──────► interleave ──► batch with places to be filled ──► stream in the store
//! ```
//! The batch that goes to the encoder has memory in their place that nobody reads or writes, so that it never exists.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, FixedSizeBinaryArray, FixedSizeListArray,
    GenericBinaryArray, OffsetSizeTrait, RecordBatch, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use memmap2::MmapMut;

use super::without_others;
use crate::columns::lists::numbers_of;

/// Values as long as this, on average, are worth noting where they lie.
const LONG_BYTES: usize = 128;
/// Less than this is picked at once.
const MUCH_BYTES: usize = 256 << 10;

/// Where values lie that follow each other.
#[derive(Debug)]
pub(super) struct Picked {
    sources: Vec<Buffer>,
    /// Of each its source and where it begins there.
    begins: Vec<(u32, usize)>,
    /// Of each where it ends among them all.
    ends: Vec<usize>,
}

/// A column whose values are picked later.
#[derive(Debug)]
pub(super) struct PickedColumn {
    pub(super) picked: Picked,
    /// What stands for them.
    place: Buffer,
}

impl PickedColumn {
    /// Whether the buffer is what stands for the values.
    pub(super) fn stands_at(&self, buffer: &Buffer) -> bool {
        buffer.as_ptr() == self.place.as_ptr() && buffer.len() == self.place.len()
    }
}

/// Rows of batches, where some columns are picked later.
#[derive(Debug)]
pub(super) struct PickedBatch {
    pub(super) columns: Vec<PickedColumn>,
    /// With places for these. Texts are bytes in it, which are encoded alike: nobody looks whether they are texts.
    pub(super) batch: RecordBatch,
}

impl PickedBatch {
    /// These rows of the batches, which have the same columns: batch and row of each. `None`: all of it is picked at once.
    pub(super) fn of(
        batches: &[RecordBatch],
        rows: &[(usize, usize)],
    ) -> Result<Option<Self>, ArrowError> {
        let schema = batches[0].schema();
        let sources = |index: usize| -> Vec<&dyn Array> {
            let columns = batches.iter().map(|batch| batch.column(index).as_ref());
            columns.collect()
        };
        let late = (0..schema.fields().len()).map(|index| column(&sources(index), rows));
        let late: Vec<Option<(PickedColumn, ArrayRef)>> = late.collect::<Result<_, _>>()?;
        if late.iter().all(Option::is_none) {
            return Ok(None);
        }
        let (mut columns, mut fields, mut arrays) = (Vec::new(), Vec::new(), Vec::new());
        for (index, late) in late.into_iter().enumerate() {
            let array = match late {
                Some((column, array)) => {
                    columns.push(column);
                    array
                }
                None => without_others(&interleave(&sources(index), rows)?),
            };
            let field = schema.field(index).clone();
            fields.push(field.with_data_type(array.data_type().clone()));
            arrays.push(array);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        Ok(Some(Self { columns, batch }))
    }
}

/// A column that is picked later, and one with a place for it, if it is worth it.
fn column(
    sources: &[&dyn Array],
    rows: &[(usize, usize)],
) -> Result<Option<(PickedColumn, ArrayRef)>, ArrowError> {
    Ok(match sources[0].data_type() {
        DataType::FixedSizeList(..) => lists(sources, rows)?,
        DataType::FixedSizeBinary(_) => fixed_bytes(sources, rows)?,
        DataType::Utf8 | DataType::Binary => texts::<i32>(sources, rows)?,
        DataType::LargeUtf8 | DataType::LargeBinary => texts::<i64>(sources, rows)?,
        _ => None,
    })
}

/// Lists of numbers none of which is missing.
fn lists(
    sources: &[&dyn Array],
    rows: &[(usize, usize)],
) -> Result<Option<(PickedColumn, ArrayRef)>, ArrowError> {
    let DataType::FixedSizeList(item, size) = sources[0].data_type() else {
        return Ok(None);
    };
    let Some(width) = item.data_type().primitive_width() else {
        return Ok(None);
    };
    let size = usize::try_from(*size).unwrap_or(0);
    let values = |source: &&dyn Array| {
        let (items, bytes) = numbers_of(source.as_fixed_size_list());
        (items.null_count() == 0).then_some(bytes)
    };
    let Some(values) = sources.iter().map(values).collect() else {
        return Ok(None);
    };
    let Some(column) = PickedColumn::of_fixed(values, size * width, rows)? else {
        return Ok(None);
    };
    let items = ArrayData::builder(item.data_type().clone())
        .len(rows.len() * size)
        .add_buffer(column.place.clone())
        .build()?;
    let lists = FixedSizeListArray::try_new(
        Arc::clone(item),
        i32::try_from(size).unwrap_or(0),
        make_array(items),
        nulls(sources, rows),
    )?;
    Ok(Some((column, Arc::new(lists))))
}

fn fixed_bytes(
    sources: &[&dyn Array],
    rows: &[(usize, usize)],
) -> Result<Option<(PickedColumn, ArrayRef)>, ArrowError> {
    let width = sources[0].as_fixed_size_binary().value_length();
    let values = sources.iter();
    let values = values.map(|source| source.as_fixed_size_binary().values().clone());
    let row_bytes = usize::try_from(width).unwrap_or(0);
    let Some(column) = PickedColumn::of_fixed(values.collect(), row_bytes, rows)? else {
        return Ok(None);
    };
    let place = column.place.clone();
    let bytes = FixedSizeBinaryArray::try_new(width, place, nulls(sources, rows))?;
    Ok(Some((column, Arc::new(bytes))))
}

fn texts<O: OffsetSizeTrait>(
    sources: &[&dyn Array],
    rows: &[(usize, usize)],
) -> Result<Option<(PickedColumn, ArrayRef)>, ArrowError> {
    let mut offsets: Vec<&[O]> = Vec::with_capacity(sources.len());
    let mut values = Vec::with_capacity(sources.len());
    for source in sources {
        let (own, bytes) = match source.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => {
                let texts = source.as_string::<O>();
                (texts.value_offsets(), texts.values())
            }
            _ => {
                let bytes = source.as_binary::<O>();
                (bytes.value_offsets(), bytes.values())
            }
        };
        offsets.push(own);
        values.push(bytes.clone());
    }
    let (mut begins, mut ends) = (
        Vec::with_capacity(rows.len()),
        Vec::with_capacity(rows.len()),
    );
    let (mut end, mut picked_offsets) = (0, Vec::with_capacity(rows.len() + 1));
    picked_offsets.push(O::zero());
    for &(source, row) in rows {
        let (from, to) = (
            offsets[source][row].as_usize(),
            offsets[source][row + 1].as_usize(),
        );
        end += to - from;
        begins.push((source_number(source)?, from));
        ends.push(end);
        let Some(offset) = O::from_usize(end) else {
            return Err(ArrowError::OffsetOverflowError(end));
        };
        picked_offsets.push(offset);
    }
    if !is_worth_it(end, rows.len()) {
        return Ok(None);
    }
    let column = PickedColumn::new(values, begins, ends)?;
    let offsets = OffsetBuffer::new(picked_offsets.into());
    let place = column.place.clone();
    let bytes = GenericBinaryArray::<O>::try_new(offsets, place, nulls(sources, rows))?;
    Ok(Some((column, Arc::new(bytes))))
}

fn is_worth_it(bytes: usize, rows: usize) -> bool {
    bytes >= MUCH_BYTES && bytes / rows.max(1) >= LONG_BYTES
}

fn source_number(source: usize) -> Result<u32, ArrowError> {
    u32::try_from(source).map_err(|_| ArrowError::OffsetOverflowError(source))
}

impl PickedColumn {
    /// Values of `width` bytes each; `None`: it is not worth it.
    fn of_fixed(
        sources: Vec<Buffer>,
        width: usize,
        rows: &[(usize, usize)],
    ) -> Result<Option<Self>, ArrowError> {
        if !is_worth_it(rows.len() * width, rows.len()) {
            return Ok(None);
        }
        let begin = |&(source, row): &(usize, usize)| Ok((source_number(source)?, row * width));
        let begins = rows.iter().map(begin).collect::<Result<_, ArrowError>>()?;
        let ends = (1..=rows.len()).map(|number| number * width).collect();
        Self::new(sources, begins, ends).map(Some)
    }

    fn new(
        sources: Vec<Buffer>,
        begins: Vec<(u32, usize)>,
        ends: Vec<usize>,
    ) -> Result<Self, ArrowError> {
        let bytes = ends.last().copied().unwrap_or(0);
        let place = MmapMut::map_anon(bytes)
            .map_err(|error| ArrowError::IoError("map a place for rows".to_owned(), error))?;
        Ok(Self {
            picked: Picked {
                sources,
                begins,
                ends,
            },
            place: Buffer::from(Bytes::from_owner(place)),
        })
    }
}

impl Picked {
    pub(super) fn len_bytes(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Copies the bytes from `at` on.
    pub(super) fn copy_to(&self, at: usize, mut into: &mut [u8]) {
        let mut index = self.ends.partition_point(|end| *end <= at);
        let mut at = at;
        while !into.is_empty() {
            let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            let (source, first) = self.begins[index];
            let length = (self.ends[index] - at).min(into.len());
            let from = first + (at - begin);
            let (part, rest) = into.split_at_mut(length);
            part.copy_from_slice(&self.sources[source as usize][from..from + length]);
            (at, into, index) = (at + length, rest, index + 1);
        }
    }
}

/// Which of the rows are null, if any is.
fn nulls(sources: &[&dyn Array], rows: &[(usize, usize)]) -> Option<NullBuffer> {
    if sources.iter().all(|source| source.null_count() == 0) {
        return None;
    }
    let nulls = rows
        .iter()
        .map(|&(source, row)| sources[source].is_valid(row));
    let nulls: NullBuffer = nulls.collect();
    (nulls.null_count() > 0).then_some(nulls)
}
