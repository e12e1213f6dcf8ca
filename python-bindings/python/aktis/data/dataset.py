"""The dataset."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from . import _consume
from ._schema import Schema
from ._taking import Row, Taking
from ._transforms import Transforms


class Dataset(Transforms, Taking):
    """Rows, and what is to be done with them. Nothing runs until rows are taken, counted or written.

    Made by :func:`aktis.data.read_parquet`, :func:`aktis.data.from_items` and the like.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"text": "a ray"}, {"text": "of light"}])
        >>> ds.map(lambda row: {"length": len(row["text"])}).take_all()
        [{'length': 5}, {'length': 8}]
    """

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._stats: Any = None
        self._seen_schema: Schema | None = None

    def materialize(self) -> MaterializedDataset:
        """Runs the plan and keeps its rows in the object store.

        >>> import aktis.data
        >>> ds = aktis.data.range(3).map(lambda row: {"id": row["id"] + 1}).materialize()
        >>> ds.count(), ds.take_all()
        (3, [{'id': 1}, {'id': 2}, {'id': 3}])
        """
        execution = _consume.start(self._plan, ordered=True)
        blocks = _consume.blocks(execution)
        result = MaterializedDataset(execution.to_plan(blocks))
        result._stats = self._stats = execution
        return result

    def write_parquet(
        self,
        path: str | os.PathLike[str],
        *,
        mode: str = "append",
        compression: str | None = None,
        arrow_parquet_args: Mapping[str, Any] | None = None,
        row_group_size: int | None = None,
        **ignored: Any,
    ) -> None:
        """Writes Parquet files into a folder. A file has its name only when it is complete.

        Args:
            path: The folder; it is made if it is not there.
            mode: For a folder that has files: ``"append"``, ``"overwrite"``, ``"ignore"`` (write nothing), ``"error"``.
            compression: ``"snappy"`` (the default), ``"zstd"``, ``"lz4"``, ``"gzip"`` or ``"none"``.
            arrow_parquet_args: As in Ray; ``compression`` and ``row_group_size`` are used.
            row_group_size: Most rows of a row group.
            ignored: ``concurrency``, ``num_rows_per_file`` and other hints of Ray.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_parquet(folder)
            >>> aktis.data.read_parquet(folder).count()
            10
        """
        refused = {name for name in ("partition_cols", "filesystem") if ignored.get(name)}
        if refused:
            raise NotImplementedError(f"write_parquet({', '.join(sorted(refused))}) is not there yet")
        more = dict(arrow_parquet_args or {})
        mode = getattr(mode, "value", mode)
        compression = compression or more.get("compression") or "snappy"
        row_group_size = row_group_size or more.get("row_group_size")
        folder = self._plan.prepare_folder(os.fspath(path), mode)
        if folder is None:
            return
        sink = {
            "kind": "parquet", "folder": folder, "prefix": uuid.uuid4().hex[:12], "compression": compression,
            "row_group_rows": row_group_size,
        }  # fmt: skip
        execution = _consume.start(self._plan, ordered=False, sink=sink)
        self._stats = execution
        _consume.blocks(execution)

    def input_files(self) -> list[str]:
        """The files that are read."""
        return self._plan.input_files()

    def num_blocks(self) -> int:
        """How many blocks a materialised dataset has, and how many parts the source of another is read in at least."""
        return self._plan.num_blocks()

    def explain(self) -> str:
        """What will run: the plan after optimisation and the stages it is cut into.

        >>> import aktis.data
        >>> print(aktis.data.range(3).filter(expr="id > 1").explain())  # doctest: +ELLIPSIS
        Plan:
        Filter: source.id > Int64(1)
          TableScan: source...
        """
        return self._plan.explain()

    def stats(self) -> str:
        """What the last run of this dataset did, per operator."""
        return "" if self._stats is None else self._stats.stats_text()

    def get_stats_summary(self) -> dict[str, Any]:
        """:meth:`stats` as a dict."""
        return {} if self._stats is None else self._stats.stats()

    def __repr__(self) -> str:
        schema = self._plan.schema()
        columns = "unknown columns" if schema is None else ", ".join(f"{f.name}: {f.type}" for f in schema)
        return f"{type(self).__name__}({columns})"

    def __iter__(self) -> Iterator[Row]:
        raise TypeError("a Dataset is not iterated over directly: use iter_rows() or iter_batches()")

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_YET:
            raise AttributeError(f"Dataset.{name}() of Ray is not in Aktis yet")
        raise AttributeError(f"a Dataset has no attribute {name!r}")


#: What Ray's datasets can do besides.
_NOT_YET = frozenset(
    [
        "aggregate",
        "groupby",
        "iter_jax_batches",
        "iter_tf_batches",
        "iter_torch_batches",
        "join",
        "max",
        "mean",
        "min",
        "mix",
        "random_sample",
        "random_shuffle",
        "randomize_block_order",
        "repartition",
        "size_bytes",
        "sort",
        "split",
        "split_at_indices",
        "split_proportionately",
        "std",
        "streaming_split",
        "sum",
        "to_torch",
        "train_test_split",
        "union",
        "unique",
        "with_column",
        "with_columns",
        "write_csv",
        "write_json",
        "write_numpy",
        "zip",
    ]
)


class MaterializedDataset(Dataset):
    """A dataset whose rows lie in the object store."""
