//! Columns as the tensors of inputs: the values of rows, one after another, and the shape of each row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};

use super::error::RunError;
use super::file::Axis;
use super::plan::GraphInput;
use crate::tensor_type::{TensorType, item};

/// A column, as an input takes it.
pub(super) struct FedColumn {
    /// All numbers, in the input's type.
    pub(super) values: ArrayRef,
    /// Where each row's begin, and where the last one's end.
    offsets: Vec<usize>,
    shapes: Shapes,
    /// Which rows are there; `None`: all.
    pub(super) validity: Option<NullBuffer>,
}

enum Shapes {
    /// Of every row.
    Same(Vec<usize>),
    /// Row after row, so many numbers each.
    Each(usize, Vec<usize>),
}

/// A column before it is held against an input.
pub(crate) struct Found {
    /// All numbers.
    pub(crate) values: ArrayRef,
    offsets: Vec<usize>,
    shapes: Shapes,
}

impl Found {
    /// The shape of a row.
    pub(crate) fn shape(&self, row: usize) -> &[usize] {
        self.shapes.of(row)
    }

    /// Where the numbers of a row are.
    pub(crate) fn range(&self, row: usize) -> Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }
}

impl Shapes {
    fn of(&self, row: usize) -> &[usize] {
        match self {
            Self::Same(shape) => shape,
            Self::Each(rank, shapes) => &shapes[row * rank..(row + 1) * rank],
        }
    }
}

impl FedColumn {
    /// The column of `batch` that `input` takes.
    pub(super) fn of(input: &GraphInput, batch: &RecordBatch) -> Result<Self, RunError> {
        let schema = batch.schema_ref();
        let index = schema.index_of(&input.column).map_err(|_| {
            let names = schema.fields().iter().map(|field| field.name().clone());
            RunError::ColumnMissing {
                input: input.name.clone(),
                column: input.column.clone(),
                available: names.collect(),
                setting: format!("inputs={{\"{}\": ...}}", input.name),
            }
        })?;
        let (field, array) = (schema.field(index), batch.column(index));
        let found = read(field, array).map_err(|found| input.unfit(found, ""))?;
        let mut column = Self {
            values: found.values,
            offsets: found.offsets,
            shapes: found.shapes,
            validity: array.nulls().cloned(),
        };
        column.check_values(input)?;
        column.check_shapes(input)?;
        column.check_nulls(input)?;
        Ok(column)
    }

    /// The type of the values, which become those of the input if nothing is lost by that.
    fn check_values(&mut self, input: &GraphInput) -> Result<(), RunError> {
        let (kind, wanted) = (self.values.data_type().clone(), input.element.arrow());
        if kind == wanted {
            return Ok(());
        }
        if !input.element.holds(&kind) {
            let fix = "; cast the column first: what would be lost on the way is not for a model to decide";
            return Err(input.unfit(self.describe(), fix));
        }
        self.values = cast(&self.values, &wanted).map_err(|source| RunError::Assemble {
            source: Arc::new(source),
        })?;
        Ok(())
    }

    fn check_shapes(&mut self, input: &GraphInput) -> Result<(), RunError> {
        let Some(axes) = &input.axes else {
            return Ok(());
        };
        // A number per row is what `(rows, 1)` takes.
        let are_ones = !axes.is_empty() && axes.iter().all(|axis| *axis == Axis::Fixed(1));
        if are_ones && matches!(&self.shapes, Shapes::Same(shape) if shape.is_empty()) {
            self.shapes = Shapes::Same(vec![1; axes.len()]);
        }
        let fits = |shape: &[usize]| {
            shape.len() == axes.len()
                && shape.iter().zip(axes).all(|(&size, axis)| match axis {
                    Axis::Fixed(wanted) => size == *wanted,
                    Axis::Dynamic(_) => true,
                })
        };
        match &self.shapes {
            Shapes::Same(shape) if fits(shape) => Ok(()),
            Shapes::Same(_) => Err(input.unfit(self.describe(), "")),
            Shapes::Each(..) => {
                let wrong =
                    (0..self.len()).find(|&row| self.is_valid(row) && !fits(self.shape(row)));
                wrong.map_or(Ok(()), |row| {
                    let shape = shape_text(self.shape(row));
                    let found = format!(
                        "{} of shape {shape} in row {row} of the batch",
                        name_of(self.values.data_type())
                    );
                    Err(input.unfit(found, ""))
                })
            }
        }
    }

