"""Where datasets begin in blocks and in objects of the store, and in tensors of numbers."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _batches
from ._reading import _check_hints, from_arrow, from_numpy, from_pandas, range

if TYPE_CHECKING:
    from typing import Unpack

    from aktis import ObjectRef

    from ._typed import SourceHints
    from .dataset import Dataset


def from_blocks(blocks: Sequence[Any], **hints: Unpack[SourceHints]) -> Dataset:
    """Blocks: Arrow tables, record batches or pandas data frames, in their order.

    Args:
        blocks: at least one of them.
        hints: as for :func:`range`.

    Returns:
        A dataset of their rows.

    Raises:
        TypeError: something is no block.
        ValueError: as for :func:`from_arrow`.

    >>> import pandas, pyarrow
    >>> from_blocks([pyarrow.table({"x": [1]}), pandas.DataFrame({"x": [2]})]).take_all()
    [{'x': 1}, {'x': 2}]
    """
    return from_arrow([_table(block, "from_blocks()") for block in _listed("from_blocks", blocks)], **hints)


def from_arrow_refs(tables: ObjectRef[Any] | Sequence[ObjectRef[Any]], **hints: Unpack[SourceHints]) -> Dataset:
    """Arrow tables that are objects of the store. This process looks at them, without a copy where they are on its machine.

    Args:
        tables: a reference or a list of them.
        hints: as for :func:`range`.

    Returns:
        A dataset of their rows.

    Raises:
        ValueError: as for :func:`from_arrow`.

    >>> import aktis, pyarrow
    >>> from_arrow_refs([aktis.put(pyarrow.table({"x": [1, 2]}))]).take_all()
    [{'x': 1}, {'x': 2}]
    """
    return from_arrow(_got("from_arrow_refs", tables), **hints)


def from_pandas_refs(dfs: ObjectRef[Any] | Sequence[ObjectRef[Any]], **hints: Unpack[SourceHints]) -> Dataset:
    """Pandas data frames that are objects of the store; as :func:`from_arrow_refs`.

    Args:
        dfs: a reference or a list of them.
        hints: as for :func:`range`.

    Returns:
        A dataset of their rows; the index is left out.

    Raises:
        ValueError: as for :func:`from_arrow`.

    >>> import aktis, pandas
    >>> from_pandas_refs(aktis.put(pandas.DataFrame({"x": [1]}))).take_all()
    [{'x': 1}]
    """
    return from_arrow([_table(df, "from_pandas_refs()") for df in _got("from_pandas_refs", dfs)], **hints)


def from_numpy_refs(ndarrays: ObjectRef[Any] | Sequence[ObjectRef[Any]], **hints: Unpack[SourceHints]) -> Dataset:
    """Numpy arrays that are objects of the store; as :func:`from_arrow_refs` and :func:`from_numpy`.

    Args:
        ndarrays: a reference or a list of them.
        hints: as for :func:`range`.

    Returns:
        A dataset with the column ``data``.

    Raises:
        ValueError: as for :func:`from_numpy`.

    >>> import aktis, numpy
    >>> from_numpy_refs([aktis.put(numpy.zeros(2))]).count()
    2
    """
    return from_numpy(_got("from_numpy_refs", ndarrays), **hints)


def range_tensor(n: int, *, shape: tuple[int, ...] = (1,), **hints: Unpack[SourceHints]) -> Dataset:
    """Tensors of one shape in the column ``data``: each is filled with the number of its row.

    Args:
        n: how many.
        shape: of each tensor.
        hints: as for :func:`range`.

    Returns:
        A dataset of ``n`` tensors of ``int64``.

    Raises:
        ValueError: ``n`` is not a whole number of at least 0, or a side of the shape is none of at least 1.

    >>> range_tensor(3, shape=(2, 2)).take_batch()["data"][2].tolist()
    [[2, 2], [2, 2]]
    """
    sides = tuple(shape)
    if not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f"range_tensor(): shape has sides of at least 1, not {shape!r}")
    _check_hints("range_tensor", hints)
    rows = max(1, _TENSOR_BYTES // (8 * math.prod(sides)))
    filled = functools.partial(_filled, sides=sides)
    return range(n, **hints).map_batches(filled, batch_size=rows, udf_modifying_row_count=False)


#: What a batch of tensors has about.
_TENSOR_BYTES = 8 << 20


def _filled(batch: dict[str, Any], sides: tuple[int, ...]) -> dict[str, Any]:
    import numpy

    numbers = batch["id"].reshape(-1, *(1 for _ in sides))
    return {"data": numpy.broadcast_to(numbers, (len(numbers), *sides)).copy()}


def _table(block: Any, function: str) -> Any:
    import pyarrow

    return block if isinstance(block, (pyarrow.Table, pyarrow.RecordBatch)) else _batches.to_arrow(block, function)


def _listed(function: str, given: Any) -> list[Any]:
    if isinstance(given, (list, tuple)):
        return list(given)
    raise TypeError(f"{function}() takes a list, not {type(given).__name__}")


def _got(function: str, refs: Any) -> list[Any]:
    """The objects of one or several references."""
    import aktis

    listed = list(refs) if isinstance(refs, (list, tuple)) else [refs]
    for ref in listed:
        if not isinstance(ref, aktis.ObjectRef):
            raise TypeError(f"{function}() takes references of objects, not {type(ref).__name__}")
    return aktis.get(listed)


def from_daft(df: Any) -> Dataset:
    """The rows of a data frame of Daft, which computes them in this process.

    Args:
        df: The data frame.

    Returns:
        A dataset of its rows, in order.

    Raises:
        TypeError: it is none.

    Example:
        >>> import daft  # doctest: +SKIP
        >>> from_daft(daft.from_pydict({"x": [1, 2]})).count()  # doctest: +SKIP
        2
    """
    if not callable(getattr(df, "to_arrow", None)):
        raise TypeError(f"from_daft() takes a data frame of Daft, not {type(df).__name__}")
    return from_arrow(df.to_arrow())


def from_dask(df: Any) -> Dataset:
    """The rows of a data frame of Dask, which computes its partitions as it is set up to, here or on its own cluster.

    Args:
        df: The data frame.

    Returns:
        A dataset of its rows, partition by partition; the index is left out.

    Raises:
        TypeError: it is none.

    Example:
        >>> import dask.dataframe, pandas  # doctest: +SKIP
        >>> frame = dask.dataframe.from_pandas(pandas.DataFrame({"x": [1, 2]}), npartitions=2)  # doctest: +SKIP
        >>> from_dask(frame).count()  # doctest: +SKIP
        2
    """
    if not callable(getattr(df, "to_delayed", None)):
        raise TypeError(f"from_dask() takes a data frame of Dask, not {type(df).__name__}")
    compute = getattr(importlib.import_module("dask"), "compute")  # noqa: B009 - no checker knows it
    return from_pandas(list(compute(*df.to_delayed())))
