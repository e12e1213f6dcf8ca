//! A row for each element of a list.
//!
//! What becomes of a batch goes on in pieces, so that a row with many elements beside a long text takes no more memory than a piece has.
//! Pieces are cut by the rows of the batch alone, so that an input that is done again gives the same (STG-2).

use std::sync::Arc;
use std::time::Duration;

use aktis_common::error::ErrorCode;
use aktis_worker::TaskFailure;
use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array, new_empty_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::relational::{assemble, index_of};
use super::stream::{BatchStream, CallsBegun, is_pause};
use crate::block::data_bytes;
use crate::graph::Unnest;

/// Rows that go on at once.
const PIECE_ROWS: usize = 8192;
/// What they take at most, as far as it is known.
const PIECE_BYTES: u64 = 8 << 20;
/// A row with so many elements is measured by itself.
const MEASURED_ELEMENTS: usize = 8;

/// Applies the step to a stream.
pub(crate) fn open(step: Unnest, input: Box<dyn BatchStream>) -> Box<dyn BatchStream> {
    Box::new(UnnestStream {
        step,
        input,
        bound: None,
        under_way: None,
        is_told: false,
    })
}

struct UnnestStream {
    step: Unnest,
    input: Box<dyn BatchStream>,
    bound: Option<(SchemaRef, Arc<BoundUnnest>)>,
    under_way: Option<SpreadBatch>,
    /// Whether whoever comes next knows the columns.
    is_told: bool,
}

impl BatchStream for UnnestStream {
    fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        loop {
            if let Some(spread) = &mut self.under_way {
                let piece = spread.piece()?;
                if spread.is_over() {
                    self.under_way = None;
                }
                if piece.num_rows() > 0 || !self.is_told {
                    self.is_told = true;
                    return Ok(Some(piece));
                }
            }
            let Some(batch) = self.input.next()? else {
                return Ok(None);
            };
            if is_pause(&batch) {
                return Ok(Some(batch));
            }
            self.under_way = Some(SpreadBatch::over(self.bind(&batch.schema())?, batch)?);
        }
    }

    // Rows of a batch that are still to come have not been given.
    fn position(&self) -> Option<u64> {
        match self.under_way {
            Some(_) => self.input.position_before(),
            None => self.input.position(),
        }
    }

    // The last piece is one of the input's last batch, whether others of it follow or not.
    fn position_before(&self) -> Option<u64> {
        self.input.position_before()
    }

    fn begin_ahead(
        &mut self,
        before: Option<&CallsBegun>,
    ) -> Result<Option<CallsBegun>, TaskFailure> {
        self.input.begin_ahead(before)
    }

    fn is_ready_within(&mut self, patience: Duration) -> Result<bool, TaskFailure> {
        match self.under_way {
            Some(_) => Ok(true),
            None => self.input.is_ready_within(patience),
        }
    }
}

impl UnnestStream {
    fn bind(&mut self, schema: &SchemaRef) -> Result<Arc<BoundUnnest>, TaskFailure> {
        if let Some((known, bound)) = &self.bound
            && known == schema
        {
            return Ok(Arc::clone(bound));
        }
        let bound = Arc::new(BoundUnnest::of(&self.step, schema)?);
        self.bound = Some((Arc::clone(schema), Arc::clone(&bound)));
        Ok(bound)
    }
}

/// The step over batches with certain columns.
struct BoundUnnest {
    schema: SchemaRef,
    /// Of each column: whether it is a list that is taken apart.
    is_list: Vec<bool>,
    keeps_empty: bool,
}

impl BoundUnnest {
    fn of(step: &Unnest, schema: &Schema) -> Result<Self, TaskFailure> {
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut is_list = vec![false; fields.len()];
        for name in &step.columns {
            let index = index_of("explode()", name, schema)?;
            let element = element_of(&fields[index])
                .map_err(|why| TaskFailure::new(ErrorCode::InvalidArgument, why))?;
            // Where lists are of different lengths, the shorter ones are filled up with nulls.
            let element = Field::clone(element).with_name(name).with_nullable(true);
            fields[index] = Arc::new(element);
            is_list[index] = true;
        }
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            is_list,
            keeps_empty: step.keeps_empty,
        })
    }
}

