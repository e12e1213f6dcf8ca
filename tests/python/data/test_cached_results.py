"""Results of rows that are kept in files: functions are called with rows that they were never called with."""

import os

import aktis.data
import numpy
import pytest
from aktis.data import _fingerprints
from waiting import until


def counts(ds):
    """Rows that came from the cache, and those that the function was called with."""
    operators = [operator for stage in ds._stats.stats()["stages"] for operator in stage["operators"]]
    return sum(one["cache_hits"] for one in operators), sum(one["cache_misses"] for one in operators)


def answered(row):
    return {"q": row["q"], "answer": f"{row['q']}!"}


def questions(names):
    return aktis.data.from_items([{"q": name} for name in names])


def test_same_job_with_one_row_changed_calls_for_that_row(tmp_path):
    first = questions("abcdefgh").map(answered, cache=tmp_path)
    assert [row["answer"] for row in first.take_all()] == [f"{name}!" for name in "abcdefgh"]
    assert counts(first) == (0, 8)
    again = questions("abcXefgh").map(answered, cache=tmp_path)
    assert [row["answer"] for row in again.take_all()] == [f"{name}!" for name in "abcXefgh"]
    assert counts(again) == (7, 1)
    assert "7 rows came from its cache, it was called with 1" in again.stats()


def test_functions_that_are_not_the_same_share_nothing(tmp_path):
    def of(suffix, *, other=False):
        def call(row):
            return {"a": row["q"] + suffix + ("" if not other else "?")}

        return call

    assert questions("ab").map(of("x"), cache=tmp_path).take_all() == [{"a": "ax"}, {"a": "bx"}]
    ds = questions("ab").map(of("y"), cache=tmp_path)
    assert ds.take_all() == [{"a": "ay"}, {"a": "by"}]
    assert counts(ds) == (0, 2)
    same = questions("ab").map(of("y"), cache=tmp_path, rate_limit=1000, num_cpus=0.5, retry_exceptions=True)
    assert same.take_all() == [{"a": "ay"}, {"a": "by"}]
    assert counts(same) == (2, 0)


def test_functions_that_have_other_large_arrays_share_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(_fingerprints, "_MOST_BYTES", 8)
    for factor in (2, 3):
        weights = numpy.full(100, factor)
        ds = aktis.data.range(3).map(
            lambda row, w: {"x": row["id"] * int(w[0])}, fn_kwargs={"w": weights}, cache=tmp_path
        )
        assert [row["x"] for row in ds.take_all()] == [0, factor, 2 * factor]


def test_batches_have_the_rows_that_are_missing(tmp_path):
    sizes = tmp_path / "sizes"
    sizes.mkdir()

    def double(batch):
        (sizes / f"{len(batch['id'])}-{batch['id'][0]}").touch()
        return {"double": batch["id"] * 2}

    options = {"batch_size": 8, "udf_modifying_row_count": False, "cache": tmp_path / "cache"}
    aktis.data.range(8).map_batches(double, **options).take_all()
    ds = aktis.data.range(16).map_batches(double, **options)
    assert [row["double"] for row in ds.take_all()] == [2 * i for i in range(16)]
    assert counts(ds) == (8, 8)
    twice = aktis.data.from_items([{"id": i % 3 + 100} for i in range(8)]).map_batches(double, **options)
    assert [row["double"] for row in twice.take_all()] == [2 * (i % 3 + 100) for i in range(8)]
    assert counts(twice) == (5, 3)
    assert sorted(file.name for file in sizes.iterdir()) == ["3-100", "8-0", "8-8"]


def test_columns_that_pass_by_change_nothing(tmp_path):
    def run(note):
        ds = aktis.data.from_items([{"q": name, "note": note} for name in "abc"])
        ds = ds.map_batches(
            lambda batch: {"a": [f"{q}!" for q in batch["q"]]}, input_columns=["q"], passthrough_columns=["note"], cache=tmp_path
        )  # fmt: skip
        assert ds.take_all() == [{"note": note, "a": f"{name}!"} for name in "abc"]
        return counts(ds)

    assert run("one") == (0, 3)
    assert run("two") == (3, 0)


