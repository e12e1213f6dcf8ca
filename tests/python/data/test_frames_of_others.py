"""Data frames of other engines become datasets."""

import sys

import aktis.data
import pandas
import pyarrow
import pytest

# Packages need not be there.
# pyright: reportMissingImports=false


def test_frames_of_daft_give_their_rows():
    daft = pytest.importorskip("daft", reason="Daft is not installed: requirements-formats.txt")
    frame = daft.from_pydict({"x": list(range(100)), "w": [f"w{n}" for n in range(100)]}).where(daft.col("x") > 97)
    assert aktis.data.from_daft(frame).take_all() == [{"x": 98, "w": "w98"}, {"x": 99, "w": "w99"}]


def test_frames_of_dask_give_their_rows_partition_by_partition():
    dask = pytest.importorskip("dask.dataframe", reason="Dask is not installed: requirements-formats.txt")
    frame = dask.from_pandas(pandas.DataFrame({"x": range(100)}, index=range(100, 200)), npartitions=4)
    assert [row["x"] for row in aktis.data.from_dask(frame).take_all()] == list(range(100))
    assert [row["x"] for row in aktis.data.from_dask(frame[frame.x > 98]).take_all()] == [99]


def test_datasets_become_frames_of_daft():
    daft = pytest.importorskip("daft", reason="Daft is not installed: requirements-formats.txt")
    frame = aktis.data.range(10).map(lambda row: {"x": row["id"] * 2}).to_daft()
    assert frame.where(daft.col("x") > 15).to_pydict() == {"x": [16, 18]}
    assert aktis.data.from_daft(frame).sum("x") == 90


def test_datasets_become_frames_of_dask_with_a_partition_for_each_block():
    pytest.importorskip("dask.dataframe", reason="Dask is not installed: requirements-formats.txt")
    frame = aktis.data.range(10, override_num_blocks=4).to_dask()
    assert frame.npartitions > 1
    assert (len(frame), int(frame.id.sum().compute())) == (10, 45)
    assert frame[frame.id > 7].compute()["id"].tolist() == [8, 9]
    nothing = aktis.data.range(3).filter(expr="id > 5").to_dask()
    assert (len(nothing), list(nothing.columns)) == (0, ["id"])


@pytest.mark.parametrize(
    ("method", "module", "command"),
    [("to_daft", "daft", "daft"), ("to_dask", "dask.dataframe", r"'dask\[dataframe\]'")],
)
def test_engine_that_is_missing_is_named_with_the_command_that_installs_it(method, module, command, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{method}\(\) needs .*: pip install {command}"):
        getattr(aktis.data.range(1), method)()


@pytest.mark.parametrize("function", ["from_daft", "from_dask"])
def test_what_is_no_frame_is_refused(function):
    with pytest.raises(TypeError, match=rf"{function}\(\) takes a data frame of \w+, not list"):
        getattr(aktis.data, function)([1])


class Frame:
    """A table as polars and DuckDB have them: whoever asks gets a stream of Arrow."""

    columns = ("x",)

    def __init__(self, values):
        self._table = pyarrow.table({"x": values})

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_frames_that_arrow_can_read_are_taken_as_tables_are():
    reader = pyarrow.RecordBatchReader.from_batches(
        pyarrow.schema({"x": "int64"}), iter([pyarrow.record_batch({"x": [3]})])
    )
    assert aktis.data.from_arrow([Frame([1, 2]), reader]).take_all() == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert aktis.data.from_arrow(Frame([])).take_all() == []
    doubled = aktis.data.range(3, override_num_blocks=1).map_batches(lambda batch: Frame(batch["id"] * 2))
    assert doubled.take_all() == [{"x": 0}, {"x": 2}, {"x": 4}]


def test_frames_of_pandas_have_a_function_of_their_own():
    with pytest.raises(TypeError, match=r"not DataFrame; from_pandas\(\) takes frames of pandas"):
        aktis.data.from_arrow(pandas.DataFrame({"x": [1]}))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
