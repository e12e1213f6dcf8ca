"""``aktis.testing.local()``: datasets, whose functions run in the thread of the test, and give what workers give."""

import asyncio
import io
import os
import sys
import threading
from typing import Any
from unittest import mock

import aktis
import aktis.data
import aktis.testing
import pytest
from aktis import exceptions
from aktis.data import ActorPoolStrategy, Datasink
from waiting import until

from .worlds import outcome

pytestmark = pytest.mark.usefixtures("no_session")


def numbers(rows=20):
    return aktis.data.range(rows, override_num_blocks=4)


def together():
    """Rows in one input: which batch fails first does not depend on who is faster."""
    return aktis.data.range(20, override_num_blocks=1)


#: What no checker lets pass.
five: Any = lambda batch: 5


class Broken:
    def __init__(self):
        raise OSError(2, "no such model")

    def __call__(self, batch):
        return batch


class AddN:
    def __init__(self, n):
        self.n = n

    def __call__(self, batch):
        return {"id": batch["id"] + self.n}


def odd_fails(row):
    if row["id"] % 7 == 3:
        raise KeyError(f"row {row['id']}")
    return row


async def later(batch):
    await asyncio.sleep(0)
    return {"id": batch["id"] * 2}


def twice(batch):
    yield batch
    yield batch


def written(how, read, tmp_path):
    how(str(tmp_path / "out"))
    return sorted(row["id"] for row in read(str(tmp_path / "out")).take_all())


#: What is done in both worlds: what comes of it must be the same. Each takes a folder.
SCENARIOS = {
    "map_batches": lambda _: numbers().map_batches(lambda batch: {"n": batch["id"] * 2}, batch_size=3).take_all(),
    "a class": lambda _: numbers().map_batches(AddN, fn_constructor_args=(5,), compute=ActorPoolStrategy(size=2)).take_all(),
    "map, filter, flat_map": lambda _: (
        numbers().map(lambda r: {"n": r["id"]}).filter(lambda r: r["n"] % 2).flat_map(lambda r: [r] * 2).take_all()
    ),
    "pandas": lambda _: numbers().map_batches(lambda frame: frame + 1, batch_format="pandas").take_all(),
    "a generator": lambda _: numbers().map_batches(twice, batch_size=5).take_all(),
    "batches that fit": lambda _: (
        numbers().map_batches(AddN(2), batch_size="auto").map_batches(
            AddN(1), token_budget=8, tokens=lambda batch: batch["id"] % 5, window_rows=10
        ).take_all()
    ),
    "calls made again": lambda _: numbers().map(lambda r: {"n": r["id"]}, retry_exceptions=[OSError]).take_all(),
    "async": lambda _: numbers().map_batches(later, batch_size=5).take_all(),
    "groups": lambda _: (
        numbers()
        .map(lambda row: {"k": row["id"] % 3, "n": row["id"]})
        .groupby("k")
        .map_groups(lambda group: {"k": group["k"][:1], "sum": [int(group["n"].sum())]})
        .sort("k")
        .take_all()
    ),
    "relational": lambda _: numbers().sort("id", descending=True).limit(5).sum("id"),
    "a join": lambda _: numbers().join(numbers(5), "inner", num_partitions=2, on=("id",)).sort("id").take_all(),
    "take, count, schema": lambda _: (
        numbers().take(3), numbers().filter(lambda row: row["id"] > 5).count(), str(numbers().schema())
    ),
    "batches": lambda _: [batch["id"].tolist() for batch in numbers().map_batches(AddN, fn_constructor_args=(1,)).iter_batches(batch_size=7)],
    "materialize": lambda _: (
        (kept := numbers().map(lambda row: row).materialize()).num_blocks(), kept.take_all(), kept.map(lambda row: {"n": row["id"]}).count()
    ),
    "frames": lambda _: [len(frame) for frame in aktis.get(numbers().repartition(2).to_pandas_refs())],
    "parquet": lambda folder: written(numbers().map(lambda row: row).write_parquet, aktis.data.read_parquet, folder),
    "json": lambda folder: written(numbers().map(lambda row: row).write_json, aktis.data.read_json, folder),
    "csv": lambda folder: written(numbers().write_csv, aktis.data.read_csv, folder),
    "an error": lambda _: together().map(odd_fails).take_all(),
    "a constructor's error": lambda _: together().map_batches(Broken).take_all(),
    "skipped rows": lambda _: numbers().map(odd_fails, on_error="skip").take_all(),
    "dead letters": lambda _: (
        (ds := numbers().map(odd_fails, on_error="dead_letter")).count(),
        sorted((dead["row"]["id"], dead["error"], dead["operator"]) for dead in ds.dead_letters().take_all()),
    ),
    "too many errors": lambda _: numbers().map(odd_fails, on_error="skip", max_errors=1).take_all(),
    "a wrong output": lambda _: together().map_batches(five).take_all(),
    "a column that is not there": lambda _: together().map(lambda row: {"n": row["nope"]}).take_all(),
    "an infeasible function": lambda _: numbers().map(lambda row: row, resources={"licence": 1}).take_all(),
    "a rate limit": lambda _: together().map(lambda row: row, rate_limit=5000).take_all(),
    "a rate limit of batches": lambda _: together().map_batches(later, rate_limit=100, batch_size=5).take_all(),
    "an expression": lambda _: numbers().with_column("n", aktis.data.expressions.col("id") * 2).sum("n"),
}  # fmt: skip
#: What says how it is with workers or here, or how far the run has come.
TOLD_OTHERWISE = {"an infeasible function", "too many errors"}


