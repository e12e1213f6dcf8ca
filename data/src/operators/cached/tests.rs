use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, FixedSizeListArray, Int64Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parking_lot::Mutex;

use super::*;

/// Doubles numbers, and remembers for which it was asked.
#[derive(Default)]
struct Doubling {
    asked: Arc<Mutex<Vec<i64>>>,
    under_way: VecDeque<Option<RecordBatch>>,
}

impl BatchFunction for Doubling {
    fn begin(&mut self, batch: RecordBatch) -> Result<(), TaskFailure> {
        self.asked.lock().extend(numbers(&batch));
        let doubled: Vec<i64> = numbers(&batch).iter().map(|number| number * 2).collect();
        self.under_way.push_back(Some(of(&doubled)));
        Ok(())
    }

    fn next_output(&mut self) -> Result<Option<RecordBatch>, TaskFailure> {
        let next = self.under_way.front_mut().and_then(Option::take);
        if next.is_none() {
            self.under_way.pop_front();
        }
        Ok(next)
    }

    fn forget_calls(&mut self) {
        self.under_way.clear();
    }
}

fn of(numbers: &[i64]) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let column = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_new(schema, vec![column]).expect("one column")
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column(0).as_any().downcast_ref::<Int64Array>();
    column.expect("numbers").values().to_vec()
}

/// Calls a new function with a cache; what it gave, and what it was asked for.
fn call(folder: &Path, given: &[&[i64]]) -> (Vec<i64>, Vec<i64>) {
    let asked: Arc<Mutex<Vec<i64>>> = Arc::default();
    let inner = Doubling {
        asked: Arc::clone(&asked),
        under_way: VecDeque::new(),
    };
    let cached = CachedFunction::new(Box::new(inner), "Doubling", &spec_of(folder));
    let mut cached = cached.expect("opens");
    let mut made = Vec::new();
    for batch in given {
        cached.begin(of(batch)).expect("begins");
        while let Some(output) = cached.next_output().expect("gives") {
            made.extend(numbers(&output));
        }
    }
    cached.forget_calls();
    let asked = asked.lock().clone();
    (made, asked)
}

fn spec_of(folder: &Path) -> CacheSpec {
    CacheSpec {
        folder: folder.display().to_string(),
        sign: "doubling".to_owned(),
    }
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("doubling")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|name| name == kind))
        .collect()
}

#[test]
fn function_is_called_with_rows_that_it_was_never_called_with() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(
        call(folder.path(), &[&[1, 2, 2, 3]]),
        (vec![2, 4, 4, 6], vec![1, 2, 3])
    );
    assert_eq!(call(folder.path(), &[&[3, 4, 1]]), (vec![6, 8, 2], vec![4]));
    // Those that wait to be written are found, too.
    assert_eq!(
        call(folder.path(), &[&[5, 1], &[5, 6]]),
        (vec![10, 2, 10, 12], vec![5, 6])
    );
}

#[test]
fn it_tells_how_many_rows_of_a_call_were_not_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inner = Box::new(Doubling::default());
    let cached = CachedFunction::new(inner, "Doubling", &spec_of(folder.path()));
    let mut cached = cached.expect("opens");
    for (given, asked) in [(&[1, 2, 2], 2), (&[2, 1, 3], 1), (&[3, 3, 1], 0)] {
        cached.begin(of(given)).expect("begins");
        while cached.next_output().expect("gives").is_some() {}
        assert_eq!(cached.rows_asked(), Some(asked), "{given:?}");
    }
}

/// CACHE-2 (torn-is-not-there).
#[test]
fn torn_file_is_never_believed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    call(folder.path(), &[&[1, 2, 3]]);
    for kind in ["keys", "arrow"] {
        let [path] = files(folder.path(), kind).try_into().expect("one part");
        let whole = fs::read(&path).expect("reads");
        for length in 0..whole.len() {
            let torn = tempfile::tempdir().expect("a temporary folder");
            fs::create_dir(torn.path().join("doubling")).expect("makes a folder");
            for other in files(folder.path(), "keys")
                .into_iter()
                .chain(files(folder.path(), "arrow"))
            {
                let name = other.file_name().expect("a name");
                fs::copy(&other, torn.path().join("doubling").join(name)).expect("copies");
            }
            let name = path.file_name().expect("a name");
            fs::write(torn.path().join("doubling").join(name), &whole[..length]).expect("tears");
            let expected = (vec![2, 4, 6], vec![1, 2, 3]);
            assert_eq!(
                call(torn.path(), &[&[1, 2, 3]]),
                expected,
                "{length} bytes of {kind}"
            );
        }
    }
    for kind in ["keys", "arrow"] {
        let [path] = files(folder.path(), kind).try_into().expect("one part");
        let whole = fs::read(&path).expect("reads");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).expect("changes");
            let knows = CachedFunction::new(
                Box::new(Doubling::default()),
                "Doubling",
                &spec_of(folder.path()),
            );
            let mut knows = knows.expect("opens");
            let key = keys::of_rows("f", &of(&[2])).expect("a key")[0];
            let found = knows.store.find(&key);
            assert!(found.is_none(), "byte {at} of {kind}");
        }
        fs::write(&path, whole).expect("mends");
    }
}

