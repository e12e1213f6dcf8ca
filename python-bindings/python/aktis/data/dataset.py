"""The dataset."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _consume, _folders
from ._keywords import PYARROW_WRITER, Keywords, Refused
from ._native import Recorder
from ._schema import Schema
from ._taking import Row, Taking
from ._transforms import Transforms

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ._typed import WriteArgs

_WRITE_KEYWORDS = Keywords(
    "write_parquet",
    used=(
        "mode", "compression", "row_group_size", "min_rows_per_file", "max_rows_per_file", "num_rows_per_file",
        "concurrency", "try_create_dir", "arrow_parquet_args", "arrow_parquet_args_fn",
    ),
    refused={
        "partition_cols": Refused("filter and write one folder per value", (None, [])),
        "filesystem": Refused("mount it, and write to its path"),
        "catalog": Refused("write the files, and tell the catalog about them"),
        "filename_provider": Refused("rename the files after the job"),
        "arrow_open_stream_args": Refused("files are local: there is nothing to open", (None, {})),
        "min_bytes_per_file": Refused("use min_rows_per_file"),
        "ray_remote_args": Refused("rows are written by the workers of the step before", (None, {})),
        **PYARROW_WRITER,
    },
)  # fmt: skip


def _check_counts(counts: Mapping[str, Any]) -> None:
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ValueError(f"write_parquet(): {name} must be a whole number of at least 1, not {count!r}")


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

        Returns:
            A dataset that reads these rows. They stay until it is forgotten, and go to disk where the object store is full.

        Raises:
            TaskError: as for :meth:`take`.

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
        mode: Literal["append", "overwrite", "ignore", "error"] = _folders.APPEND,
        compression: str | None = None,
        row_group_size: int | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_parquet_args: Mapping[str, Any] | None = None,
        arrow_parquet_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        **options: Unpack[WriteArgs],
    ) -> None:
        """Writes Parquet files into a folder. They become visible together, when all rows are written; a job that fails
        leaves nothing, and what was there is untouched.

        Args:
            path: The folder; it is made if it is not there.
            mode: For a folder that is there: ``"append"`` adds files, ``"overwrite"`` puts the new ones in the place of
                what is there once they are whole, ``"ignore"`` writes nothing, ``"error"`` fails. Without a mode files are
                added, with a warning that names what is there.
            compression: ``"snappy"`` (the default), ``"zstd"``, ``"lz4"``, ``"gzip"`` or ``"none"``.
            row_group_size: Most rows of a row group.
            min_rows_per_file: Rows that a file has at least, but for the last one.
            max_rows_per_file: Rows that a file has at most.
            concurrency: Workers that write at once, at most.
            try_create_dir: ``False``: fail if the folder is not there.
            arrow_parquet_args: More of these as a dict; ``compression`` and ``row_group_size`` are known.
            arrow_parquet_args_fn: Called once for more of them.
            options: Other arguments of Ray: refused by name, unless they are the defaults.

        Raises:
            ValueError: a number is not a whole one of at least 1, or the path is that of a file; or the folder is there, with
                ``mode="error"``.
            FileNotFoundError: it is not, with ``try_create_dir=False``.
            OSError: it cannot be written into; the disk is full.
            TaskError: as for :meth:`take`.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_parquet(folder)
            >>> aktis.data.read_parquet(folder).count()
            10
        """
        more = {**options, **(arrow_parquet_args or {}), **(arrow_parquet_args_fn() if arrow_parquet_args_fn else {})}
        min_rows_per_file = more.pop("num_rows_per_file", None) or min_rows_per_file
        compression = more.pop("compression", None) or compression
        row_group_size = more.pop("row_group_size", None) or row_group_size
        _WRITE_KEYWORDS.check(more)
        rows = {"min_rows_per_file": min_rows_per_file, "max_rows_per_file": max_rows_per_file}
        _check_counts({**rows, "concurrency": concurrency, "row_group_size": row_group_size})
        if min_rows_per_file and max_rows_per_file and min_rows_per_file > max_rows_per_file:
            raise ValueError(f"write_parquet(): min_rows_per_file is larger than max_rows_per_file: {rows}")
        if not try_create_dir and not os.path.isdir(path):
            raise FileNotFoundError(
                f"write_parquet({os.fspath(path)!r}, try_create_dir=False): there is no such folder"
            )
        wanted = str(getattr(mode, "value", mode))
        prepared = self._plan.prepare_folder(os.fspath(path), wanted)
        if prepared is None:
            return
        folder, left_behind = prepared
        for text in left_behind:
            warnings.warn(f"write_parquet({os.fspath(path)!r}): {text}", stacklevel=2)
        if mode is _folders.APPEND:
            _folders.warn_of_files(os.fspath(path), folder)
        sink = {
            "kind": "parquet", "folder": folder, "prefix": uuid.uuid4().hex[:12], "compression": compression or "snappy",
            "row_group_rows": row_group_size, "max_writers": concurrency, "mode": wanted, **rows,
        }  # fmt: skip
        execution = _consume.start(self._plan, ordered=False, sink=sink)
        self._stats = execution
        _consume.run(execution)

    def input_files(self) -> list[str]:
        """The files that are read.

        Returns:
            Their paths; an empty list if the rows come from memory.

        >>> import aktis.data
        >>> aktis.data.range(3).input_files()
        []
        """
        return self._plan.input_files()

    def num_blocks(self) -> int:
        """How many blocks a materialised dataset has, and how many parts the source of another is read in at least.

        Returns:
            A number of at least 1.

        >>> import aktis.data
        >>> aktis.data.range(3, override_num_blocks=2).num_blocks()
        2
        """
        return self._plan.num_blocks()

    def explain(self) -> str:
        """What will run: the plan after optimisation and the stages it is cut into.

        Returns:
            Text of several lines. Nothing runs.

        >>> import aktis.data
        >>> print(aktis.data.range(3).filter(expr="id > 1").explain())  # doctest: +ELLIPSIS
        Plan:
        Filter: source.id > Int64(1)
          TableScan: source...
        """
        return self._plan.explain()

    def stats(self) -> str:
        """What the last run of this dataset did, per operator: text, which a notebook shows as a table.

        Returns:
            Text of several lines: seconds of wall clock and CPU, rows, bytes. Empty if it has not run.

        >>> import aktis.data
        >>> ds = aktis.data.range(3)
        >>> rows = ds.take_all()
        >>> "rows" in ds.stats()
        True
        """
        from ._notebook import Stats

        return Stats("" if self._stats is None else self._stats.stats_text(), self.get_stats_summary())

    def get_stats_summary(self) -> dict[str, Any]:
        """:meth:`stats` as a dict.

        Returns:
            An empty dict if it has not run. Times are seconds, sizes bytes.

        >>> import aktis.data
        >>> aktis.data.range(3).get_stats_summary()
        {}
        """
        return {} if self._stats is None else self._stats.stats()

    def __reduce__(self) -> Any:
        if not isinstance(self._plan, Recorder):
            raise TypeError(
                "a dataset that was materialised cannot be pickled: its rows belong to this session. Pickle the dataset "
                "that it was made of, or write its rows and read them there"
            )
        return type(self), (self._plan,)

    def __repr__(self) -> str:
        schema = self._known_columns()
        columns = "unknown columns" if schema is None else ", ".join(f"{f.name}: {f.type}" for f in schema)
        return f"{type(self).__name__}({columns})"

    def _repr_html_(self) -> str:
        from ._notebook import dataset_html

        return dataset_html(type(self).__name__, self._known_columns(), self._rows_at_hand())

    def _rows_at_hand(self) -> int | None:
        """How many rows, if nothing has to be read to know it."""
        return None

    def __iter__(self) -> Iterator[Row]:
        raise TypeError("a Dataset is not iterated over directly: use iter_rows() or iter_batches()")

    def __bool__(self) -> bool:
        """A dataset is there, whether it has rows or not."""
        return True

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __len__(self) -> int:
            raise TypeError("a Dataset has no len(), because all of it may have to run to know: use count()")

        def __getitem__(self, index: Any) -> Any:
            raise TypeError(
                f"a Dataset cannot be indexed with {index!r}: use take(n) or limit(n) for the first rows, select_columns() for columns"
            )

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            from aktis._messages.missing import explained

            raise AttributeError(explained("Dataset", name, dir(type(self))))


class MaterializedDataset(Dataset):
    """A dataset whose rows lie in the object store; :meth:`Dataset.materialize` makes it.

    >>> import aktis.data
    >>> aktis.data.range(3).materialize().take(1)
    [{'id': 0}]
    """

    def _rows_at_hand(self) -> int | None:
        return self._plan.known_rows()
