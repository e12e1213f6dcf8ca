//! Outputs of runs as columns: what runs over parts of a batch gave, in the order of its rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Int32Array, ListArray, MutableArrayData,
    PrimitiveArray, StructArray, make_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef};
use arrow::error::ArrowError;
use ort::value::DynValue;

use super::element::with_numbers;
use super::error::RunError;
use super::file::Axis;
use super::plan::GraphOutput;

/// What one run gave.
pub(super) struct Answer {
    /// The numbers of its rows, one after another.
    values: ArrayRef,
    /// The shape of each.
    shape: Vec<usize>,
}

impl Answer {
    /// The first `rows` of an output's value.
    pub(super) fn of(
        output: &GraphOutput,
        value: &DynValue,
        rows: usize,
        run_rows: usize,
    ) -> Result<Self, RunError> {
        let found: Vec<i64> = value
            .dtype()
            .tensor_shape()
            .map(|shape| shape.to_vec())
            .unwrap_or_default();
        let wrong = || RunError::Answer {
            output: output.name.clone(),
            rows: run_rows,
            found: found.clone(),
            expected: output.described(),
        };
        let shape: Option<Vec<usize>> = found
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect();
        let shape = shape
            .filter(|shape| shape.first() == Some(&run_rows))
            .ok_or_else(wrong)?;
        let shape = shape[1..].to_vec();
        let fits = |(size, axis): (&usize, &Axis)| match axis {
            Axis::Fixed(wanted) => size == wanted,
            Axis::Dynamic(_) => true,
        };
        if shape.len() != output.axes.len() || !shape.iter().zip(&output.axes).all(fits) {
            return Err(wrong());
        }
        let count = rows * shape.iter().product::<usize>();
        let values: ArrayRef = with_numbers!(output.element, Kind => {
            let (_, data) = value.try_extract_tensor::<<Kind as ArrowPrimitiveType>::Native>().map_err(|_| wrong())?;
            Arc::new(PrimitiveArray::<Kind>::from_iter_values(data[..count].iter().copied()))
        }, bool => {
            let (_, data) = value.try_extract_tensor::<bool>().map_err(|_| wrong())?;
            Arc::new(BooleanArray::from(data[..count].to_vec()))
        });
        Ok(Self { values, shape })
    }

    fn row_size(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The column of an output. `places`: for each row the answer that it is in, and which row of that it is; `None`: the row has none.
pub(super) fn column(
    output: &GraphOutput,
    answers: &[Answer],
    places: &[Option<(usize, usize)>],
) -> Result<ArrayRef, ArrowError> {
    let validity = places
        .iter()
        .any(Option::is_none)
        .then(|| NullBuffer::from_iter(places.iter().map(Option::is_some)));
    let fixed = output.row_shape();
    let missing: usize = fixed.as_ref().map_or(0, |shape| shape.iter().product());
    let values = gathered(output, answers, places, missing)?;
    if output.axes.is_empty() {
        return Ok(values);
    }
    let item = |kind: &DataType| -> FieldRef {
        Arc::clone(
            crate::tensor_type::item(kind).expect("the column of an output with axes is a list"),
        )
    };
    if fixed.is_some() {
        let kind = output.field.data_type();
        let size = i32::try_from(missing).map_err(|_| too_long())?;
        return Ok(Arc::new(FixedSizeListArray::try_new(
            item(kind),
            size,
            values,
            validity,
        )?));
    }
    let sizes = places
        .iter()
        .map(|place| place.map_or(0, |(answer, _)| answers[answer].row_size()));
    let total: usize = sizes.clone().sum();
    i32::try_from(total).map_err(|_| too_long())?;
    let offsets = OffsetBuffer::<i32>::from_lengths(sizes);
    let DataType::Struct(fields) = output.field.data_type() else {
        return Ok(Arc::new(ListArray::try_new(
            item(output.field.data_type()),
            offsets,
            values,
            validity,
        )?));
    };
    let data = ListArray::try_new(item(fields[0].data_type()), offsets, values, None)?;
    let rank = output.axes.len();
    let none = vec![0; rank];
    let axes = places
        .iter()
        .flat_map(|place| place.map_or(&none, |(answer, _)| &answers[answer].shape));
    let axes: ScalarBuffer<i32> = axes
        .map(|&size| i32::try_from(size).unwrap_or(i32::MAX))
        .collect();
    let axes = Arc::new(Int32Array::new(axes, None));
    let rank = i32::try_from(rank).map_err(|_| too_long())?;
    let shape = FixedSizeListArray::try_new(item(fields[1].data_type()), rank, axes, None)?;
    Ok(Arc::new(StructArray::try_new(
        fields.clone(),
        vec![Arc::new(data), Arc::new(shape)],
        validity,
    )?))
}

fn too_long() -> ArrowError {
    ArrowError::InvalidArgumentError(
        "a batch has more than 2^31 numbers; use a smaller batch_size".to_owned(),
    )
}

/// The numbers of all rows in their order, and so many nulls for each that has none.
fn gathered(
    output: &GraphOutput,
    answers: &[Answer],
    places: &[Option<(usize, usize)>],
    missing: usize,
) -> Result<ArrayRef, ArrowError> {
    let missing = if output.axes.is_empty() { 1 } else { missing };
    let are_in_order = places
        .iter()
        .enumerate()
        .all(|(row, place)| *place == Some((0, row)));
    if let ([answer], true) = (answers, are_in_order) {
        return Ok(Arc::clone(&answer.values));
    }
    let empty = arrow::array::new_empty_array(&output.element.arrow()).to_data();
    let parts: Vec<_> = answers
        .iter()
        .map(|answer| answer.values.to_data())
        .collect();
    let sources = if parts.is_empty() {
        vec![&empty]
    } else {
        parts.iter().collect()
    };
    let mut values = MutableArrayData::new(sources, true, places.len());
    for place in places {
        match place {
            Some((answer, row)) => {
                let size = answers[*answer].row_size();
                values.try_extend(*answer, row * size, (row + 1) * size)?;
            }
            None => values.try_extend_nulls(missing)?,
        }
    }
    Ok(make_array(values.freeze()))
}