#[test]
fn many_small_parts_become_few_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 0..compact::MANY as i64 {
        call(folder.path(), &[&[number]]);
    }
    let all: Vec<i64> = (0..compact::MANY as i64).collect();
    assert_eq!(call(folder.path(), &[&all]).1, Vec::<i64>::new());
    assert_eq!(files(folder.path(), "keys").len(), 1);
}

#[test]
fn results_that_were_merged_meanwhile_are_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 0..compact::MANY as i64 - 1 {
        call(folder.path(), &[&[number]]);
    }
    let mut before = ResultStore::open(&spec_of(folder.path())).expect("opens");
    call(folder.path(), &[&[-1]]);
    compact::run(&folder.path().join("doubling"));
    assert_eq!(files(folder.path(), "keys").len(), 1);
    let key = keys::of_rows("f", &of(&[7])).expect("keys")[0];
    let (results, row) = before.find(&key).expect("it is there");
    assert_eq!(numbers(&results)[row], 14);
}

/// CACHE-1 (same-row-same-result).
#[test]
fn rows_are_told_apart_by_columns_types_and_values() {
    let one = keys::of_rows("f", &of(&[1, 2, 1])).expect("keys");
    assert!(one[0] == one[2] && one[0] != one[1]);
    let named = |name: &str, column: Arc<dyn arrow::array::Array>| {
        let schema = Schema::new(vec![Field::new(name, column.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column]).expect("one column");
        keys::of_rows("f", &batch).expect("keys")[0]
    };
    let number = || Arc::new(Int64Array::from(vec![1]));
    assert_eq!(named("n", number()), one[0]);
    assert_ne!(named("m", number()), one[0]);
    assert_ne!(
        named("n", Arc::new(arrow::array::Int32Array::from(vec![1]))),
        one[0]
    );
    assert_ne!(named("n", Arc::new(Int64Array::from(vec![None]))), one[0]);
}

/// CACHE-1: the numbers of a tensor are a list, and its shape is only in what its field says; so is that of one within a struct.
#[test]
fn tensors_with_the_same_numbers_in_other_shapes_are_told_apart() {
    let numbers =
        FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(0); 6])], 6);
    let key = |shape: &str, is_nested: bool| {
        let extension = HashMap::from([
            (
                "ARROW:extension:name".to_owned(),
                "arrow.fixed_shape_tensor".to_owned(),
            ),
            (
                "ARROW:extension:metadata".to_owned(),
                format!("{{\"shape\":{shape}}}"),
            ),
        ]);
        let field = Field::new("x", numbers.data_type().clone(), true).with_metadata(extension);
        let column: ArrayRef = Arc::new(numbers.clone());
        let (field, column) = if is_nested {
            let column = StructArray::from(vec![(Arc::new(field), column)]);
            let field = Field::new("s", column.data_type().clone(), true);
            (field, Arc::new(column) as ArrayRef)
        } else {
            (field, column)
        };
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]);
        keys::of_rows("f", &batch.expect("one column")).expect("keys")[0]
    };
    for is_nested in [false, true] {
        assert_ne!(key("[2,3]", is_nested), key("[3,2]", is_nested));
        // What maps say comes in any order.
        let again = (0..8).map(|_| key("[2,3]", is_nested));
        assert!(
            again
                .into_iter()
                .all(|again| again == key("[2,3]", is_nested))
        );
    }
}

/// What was asked for the results may have cost money: they go only if they are known to be worth nothing.
#[test]
fn results_that_cannot_be_read_now_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for number in 0..compact::MANY as i64 {
        let all = [number];
        call(folder.path(), &[&all]);
        if number == 0 {
            let [path] = files(folder.path(), "arrow").try_into().expect("one part");
            fs::rename(&path, path.with_extension("away")).expect("moves");
            // It is there, and reading it fails.
            fs::create_dir(&path).expect("makes a folder");
        }
    }
    let [path] = files(folder.path(), "away").try_into().expect("was moved");
    compact::run(&folder.path().join("doubling"));
    let results = path.with_extension("arrow");
    fs::remove_dir(&results).expect("is there still");
    fs::rename(&path, results).expect("moves back");
    let all: Vec<i64> = (0..compact::MANY as i64).collect();
    assert_eq!(call(folder.path(), &[&all]).1, Vec::<i64>::new());
}

/// STG-2 (same-cut-every-time).
#[test]
fn rows_are_laid_out_alike_whether_they_were_kept_or_not() {
    let lists = |rows: Vec<Vec<Option<i64>>>| {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows.into_iter().map(Some));
        let schema = Schema::new(vec![Field::new("n", lists.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(lists)]);
        Arc::new(batch.expect("one column"))
    };
    let alone = lists(vec![vec![Some(1)], vec![Some(2)]]);
    let among_others = lists(vec![vec![None], vec![Some(1)], vec![Some(2)]]);
    let rows = |batch: &Arc<RecordBatch>, first: usize| {
        let rows = [(Arc::clone(batch), first), (Arc::clone(batch), first + 1)];
        together(&rows, "f")
            .expect("goes together")
            .remove(0)
            .expect("a batch")
    };
    let (alone, kept) = (rows(&alone, 0), rows(&among_others, 1));
    assert_eq!(alone, kept);
    assert_eq!(
        crate::block::data_bytes(&alone),
        crate::block::data_bytes(&kept)
    );
}
