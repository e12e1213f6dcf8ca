"""Where datasets end: files that are written."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _folders, _running
from ._keywords import PYARROW_WRITER, Keywords, Refused

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


class Writing:
    """The methods of a dataset that write its rows."""

    _plan: Any
    _stats: Any

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
        _folders.check_counts("write_parquet", {**rows, "concurrency": concurrency, "row_group_size": row_group_size})
        if min_rows_per_file and max_rows_per_file and min_rows_per_file > max_rows_per_file:
            raise ValueError(f"write_parquet(): min_rows_per_file is larger than max_rows_per_file: {rows}")
        folder, wanted = _folders.prepared(self._plan, "write_parquet", path, mode, try_create_dir=try_create_dir)
        if folder is None:
            return
        sink = {
            "kind": "parquet", "folder": folder, "prefix": uuid.uuid4().hex[:12], "compression": compression or "snappy",
            "row_group_rows": row_group_size, "max_writers": concurrency, "mode": wanted, **rows,
        }  # fmt: skip
        execution = _running.start(self._plan, ordered=False, sink=sink)
        self._stats = execution
        _running.run(execution)
