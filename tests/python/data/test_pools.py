"""Budgets, statistics, plans."""

import atexit

import aktis.data
import numpy
import pytest
from aktis.data import ActorPoolStrategy, DataContext
from waiting import until


@pytest.fixture
def context():
    context = DataContext.get_current()
    yield context
    DataContext._current = None


class Pass:
    def __call__(self, batch):
        return batch


def test_blocks_stay_within_the_budget(context):
    context.execution_options.resource_limits.object_store_memory = 4_000_000
    ds = (
        aktis.data.range(400)
        .map_batches(lambda batch: {"x": numpy.zeros((len(batch["id"]), 25_000), "u4") + batch["id"][:, None]}, batch_size=5)
        .map_batches(Pass, compute=ActorPoolStrategy(size=1), batch_size=5)
        .map_batches(lambda batch: {"id": batch["x"][:, 0].astype("i8")})
    )  # fmt: skip
    assert [row["id"] for row in ds.take_all()] == list(range(400))
    summary = ds.get_stats_summary()
    assert summary["budget_bytes"] == 4_000_000
    largest = max(stage["block_bytes"] / max(stage["blocks"], 1) for stage in summary["stages"])
    assert summary["most_block_bytes"] <= 4_000_000 + 4 * 2 * max(largest, 1_000_000)


def test_statistics_tell_rows_times_and_bytes_per_operator(words, tmp_path):
    ds = aktis.data.read_parquet(words).map_batches(lambda batch: {"id": batch["id"]})
    ds.write_parquet(tmp_path)
    summary = ds.get_stats_summary()
    (stage,) = summary["stages"]
    names = [operator["name"] for operator in stage["operators"]]
    assert names == ["Read", "MapBatches(<lambda>)", "Write"]
    assert [operator["rows_out"] for operator in stage["operators"]] == [2000] * 3
    assert all(operator["wall_s"] > 0 for operator in stage["operators"])
    assert stage["blocks"] == 0, "reading, mapping and writing are one stage"
    assert sum(rows for _, rows, _ in summary["files"]) == 2000
    text = ds.stats()
    assert "MapBatches(<lambda>): 2000 rows in, 2000 rows out" in text


def test_explain_shows_push_down_and_stages(words):
    ds = aktis.data.read_parquet(words).filter(expr="id > 5").select_columns(["word"])
    text = ds.explain()
    assert "projection=[word]" in text and "full_filters=[source.id > Int64(5)]" in text
    assert "0: Read" in text


def test_repr_names_the_columns(words):
    assert "word: string" in repr(aktis.data.read_parquet(words))
    ds = aktis.data.range(1).map_batches(lambda batch: batch)
    assert "unknown" in repr(ds) and ds.schema(fetch_if_missing=False) is None
    ds.count()
    assert repr(ds) == "Dataset(id: int64)" and ds.schema(fetch_if_missing=False).names == ["id"]


def test_stats_say_what_sorts_may_hold():
    rows = aktis.data.range(100)
    for ds, has_any in ((rows.sort("id", descending=True), True), (rows.map_batches(lambda batch: batch), False)):
        assert len(ds.take_all()) == 100
        assert (ds.get_stats_summary()["relational_bytes"] > 0) == has_any
        assert ("Sorts, joins and groups may hold" in ds.stats()) == has_any


class Closes:
    """Notes what it does at the end of its worker."""

    def __init__(self, noted):
        self.noted = noted
        atexit.register(self.note, "functions")

    def __call__(self, row):
        return row

    def note(self, what):
        with self.noted.open("a") as file:
            file.write(f"{what}\n")

    def __del__(self):
        self.note("object")


def test_object_of_a_class_is_deleted_at_the_end_of_its_worker(tmp_path):
    noted = tmp_path / "noted"
    ds = aktis.data.range(10).map(Closes, fn_constructor_args=(noted,), concurrency=1)
    assert len(ds.take_all()) == 10
    until(lambda: noted.exists() and "object" in noted.read_text(), "the end of the worker")
    assert noted.read_text() == "functions\nobject\n"
