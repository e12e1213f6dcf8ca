"""Expectations: rows are judged once as they pass by, and what does not hold is told with rows and where they lie."""

import logging
import os
import pickle
import signal
import time

import aktis.data
import numpy
import pyarrow.compute
import pytest
from aktis.data import ActorPoolStrategy, ExpectationError
from aktis.data.expressions import col, udf
from aktis.exceptions import InvalidArgumentError, TaskError

from .unfinished_jobs import GATE, finish, kill_when, start, told_rows

BAD = [7, 300, 1999]


def found(ds, name=None):
    """What the last run has found of an expectation."""
    operators = [operator for stage in ds.get_stats_summary()["stages"] for operator in stage["operators"]]
    all_found = [operator["expectation"] for operator in operators if "expectation" in operator]
    return next(one for one in all_found if name in (None, one["name"]))


def counts(ds, name=None):
    told = found(ds, name)
    return told["rows"], told["violations"], told["verdict"]


def test_rows_that_violate_it_are_named_with_their_positions(words):
    good = ~col("id").is_in(BAD)
    ds = aktis.data.read_parquet(str(words)).expect(good, name="good ids").select_columns(["word"])
    with pytest.raises(ExpectationError) as raised:
        ds.take_all()
    error = raised.value
    assert error.name == "good ids" and error.max_violations == 0 and 1 <= error.violations <= 3
    example = error.examples[0]
    assert example["row"]["id"] in BAD and "data" not in example["row"]
    part, row = divmod(example["row"]["id"], 1000)
    place = example["position"]
    assert os.path.basename(place["file"]) == f"part-{part}.parquet"
    assert (place["row_group"], place["row"]) == divmod(row, 250)
    assert f"row group {place['row_group']}, row {place['row']}" in str(error)
    assert pickle.loads(pickle.dumps(error)).examples == error.examples
    assert not isinstance(error, TaskError)


def test_limits_are_numbers_and_shares_and_all_rows_go_on(words):
    ds = aktis.data.read_parquet(str(words)).expect(~col("id").is_in(BAD), max_violations=3)
    ds = ds.expect("id < 1900", max_violations=0.05)
    assert ds.count() == 2000
    assert counts(ds, "id < 1900") == (2000, 100, "held")
    assert "3 of 2000 rows violate it, max_violations=3: held" in ds.stats()
    tighter = ds.expect(pyarrow.compute.field("id") < 1900, max_violations=0.049)
    with pytest.raises(ExpectationError, match=r"more than max_violations=0.049 allows"):
        tighter.count()


def test_null_violates_unless_it_is_allowed():
    rows = aktis.data.from_items([{"x": 1}, {"x": None}, {"x": 3}])
    ds = rows.expect(col("x") > 0, max_violations=1)
    assert ds.filter(expr=col("x") > 0).count() == 2
    ds.take_all()
    assert counts(ds) == (3, 1, "held")
    allowed = rows.expect((col("x") > 0) | col("x").is_null())
    allowed.take_all()
    assert counts(allowed) == (3, 0, "held")


def test_filter_behind_it_changes_nothing_and_one_before_does():
    ds = aktis.data.range(1000)
    with pytest.raises(ExpectationError):
        ds.expect(col("id") < 500).filter(expr=col("id") < 500).count()
    judged = ds.filter(expr=col("id") < 500).expect(col("id") < 500)
    assert judged.count() == 500
    assert counts(judged) == (500, 0, "held")


def test_warning_is_logged_once_at_the_end_with_all_that_was_counted(caplog):
    ds = aktis.data.range(1000).expect(col("id") < 900, on_violation="warn", name="small")
    with caplog.at_level(logging.WARNING, logger="aktis.data"):
        assert len(ds.take_all()) == 1000
    assert counts(ds) == (1000, 100, "broken")
    (said,) = [record.getMessage() for record in caplog.records if "expect(" in record.getMessage()]
    assert said.startswith(
        "expect(small): 100 of 1000 rows violate it, more than max_violations=0 allows. For example:"
    )


def test_it_fails_before_the_rows_have_all_come():
    def slow(batch):
        time.sleep(0.02)
        return {"id": batch["id"]}

    ds = aktis.data.range(100_000, override_num_blocks=4).map_batches(slow, batch_size=10).expect(col("id") != 25)
    with pytest.raises(ExpectationError) as raised:
        ds.take_all()
    assert raised.value.rows < 50_000, "it took the rest of two minutes"


class Slow:
    """Gives as many rows as it gets, those of the first ones twice where that is said."""

    def __init__(self, twice=0):
        self.twice = twice

    def __call__(self, batch):
        time.sleep(0.02)
        more = batch["id"][batch["id"] < self.twice]
        return {"id": numpy.concatenate([batch["id"], more])}


