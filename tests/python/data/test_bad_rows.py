"""Rows that a function fails for: left out or put aside, and every other row is there."""

# Options are given by dicts, and functions are wrong on purpose.
# pyright: reportArgumentType=false

import collections

import aktis.data
import pytest
from aktis.data import ActorPoolStrategy, DataContext, RowError
from aktis.exceptions import TaskError

from .poisoned import BAD, ROWS, Raises, check, dead_ids, ids_of, read, write_numbers


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write_numbers(tmp_path_factory.mktemp("numbers"))


class Wrong:
    """Returns no batch where there is a bad row."""

    def __call__(self, batch):
        return None if any(i in BAD for i in batch["id"]) else batch


class Fewer:
    """Loses the bad rows, where one row must come out for one row in."""

    def __call__(self, batch):
        kept = [i not in BAD for i in batch["id"]]
        return {"kept": batch["id"][kept]}


@pytest.mark.parametrize("batch_size", [1, 7, 1024, None])
@pytest.mark.parametrize("function", [Raises, Wrong])
@pytest.mark.parametrize("compute", ["tasks", "actors"])
def test_good_and_dead_rows_are_the_input(numbers, function, batch_size, compute):
    called = function() if compute == "tasks" else function
    pool = {} if compute == "tasks" else {"compute": ActorPoolStrategy(size=2)}
    ds = read(numbers).map_batches(called, batch_size=batch_size, on_error="dead_letter", **pool)
    good = ids_of(ds.take_all())
    letters = ds.dead_letters()
    check(good, dead_ids(letters))
    assert ds.stats().count(f"{len(BAD)} rows failed and were left out") == 1
    assert {row["error"] for row in letters.take_all()} == {"ValueError"}


def test_rows_out_of_number_are_wrong_output(numbers):
    ds = read(numbers).map_batches(
        Fewer(), batch_size=100, input_columns=["id"], passthrough_columns=["id"], on_error="dead_letter"
    )
    check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()))


def test_bisection_costs_two_calls_a_level_and_later_batches_are_large_again():
    sizes = []

    def look(batch):
        if 5 in batch["id"]:
            raise ValueError("five")
        return {"id": batch["id"], "size": [len(batch["id"])] * len(batch["id"])}

    ds = aktis.data.range(4096, override_num_blocks=1).map_batches(look, batch_size=1024, on_error="skip")
    rows = ds.take_all()
    assert len(rows) == 4095
    sizes = collections.Counter(row["size"] for row in rows)
    assert sizes == {1024: 3072, 512: 512, 256: 256, 128: 128, 64: 64, 32: 32, 16: 16, 8: 8, 4: 4, 2: 2, 1: 1}


@pytest.mark.parametrize("operator", ["map", "flat_map", "filter", "add_column", "async", "threads"])
def test_every_step_with_a_function_leaves_rows_out(numbers, operator):
    def fails(row):
        if row["id"] in BAD:
            raise ValueError("bad")

    def mapped(row):
        fails(row)
        return row

    def flat(row):
        fails(row)
        yield row

    def kept(row):
        fails(row)
        return True

    def column(batch):
        if any(i in BAD for i in batch["id"]):
            raise ValueError("bad")
        return batch["id"]

    async def later(row):
        fails(row)
        return row

    ds, how = read(numbers), {"on_error": "dead_letter"}
    ds = {
        "map": lambda: ds.map(mapped, **how),
        "flat_map": lambda: ds.flat_map(flat, **how),
        "filter": lambda: ds.filter(kept, **how),
        "add_column": lambda: ds.add_column("same", column, **how),
        "async": lambda: ds.map(later, max_concurrency=8, **how),
        "threads": lambda: ds.map_batches(
            Raises,
            batch_size=100,
            compute=ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=3, enable_true_multi_threading=True),
            **how,
        ),
    }[operator]()
    check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()))