def test_rows_that_fail_are_tried_again(tmp_path):
    def picky(row):
        if row["q"] == "c" and not (tmp_path / "mended").exists():
            raise ValueError("not now")
        return answered(row)

    ds = questions("abcd").map(picky, cache=tmp_path / "cache", on_error="dead_letter")
    assert [row["q"] for row in ds.take_all()] == ["a", "b", "d"]
    assert [dead["row"] for dead in ds.dead_letters().take_all()] == [{"q": "c"}]
    (tmp_path / "mended").touch()
    again = questions("abcd").map(picky, cache=tmp_path / "cache", on_error="dead_letter")
    assert [row["q"] for row in again.take_all()] == ["a", "b", "c", "d"]
    assert counts(again) == (3, 1)


def test_batch_that_is_searched_for_its_bad_row_keeps_the_others(tmp_path):
    def picky(batch):
        if 5 in batch["id"]:
            raise ValueError("five")
        return {"id": batch["id"]}

    def run():
        ds = aktis.data.range(8).map_batches(
            picky, batch_size=8, udf_modifying_row_count=False, cache=tmp_path, on_error="skip"
        )
        assert [row["id"] for row in ds.take_all()] == [0, 1, 2, 3, 4, 6, 7]
        return ds

    run()
    operator = run()._stats.stats()["stages"][0]["operators"][1]
    assert operator["rows_failed"] == 1
    assert operator["cache_hits"] >= 7


def test_results_outlive_a_worker_that_dies(tmp_path):
    def fragile(row):
        (tmp_path / f"{row['id']}-{os.getpid()}").touch()
        if row["id"] == 30 and not (tmp_path / "died").exists():
            # What is older than a second is kept.
            until(lambda: list((tmp_path / "cache").rglob("*.keys")), "results are kept")
            (tmp_path / "died").touch()
            os._exit(1)
        return {"id": row["id"]}

    def slow(row):
        import time

        time.sleep(0.05)
        return fragile(row)

    ds = aktis.data.range(40, override_num_blocks=1).map(slow, cache=tmp_path / "cache", rate_limit=20, concurrency=1)
    assert [row["id"] for row in ds.take_all()] == list(range(40))
    calls = [file.name for file in tmp_path.iterdir() if "-" in file.name]
    assert 40 < len(calls) < 40 + 30


def test_kept_results_wait_for_no_turn(tmp_path):
    ds = questions("abcdef").map(answered, cache=tmp_path)
    ds.take_all()
    # At this rate it would take an hour.
    again = questions("abcdef").map(answered, cache=tmp_path, rate_limit=0.001)
    assert again.count() == 6


def test_types_that_differ_between_runs_go_together(tmp_path):
    def first(row):
        return {"v": None if row["q"] == "a" else 1.5}

    assert questions("a").map(first, cache=tmp_path).take_all() == [{"v": None}]
    assert questions("bac").map(first, cache=tmp_path).take_all() == [{"v": 1.5}, {"v": None}, {"v": 1.5}]


def test_tensors_of_other_shapes_are_other_rows(tmp_path):
    numbers = numpy.arange(6)

    def first_column(row):
        return {"sum": int(row["x"][:, 0].sum())}

    for shape, wanted in (((2, 3), 3), ((3, 2), 6)):
        ds = aktis.data.from_numpy(numbers.reshape(1, *shape)).rename_columns({"data": "x"})
        assert ds.map(first_column, cache=tmp_path).take_all() == [{"sum": wanted}]


def test_what_has_no_row_for_each_row_is_refused(tmp_path):
    ds = questions("ab")
    with pytest.raises(ValueError, match="udf_modifying_row_count=False"):
        ds.map_batches(lambda batch: batch, cache=tmp_path)
    with pytest.raises(ValueError, match=r"flat_map\(cache=...\) keeps the result of each row"):
        ds.flat_map(lambda row: [row], cache=tmp_path)
    with pytest.raises(ValueError, match=r"one row for one row: use map\(\)$"):
        ds.flat_map(lambda row: [row], cache=tmp_path)
    with pytest.raises(ValueError, match=r"map\(cache=''\): it is the path of a folder"):
        ds.map(answered, cache="")
    with pytest.raises(ValueError, match="reach as files"):
        ds.map(answered, cache="s3://bucket/cache")
    with pytest.raises(TypeError, match="the path of a folder"):
        ds.map(answered, cache=True)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="with cache= it must return one row for one row"):
        ds.map_batches(lambda batch: {"q": ["a"]}, udf_modifying_row_count=False, cache=tmp_path).take_all()