def slow_rows(rows, **options):
    """Takes two minutes for 100 000 rows."""
    read = aktis.data.range(rows, override_num_blocks=rows // 200)
    return read.map_batches(Slow, batch_size=20, concurrency=2, num_cpus=0.5, **options)


@pytest.mark.parametrize(
    "behind",
    [
        lambda: slow_rows(100_000).expect("id % 10 <> 3", max_violations=0.01),
        lambda: slow_rows(100_000, on_error="skip").filter(expr="id >= 0").expect("id % 10 <> 3", max_violations=0.01),
        # What comes of a limit is no more than that, whatever the function before it does.
        lambda: slow_rows(100_000, fn_constructor_kwargs={"twice": 100_000}).limit(20_000).expect("id % 10 <> 3", max_violations=0.01),
    ],
    ids=["function", "filter", "limit"],
)  # fmt: skip
def test_share_behind_a_function_fails_before_the_rows_have_all_come(behind):
    said = r"of the \d+ that came so far violate it, more than max_violations=0.01"
    with pytest.raises(ExpectationError, match=said) as raised:
        behind().take_all()
    assert raised.value.rows < 40_000, "it took the rest of two minutes"
    assert raised.value.examples


def test_share_behind_a_function_that_makes_rows_is_known_at_the_end():
    # Only of the first ones, all of which violate it.
    rows = slow_rows(1000, fn_constructor_kwargs={"twice": 100}).expect("id >= 100", max_violations=0.19)
    assert rows.count() == 1100
    assert counts(rows) == (1100, 200, "held")
    with pytest.raises(ExpectationError, match="200 rows of the 1100 that came violate it"):
        slow_rows(1000, fn_constructor_kwargs={"twice": 100}).expect("id >= 100", max_violations=0.18).count()


def test_only_what_is_certain_is_said_where_the_other_rows_are_not_wanted():
    rows = aktis.data.range(100_000, override_num_blocks=40)
    few = rows.expect("id >= 100", max_violations=0.01).filter(expr="id >= 0").limit(5)
    assert [row["id"] for row in few.take_all()] == [0, 1, 2, 3, 4]
    assert found(few)["verdict"] == "undecided"
    early = rows.expect("id < 90000").filter(expr="id >= 0").limit(5)
    early.take_all()
    assert found(early)["verdict"] == "undecided"
    # All rows that a limit behind it takes are all that come.
    judged = rows.expect("id < 90000").limit(5)
    judged.take_all()
    assert counts(judged) == (5, 0, "held")


def test_side_of_a_join_that_nobody_reads_is_undecided():
    ds = aktis.data.range(0).join(
        aktis.data.range(10).expect("id < 5"), join_type="inner", on=("id",), num_partitions=2
    )
    assert ds.count() == 0
    told = found(ds)
    assert told["verdict"] == ("undecided" if told["rows"] < 10 else "broken")


@pytest.mark.parametrize("limit", [0, 0.2])
def test_error_of_groups_and_unions_has_rows(limit):
    x = aktis.data.range(1000)
    ds = aktis.data.sql("select id % 10 as k, count(*) as c from x group by 1", x=x)
    both = aktis.data.sql("select id from y union select id from y", y=x.expect("id < 500", max_violations=limit))
    for broken in (ds.expect("c < 5", max_violations=limit).sort("k"), both):
        for _ in range(5):
            with pytest.raises(ExpectationError) as raised:
                broken.take_all()
            assert raised.value.violations > 0
            assert raised.value.examples


def test_share_is_what_the_user_has_written():
    rows = aktis.data.range(100)
    assert rows.expect("id >= 29", max_violations=0.29).count() == 100
    assert rows.expect("id >= 29", max_violations=numpy.float32(0.29)).count() == 100  # pyright: ignore[reportArgumentType]
    assert rows.expect("id >= 29", max_violations=numpy.int64(29)).count() == 100  # pyright: ignore[reportArgumentType]
    with pytest.raises(ExpectationError):
        rows.expect("id >= 30", max_violations=0.29).count()


def test_functions_and_columns_that_a_run_shows_are_judged():
    @udf(return_dtype=bool)
    def even(ids):
        return pyarrow.array([number % 2 == 0 for number in ids.to_pylist()])

    ds = aktis.data.range(10).map_batches(lambda batch: {"id": batch["id"] * 2}).expect(even(col("id")))
    assert ds.schema().names == ["id"]
    assert len(ds.take_all()) == 10
    with pytest.raises(ExpectationError) as raised:
        aktis.data.range(10).expect(even(col("id"))).take_all()
    assert [list(example["row"]) for example in raised.value.examples] == [["id"]] * len(raised.value.examples)
    # Nothing is expected of rows of which only the columns are asked for.
    unknown = aktis.data.range(10).map_batches(lambda batch: {"id": batch["id"]}).expect(col("id") > 5)
    assert unknown.schema().names == ["id"]
    with pytest.raises(InvalidArgumentError, match="the columns are .a."):
        aktis.data.range(3).map_batches(lambda batch: {"a": batch["id"]}).expect(col("b") > 5).take_all()


def test_output_of_a_job_that_is_broken_is_gone(tmp_path):
    ds = aktis.data.range(1000, override_num_blocks=10).expect(col("id") < 990, max_violations=0.001)
    with pytest.raises(ExpectationError):
        ds.write_parquet(str(tmp_path / "out"))
    assert [name for name in os.listdir(tmp_path / "out") if name.endswith(".parquet")] == []


def test_rows_are_counted_once_when_workers_are_killed(tmp_path):
    marker = tmp_path / "deaths"
    marker.mkdir()

    class Dies:
        def __call__(self, batch):
            time.sleep(0.005)
            deaths = len(os.listdir(marker))
            if deaths < 3 and batch["id"][0] % 500 == 400:
                (marker / f"{os.getpid()}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

    ds = aktis.data.range(2000, override_num_blocks=4).expect(col("id") % 10 != 0, max_violations=200, name="before")
    ds = ds.map_batches(Dies, batch_size=100, compute=ActorPoolStrategy(size=2))
    ds = ds.expect(col("id") % 100 != 0, max_violations=0.01, name="behind")
    assert ds.count() == 2000
    assert len(os.listdir(marker)) >= 1
    assert counts(ds, "before") == (2000, 200, "held")
    assert counts(ds, "behind") == (2000, 20, "held")


JOB = """
import os, sys, time
import aktis.data
from aktis.data.expressions import col

noted = sys.argv[1]

def work(batch):
    pass_gate(batch)
    time.sleep(0.03)
    open(noted, "a").write("x")
    return {"id": batch["id"]}

aktis.init(num_cpus=2)
ds = aktis.data.range(2000, override_num_blocks=40).expect(col("id") % 10 != 0, max_violations=float(sys.argv[3]))
if sys.argv[4] == "2":
    ds = ds.map_batches(lambda batch: batch, batch_size=25).map_batches(work, batch_size=10, num_cpus=0.5)
else:
    ds = ds.map_batches(work, batch_size=10)
ds.write_parquet(sys.argv[2], mode="append")
found = [operator["expectation"] for operator in ds.get_stats_summary()["stages"][0]["operators"] if "expectation" in operator]
print("\\njudged:", found[0]["rows"], found[0]["violations"], found[0]["verdict"], file=sys.stderr)
"""


@pytest.mark.parametrize("stages", [1, 2])
def test_job_that_is_taken_up_counts_what_was_judged_before(stages, tmp_path):
    script, noted = tmp_path / "job.py", tmp_path / "noted"
    script.write_text(GATE + JOB)
    noted.touch()
    out = tmp_path / "out"
    kill_when(start(script, noted, out, "0.2", stages, below=1500), lambda: told_rows(out, 50) >= 1000)
    done = noted.stat().st_size
    # Another limit is no other job.
    assert "judged: 2000 200 held" in finish(start(script, noted, out, "0.15", stages, below=2000))
    assert noted.stat().st_size - done <= 100, "what was done is done again"


@pytest.mark.parametrize(
    ("wrong", "kind", "says"),
    [
        (lambda ds: ds.expect(col("y") > 1), ValueError, "there is no column 'y'"),
        (lambda ds: ds.expect(col("id") + 1), ValueError, "not true or false"),
        (lambda ds: ds.expect("id >"), ValueError, "expect"),
        (lambda ds: ds.expect(lambda row: True), TypeError, "expect"),
        (lambda ds: ds.expect(col("id") > 1, max_violations=1.0), ValueError, "a float below 1"),
        (lambda ds: ds.expect(col("id") > 1, max_violations=numpy.float32(1.5)), ValueError, "a float below 1"),
        (lambda ds: ds.expect(col("id") > 1, max_violations=True), TypeError, "max_violations"),
        (lambda ds: ds.expect(col("id") > 1, max_violations=-1), ValueError, "max_violations"),
        (lambda ds: ds.expect(col("id") > 1, max_violations="1%"), TypeError, "max_violations"),
        (lambda ds: ds.expect(col("id") > 1, on_violation="skip"), ValueError, "'raise' or 'warn'"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_written(wrong, kind, says):
    with pytest.raises(kind, match=says):
        wrong(aktis.data.range(3))