/// What the lists of a column consist of; if it has none, why it cannot be taken apart.
pub(crate) fn element_of(field: &Field) -> Result<&FieldRef, String> {
    let name = field.name();
    if let Some(kind) = field.extension_type_name() {
        return Err(format!(
            "explode(): '{name}' has values of {kind}, which are no lists: make lists of them before, with map_batches()"
        ));
    }
    match field.data_type() {
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => Ok(element),
        other => Err(format!(
            "explode(): '{name}' is {other} and no list: with_column('{name}', ...) makes lists, such as col('{name}').str.split(',')"
        )),
    }
}

/// A batch, as far as it has been spread.
struct SpreadBatch {
    bound: Arc<BoundUnnest>,
    batch: RecordBatch,
    /// Of each row: how many there will be of it.
    lengths: Vec<usize>,
    /// What a row takes that is not measured by itself.
    mean_bytes: u64,
    /// What comes next: a row, and one of those that there will be of it.
    row: usize,
    element: usize,
}

impl SpreadBatch {
    fn over(bound: Arc<BoundUnnest>, batch: RecordBatch) -> Result<Self, TaskFailure> {
        let least = usize::from(bound.keeps_empty);
        let mut lengths = vec![least; batch.num_rows()];
        for (column, _) in batch
            .columns()
            .iter()
            .zip(&bound.is_list)
            .filter(|(_, is)| **is)
        {
            let list = Lists::of(column)?;
            for (row, length) in lengths.iter_mut().enumerate() {
                *length = list.range(row).1.max(*length);
            }
        }
        let mean_bytes = data_bytes(&batch) / (batch.num_rows() as u64).max(1);
        Ok(Self {
            bound,
            batch,
            lengths,
            mean_bytes,
            row: 0,
            element: 0,
        })
    }

    fn is_over(&self) -> bool {
        self.row == self.lengths.len()
    }

    /// The next rows.
    fn piece(&mut self) -> Result<RecordBatch, TaskFailure> {
        // Of each row that goes on: the row that it is of, and its place among those.
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while !self.is_over() && rows.len() < PIECE_ROWS && bytes < PIECE_BYTES {
            let rest = self.lengths[self.row] - self.element;
            let row_bytes = self.row_bytes().max(1);
            let most = usize::try_from((PIECE_BYTES - bytes).div_ceil(row_bytes));
            let now = rest
                .min(PIECE_ROWS - rows.len())
                .min(most.unwrap_or(usize::MAX));
            rows.extend(std::iter::repeat_n(self.row as u64, now));
            places.extend(self.element..self.element + now);
            bytes += row_bytes.saturating_mul(now as u64);
            self.element += now;
            if self.element == self.lengths[self.row] {
                (self.row, self.element) = (self.row + 1, 0);
            }
        }
        let rows = UInt64Array::from(rows);
        let columns = self.batch.columns().iter().zip(&self.bound.is_list);
        let columns = columns.map(|(column, is_list)| match is_list {
            true => Lists::of(column)?.elements(&rows, &places),
            false => taken(column, &rows),
        });
        let columns: Result<Vec<ArrayRef>, TaskFailure> = columns.collect();
        assemble(Arc::clone(&self.bound.schema), columns?, rows.len())
    }

    /// What the row takes beside its lists, each time that it goes on.
    fn row_bytes(&self) -> u64 {
        if self.lengths[self.row] < MEASURED_ELEMENTS {
            return self.mean_bytes;
        }
        let beside = self.batch.columns().iter().zip(&self.bound.is_list);
        let beside = beside.filter(|(_, is_list)| !**is_list);
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = beside
            .map(|(column, _)| {
                let field = Field::new("", column.data_type().clone(), true);
                (field, column.slice(self.row, 1))
            })
            .unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row =
            RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
        row.map_or(self.mean_bytes, |row| data_bytes(&row))
    }
}

