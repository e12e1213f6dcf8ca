"""So many blocks: runs of all rows in their order, whatever came before and whatever dies."""

import contextlib
import itertools
import os
import signal
import tempfile

import aktis
import aktis.data
import pytest

ROWS = 2000


@pytest.fixture(params=["from a source", "from memory", "behind a function"])
def ds(request):
    """The rows in several parts; behind a function nobody knows how many there are."""
    ds = aktis.data.range(ROWS, override_num_blocks=7)
    if request.param == "from memory":
        return ds.materialize()
    if request.param == "from a source":
        return ds
    return ds.map_batches(lambda batch: batch, batch_format="pyarrow", batch_size=100)


@pytest.mark.parametrize("count", [1, 3, 7, 64])
def test_parts_are_runs_of_all_rows_in_their_order(ds, count):
    parts = ds.repartition(count).materialize()
    blocks = [table["id"].to_pylist() for table in aktis.get(parts.to_arrow_refs())]
    bounds = [ROWS * part // count for part in range(count + 1)]
    assert blocks == [list(range(*run)) for run in itertools.pairwise(bounds)]


@pytest.mark.parametrize("preserve_order", [None, True, False])
def test_parts_keep_the_order_of_a_sort(ds, preserve_order):
    options = aktis.data.DataContext.get_current().execution_options
    options.preserve_order = preserve_order
    try:
        down = ds.sort("id", descending=True).map_batches(lambda batch: {"id": batch["id"]}, batch_size=70)
        parts = down.repartition(6).filter(expr="id % 3 = 0").repartition(4)
        expected = [value for value in reversed(range(ROWS)) if value % 3 == 0]
        assert [row["id"] for row in parts.take_all()] == expected
        assert [row["id"] for row in parts.take(5)] == expected[:5]
        assert [row["id"] for row in parts.limit(700).repartition(3).take_all()] == expected[:700]
        sizes = [len(table) for table in aktis.get(parts.materialize().to_arrow_refs())]
        assert sizes == [166, 167, 167, 167]
    finally:
        options.preserve_order = None


def test_parts_of_several_datasets_come_one_dataset_after_the_other(ds, tmp_path):
    ds.sort("id").write_parquet(tmp_path / "files", max_rows_per_file=300)
    files = aktis.data.read_parquet(tmp_path / "files").select_columns("id")
    made = aktis.data.range(50, override_num_blocks=9).map(lambda row: {"id": -row["id"]})
    whole = files.union(made, aktis.data.from_items([{"id": 7}, {"id": 8}]), made)
    rows = [*range(ROWS), *range(0, -50, -1), 7, 8, *range(0, -50, -1)]
    parts = whole.repartition(11).materialize()
    assert [row["id"] for row in parts.take_all()] == rows
    assert parts.num_blocks() == 11
    assert [row["id"] for row in whole.repartition(11).zip(parts).take_all()] == rows
    pieces = whole.repartition(5).split(5)
    assert [row["id"] for piece in pieces for row in piece.take_all()] == rows
    blocks = whole.repartition(5).repartition(target_num_rows_per_block=64).iter_batches(batch_size=None)
    assert [value for block in blocks for value in block["id"].tolist()] == rows


def test_more_parts_than_rows_are_a_row_each():
    parts = aktis.data.range(5).repartition(9).materialize()
    assert [len(table) for table in aktis.get(parts.to_arrow_refs())] == [1] * 5
    assert aktis.data.range(5).filter(expr="id > 9").repartition(3).take_all() == []


def test_parts_are_made_again_when_a_worker_is_killed():
    killed = aktis.data.range(ROWS, override_num_blocks=20)

    class Once:
        def __init__(self, marker):
            self.marker = marker

        def __call__(self, batch):
            if batch["id"][0] == 1000:
                with contextlib.suppress(FileExistsError), open(self.marker, "x"):
                    os.kill(os.getpid(), signal.SIGKILL)
            return {"id": batch["id"]}

    with tempfile.TemporaryDirectory() as folder:
        before = killed.map_batches(Once(f"{folder}/before"), batch_size=100).repartition(4)
        after = before.map_batches(Once(f"{folder}/after"), batch_size=500)
        assert [row["id"] for row in after.take_all()] == list(range(ROWS))
        assert len(os.listdir(folder)) == 2