@pytest.fixture(scope="module")
def outcomes_with_workers(tmp_path_factory):
    aktis.shutdown()
    with aktis.init(num_cpus=2, log_to_driver=False):
        return {name: outcome(each, tmp_path_factory.mktemp("out")) for name, each in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_outcome_is_that_of_a_session_with_workers(name, outcomes_with_workers, tmp_path):
    aktis.shutdown()
    with aktis.testing.local(num_cpus=2):
        found = outcome(SCENARIOS[name], tmp_path)
    length = 2 if name in TOLD_OTHERWISE else None
    assert found[:length] == outcomes_with_workers[name][:length]


def test_functions_run_in_the_thread_that_takes_the_rows(local, capsys):
    seen = set()

    class Look:
        def __init__(self):
            self.made_in = threading.current_thread().name

        def __call__(self, row):
            seen.add((os.getpid(), self.made_in, threading.current_thread().name))
            print("row", row["id"])
            return row

    numbers(3).map(Look).take_all()
    assert seen == {(os.getpid(), "MainThread", "MainThread")}
    assert sorted(capsys.readouterr().out.splitlines()) == ["row 0", "row 1", "row 2"]


def test_a_debugger_stops_in_functions(local, monkeypatch):
    import pdb  # noqa: T100 - what is tested

    shown = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("p row\nc\n"), stdout=shown, nosigint=True, readrc=False)
    monkeypatch.setattr("sys.breakpointhook", lambda: debugger.set_trace(sys._getframe(1)))

    def stop(row):
        if row["id"] == 1:
            breakpoint()  # noqa: T100 - what is tested
        return row

    assert len(numbers(2).map(stop).take_all()) == 2
    assert "{'id': 1}" in shown.getvalue()


def test_mocks_and_what_is_patched_are_seen(local, monkeypatch):
    model = mock.Mock(side_effect=lambda texts: [text.upper() for text in texts])
    ds = aktis.data.from_items([{"t": "a"}, {"t": "b"}])
    out = ds.map_batches(lambda batch, model: {"t": model(list(batch["t"]))}, fn_kwargs={"model": model}, batch_size=2)
    assert [row["t"] for row in out.take_all()] == ["A", "B"]
    assert model.call_count >= 1
    monkeypatch.setattr(f"{__name__}.odd_fails", lambda row: {"id": -1})
    assert numbers(2).map(lambda row: odd_fails(row)).take_all() == [{"id": -1}] * 2


def test_what_could_not_be_sent_is_refused_as_with_workers(local):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot be sent to workers: cannot pickle '_thread.lock'"):
        numbers().map(lambda row: lock and row)


def test_a_function_may_run_a_dataset_and_call_actors(local):
    @aktis.remote
    class Total:
        def __init__(self):
            self.total = 0

        def add(self, n):
            self.total += n
            return self.total

    total = Total.remote()

    def inner(row):
        rows = aktis.data.range(row["id"]).map(lambda r: r).count()
        aktis.get(total.add.remote(rows))
        return {"n": rows}

    assert sorted(row["n"] for row in numbers(4).map(inner).take_all()) == [0, 1, 2, 3]
    assert aktis.get(total.add.remote(0)) == 6


def test_a_sink_of_ones_own_is_the_one_of_the_test(local):
    class Rows(Datasink):
        rows = 0

        def write(self, blocks, ctx):
            self.rows += sum(block.num_rows for block in blocks)

    sink = Rows()
    numbers().write_datasink(sink)
    assert sink.rows == 20


def test_who_stops_taking_rows_leaves_no_thread_of_the_engine(local):
    taken: Any = iter(numbers(10_000).map(lambda row: row).iter_rows())
    next(taken)
    taken.close()
    assert numbers(3).map(lambda row: row).count() == 3


def test_who_goes_on_reading_behind_the_end_is_told():
    with aktis.testing.local(num_cpus=2):
        rows = iter(numbers(10_000).map(lambda row: row).iter_batches(batch_size=10))
        next(rows)
    with pytest.raises(RuntimeError, match=r"aktis\.testing\.local\(\) that this dataset runs in is over"):
        for _ in rows:
            pass
    until(lambda: not [each for each in threading.enumerate() if each.name == "aktis-local-next"], "its thread ends")


def test_what_it_cannot_do_is_refused_by_name(local):
    with pytest.raises(exceptions.AktisError, match="timeout_s= ends the process of a call that takes too long"):
        numbers().map(lambda row: row, timeout_s=5).take_all()
    with pytest.raises(RuntimeError, match="a function of a dataset has ended its process"):
        numbers().map(lambda row: os._exit(1)).take_all()


def test_a_file_of_lines_in_the_place_of_another_as_long_is_read_as_it_is(local, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "111\n" * 6_000_000)
    ds = aktis.data.read_csv(path, override_num_blocks=4)
    assert ds.num_blocks() == 4 and ds.max("a") == 111
    path.write_text("a\n" + "xxx\n" * 6_000_000)
    assert ds.unique("a") == ["xxx"]


def test_a_dataset_made_outside_is_refused_and_one_made_within_goes_with_it():
    aktis.init(num_cpus=1, log_to_driver=False)
    outside = numbers().map(lambda row: row)
    with aktis.testing.local():
        with pytest.raises(RuntimeError, match=r"made outside of this aktis\.testing\.local"):
            outside.take_all()
        within = numbers().map(lambda row: row)
    with pytest.raises(RuntimeError, match=r"within an aktis\.testing\.local\(\) that is over"):
        within.take_all()
    assert len(outside.take_all()) == 20


def test_ctrl_c_in_a_function_ends_the_test(local):
    def interrupted(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        numbers().map(interrupted).take_all()
