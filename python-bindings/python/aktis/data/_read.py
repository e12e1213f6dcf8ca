"""Where datasets begin."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _batches, _native
from .dataset import Dataset

if TYPE_CHECKING:
    import numpy
    import pandas
    import pyarrow


def read_parquet(
    paths: str | os.PathLike[str] | list[str | os.PathLike[str]],
    *,
    columns: list[str] | None = None,
    filter: Any = None,
    **ignored: Any,
) -> Dataset:
    """The rows of Parquet files.

    Args:
        paths: A file, a folder (searched through for ``*.parquet``), a pattern with ``*``, ``?`` or ``**``, or a list of
            these.
        columns: The columns to read; others are never touched.
        filter: An SQL expression: row groups and pages without matching rows are not read.
        ignored: ``override_num_blocks``, ``parallelism``, ``concurrency`` and other hints of Ray that are not needed.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> from_items([{"id": i, "word": w} for i, w in enumerate(["a", "b", "c"])]).write_parquet(folder)
        >>> read_parquet(folder, columns=["word"], filter="id > 0").take_all()
        [{'word': 'b'}, {'word': 'c'}]
    """
    _check_hints("read_parquet", ignored)
    texts = [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    dataset = Dataset(_native.plan().read_parquet(texts))
    if filter is not None:
        dataset = dataset.filter(expr=str(filter))
    return dataset if columns is None else dataset.select_columns(columns)


def range(n: int, *, override_num_blocks: int | None = None, **ignored: Any) -> Dataset:
    """The numbers from 0 to ``n - 1`` in the column ``id``.

    >>> range(4).take_all()
    [{'id': 0}, {'id': 1}, {'id': 2}, {'id': 3}]
    """
    _check_hints("range", ignored)
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"range() needs a whole number of at least 0, not {n!r}")
    return Dataset(_native.plan().range(n))


def from_items(items: Iterable[Any], *, override_num_blocks: int | None = None, **ignored: Any) -> Dataset:
    """Python objects: dicts become rows, anything else goes into the column ``item``.

    >>> from_items([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]).take_all()
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    >>> from_items([10, 20]).take_all()
    [{'item': 10}, {'item': 20}]
    """
    _check_hints("from_items", ignored)
    items = list(items)
    if not items:
        return from_arrow(_batches.columns_to_arrow({}, "from_items()"))
    rows = items if all(isinstance(item, Mapping) for item in items) else [{"item": item} for item in items]
    return _from_batches([_batches.rows_to_arrow(rows, "from_items()")])


def from_arrow(tables: pyarrow.Table | pyarrow.RecordBatch | list[pyarrow.Table], **ignored: Any) -> Dataset:
    """Arrow tables, without a copy until they are used.

    >>> import pyarrow
    >>> from_arrow(pyarrow.table({"x": [1, 2]})).count()
    2
    """
    _check_hints("from_arrow", ignored)
    import pyarrow

    if not isinstance(tables, (list, tuple)):
        tables = [tables]
    if not tables:
        raise ValueError("from_arrow() needs at least one table")
    batches: list[Any] = []
    for table in tables:
        if isinstance(table, pyarrow.RecordBatch):
            batches.append(table)
        elif isinstance(table, pyarrow.Table):
            batches.extend(table.to_batches() or [_batches._one_batch(table)])
        else:
            raise TypeError(f"from_arrow() takes pyarrow tables, not {type(table).__name__}")
    return _from_batches(batches)


def from_pandas(dfs: pandas.DataFrame | list[pandas.DataFrame], **ignored: Any) -> Dataset:
    """Pandas data frames; the index is left out.

    >>> import pandas
    >>> from_pandas(pandas.DataFrame({"x": [1, 2]})).columns()
    ['x']
    """
    _check_hints("from_pandas", ignored)
    dfs = dfs if isinstance(dfs, (list, tuple)) else [dfs]
    return _from_batches([_batches.to_arrow(df, "from_pandas()") for df in dfs])


def from_numpy(arrays: numpy.ndarray | list[numpy.ndarray], **ignored: Any) -> Dataset:
    """Numpy arrays in the column ``data``, one row per first index.

    >>> import numpy
    >>> from_numpy(numpy.zeros((2, 3))).take_batch()["data"].shape
    (2, 3)
    """
    _check_hints("from_numpy", ignored)
    arrays = arrays if isinstance(arrays, (list, tuple)) else [arrays]
    return _from_batches([_batches.columns_to_arrow({"data": array}, "from_numpy()") for array in arrays])


def _from_batches(batches: list[Any]) -> Dataset:
    schema = batches[0].schema
    for batch in builtins.range(1, len(batches)):
        if not batches[batch].schema.equals(schema):
            raise ValueError(f"all tables must have the same columns: {schema} and {batches[batch].schema}")
    return Dataset(_native.plan().from_batches(batches[0].schema.remove_metadata(), batches))


def _check_hints(function: str, hints: Mapping[str, Any]) -> None:
    known = {"override_num_blocks", "parallelism", "concurrency", "ray_remote_args", "num_cpus", "num_gpus",
             "memory", "shuffle", "file_extensions", "include_paths", "tensor_column_schema", "filesystem",
             "partition_filter", "partitioning", "arrow_parquet_args"}  # fmt: skip
    refused = {"shuffle", "include_paths", "tensor_column_schema", "filesystem", "partition_filter"}
    for name, value in hints.items():
        if name not in known:
            raise TypeError(f"{function}() got an unknown argument {name!r}")
        if name in refused and value not in (None, False):
            raise NotImplementedError(f"{function}({name}=...) is not there yet")