    /// Numbers that are not there have no place in a tensor.
    fn check_nulls(&self, input: &GraphInput) -> Result<(), RunError> {
        let Some(nulls) = self.values.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return Ok(());
        };
        let has_null = |row: usize| {
            let range = self.range(row..row + 1);
            nulls.slice(range.start, range.len()).null_count() > 0
        };
        let wrong = (0..self.len()).find(|&row| self.is_valid(row) && has_null(row));
        wrong.map_or(Ok(()), |row| {
            let found = format!("a null inside of row {row} of the batch");
            Err(input.unfit(found, "; fill it, or drop the row"))
        })
    }

    fn describe(&self) -> String {
        let kind = name_of(self.values.data_type());
        match &self.shapes {
            Shapes::Same(shape) if shape.is_empty() => format!("one {kind} per row"),
            Shapes::Same(shape) => format!("{kind} of shape {}", shape_text(shape)),
            Shapes::Each(1, _) => format!("lists of {kind}"),
            Shapes::Each(rank, _) => format!("tensors of {kind} with {rank} axes"),
        }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn is_valid(&self, row: usize) -> bool {
        self.validity
            .as_ref()
            .is_none_or(|validity| validity.is_valid(row))
    }

    /// The shape of a row.
    pub(super) fn shape(&self, row: usize) -> &[usize] {
        self.shapes.of(row)
    }

    /// Whether rows may have different shapes.
    pub(super) fn is_ragged(&self) -> bool {
        matches!(self.shapes, Shapes::Each(..))
    }

    /// Where the values of rows behind each other are.
    pub(super) fn range(&self, rows: Range<usize>) -> Range<usize> {
        self.offsets[rows.start]..self.offsets[rows.end]
    }
}

/// The numbers of a column and the shapes of its rows; in words what it has, if no tensors can be made of it.
pub(crate) fn read(field: &Field, array: &ArrayRef) -> Result<Found, String> {
    let Some(tensor) = TensorType::of(field) else {
        return read_plain(array);
    };
    if tensor.is_permuted {
        return Err(format!("{tensor} with permuted axes"));
    }
    let Some(shape) = &tensor.shape else {
        return read_ragged(array, &tensor).ok_or_else(|| tensor.to_string());
    };
    let shape: Option<Vec<usize>> = shape
        .iter()
        .map(|&size| usize::try_from(size).ok())
        .collect();
    let (values, offsets) = lists(array).ok_or_else(|| tensor.to_string())?;
    let shape = shape.ok_or_else(|| tensor.to_string())?;
    let size: usize = shape.iter().product();
    let are_whole =
        (0..array.len()).all(|row| array.is_null(row) || offsets[row + 1] - offsets[row] == size);
    if !are_whole || !is_numbers(values.data_type()) {
        return Err(format!("{tensor} in a damaged layout"));
    }
    Ok(Found {
        values,
        offsets,
        shapes: Shapes::Same(shape),
    })
}

/// A struct of the values of each row and its shape.
fn read_ragged(array: &ArrayRef, tensor: &TensorType) -> Option<Found> {
    let parts = array.as_struct_opt()?;
    let (values, offsets) = lists(parts.column_by_name("data")?)?;
    let (sizes, starts) = lists(parts.column_by_name("shape")?)?;
    let sizes = sizes.as_primitive_opt::<Int32Type>()?;
    let mut shapes = Vec::with_capacity(array.len() * tensor.rank);
    for row in 0..array.len() {
        let own = &sizes.values()[starts[row]..starts[row + 1]];
        if array.is_null(row) {
            shapes.extend(std::iter::repeat_n(0, tensor.rank));
            continue;
        }
        let own: Vec<usize> = own
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect::<Option<_>>()?;
        let is_whole = own.len() == tensor.rank
            && own.iter().product::<usize>() == offsets[row + 1] - offsets[row];
        shapes.extend(is_whole.then_some(own)?);
    }
    is_numbers(values.data_type()).then_some(Found {
        values,
        offsets,
        shapes: Shapes::Each(tensor.rank, shapes),
    })
}

