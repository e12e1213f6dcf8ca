"""Calls and constructors that are made again: when asked, as often as asked, and only where it can help."""

# Options are given by dicts, and functions are wrong on purpose.
# pyright: reportArgumentType=false

import os
import time

import aktis.data
import pytest
from aktis.data import ActorPoolStrategy

TWICE = {"retry_exceptions": [ConnectionError], "max_retries": 2}


def counted(folder, name):
    """How often this was called with the name, this call included: whatever process calls."""
    taken = 0
    while True:
        try:
            os.close(os.open(folder / f"{name}-{taken}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            taken += 1
        else:
            return taken + 1


def tries(folder, name):
    return sum(1 for path in folder.iterdir() if path.name.startswith(f"{name}-"))


def test_calls_are_made_again_by_the_type_of_the_exception(tmp_path):
    def flaky(batch):
        batch["id"] = batch["id"] * 2  # which the next try does not see
        if counted(tmp_path, f"batch{batch['id'][0]}") < 3:
            raise ConnectionResetError("gone")
        return batch

    ds = aktis.data.range(8).map_batches(flaky, batch_size=4, **TWICE)
    assert [row["id"] for row in ds.take_all()] == [0, 2, 4, 6, 8, 10, 12, 14]


def test_nothing_is_made_again_unasked(tmp_path):
    def fails(row):
        counted(tmp_path, "row")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        aktis.data.range(1).map(fails).materialize()
    assert tries(tmp_path, "row") == 1


@pytest.mark.parametrize(
    "error", [ValueError("no"), MemoryError(), aktis.data.RowError("bad"), RuntimeError("CUDA out of memory")]
)
def test_what_cannot_help_is_not_tried(tmp_path, error):
    kinds = [ConnectionError] if isinstance(error, ValueError) else True

    def fails(row):
        counted(tmp_path, "row")
        raise error

    with pytest.raises(type(error)):
        aktis.data.range(1).map(fails, retry_exceptions=kinds).materialize()
    assert tries(tmp_path, "row") == 1


def test_when_there_were_enough_the_call_has_failed(tmp_path):
    def fails(row):
        counted(tmp_path, f"row{row['id']}")
        if row["id"] == 1:
            raise ConnectionError("gone")
        return row

    ds = aktis.data.range(3).map(fails, on_error="skip", **TWICE)
    assert [row["id"] for row in ds.take_all()] == [0, 2]
    # Rows that went well are not called again.
    assert [tries(tmp_path, f"row{i}") for i in range(3)] == [1, 3, 1]


def test_what_a_generator_has_yielded_before_is_not_there_twice(tmp_path):
    def flaky(batch):
        yield {"id": batch["id"][:1]}
        if counted(tmp_path, "call") < 2:
            raise ConnectionError("gone")
        yield {"id": batch["id"][1:]}

    ds = aktis.data.range(3).map_batches(flaky, batch_size=3, **TWICE)
    assert [row["id"] for row in ds.take_all()] == [0, 1, 2]


def test_async_functions_and_generators(tmp_path):
    async def flaky(row):
        if counted(tmp_path, f"row{row['id']}") < 2:
            raise ConnectionError("gone")
        return row

    async def yields(row):
        yield row
        if counted(tmp_path, f"yields{row['id']}") < 2:
            raise ConnectionError("gone")
        yield row

    ds = aktis.data.range(3).map(flaky, **TWICE).flat_map(yields, **TWICE)
    assert [row["id"] for row in ds.take_all()] == [0, 0, 1, 1, 2, 2]


def test_constructors_are_tried_a_few_times(tmp_path):
    class Loads:
        def __init__(self):
            if counted(tmp_path, "load") < 2:
                raise ConnectionError("no model yet")

        def __call__(self, batch):
            return batch

    ds = aktis.data.range(10).map_batches(Loads, compute=ActorPoolStrategy(size=1))
    assert ds.count() == 10
    assert tries(tmp_path, "load") == 2


def test_then_the_job_ends_with_their_own_error(tmp_path):
    class Never:
        def __init__(self):
            counted(tmp_path, "load")
            raise ConnectionError("no model at all")

        def __call__(self, batch):
            return batch

    with pytest.raises(ConnectionError, match="ConnectionError: no model at all$"):
        aktis.data.range(10).map_batches(Never, compute=ActorPoolStrategy(size=1)).materialize()
    assert tries(tmp_path, "load") == 3


def test_constructor_that_is_wrong_is_tried_once(tmp_path):
    class Wrong:
        def __init__(self):
            counted(tmp_path, "load")
            len(3)

        def __call__(self, batch):
            return batch

    with pytest.raises(TypeError, match="has no len"):
        aktis.data.range(10).map_batches(Wrong, compute=ActorPoolStrategy(size=1)).materialize()
    assert tries(tmp_path, "load") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_retries": 5}, "for which exceptions"),
        ({"retry_exceptions": True, "max_retries": -1}, "would never end"),
        ({"retry_exceptions": ["ConnectionError"]}, "list of classes"),
        ({"retry_exceptions": True, "max_retries": "3"}, "whole number"),
    ],
)
@pytest.mark.parametrize("call", ["map_batches", "map", "add_column"])
def test_what_makes_no_sense_is_told_at_once(options, says, call):
    args = ("column",) if call == "add_column" else ()
    with pytest.raises((TypeError, ValueError), match=says):
        getattr(aktis.data.range(1), call)(*args, lambda given: given, **options)


def test_values_of_ray_that_ask_for_nothing_are_taken():
    ds = aktis.data.range(2).map(lambda row: row, max_retries=-1, retry_exceptions=False)
    assert ds.count() == 2


def test_calls_that_are_made_again_wait_for_their_turns_again(tmp_path):
    def flaky(row):
        begun_at = time.monotonic()
        tried = counted(tmp_path, f"row{row['id']}")
        (tmp_path / f"at-{row['id']}-{tried}").write_text(str(begun_at))
        if tried < 2:
            raise ConnectionError("busy")
        return row

    ds = aktis.data.range(3).map(lambda row: {**row, "came": time.monotonic()}).map(flaky, rate_limit=4, **TWICE)
    rows = ds.take_all()
    assert len(rows) == 3
    at = sorted(float(path.read_text()) for path in tmp_path.glob("at-*"))
    # Of six tries none begins before its turn, of four in a second since the first row came.
    assert len(at) == 6
    came = min(row["came"] for row in rows)
    assert all(moment >= came + number / 4 - 0.01 for number, moment in enumerate(at)), (came, at)