/// A column of lists.
struct Lists<'a> {
    column: &'a ArrayRef,
    values: &'a ArrayRef,
    offsets: Offsets<'a>,
}

enum Offsets<'a> {
    Short(&'a [i32]),
    Long(&'a [i64]),
    Fixed(usize),
}

impl<'a> Lists<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self, TaskFailure> {
        let (values, offsets) = match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                (lists.values(), Offsets::Short(lists.value_offsets()))
            }
            DataType::LargeList(_) => {
                let lists = column.as_list::<i64>();
                (lists.values(), Offsets::Long(lists.value_offsets()))
            }
            DataType::FixedSizeList(_, _) => {
                let lists = column.as_fixed_size_list();
                let length = usize::try_from(lists.value_length()).unwrap_or(0);
                (lists.values(), Offsets::Fixed(length))
            }
            other => {
                return Err(TaskFailure::new(
                    ErrorCode::Internal,
                    format!("{other} is no list"),
                ));
            }
        };
        Ok(Self {
            column,
            values,
            offsets,
        })
    }

    /// Where the elements of a row begin among all values, and how many there are. A null has none.
    fn range(&self, row: usize) -> (usize, usize) {
        if self.column.is_null(row) {
            return (0, 0);
        }
        let between = |first: i64, end: i64| {
            let place = |offset: i64| usize::try_from(offset).unwrap_or(0);
            (place(first), place(end - first))
        };
        match self.offsets {
            Offsets::Short(offsets) => between(offsets[row].into(), offsets[row + 1].into()),
            Offsets::Long(offsets) => between(offsets[row], offsets[row + 1]),
            Offsets::Fixed(length) => (row * length, length),
        }
    }

    /// The elements at these places of these rows; null where a row has fewer.
    fn elements(&self, rows: &UInt64Array, places: &[usize]) -> Result<ArrayRef, TaskFailure> {
        if rows.is_empty() {
            return Ok(new_empty_array(self.values.data_type()));
        }
        let chosen = rows.values().iter().zip(places).map(|(&row, &place)| {
            let (first, length) = self.range(usize::try_from(row).unwrap_or(0));
            (place < length).then_some((first + place) as u64)
        });
        taken(self.values, &chosen.collect())
    }
}

