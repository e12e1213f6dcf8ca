"""Reading, and what can be said about a dataset without running it."""

import aktis
import aktis.data
import numpy
import pandas
import pyarrow
import pytest


def test_file_folder_pattern_and_list_read_the_same_rows(words):
    paths = [words, f"{words}/*.parquet", [words / "part-0.parquet", words / "part-1.parquet"]]
    for path in paths:
        ids = [row["id"] for row in aktis.data.read_parquet(path, columns=["id"]).take_all()]
        assert ids == list(range(2000))
    assert aktis.data.read_parquet(words / "part-1.parquet").count() == 1000


def test_footers_alone_answer_count_schema_and_files(words):
    ds = aktis.data.read_parquet(words)
    assert ds.count() == 2000
    assert ds.limit(30).count() == 30
    assert ds.schema().names == ["id", "word", "data"]
    assert ds.schema().types[0] == pyarrow.int64()
    assert len(ds.input_files()) == 2
    assert ds.stats() == "", "nothing has run"


def test_columns_and_filter_of_the_reader_save_reading(words):
    ds = aktis.data.read_parquet(words, columns=["id"], filter="id >= 1990")
    assert [row["id"] for row in ds.take_all()] == list(range(1990, 2000))
    assert ds.get_stats_summary()["bytes_read"] < 400_000


def test_items_of_all_kinds_keep_their_values():
    rows = [{"i": 1, "s": "x", "b": b"y", "n": None, "l": [1, 2]}, {"i": 2, "s": "z", "b": b"", "n": 1.5, "l": []}]
    assert aktis.data.from_items(rows).take_all() == rows
    assert aktis.data.from_items([1, 2, 3]).take_all() == [{"item": 1}, {"item": 2}, {"item": 3}]
    assert aktis.data.from_items([]).count() == 0
    assert aktis.data.range(0).take_all() == []


def test_tables_frames_and_arrays_become_datasets():
    table = pyarrow.table({"x": [1, 2, 3], "y": ["a", None, "c"]})
    assert aktis.data.from_arrow(table).to_arrow().equals(table)
    assert aktis.data.from_arrow([table, table]).count() == 6
    frame = pandas.DataFrame({"x": [1.5, 2.5]}, index=[7, 8])
    assert aktis.data.from_pandas(frame).to_pandas()["x"].tolist() == [1.5, 2.5]
    images = numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4)
    batch = aktis.data.from_numpy(images).take_batch()
    assert (batch["data"] == images).all() and batch["data"].dtype == numpy.uint8


def test_rows_come_in_order_from_many_blocks():
    ds = aktis.data.range(100_000).map_batches(lambda batch: {"id": batch["id"]}, batch_size=1000)
    assert [row["id"] for row in ds.take_all()] == list(range(100_000))


def test_take_show_and_iterating(capsys, words):
    ds = aktis.data.read_parquet(words).select_columns(["id"])
    assert [row["id"] for row in ds.take(3)] == [0, 1, 2]
    ds.show(2)
    assert capsys.readouterr().out == "{'id': 0}\n{'id': 1}\n"
    sizes = [len(batch["id"]) for batch in ds.iter_batches(batch_size=300)]
    assert sizes == [300] * 6 + [200]
    assert [len(b["id"]) for b in ds.iter_batches(batch_size=300, drop_last=True)] == [300] * 6
    assert next(iter(ds.iter_rows())) == {"id": 0}
    assert list(ds.take_batch(3, batch_format="pandas").columns) == ["id"]
    assert isinstance(ds.take_batch(3, batch_format="pyarrow"), pyarrow.Table)
    with pytest.raises(ValueError, match="more than 5"):
        ds.take_all(limit=5)


def test_iteration_may_stop_early(words):
    batches = aktis.data.read_parquet(words).iter_batches(batch_size=10)
    assert len(next(batches)["id"]) == 10
    batches.close()
    assert aktis.data.range(3).count() == 3


def test_materialised_rows_stay_and_functions_do_not_run_again(tmp_path):
    def note(batch):
        (tmp_path / f"{batch['id'][0]}-{numpy.random.randint(1 << 30)}").touch()
        return batch

    ds = aktis.data.range(10).map_batches(note).materialize()
    calls = len(list(tmp_path.iterdir()))
    assert ds.count() == 10
    assert [row["id"] for row in ds.take_all()] == list(range(10))
    assert [row["id"] for row in ds.map(lambda row: {"id": row["id"] + 1}).take(2)] == [1, 2]
    assert len(list(tmp_path.iterdir())) == calls


def test_items_outlive_their_session_and_materialised_rows_do_not():
    items = aktis.data.from_items([1, 2, 3])
    made = items.map(lambda row: row).materialize()
    assert items.count() == made.count() == 3 and len(made.take_all()) == 3
    aktis.shutdown()
    aktis.init(num_cpus=2, num_gpus=1, log_to_driver=False)
    assert items.map(lambda row: row).take_all() == [{"item": 1}, {"item": 2}, {"item": 3}]
    with pytest.raises(aktis.exceptions.ObjectLostError, match="make it again"):
        made.take_all()


def test_blocks_and_objects_of_the_store_are_sources():
    table = pyarrow.table({"x": [1, 2]})
    frame = table.to_pandas()
    tables = aktis.data.from_arrow_refs([aktis.put(table), aktis.put(table)])
    assert [row["x"] for row in tables.take_all()] == [1, 2, 1, 2]
    assert aktis.data.from_pandas_refs(aktis.put(frame)).take_all() == [{"x": 1}, {"x": 2}]
    assert [row["x"] for row in aktis.data.from_blocks([table, frame]).take_all()] == [1, 2, 1, 2]
    arrays = aktis.data.from_numpy_refs([aktis.put(numpy.arange(3)), aktis.put(numpy.arange(2))])
    assert [row["data"] for row in arrays.take_all()] == [0, 1, 2, 0, 1]
    with pytest.raises(TypeError, match=r"from_arrow_refs\(\) takes references of objects, not Table"):
        aktis.data.from_arrow_refs([table])  # pyright: ignore[reportArgumentType]


def test_tensors_are_filled_with_the_numbers_of_their_rows():
    tensors = aktis.data.range_tensor(1000, shape=(3, 4), override_num_blocks=4)
    assert tensors.count() == 1000
    rows = tensors.take_all()
    assert [row["data"].shape for row in rows] == [(3, 4)] * 1000
    assert [set(row["data"].ravel().tolist()) for row in rows] == [{number} for number in range(1000)]
    with pytest.raises(ValueError, match="sides of at least 1"):
        aktis.data.range_tensor(3, shape=(0,))


def test_files_are_read_in_an_order_by_chance_that_a_seed_repeats(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text(str(number))

    def order(shuffle):
        return [row["text"] for row in aktis.data.read_text(tmp_path, shuffle=shuffle).take_all()]

    seeded = order(aktis.data.FileShuffleConfig(seed=7))
    assert seeded == order(aktis.data.FileShuffleConfig(seed=7)) != order(None)
    assert sorted(seeded) == sorted(order("files")) == sorted(order(None))
    assert order("files") != order("files")
