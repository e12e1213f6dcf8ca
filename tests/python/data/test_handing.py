"""References to blocks, sizes, and what is told of columns."""

import datetime

import aktis
import aktis.data
import pyarrow
import pytest
from aktis.data.aggregate import Count, Max


def of(rows, blocks=3):
    return aktis.data.range(rows, override_num_blocks=blocks).map_batches(
        lambda batch: {**batch, "x": batch["id"] * 0.5}
    )


def test_blocks_are_given_by_reference_in_order():
    ds = of(12)
    tables = aktis.get(ds.to_arrow_refs())
    assert [table.num_rows for table in tables] == [4, 4, 4]
    assert pyarrow.concat_tables(tables).to_pylist() == ds.take_all()
    frames = aktis.get(ds.to_pandas_refs())
    assert [row for frame in frames for row in frame.to_dict("records")] == ds.take_all()
    assert [list(arrays) for arrays in aktis.get(ds.to_numpy_refs())] == [["id", "x"]] * 3
    assert [i for ids in aktis.get(ds.to_numpy_refs(column="id")) for i in list(ids)] == list(range(12))
    with pytest.raises(ValueError, match="no column 'y'; there are 'id', 'x'"):
        ds.to_numpy_refs(column="y")


@pytest.mark.parametrize("rows", [1, 5, 8, 11])
def test_references_hold_no_rows_that_were_cut_off(rows):
    kept = of(12).limit(rows)
    assert sum(table.num_rows for table in aktis.get(kept.to_arrow_refs())) == rows
    one, other = of(12).split_at_indices([rows])
    ids = [[i for table in aktis.get(piece.to_arrow_refs()) for i in table["id"].to_pylist()] for piece in (one, other)]
    assert ids == [list(range(rows)), list(range(rows, 12))]
    assert [sum(map(len, aktis.get(piece.to_pandas_refs()))) for piece in (one, other)] == [rows, 12 - rows]


def test_size_is_that_of_the_rows_and_a_head_for_each_block():
    assert 8000 <= aktis.data.range(1000).size_bytes() < 9000
    whole = of(1000).materialize()
    assert 16_000 <= whole.size_bytes() == of(1000).size_bytes() < 19_000
    one, other = whole.split_at_indices([100])
    assert 1600 <= one.size_bytes() < 2000
    assert one.size_bytes() + other.size_bytes() == pytest.approx(whole.size_bytes(), abs=3)
    assert aktis.data.range(10).filter(expr="id > 99").size_bytes() == 0


def told(summary, column):
    frame = summary.get_column_stats(column)
    return dict(zip(frame["statistic"], frame["value"], strict=True))


def test_summary_tells_of_each_column_what_its_type_has():
    day = datetime.datetime(2026, 1, 1)
    rows = [
        {
            "n": i,
            "f": i / 2 if i else None,
            "t": "ab"[i % 2],
            "d": day + datetime.timedelta(days=i),
            "l": [i % 2],
            "b": i > 1,
        }
        for i in range(5)
    ]
    summary = aktis.data.from_items(rows, override_num_blocks=2).summary()
    assert summary.columns == ["n", "f", "t", "d", "l", "b"]
    assert told(summary, "n") == {
        "count": 5, "mean": 2.0, "min": 0, "max": 4, "std": pytest.approx(2**0.5), "approx_quantile[0]": 2.0,
        "missing_pct": 0.0, "zero_pct": 20.0,
    }  # fmt: skip
    assert told(summary, "f")["missing_pct"] == 20.0
    assert told(summary, "d") == {"count": 5, "min": day, "max": day + datetime.timedelta(days=4), "missing_pct": 0.0}
    assert told(summary, "t")["approx_topk[0]"] == {"t": "a", "count": 3}
    assert told(summary, "l")["approx_topk[1]"] == {"l": [1], "count": 2}
    assert (told(summary, "b")["mean"], told(summary, "b")["zero_pct"]) == (0.6, 40.0)
    frame = summary.to_pandas()
    assert list(frame.columns) == ["statistic", *summary.columns]
    assert frame[frame["statistic"] == "max"]["n"].tolist() == [4]
    assert "approx_topk[0]" in repr(summary)


def test_summary_of_some_columns_and_by_rules_of_ones_own():
    summary = of(10).summary(["x"], {pyarrow.float64(): lambda column: [Max(column), Count(column)]})
    assert told(summary, "x") == {"max": 4.5, "count": 10}
    with pytest.raises(ValueError, match="nothing is told of a column 'id', but of 'x'"):
        summary.get_column_stats("id")
    with pytest.raises(ValueError, match="no column 'y'; there are 'id', 'x'"):
        of(10).summary(["y"])
    with pytest.raises(TypeError, match="types of pyarrow"):
        of(10).summary(None, {"int": lambda column: []})  # pyright: ignore[reportArgumentType]