fn taken(column: &ArrayRef, rows: &UInt64Array) -> Result<ArrayRef, TaskFailure> {
    take(column, rows, None).map_err(|error| {
        TaskFailure::new(
            ErrorCode::InvalidArgument,
            format!("explode(): spread the rows: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::iter;

    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::operators::stream::Batches;

    /// Lists of numbers, and which row they are of.
    fn batch(lists: Vec<Option<Vec<Option<i64>>>>) -> RecordBatch {
        let rows = i64::try_from(lists.len()).expect("is small");
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
        RecordBatch::try_from_iter_with_nullable([
            (
                "row",
                Arc::new(Int64Array::from_iter_values(0..rows)) as ArrayRef,
                true,
            ),
            ("list", Arc::new(list) as ArrayRef, true),
        ])
        .expect("fits")
    }

    fn pieces(batch: RecordBatch, keeps_empty: bool) -> Vec<RecordBatch> {
        let step = Unnest {
            columns: vec!["list".to_owned()],
            keeps_empty,
        };
        let mut stream = open(step, Box::new(Batches(vec![batch].into_iter())));
        iter::from_fn(|| stream.next().expect("spreads")).collect()
    }

    fn pairs(pieces: &[RecordBatch]) -> Vec<(i64, Option<i64>)> {
        let of_piece = |piece: &RecordBatch| {
            let rows = piece.column(0).as_primitive::<Int64Type>().clone();
            let elements = piece.column(1).as_primitive::<Int64Type>().clone();
            let pairs = rows.iter().zip(elements.iter());
            pairs
                .map(|(row, element)| (row.expect("is there"), element))
                .collect::<Vec<_>>()
        };
        pieces.iter().flat_map(of_piece).collect()
    }

    #[test]
    fn row_comes_out_for_each_element_in_their_order() {
        let lists = vec![
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
            Some(vec![Some(2)]),
        ];
        let spread = pieces(batch(lists.clone()), false);
        assert_eq!(pairs(&spread), [(0, Some(1)), (0, None), (3, Some(2))]);
        let spread = pieces(batch(lists), true);
        let all = [(0, Some(1)), (0, None), (1, None), (2, None), (3, Some(2))];
        assert_eq!(pairs(&spread), all);
    }

    #[test]
    fn slices_and_lists_without_elements_are_spread() {
        let lists = vec![
            Some(vec![Some(1)]),
            Some(vec![Some(2), Some(3)]),
            Some(vec![]),
        ];
        assert_eq!(
            pairs(&pieces(batch(lists.clone()).slice(1, 2), false)),
            [(1, Some(2)), (1, Some(3))]
        );
        let told = pieces(batch(lists).slice(2, 1), false);
        assert_eq!(
            (told.len(), told[0].num_rows()),
            (1, 0),
            "the columns are told"
        );
        assert_eq!(told[0].schema().field(1).data_type(), &DataType::Int64);
    }

    #[test]
    fn long_rows_go_on_in_pieces() {
        let long: Vec<Option<i64>> = (0..20_000).map(Some).collect();
        let spread = pieces(batch(vec![Some(vec![Some(-1)]), Some(long)]), false);
        assert!(spread.iter().all(|piece| piece.num_rows() <= PIECE_ROWS));
        let elements: Vec<i64> = pairs(&spread)
            .into_iter()
            .filter_map(|(_, element)| element)
            .collect();
        assert_eq!(elements, (-1..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn long_text_beside_a_list_makes_pieces_small() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some((0..100).map(Some))]);
        let text = StringArray::from_iter_values(["x".repeat(1 << 20)]);
        let batch = RecordBatch::try_from_iter([
            ("text", Arc::new(text) as ArrayRef),
            ("list", Arc::new(list) as ArrayRef),
        ]);
        let spread = pieces(batch.expect("fits"), false);
        assert!(
            spread
                .iter()
                .all(|piece| data_bytes(piece) <= 2 * PIECE_BYTES)
        );
        assert_eq!(spread.iter().map(RecordBatch::num_rows).sum::<usize>(), 100);
    }

    #[test]
    fn what_is_no_list_is_told() {
        let step = Unnest {
            columns: vec!["row".to_owned()],
            keeps_empty: false,
        };
        let mut stream = open(step, Box::new(Batches(vec![batch(vec![None])].into_iter())));
        let failure = stream.next().expect_err("is no list");
        assert!(
            failure.message.contains("'row' is Int64 and no list"),
            "{failure:?}"
        );
    }

    /// Tells places as a function does: so many rows for each batch that was given.
    struct Places(Batches, u64);

    impl BatchStream for Places {
        fn next(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
            let next = self.0.next();
            if let Ok(Some(batch)) = &next {
                self.1 += batch.num_rows() as u64;
            }
            next
        }

        fn position(&self) -> Option<u64> {
            Some(self.1)
        }

        fn position_before(&self) -> Option<u64> {
            Some(self.1.saturating_sub(1))
        }
    }

    /// LED-2 (all-or-made-again): a place is told when all that becomes of its rows has been given.
    #[test]
    fn place_is_that_of_rows_all_of_which_have_gone_on() {
        let long: Vec<Option<i64>> = (0..20_000).map(Some).collect();
        let batches = vec![batch(vec![Some(long)]), batch(vec![Some(vec![Some(1)])])];
        let step = Unnest {
            columns: vec!["list".to_owned()],
            keeps_empty: false,
        };
        let input = Places(Batches(batches.into_iter()), 0);
        let mut stream = open(step, Box::new(input));
        let mut places = Vec::new();
        while stream.next().expect("spreads").is_some() {
            places.push(stream.position());
        }
        assert_eq!(places, [Some(0), Some(0), Some(1), Some(2)]);
    }
}
