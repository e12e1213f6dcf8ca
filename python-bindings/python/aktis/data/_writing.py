"""Where datasets end: files that are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _folders, _parquet_options, _partition_columns
from ._keywords import PYARROW_WRITER, Keywords, Refused
from ._output import Output, Resume

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ._save_mode import SaveMode
    from ._typed import WriteArgs
    from .datasource import FilenameProvider

_WRITE_KEYWORDS = Keywords(
    "write_parquet",
    used=(
        "mode", "resume", "compression", "row_group_size", "min_rows_per_file", "max_rows_per_file", "min_bytes_per_file",
        "num_rows_per_file",
        "partition_cols", "filename_provider", "concurrency", "try_create_dir", "filesystem", "dead_letters", "arrow_parquet_args",
        "arrow_parquet_args_fn",
    ),
    refused={
        "catalog": Refused("write the files, and tell the catalog about them"),
        "arrow_open_stream_args": Refused("files are local: there is nothing to open", (None, {})),
        "ray_remote_args": Refused("rows are written by the workers of the step before", (None, {})),
        "partitioning_flavor": Refused("folders are named as Hive names them", (None, "hive")),
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
        partition_cols: Sequence[str] | None = None,
        filename_provider: FilenameProvider | None = None,
        mode: Literal["append", "overwrite", "ignore", "error"] | SaveMode = _folders.APPEND,
        resume: Resume = "auto",
        compression: str | None = None,
        row_group_size: int | None = None,
        min_rows_per_file: int | None = None,
        max_rows_per_file: int | None = None,
        min_bytes_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_parquet_args: Mapping[str, Any] | None = None,
        arrow_parquet_args_fn: Callable[[], Mapping[str, Any]] | None = None,
        dead_letters: str | os.PathLike[str] | None = None,
        **options: Unpack[WriteArgs],
    ) -> None:
        """Writes Parquet files into a folder. They become visible together, when all rows are written; a job that fails
        leaves nothing, and what was there is untouched.

        Args:
            path: The folder, here or elsewhere (``s3://``, ``gs://``, ...); it is made if it is not there.
            partition_cols: Columns whose values are folders, ``day=2024-01-01/city=Oslo``, the outermost first: files do not have them.
            filename_provider: What files are called; see :class:`aktis.data.datasource.FilenameProvider`.
            mode: For a folder that is there: ``"append"`` adds files, ``"overwrite"`` puts the new ones in the place of
                what is there once they are whole, ``"ignore"`` writes nothing, ``"error"`` fails. Without a mode files are
                added, with a warning that names what is there.
            resume: ``"auto"``: if this same job was left unfinished, go on with it, and say so; ``True``: it must have been;
                ``False``: begin anew, and remove what is left. What is the same, and what can be taken up, is told in
                ``docs/data/resume.md``.
            compression: ``"snappy"`` (the default), ``"zstd"``, ``"lz4"``, ``"gzip"``, ``"brotli"`` or ``"none"``.
            row_group_size: Most rows of a row group.
            min_rows_per_file: Rows that a file has at least, but for the last one.
            max_rows_per_file: Rows that a file has at most.
            min_bytes_per_file: Bytes that the rows of a file have at least in memory, but for those of the last one; files are smaller,
                because Parquet packs them. In the place of numbers of rows.
            concurrency: Workers that write at once, at most.
            try_create_dir: ``False``: fail if the folder is not there.
            arrow_parquet_args: More options of ``pyarrow.parquet.write_table`` as a dict: ``compression``, ``compression_level``,
                ``row_group_size``, ``use_dictionary``, ``write_statistics``, ``data_page_size`` and ``sorting_columns``.
            arrow_parquet_args_fn: Called once for more of them.
            dead_letters: The folder for rows that steps with ``on_error="dead_letter"`` put aside; by default ``_dead_letters`` in
                 ``path``. :func:`aktis.data.read_dead_letters` reads them.
            options: The same by name; ``filesystem``: one of ``pyarrow.fs`` or fsspec that the folder lies in. Other arguments of Ray
                are refused by name, unless they are the defaults.

        Raises:
            ValueError: a number is not a whole one of at least 1, or the path is that of a file; or the folder is there, with
                ``mode="error"``; or there is nothing to go on with, with ``resume=True``.
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
        given = {name: more.pop(name) for name in _parquet_options.DEFAULTS if name in more}
        given = {"compression": compression, "row_group_size": row_group_size, **given}
        filesystem = more.pop("filesystem", None)
        _WRITE_KEYWORDS.check(more)
        writing = _parquet_options.read(given)
        counts = {
            "min_rows_per_file": min_rows_per_file,
            "max_rows_per_file": max_rows_per_file,
            "min_bytes_per_file": min_bytes_per_file,
        }
        sizes = {name: writing[name] for name in ("row_group_size", "data_page_size")}
        _folders.check_counts("write_parquet", {**counts, "concurrency": concurrency, **sizes})
        if min_rows_per_file and max_rows_per_file and min_rows_per_file > max_rows_per_file:
            raise ValueError(f"write_parquet(): min_rows_per_file is larger than max_rows_per_file: {counts}")
        if min_bytes_per_file and (min_rows_per_file or max_rows_per_file):
            raise ValueError(
                f"write_parquet(): the size of files is told by rows or by min_bytes_per_file, not both: {counts}"
            )
        columns = _partition_columns.checked(self._plan, "write_parquet", partition_cols)
        sink = {"kind": "parquet", "partition_cols": columns, "max_writers": concurrency, **counts, **writing}
        output = Output(
            "write_parquet", path, mode, try_create_dir=try_create_dir, resume=resume, filename_provider=filename_provider,
            style="parquet", filesystem=filesystem, dead_letters=dead_letters,
        )  # fmt: skip
        output.write(self._plan, sink, self._keep_stats)

    def _keep_stats(self, execution: Any) -> None:
        self._stats = execution
