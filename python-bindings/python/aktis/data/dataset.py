"""The dataset."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _batches, _consume, _functions
from ._schema import Schema

if TYPE_CHECKING:
    import pandas
    import pyarrow

Row = dict[str, Any]


class Dataset:
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

    # ----------------------------------------------------------------- functions

    def map_batches(
        self,
        fn: Any,
        *,
        batch_size: int | str | None = None,
        compute: Any = None,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, int] | None = None,
        udf_modifying_row_count: bool = True,
        resources: Mapping[str, float] | None = None,
        input_columns: list[str] | None = None,
        passthrough_columns: list[str] | None = None,
        **remote_args: Any,
    ) -> Dataset:
        """Runs a function over batches of rows.

        Args:
            fn: A function from a batch to a batch, or a generator of batches; a class with ``__call__``, which is
                constructed once per worker; or a native model such as :class:`aktis.models.TextEmbedder`.
            batch_size: Rows per call; ``None``: as many as there are at hand. Needed with ``num_gpus``.
            compute: :class:`ActorPoolStrategy` or :class:`TaskPoolStrategy`. By default a class gets one actor, and more
                where there is room, and a function as many workers as there are CPUs.
            batch_format: ``"default"`` and ``"numpy"``: dict of numpy arrays; ``"pandas"``; ``"pyarrow"``.
            zero_copy_batch: Batches may be read-only views of shared memory; ``False``: numpy arrays can be written to.
            fn_args: More arguments for each call.
            fn_kwargs: More keyword arguments for each call.
            fn_constructor_args: Arguments of the class.
            fn_constructor_kwargs: Keyword arguments of the class.
            num_cpus: CPUs of each worker; by default 1, and 0 with ``num_gpus``.
            num_gpus: GPUs of each worker; may be a fraction.
            memory: Bytes of memory of each worker.
            concurrency: Deprecated: number of workers, or ``(min, max)`` for a class.
            udf_modifying_row_count: ``False`` promises one row out for one row in; then ``limit`` is applied before.
            resources: More resources of each worker.
            input_columns: The columns that the function gets. Others are not even read, unless they pass by.
            passthrough_columns: Columns that pass by the function and appear next to what it returns, which must then
                have one row for one row. Filters on them are applied before the function.
            remote_args: Other arguments of Ray, which change nothing here.

        Example:
            >>> import aktis.data
            >>> ds = aktis.data.range(6)
            >>> ds.map_batches(lambda batch: {"sum": [batch["id"].sum()]}, batch_size=3).take_all()
            [{'sum': 3}, {'sum': 12}]
            >>> class AddN:
            ...     def __init__(self, n):
            ...         self.n = n
            ...     def __call__(self, batch):
            ...         return {"id": batch["id"] + self.n}
            >>> ds.map_batches(AddN, fn_constructor_args=(10,)).take(2)
            [{'id': 10}, {'id': 11}]
        """
        compute_spec = _functions.compute_of(
            fn, compute=compute, concurrency=concurrency, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory,
            resources=resources, remote_args=remote_args,
        )  # fmt: skip
        if _functions.is_embedder(fn):
            if compute is None and concurrency is None and not num_gpus:
                # One actor computes with all processors of its machine.
                compute_spec["max_workers"] = 1
            return Dataset(self._plan.embed(_functions.embedder_spec(fn, compute_spec, num_cpus), compute_spec))
        size = _functions.check_batch_size(batch_size, num_gpus)
        name = _functions.apply_kind(fn, "MapBatches")
        definition = _functions.definition_of(
            fn, kind="batches", name=name, batch_format=_batches.check_format(batch_format),
            zero_copy=zero_copy_batch, args=fn_args, kwargs=fn_kwargs, constructor_args=fn_constructor_args,
            constructor_kwargs=fn_constructor_kwargs,
        )  # fmt: skip
        return Dataset(
            self._plan.map(
                definition=definition,
                name=name,
                compute=compute_spec,
                batch_rows=size,
                reads=input_columns,
                keeps=passthrough_columns,
                keeps_rows=bool(passthrough_columns) or not udf_modifying_row_count,
            )
        )

    def map(self, fn: Any, **options: Any) -> Dataset:
        """Runs a function over rows: a dict in, a dict out. Takes the options of :meth:`map_batches` but the batches'.

        >>> import aktis.data
        >>> aktis.data.range(2).map(lambda row: {"id": row["id"], "even": row["id"] % 2 == 0}).take_all()
        [{'id': 0, 'even': True}, {'id': 1, 'even': False}]
        """
        return self._map_rows(fn, "Map", "rows", options, keeps_rows=True)

    def flat_map(self, fn: Any, **options: Any) -> Dataset:
        """Runs a function from a row to any number of rows.

        >>> import aktis.data
        >>> aktis.data.range(3).flat_map(lambda row: [{"n": row["id"]}] * row["id"]).take_all()
        [{'n': 1}, {'n': 2}, {'n': 2}]
        """
        return self._map_rows(fn, "FlatMap", "flat_rows", options)

    def filter(self, fn: Any = None, *, expr: str | None = None, **options: Any) -> Dataset:
        """Keeps the rows for which an SQL expression or a function is true.

        Prefer ``expr``: it runs without Python, before anything that does not change its columns, and down in the reader,
        which skips what cannot match.

        >>> import aktis.data
        >>> aktis.data.range(10).filter(expr="id > 6 and id <> 8").take_all()
        [{'id': 7}, {'id': 9}]
        >>> aktis.data.range(10).filter(lambda row: row["id"] % 5 == 0).take_all()
        [{'id': 0}, {'id': 5}]
        """
        if (fn is None) == (expr is None):
            raise ValueError("filter() needs either a function or expr=...")
        if expr is not None:
            return Dataset(self._plan.filter(str(expr)))
        return self._map_rows(fn, "Filter", "mask", options, is_mask=True)

    def _map_rows(self, fn: Any, prefix: str, kind: str, options: dict[str, Any], **plan_options: Any) -> Dataset:
        calls = {
            name: options.pop(f"fn_{name}", None)
            for name in ("args", "kwargs", "constructor_args", "constructor_kwargs")
        }
        reads = options.pop("input_columns", None)
        named = ("compute", "concurrency", "num_cpus", "num_gpus", "memory", "resources")
        placed = {name: options.pop(name, None) for name in named}
        compute_spec = _functions.compute_of(fn, remote_args=options, **placed)
        name = _functions.apply_kind(fn, prefix)
        definition = _functions.definition_of(fn, kind=kind, name=name, **calls)
        return Dataset(
            self._plan.map(definition=definition, name=name, compute=compute_spec, reads=reads, **plan_options)
        )

    def add_column(
        self, col: str, fn: Callable[[Any], Any], *, batch_format: str = "pandas", **options: Any
    ) -> Dataset:
        """Adds or replaces a column by what a function makes of each batch.

        >>> import aktis.data
        >>> aktis.data.range(2).add_column("double", lambda df: df["id"] * 2).take_all()
        [{'id': 0, 'double': 0}, {'id': 1, 'double': 2}]
        """
        compute_spec = _functions.compute_of(fn, **options)
        name = f"{col}={_functions.name_of(fn)}"
        definition = _functions.definition_of(
            fn, kind="column", name=name, batch_format=_batches.check_format(batch_format)
        )
        return Dataset(
            self._plan.map(
                definition=definition,
                name=f"AddColumn({col})",
                compute=compute_spec,
                keeps_all_except=[col],
                keeps_rows=True,
            )
        )

    # ----------------------------------------------------------------- columns and rows

    def select_columns(self, cols: str | list[str], **_: Any) -> Dataset:
        """These columns, in this order.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).select_columns(["b"]).take_all()
        [{'b': 2}]
        """
        return Dataset(self._plan.select([cols] if isinstance(cols, str) else list(cols)))

    def drop_columns(self, cols: list[str], **_: Any) -> Dataset:
        """All but these columns.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).drop_columns(["b"]).take_all()
        [{'a': 1}]
        """
        return Dataset(self._plan.drop([cols] if isinstance(cols, str) else list(cols)))

    def rename_columns(self, names: Mapping[str, str] | list[str], **_: Any) -> Dataset:
        """New names: a dict from old to new, or a list with a name for every column.

        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 1, "b": 2}]).rename_columns({"a": "c"}).take_all()
        [{'c': 1, 'b': 2}]
        """
        if not isinstance(names, Mapping):
            old = self.columns() or []
            if len(old) != len(names):
                raise ValueError(f"rename_columns() got {len(names)} names for {len(old)} columns: {old}")
            names = dict(zip(old, names, strict=True))
        return Dataset(self._plan.rename(list(names.items())))

    def limit(self, limit: int) -> Dataset:
        """The first rows.

        >>> import aktis.data
        >>> aktis.data.range(1000).limit(2).take_all()
        [{'id': 0}, {'id': 1}]
        """
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit() needs a whole number of at least 0, not {limit!r}")
        return Dataset(self._plan.limit(limit))

    # ----------------------------------------------------------------- taking rows

    def _run(self, *, ordered: bool = True) -> Iterator[pyarrow.RecordBatch]:
        execution = _consume.start(self._plan, ordered=ordered)
        self._stats = execution
        return _consume.batches(execution)

    def take(self, limit: int = 20) -> list[Row]:
        """The first rows, as dicts.

        >>> import aktis.data
        >>> aktis.data.range(100).take(2)
        [{'id': 0}, {'id': 1}]
        """
        limited = self.limit(limit)
        rows = [row for batch in limited._run() for row in _batches.rows_of(batch)]
        self._stats = limited._stats
        return rows

    def take_all(self, limit: int | None = None) -> list[Row]:
        """All rows, as dicts; fails if there are more than ``limit``."""
        if limit is None:
            return [row for batch in self._run() for row in _batches.rows_of(batch)]
        rows = self.take(limit + 1)
        if len(rows) > limit:
            raise ValueError(f"the dataset has more than {limit} rows")
        return rows

    def take_batch(self, batch_size: int = 20, *, batch_format: str | None = "default") -> Any:
        """The first rows as one batch.

        >>> import aktis.data
        >>> aktis.data.range(100).take_batch(3)["id"].tolist()
        [0, 1, 2]
        """
        table = self.limit(batch_size).to_arrow()
        if table.num_rows == 0:
            raise ValueError("the dataset is empty")
        return _batches.from_arrow(_batches._one_batch(table), _batches.check_format(batch_format))

    def show(self, limit: int = 20) -> None:
        """Prints the first rows.

        >>> import aktis.data
        >>> aktis.data.range(100).show(2)
        {'id': 0}
        {'id': 1}
        """
        for row in self.take(limit):
            print(row)

    def count(self) -> int:
        """How many rows. Where the files' footers tell, nothing is read.

        >>> import aktis.data
        >>> aktis.data.range(100).count()
        100
        """
        rows = self._plan.known_rows()
        if rows is not None:
            return rows
        execution = _consume.start(self._plan, ordered=False, sink={"kind": "count"})
        self._stats = execution
        _consume.blocks(execution)
        return execution.rows_sunk()

    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: str | None = "default",
        drop_last: bool = False,
        **ignored: Any,
    ) -> Iterator[Any]:
        """Batches one after another, while the rest is still being made.

        >>> import aktis.data
        >>> [len(batch["id"]) for batch in aktis.data.range(10).iter_batches(batch_size=4)]
        [4, 4, 2]
        """
        if ignored.get("local_shuffle_buffer_size") is not None:
            raise NotImplementedError("iter_batches(local_shuffle_buffer_size=...) is not there yet")
        wanted = _batches.check_format(batch_format)
        for table in _rebatch(self._run(), batch_size, drop_last):
            yield _batches.from_arrow(_batches._one_batch(table), wanted)

    def iter_rows(self, **_: Any) -> Iterator[Row]:
        """Rows one after another, as dicts."""
        for batch in self._run():
            yield from _batches.rows_of(batch)

    def to_arrow(self) -> pyarrow.Table:
        """All rows as one Arrow table.

        >>> import aktis.data
        >>> aktis.data.range(3).to_arrow().num_rows
        3
        """
        import pyarrow

        batches = list(self._run())
        if not batches:
            schema = self._plan.schema()
            return (schema or pyarrow.schema([])).empty_table()
        if all(batch.schema.equals(batches[0].schema) for batch in batches):
            return pyarrow.Table.from_batches(batches)
        tables = [pyarrow.Table.from_batches([batch]) for batch in batches]
        return pyarrow.concat_tables(tables, promote_options="permissive")

    def to_pandas(self, limit: int | None = None) -> pandas.DataFrame:
        """All rows as a data frame.

        >>> import aktis.data
        >>> aktis.data.range(3).to_pandas()["id"].tolist()
        [0, 1, 2]
        """
        dataset = self if limit is None else self.limit(limit)
        return dataset.to_arrow().to_pandas()

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

    # ----------------------------------------------------------------- writing

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

    # ----------------------------------------------------------------- describing

    def schema(self, fetch_if_missing: bool = True) -> Schema | None:
        """The columns. If only a function knows them, it runs over the first row to find out.

        >>> import aktis.data
        >>> aktis.data.range(3).schema().names
        ['id']
        """
        known = self._plan.schema()
        if known is not None:
            return Schema(known)
        if self._seen_schema is None and fetch_if_missing:
            for batch in self.limit(1)._run():
                self._seen_schema = Schema(batch.schema)
        return self._seen_schema

    def columns(self, fetch_if_missing: bool = True) -> list[str] | None:
        """The names of the columns."""
        schema = self.schema(fetch_if_missing)
        return None if schema is None else schema.names

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


def _rebatch(batches: Iterator[Any], batch_size: int | None, drop_last: bool) -> Iterator[Any]:
    """Tables of exactly `batch_size` rows, the last one of what is left."""
    import pyarrow

    held: list[Any] = []
    rows = 0
    for batch in batches:
        if batch_size is None:
            yield pyarrow.Table.from_batches([batch])
            continue
        held.append(batch)
        rows += batch.num_rows
        if rows < batch_size:
            continue
        table = pyarrow.Table.from_batches(held)
        whole = rows - rows % batch_size
        for first in range(0, whole, batch_size):
            yield table.slice(first, batch_size)
        held = table.slice(whole).to_batches()
        rows -= whole
    if rows and not drop_last:
        yield pyarrow.Table.from_batches(held)