def test_functions_over_rows_are_called_once_for_each_row(tmp_path):
    def count(row):
        with open(tmp_path / str(row["id"]), "a") as file:
            file.write("x")
        if row["id"] == 3:
            raise ValueError("three")
        return None if row["id"] == 4 else row

    ds = aktis.data.range(10).map(count, on_error="dead_letter")
    assert sorted(row["id"] for row in ds.take_all()) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert {(row["row"]["id"], row["attempts"]) for row in ds.dead_letters().take_all()} == {(3, 1), (4, 1)}
    assert {path.read_text() for path in tmp_path.iterdir()} == {"x"}


class TestRowError:
    def test_named_rows_are_not_searched_for(self):
        def names(batch):
            bad = [at for at, i in enumerate(batch["id"]) if i % 100 == 0]
            if bad:
                raise RowError("a hundred", rows=bad)
            return {"id": batch["id"], "size": [len(batch["id"])] * len(batch["id"])}

        ds = aktis.data.range(1000, override_num_blocks=1).map_batches(names, batch_size=500, on_error="dead_letter")
        rows = ds.take_all()
        assert {row["size"] for row in rows} == {495}
        letters = ds.dead_letters().take_all()
        assert sorted(row["row"]["id"] for row in letters) == list(range(0, 1000, 100))
        assert {(row["error"], row["message"]) for row in letters} == {("RowError", "a hundred")}

    def test_generator_names_rows_beside_its_outputs(self):
        def names(batch):
            bad = {at: f"bad {i}" for at, i in enumerate(batch["id"]) if i % 10 == 3}
            yield RowError(rows=bad)
            yield {"double": [2 * i for at, i in enumerate(batch["id"]) if at not in bad]}

        ds = aktis.data.range(40).map_batches(
            names, batch_size=20, input_columns=["id"], passthrough_columns=["id"], on_error="dead_letter"
        )
        assert all(row["double"] == 2 * row["id"] for row in ds.take_all())
        assert sorted(row["message"] for row in ds.dead_letters().take_all()) == ["bad 13", "bad 23", "bad 3", "bad 33"]

    @pytest.mark.parametrize("operator", ["map", "flat_map", "filter"])
    def test_row_functions_return_it_instead_of_a_row(self, operator):
        def judge(row):
            if row["id"] == 2:
                return RowError("two")
            return {"map": row, "flat_map": [row], "filter": True}[operator]

        ds = getattr(aktis.data.range(5), operator)(judge, on_error="dead_letter")
        assert [row["id"] for row in ds.take_all()] == [0, 1, 3, 4]
        assert [row["message"] for row in ds.dead_letters().take_all()] == ["two"]
        with pytest.raises(RowError, match="two"):
            getattr(aktis.data.range(5), operator)(judge).take_all()

    def test_it_is_raised_where_rows_are_not_left_out(self):
        def names(batch):
            raise RowError("no", rows=[0])

        with pytest.raises(RowError, match="no"):
            aktis.data.range(5).map_batches(names).take_all()

    def test_returned_for_a_batch_it_does_not_lose_the_others(self):
        ds = aktis.data.range(5).map_batches(
            lambda batch: RowError("all", rows=[0]), batch_size=5, on_error="dead_letter"
        )
        assert ds.take_all() == []
        assert sorted(row["row"]["id"] for row in ds.dead_letters().take_all()) == [0, 1, 2, 3, 4]


