"""Where datasets end in files that are not Parquet, in databases, and in sinks of one's own.

A format is a module of `_formats`, and a method here that says what of it users can choose.
"""

from __future__ import annotations

import inspect
import os
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _folders, _identities, _one_node, _partition_columns, _together
from ._keywords import Keywords, Refused
from ._output import Output

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from pyarrow import csv as arrow_csv

    from ._save_mode import SaveMode
    from ._typed import WriteFileArgs, WriteORCArgs, WriteWholeFileArgs
    from .datasource import Datasink, FileDatasink

    Mode = Literal["append", "overwrite", "ignore", "error"] | SaveMode

#: For guesses at names that are misspelt.
_USED = (
    "mode", "resume", "partition_cols", "filename_provider", "min_rows_per_file", "max_rows_per_file", "num_rows_per_file",
    "concurrency", "try_create_dir", "filesystem", "dead_letters",
)  # fmt: skip
_REFUSED = {
    "arrow_open_stream_args": Refused("compress the files after the job", (None, {})),
    "arrow_csv_args_fn": Refused("give the arguments themselves"),
    "pandas_json_args_fn": Refused("give the arguments themselves"),
    "arrow_orc_args_fn": Refused("give the arguments themselves"),
    "ray_remote_args": Refused("rows are written by the workers of the step before", (None, {})),
}