/// Numbers, lists of numbers, and lists of a fixed size in each other.
fn read_plain(array: &ArrayRef) -> Result<Found, String> {
    let kind = array.data_type();
    if is_numbers(kind) {
        return Ok(Found {
            values: Arc::clone(array),
            offsets: (0..=array.len()).collect(),
            shapes: Shapes::Same(Vec::new()),
        });
    }
    let (mut values, mut offsets) =
        lists(array).ok_or_else(|| format!("the type {}", name_of(kind)))?;
    let DataType::FixedSizeList(_, size) = kind else {
        if !is_numbers(values.data_type()) {
            return Err(format!(
                "lists of {}, where numbers are needed (arrays of numpy are tensors)",
                name_of(values.data_type())
            ));
        }
        let lengths = offsets.windows(2).map(|ends| ends[1] - ends[0]).collect();
        return Ok(Found {
            values,
            offsets,
            shapes: Shapes::Each(1, lengths),
        });
    };
    let mut shape = vec![usize::try_from(*size).unwrap_or(0)];
    while let DataType::FixedSizeList(_, size) = values.data_type() {
        let inner = values.as_fixed_size_list();
        let are_missing = |row: usize| {
            let nulls = inner
                .nulls()
                .map(|nulls| nulls.slice(offsets[row], offsets[row + 1] - offsets[row]));
            array.is_valid(row) && nulls.is_some_and(|nulls| nulls.null_count() > 0)
        };
        if let Some(row) = (0..array.len()).find(|&row| are_missing(row)) {
            return Err(format!("a null inside of row {row} of the batch"));
        }
        let size = usize::try_from(*size).unwrap_or(0);
        shape.push(size);
        offsets.iter_mut().for_each(|offset| *offset *= size);
        let inner = Arc::clone(inner.values());
        values = inner;
    }
    if !is_numbers(values.data_type()) {
        return Err(format!("lists of {}", name_of(values.data_type())));
    }
    Ok(Found {
        values,
        offsets,
        shapes: Shapes::Same(shape),
    })
}

/// The items of all lists, and where those of each row begin.
fn lists(array: &ArrayRef) -> Option<(ArrayRef, Vec<usize>)> {
    let rows = array.len();
    Some(match array.data_type() {
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let offsets = lists.value_offsets().iter();
            let offsets = offsets.map(|&at| usize::try_from(at).unwrap_or(0));
            items_of(lists.values(), offsets.collect())
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            let offsets = lists.value_offsets().iter();
            let offsets = offsets.map(|&at| usize::try_from(at).unwrap_or(0));
            items_of(lists.values(), offsets.collect())
        }
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).ok()?;
            let values = Arc::clone(array.as_fixed_size_list().values());
            (values, (0..=rows).map(|row| row * size).collect())
        }
        _ => return None,
    })
}

/// Only the items that the offsets speak of: a batch may be a slice of a block.
fn items_of(items: &ArrayRef, mut offsets: Vec<usize>) -> (ArrayRef, Vec<usize>) {
    let first = offsets.first().copied().unwrap_or(0);
    let last = offsets.last().copied().unwrap_or(first);
    offsets.iter_mut().for_each(|at| *at -= first);
    (items.slice(first, last - first), offsets)
}

fn is_numbers(kind: &DataType) -> bool {
    kind.is_integer() || kind.is_floating() || *kind == DataType::Boolean
}

/// A type for people, in the words of numpy.
pub(crate) fn name_of(kind: &DataType) -> String {
    match item(kind) {
        Some(item) => format!("list of {}", name_of(item.data_type())),
        None => match kind {
            DataType::Boolean => "bool".to_owned(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
            other => other.to_string().to_lowercase(),
        },
    }
}

pub(crate) fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", sizes.join(", "))
}
