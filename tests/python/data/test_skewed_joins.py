"""Joins of sides one key of which has most of the rows."""

import contextlib
from typing import Any

import aktis.data
import numpy
import pandas
import pytest
from aktis.data.aggregate import Count, Sum

ROWS = 150_000
#: Nine of ten rows have the key 7; some of the others have no partner.
KEYS = numpy.where(numpy.arange(ROWS) % 10 < 9, 7, numpy.arange(ROWS) % 17)
FEW = pandas.DataFrame({"key": [*range(12), 7, 90], "few": range(14)})


def skewed():
    def keyed(batch):
        return {"key": KEYS[batch["id"]], "many": batch["id"], "text": numpy.full(len(batch["id"]), "x" * 100)}

    return aktis.data.range(ROWS, override_num_blocks=8).map_batches(keyed)


def few():
    """Behind a function nobody knows that they are few."""
    return aktis.data.from_pandas(FEW).map_batches(lambda batch: batch)


@contextlib.contextmanager
def blocks_of(size):
    context = aktis.data.DataContext.get_current()
    before, context.target_max_block_size = context.target_max_block_size, size
    try:
        yield
    finally:
        context.target_max_block_size = before


def told(ds, *names):
    return ds.aggregate(Count(), *(Sum(name) for name in names))


def meant(kind):
    many = pandas.DataFrame({"key": KEYS, "many": numpy.arange(ROWS)})
    if kind in ("inner", "left_outer"):
        how: Any = kind.removesuffix("_outer")
        rows = many.merge(FEW, on="key", how=how)
        return {"count()": len(rows), "sum(many)": rows["many"].sum(), "sum(few)": rows["few"].sum()}
    found = many["key"].isin(FEW["key"])
    rows = many[found if kind == "left_semi" else ~found]
    return {"count()": len(rows), "sum(many)": rows["many"].sum()}


@pytest.mark.parametrize("kind", ["inner", "left_outer", "left_semi", "left_anti"])
@pytest.mark.parametrize("is_left", [True, False])
def test_large_partition_is_cut_and_rows_are_the_same(kind, is_left):
    names = ["many", "few"] if kind in ("inner", "left_outer") else ["many"]
    with blocks_of(1 << 20):
        if is_left:
            joined = skewed().join(few(), kind, 4, on=("key",), hint="salt")
        else:
            joined = few().join(skewed(), kind.replace("left", "right"), 4, on=("key",), hint="salt")
        whole = joined.materialize()
    assert told(whole, *names) == meant(kind)
    stages = [stage for stage in whole.get_stats_summary()["stages"] if stage["name"].startswith("Join")]
    assert [stage["cut_partitions"] for stage in stages] == [1]
    assert stages[0]["cut_inputs"] > 2 and stages[0]["hot_keys"] == ["key = 7"]
    assert "1 partitions were much larger than others and became" in whole.stats()
    assert "keys with many rows: key = 7" in whole.stats()


def test_partition_that_is_not_large_by_itself_is_cut_by_the_hint_alone():
    with blocks_of(1 << 20):
        whole = skewed().join(few(), "inner", 4, on=("key",)).materialize()
    assert all(stage["cut_partitions"] == 0 for stage in whole.get_stats_summary()["stages"])
    assert "much larger" not in whole.stats()


@pytest.mark.parametrize(
    ("kind", "hint", "words"),
    [
        ("full_outer", "salt", "hint='salt' gives several workers a part .* a full_outer join"),
        ("right_outer", "broadcast", "hint='broadcast' gives every part of the left"),
        ("inner", "shuffle", "hint must be 'broadcast', 'salt' or None, not \"shuffle\""),
    ],
)
def test_hint_that_would_change_the_rows_or_means_nothing_is_refused(kind, hint, words):
    with pytest.raises(ValueError, match=words):
        skewed().join(few(), kind, 4, on=("key",), hint=hint)