class WritingFiles:
    """The methods of a dataset that write its rows through Python's libraries."""

    _plan: Any
    _stats: Any

    def write_csv(
        self,
        path: str | os.PathLike[str],
        *,
        write_options: arrow_csv.WriteOptions | None = None,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        **options: Unpack[WriteFileArgs],
    ) -> None:
        """Writes CSV files into a folder. They become visible together, as those of :meth:`write_parquet`.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            write_options: ``pyarrow.csv.WriteOptions``: delimiter, quotes, whether there is a line of names.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: Rows that a file has at least, but for the last one.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            arrow_open_stream_args: ``{"compression": "gzip"}`` makes ``.csv.gz``; also ``"zstd"``, ``"bz2"``, ``"brotli"``, ``"lz4"``,
                ``"snappy"`` and ``"xz"``.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also if a column has lists or other nested values, for which CSV has no place.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_csv(folder)
            >>> aktis.data.read_csv(folder).count()
            10
        """
        from ._formats import lines
        from ._formats.write_csv import CSVSink

        compression = lines.compression_said("write_csv", arrow_open_stream_args)
        sink = CSVSink(write_options, None if compression == "detect" else compression)
        self._write(sink, path, mode, min_rows_per_file, concurrency, try_create_dir, options)

    def write_json(
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        arrow_open_stream_args: Mapping[str, Any] | None = None,
        **options: Unpack[WriteFileArgs],
    ) -> None:
        """Writes files of JSON lines, an object per row, into a folder. They become visible together, as those of
        :meth:`write_parquet`. Dates and times are text (ISO 8601), what is no number (NaN) is null.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            arrow_open_stream_args: As for :meth:`write_csv`.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also for values that JSON has no word for.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.from_items([{"id": 1, "tags": ["x"]}]).write_json(folder)
            >>> aktis.data.read_json(folder).take_all()
            [{'id': 1, 'tags': ['x']}]
        """
        from ._formats import lines
        from ._formats.write_json import JSONSink

        compression = lines.compression_said("write_json", arrow_open_stream_args)
        sink = JSONSink(None if compression == "detect" else compression)
        self._write(sink, path, mode, min_rows_per_file, concurrency, try_create_dir, options)

    def write_orc(
        self,
        path: str | os.PathLike[str],
        *,
        arrow_orc_args: Mapping[str, Any] | None = None,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        **options: Unpack[WriteORCArgs],
    ) -> None:
        """Writes ORC files into a folder. They become visible together, as those of :meth:`write_parquet`.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            arrow_orc_args: Arguments of ``pyarrow.orc.ORCWriter``: ``{"compression": "zstd"}`` and so on. They can be given by
                themselves, too: ``compression="zstd"``.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also for types that ORC does not have.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_orc(folder)
            >>> aktis.data.read_orc(folder).count()
            10
        """
        from ._formats.write_orc import ORCSink

        more: dict[str, Any] = {**options}
        own = {name: more.pop(name) for name in ORCSink.ARGUMENTS if name in more}
        sink = ORCSink({**(arrow_orc_args or {}), **own})
        self._write(sink, path, mode, min_rows_per_file, concurrency, try_create_dir, more)

    def write_arrow(
        self,
        path: str | os.PathLike[str],
        *,
        compression: Literal["lz4", "zstd"] | None = None,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        **options: Unpack[WriteWholeFileArgs],
    ) -> None:
        """Writes files of Arrow's IPC format, which are Feather files (version 2) too, into a folder. They become visible together,
        as those of :meth:`write_parquet`.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            compression: Of the columns: ``"lz4"`` or ``"zstd"``; ``None``: none, so that readers can map files into memory.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`; or there is no such compression.
            TaskError: as for :meth:`take`.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_arrow(folder)
            >>> aktis.data.read_arrow(folder).count()
            10
        """
        from ._formats.write_arrow import ArrowSink

        if compression not in (None, "lz4", "zstd"):
            raise ValueError(f"write_arrow(compression={compression!r}): it is 'lz4', 'zstd' or None")
        self._write(ArrowSink(compression), path, mode, min_rows_per_file, concurrency, try_create_dir, options)

    def write_numpy(
        self,
        path: str | os.PathLike[str],
        *,
        column: str,
        mode: Mode = _folders.APPEND,
        min_rows_per_file: int | None = None,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        **options: Unpack[WriteWholeFileArgs],
    ) -> None:
        """Writes a column as files of ``numpy.save`` into a folder. They become visible together, as those of
        :meth:`write_parquet`.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            column: The column.
            mode: As for :meth:`write_parquet`.
            min_rows_per_file: As for :meth:`write_csv`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            options: As for :meth:`write_parquet`.

        Raises:
            ValueError: as for :meth:`write_parquet`.
            TaskError: as for :meth:`take`; also if rows are no arrays of one shape.

        Example:
            >>> import tempfile, aktis.data
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_numpy(folder, column="id")
            >>> aktis.data.read_numpy(folder).count()
            10
        """
        from ._formats.write_arrays import ArraysSink

        self._write(ArraysSink(column), path, mode, min_rows_per_file, concurrency, try_create_dir, options)

    def write_images(
        self,
        path: str | os.PathLike[str],
        column: str,
        file_format: str = "png",
        *,
        mode: Mode = _folders.APPEND,
        concurrency: int | None = None,
        try_create_dir: bool = True,
        **options: Unpack[WriteWholeFileArgs],
    ) -> None:
        """Writes the images of a column into a folder, a file each. They become visible together, as those of
        :meth:`write_parquet`. Needs Pillow.

        Args:
            path: As for :meth:`write_parquet`, and so are the arguments that are not named here.
            column: The column, of arrays of ``uint8``.
            file_format: ``"png"``, ``"jpeg"`` and so on.
            mode: As for :meth:`write_parquet`.
            concurrency: As for :meth:`write_parquet`.
            try_create_dir: As for :meth:`write_parquet`.
            options: As for :meth:`write_parquet`.

        Raises:
            ImportError: Pillow is not installed.
            ValueError: as for :meth:`write_parquet`; or there is no such format.
            TaskError: as for :meth:`take`; also if an array is no image.

        Example:
            >>> import numpy, tempfile, aktis.data
            >>> images = aktis.data.from_numpy(numpy.zeros((2, 4, 6, 3), numpy.uint8))
            >>> images.write_images(tempfile.mkdtemp(), "data")  # doctest: +SKIP
        """
        try:
            from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there
        except ImportError as error:
            raise ImportError("write_images() needs Pillow: pip install pillow") from error
        Image.init()
        if "." + file_format.lower() not in Image.registered_extensions():
            raise ValueError(
                f"write_images(): Pillow knows no format {file_format!r}; 'png' and 'jpeg' are two that it knows"
            )
        from ._formats.write_images import ImagesSink

        self._write(ImagesSink(column, file_format), path, mode, None, concurrency, try_create_dir, options)

    def _write(
        self,
        sink: Any,
        path: Any,
        mode: Any,
        min_rows: Any,
        concurrency: Any,
        try_create_dir: bool,
        options: Mapping[str, Any],
    ) -> None:
        from ._formats import writing

        function, more = sink.function, dict(options)
        min_rows = more.pop("num_rows_per_file", None) or min_rows
        max_rows = more.pop("max_rows_per_file", None)
        columns = _partition_columns.checked(self._plan, function, more.pop("partition_cols", None))
        output = Output(
            function, path, mode, try_create_dir=try_create_dir, resume=more.pop("resume", "auto"),
            filename_provider=more.pop("filename_provider", None), style="row" if sink.is_row_a_file() else "file",
            filesystem=more.pop("filesystem", None), dead_letters=more.pop("dead_letters", None),
        )  # fmt: skip
        Keywords(function, used=_USED, refused=_REFUSED).check(more)
        counts = {"min_rows_per_file": min_rows, "max_rows_per_file": max_rows, "concurrency": concurrency}
        _folders.check_counts(function, counts)
        if min_rows and max_rows and min_rows > max_rows:
            raise ValueError(f"{function}(): min_rows_per_file is larger than max_rows_per_file: {counts}")
        native = {
            "kind": "files", "operation": f"{function}()", "definition": writing.definition_of(sink, max_rows),
            "partition_cols": columns, "min_rows_per_file": min_rows, "max_writers": concurrency,
        }  # fmt: skip
        output.write(self._plan, native, self._keep_stats, written_as=(sink, max_rows))

    def _keep_stats(self, execution: Any) -> None:
        self._stats = execution

    def write_datasink(
        self, datasink: Datasink[Any], *, concurrency: int | None = None, ray_remote_args: None = None
    ) -> None:
        """Gives the rows to a sink of one's own, see :class:`aktis.data.datasource.Datasink`.

        What a sink does is not taken back when the job fails, and the rows of a worker that dies are given to it again: let it write
        by keys, or make what was written visible in ``on_write_complete``.

        Args:
            datasink: The sink. Its ``write`` runs in workers, its other methods here. One of files
                (:class:`aktis.data.datasource.RowBasedFileDatasink`) is committed as a whole, as ``write_parquet`` is.
            concurrency: Workers that write at once, at most.
            ray_remote_args: For Ray's sake: rows are written by workers of this step.

        Raises:
            TypeError: it is no Datasink, or cannot be sent to workers.
            NotImplementedError: it asks for something that is not there, see the error.
            TaskError: as for :meth:`take`.

        Example:
            >>> import aktis.data
            >>> class Rows(aktis.data.Datasink):
            ...     def write(self, blocks, ctx):
            ...         return sum(block.num_rows for block in blocks)
            ...     def on_write_complete(self, write_result):
            ...         print("rows", sum(write_result.write_returns))
            >>> aktis.data.range(10).write_datasink(Rows())
            rows 10
        """
        from .datasource import Datasink, FileDatasink

        Keywords("write_datasink", refused=_REFUSED).check({"ray_remote_args": ray_remote_args})
        if not isinstance(datasink, Datasink):
            raise TypeError(
                f"write_datasink() takes an aktis.data.Datasink, not {type(datasink).__name__}: derive from it, and give it a method "
                "write(self, blocks, ctx)"
            )
        if not getattr(datasink, "supports_distributed_writes", True):
            _one_node.check_is_here(
                f"{type(datasink).__name__}.supports_distributed_writes",
                "return the rows from write(), and keep them in on_write_complete(), which runs here",
            )
        if getattr(datasink, "min_bytes_per_write", None) is not None:
            raise NotImplementedError(
                f"{type(datasink).__name__}.min_bytes_per_write is not there yet: say min_rows_per_write"
            )
        if isinstance(datasink, FileDatasink):
            self._write_own_files(datasink, concurrency)
            return
        self._give_rows_to(datasink, concurrency, ("write_datasink", datasink.get_name()))

    def _write_own_files(self, datasink: FileDatasink, concurrency: int | None) -> None:
        from ._formats.write_own import OwnSink

        options = {"filename_provider": datasink.filename_provider, "filesystem": datasink.filesystem}
        self._write(
            OwnSink(datasink), datasink.path, datasink.mode, datasink.min_rows_per_write, concurrency, datasink.try_create_dir, options
        )  # fmt: skip

    def _give_rows_to(self, datasink: Datasink[Any], concurrency: int | None, called: tuple[str, str]) -> None:
        from . import expressions
        from .datasource import WriteTask

        schema = self._plan.schema()
        takes_schema = len(inspect.signature(datasink.on_write_start).parameters) > 0
        datasink.on_write_start(schema) if takes_schema else datasink.on_write_start()  # type: ignore[call-arg]
        try:
            write_uuid = uuid.uuid4().hex
            job = _identities.sign_of(self._plan) or write_uuid
            numbered = self.with_column(WriteTask.NUMBERS, expressions.monotonically_increasing_id())  # type: ignore[attr-defined]
            written = numbered.map_batches(
                WriteTask(datasink, job, write_uuid),
                batch_size=datasink.min_rows_per_write,
                batch_format="pyarrow",
                concurrency=concurrency,
            )
            from ._tables import committing, own_sinks

            function, name = called
            if _together.current() is not None:
                target = own_sinks.SinkTarget(function, datasink)
                return committing.write(written._plan, target, name, None, self._keep_stats)
            rows = written.take_all()
            self._stats = written._stats
            datasink.on_write_complete(own_sinks.result_of(rows))
        except Exception as error:
            datasink.on_write_failed(error)
            raise

    def write_sql(
        self,
        sql: str,
        connection_factory: Callable[[], Any],
        *,
        concurrency: int | None = None,
        ray_remote_args: None = None,
    ) -> None:
        """Gives the rows to a statement of a database, batch by batch, each in a transaction of its own.

        The rows of a worker that dies are given to it again: a statement that replaces rows by their key does not mind.

        Args:
            sql: The statement, with a place holder per column, in the order of the columns.
            connection_factory: Called in workers: gives a connection of Python's DB API 2 (PEP 249).
            concurrency: Workers that write at once, at most.
            ray_remote_args: As for :meth:`write_datasink`.

        Raises:
            TaskError: as for :meth:`take`; also if the database refuses.

        Example:
            >>> import aktis.data, os, sqlite3, tempfile
            >>> path = os.path.join(tempfile.mkdtemp(), "a.db")
            >>> with sqlite3.connect(path) as connection:
            ...     _ = connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY)")
            >>> aktis.data.range(10).write_sql("INSERT OR REPLACE INTO numbers VALUES (?)", lambda: sqlite3.connect(path))
            >>> aktis.data.read_sql("SELECT * FROM numbers", lambda: sqlite3.connect(path)).count()
            10
        """
        from ._formats.write_sql import SQLSink

        Keywords("write_sql", refused=_REFUSED).check({"ray_remote_args": ray_remote_args})
        self._give_rows_to(SQLSink(sql, connection_factory), concurrency, ("write_sql", sql))