class TestLimits:
    def test_more_errors_than_allowed_end_the_job_and_say_how_to_look(self, numbers):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter", max_errors=8)
        with pytest.raises(TaskError) as failure:
            ds.take_all()
        text = str(failure.value)
        assert "MapBatches(Raises): 9 rows have failed of the " in text
        assert "max_errors=8" in text
        assert "cannot do" in text
        assert "ds.dead_letters()" in text
        allowed = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter", max_errors=9)
        assert allowed.count() == ROWS - 9

    def test_share_of_rows(self, numbers):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="skip", max_error_ratio=9 / 6000)
        assert ds.count() == ROWS - 9
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="skip", max_error_ratio=8 / 6000)
        with pytest.raises(TaskError, match="max_error_ratio=0.00133"):
            ds.count()

    def test_share_of_few_rows_is_looked_at_when_all_have_come(self):
        def fails(batch):
            if 0 in batch["id"]:
                raise ValueError("first")
            return batch

        ds = aktis.data.range(100).map_batches(fails, batch_size=10, on_error="skip", max_error_ratio=0.01)
        assert ds.count() == 99

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"on_error": "ignore"}, "did you mean 'skip'"),
            ({"on_error": "raise", "max_errors": 1}, "leaves out none"),
            ({"max_errors": 1}, "give on_error='skip' or 'dead_letter'"),
            ({"max_error_ratio": 0.5}, "give on_error='skip' or 'dead_letter'"),
            ({"on_error": "skip", "max_errors": -1}, "at least 0"),
            ({"on_error": "skip", "max_error_ratio": 2}, "from 0 to 1"),
            ({"timeout_s": 0}, "above 0"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, options, says):
        with pytest.raises(ValueError, match=says):
            aktis.data.range(1).map_batches(lambda batch: batch, **options)
        with pytest.raises(ValueError, match=says):
            aktis.data.range(1).map(lambda row: row, **options)

    def test_expressions_call_no_function(self):
        with pytest.raises(ValueError, match="calls no function"):
            aktis.data.range(1).filter(expr="id > 0", on_error="skip")


class TestJobWide:
    @pytest.fixture
    def context(self):
        context = DataContext.get_current()
        yield context
        context.on_error, context.max_errors, context.max_error_ratio = "raise", None, None
        context.batch_timeout_s, context.max_errored_blocks = None, 0

    def test_steps_that_say_nothing_do_what_the_job_says(self, numbers, context):
        ds = read(numbers).map_batches(Raises(), batch_size=64)
        context.on_error = "dead_letter"
        check(ids_of(ds.take_all()), dead_ids(ds.dead_letters()))
        context.max_errors = 3
        with pytest.raises(TaskError, match="max_errors=3") as raised:
            ds.take_all()
        assert type(raised.value) is TaskError
        stays = read(numbers).map_batches(Raises(), batch_size=64, on_error="raise")
        with pytest.raises(ValueError, match="cannot do"):
            stays.take_all()

    def test_limits_of_the_job_hold_for_steps_that_leave_rows_out_themselves(self, numbers, context):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="skip")
        context.max_errors = 3
        with pytest.raises(TaskError, match="max_errors=3"):
            ds.take_all()
        own = read(numbers).map_batches(Raises(), batch_size=64, on_error="skip", max_errors=len(BAD))
        assert own.count() == ROWS - len(BAD)

    def test_blocks_of_ray_are_batches(self, numbers, context):
        ds = read(numbers).map_batches(Raises(), batch_size=500)
        context.max_errored_blocks = -1
        assert ds.count() == ROWS - len(BAD)
        context.max_errored_blocks = 2
        with pytest.raises(TaskError, match="came so far, in [3-9] batches, more than max_errored_blocks=2 allows"):
            ds.count()

    def test_counting_runs_the_functions_that_may_lose_rows(self, context):
        def fails(row):
            return 1 / row["id"] and row

        ds = aktis.data.range(10).map(fails)
        assert ds.count() == 10, "one row for one row, so nothing runs"
        context.on_error = "skip"
        assert ds.count() == 9

    def test_settings_that_make_no_sense_are_refused(self, context):
        with pytest.raises(ValueError, match="'raise', 'skip' or 'dead_letter'"):
            context.on_error = "ignore"
        with pytest.raises(ValueError, match="whole number"):
            context.max_errors = 1.5

    def test_sinks_of_ones_own_still_end_the_job(self, context):
        class Fails(aktis.data.Datasink):
            def write(self, blocks, ctx):
                raise OSError("disk full")

        context.on_error = "skip"
        with pytest.raises(OSError, match="disk full"):
            aktis.data.range(10).write_datasink(Fails())


def test_limit_counts_good_rows_only(numbers):
    ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="skip", udf_modifying_row_count=False)
    assert [row["id"] for row in ds.limit(8).take_all()] == [1, 2, 3, 4, 5, 6, 8, 9]


def test_by_default_the_first_failure_ends_the_job(numbers):
    with pytest.raises(ValueError, match="cannot do"):
        read(numbers).map_batches(Raises(), batch_size=64).take_all()
