"""Sorts on several nodes: in any order of keys, and while workers of each of their stages are killed."""

import contextlib
import math
import os
import signal
import threading

import aktis.data
import numpy
import pyarrow
import pytest
from aktis import _aktis
from pyarrow import parquet

ROWS = 60_000
#: Of rows with some 8 MB.
BUDGET_BYTES = 4 << 20


@pytest.fixture
def two_nodes(cluster, monkeypatch):
    """This process is the driver of a head and a node; what datasets may hold is less than the rows."""
    cluster.start_head("--num-cpus", "1")
    cluster.start_node("--num-cpus", "1")
    aktis.init(address=cluster.address, log_to_driver=False)
    context = aktis.data.DataContext.get_current()
    monkeypatch.setattr(context.execution_options.resource_limits, "object_store_memory", BUDGET_BYTES)
    monkeypatch.setattr(context, "target_max_block_size", 512 << 10)
    yield cluster
    aktis.shutdown()


@pytest.fixture(scope="module")
def table():
    """Nine of ten rows have one text; some have none, and some floats are no number."""
    chance = numpy.random.default_rng(165)
    floats = chance.integers(-50, 50, ROWS) / 4
    floats[chance.random(ROWS) < 0.1] = numpy.nan
    words = numpy.array(["hot", "cold", "warm", "mild"])[numpy.minimum(chance.integers(0, 30, ROWS), 3) % 4]
    return pyarrow.table(
        {
            "id": numpy.arange(ROWS),
            "word": pyarrow.array([None if n % 17 == 0 else word for n, word in enumerate(words.tolist())]),
            "float": pyarrow.array(floats, from_pandas=False),
            "data": pyarrow.array(["x" * 100] * ROWS),
        }
    )


@pytest.fixture(scope="module")
def parts(table):
    return [table.slice(first, 5000) for first in range(0, ROWS, 5000)]


def sorted_ids(ds):
    return [int(n) for batch in ds.iter_batches(batch_size=None) for n in batch["id"]]


def order(value, is_descending):
    """Nulls come last, whatever the direction; what is no number is greater than any."""
    is_null = value is None
    is_nan = not is_null and math.isnan(value)
    number = (1, 0.0) if is_nan else (0, 0.0 if is_null else value)
    return is_null, (-number[0], -number[1]) if is_descending else number


@pytest.mark.usefixtures("two_nodes")
def test_rows_come_in_the_order_of_all_keys(parts, table, tmp_path):
    words, floats = table["word"].to_pylist(), table["float"].to_pylist()
    texts = {word: place for place, word in enumerate(sorted({word for word in words if word}))}
    for down, float_down in [(False, True), (True, False)]:
        ds = aktis.data.from_arrow(parts).sort(["word", "float", "id"], descending=[down, float_down, True])
        key = lambda n: (order(texts.get(words[n]), down), order(floats[n], float_down), -n)  # noqa: B023
        assert sorted_ids(ds) == sorted(range(ROWS), key=key)
        assert "Sort(bounds)" in ds.stats() and "Range" in ds.stats()
    # Names of files have the order, too.
    aktis.data.from_arrow(parts).sort("id", descending=True).write_parquet(str(tmp_path))
    files = sorted(path for path in tmp_path.iterdir() if path.suffix == ".parquet")
    ids = [n for path in files for n in parquet.read_table(path, columns=["id"])["id"].to_pylist()]
    assert ids == list(range(ROWS - 1, -1, -1))
    assert len(files) > 1
    other = parts[0].set_column(0, "id", pyarrow.array(["a"] * parts[0].num_rows))
    with pytest.raises(ValueError, match="'id' is Int64 .* and Utf8 "):
        aktis.data.from_arrow(parts[1:]).union(aktis.data.from_arrow(other)).sort("id").take_all()


def kill_one(place, killed, stop):
    """Kills the worker that is the `place`-th to be seen."""
    seen = [actor["pid"] for actor in stage_workers()]
    before = len(seen)
    while not killed and not stop.wait(0.002):
        seen += [actor["pid"] for actor in stage_workers() if actor["pid"] not in seen]
        if len(seen) - before > place:
            killed.append(seen[before + place])
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed[0], signal.SIGKILL)


def stage_workers():
    actors = [actor for actor in _aktis.list_actors() if actor["class_name"] == "aktis.data.StageWorker"]
    return [actor for actor in actors if actor["state"] == "ALIVE" and actor["pid"]]


@pytest.mark.usefixtures("two_nodes")
def test_killed_workers_cost_no_row_and_no_order(parts):
    """Of each stage, as they come to work one after the other."""
    ds = aktis.data.from_arrow(parts).sort("id", descending=True)
    for place in (1, 3, 4):
        stop, killed = threading.Event(), []
        thread = threading.Thread(target=kill_one, args=(place, killed, stop))
        thread.start()
        try:
            assert sorted_ids(ds) == list(range(ROWS - 1, -1, -1))
        finally:
            stop.set()
            thread.join()
        assert killed
