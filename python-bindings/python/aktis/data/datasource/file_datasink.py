"""Sinks of files of one's own: what a row, or the rows of a file, look like in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _folders
from . import Datasink, FilenameProvider

if TYPE_CHECKING:
    import pyarrow

    from .._save_mode import SaveMode
    from ..block import BlockAccessor

#: Files are written, committed and taken up again as those of ``write_parquet``: nothing of this is the sink's.
_NOT_CALLED = (
    "write", "write_block", "open_output_stream", "on_write_start", "on_write_complete", "on_write_failed",
)  # fmt: skip


class FileDatasink(Datasink[None]):
    """The base of :class:`RowBasedFileDatasink` and :class:`BlockBasedFileDatasink`.

    Args:
        path: The folder.
        filesystem: As for :meth:`aktis.data.Dataset.write_parquet`, and so are those that are not named here.
        try_create_dir: Whether the folder is made.
        open_stream_args: Arguments of ``pyarrow.fs.FileSystem.open_output_stream``, such as ``{"compression": "gzip"}``.
        filename_provider: What files are called.
        dataset_uuid: What their names begin with.
        file_format: What their names end in, without the dot.
        mode: What becomes of files that are there.

    Raises:
        TypeError: the class has a method that is not called.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        open_stream_args: Mapping[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        dataset_uuid: str | None = None,
        file_format: str | None = None,
        mode: SaveMode | str = _folders.APPEND,
    ) -> None:
        for name in _NOT_CALLED:
            if getattr(type(self), name, None) is not getattr(Datasink, name, None):
                raise TypeError(
                    f"{type(self).__name__}.{name} would never be called: files are written and made visible as those of write_parquet(). "
                    "Derive from aktis.data.Datasink, and write files in write(self, blocks, ctx)"
                )
        if filename_provider is None and dataset_uuid is not None:
            filename_provider = FilenameProvider(dataset_uuid, file_format)
        self.path = path
        self.filesystem = filesystem
        self.try_create_dir = try_create_dir
        self.open_stream_args = dict(open_stream_args or {})
        self.filename_provider = filename_provider
        self.dataset_uuid = dataset_uuid
        self.file_format = file_format
        self.mode = mode

    def __getstate__(self) -> dict[str, Any]:
        """What workers need: where files go is the driver's matter, and a filesystem may not be sent."""
        return {**vars(self), "filesystem": None, "filename_provider": None}


class RowBasedFileDatasink(FileDatasink):
    """A file for each row, for :meth:`aktis.data.Dataset.write_datasink`: a class of one's own with :meth:`write_row_to_file`.

    The files become visible together, when all are written, as those of ``write_parquet``; and a job that was killed goes on.

    Args:
        path: The folder.
        filesystem: As for :meth:`aktis.data.Dataset.write_parquet`, and so are those that are not named here.
        try_create_dir: Whether the folder is made.
        open_stream_args: Arguments of ``pyarrow.fs.FileSystem.open_output_stream``, such as ``{"compression": "gzip"}``.
        filename_provider: What files are called.
        dataset_uuid: What their names begin with.
        file_format: What their names end in, without the dot.
        mode: What becomes of files that are there.

    Raises:
        TypeError: the class has a method that is not called.

    >>> import os, tempfile, aktis.data
    >>> class Texts(RowBasedFileDatasink):
    ...     def write_row_to_file(self, row, file):
    ...         file.write(row["text"].encode())
    >>> folder = tempfile.mkdtemp()
    >>> aktis.data.from_items([{"text": "a ray"}, {"text": "of light"}]).write_datasink(Texts(folder, file_format="txt"))
    >>> sorted(row["text"] for row in aktis.data.read_text(folder).take_all())
    ['a ray', 'of light']
    """

    #: Whether a file has one row.
    is_row_a_file: ClassVar[bool] = True

    def write_row_to_file(self, row: dict[str, Any], file: pyarrow.NativeFile) -> None:
        """Writes a row. Called in workers.

        Args:
            row: The row, as :meth:`aktis.data.Dataset.take` gives it.
            file: Its file, which is open for bytes and closed afterwards.

        Raises:
            NotImplementedError: the class does not say.

        >>> class Texts(RowBasedFileDatasink):
        ...     def write_row_to_file(self, row, file):
        ...         file.write(row["text"].encode())
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method write_row_to_file(self, row, file)")


class BlockBasedFileDatasink(FileDatasink):
    """Files of many rows, for :meth:`aktis.data.Dataset.write_datasink`: a class of one's own with :meth:`write_block_to_file`.

    Args:
        path: The folder.
        min_rows_per_file: Rows that a file has at least, but for the last one. All rows of a file are in memory at once.
        file_datasink_kwargs: As for :class:`FileDatasink`.

    >>> import tempfile, aktis.data
    >>> class Lines(BlockBasedFileDatasink):
    ...     def write_block_to_file(self, block, file):
    ...         for row in block.iter_rows():
    ...             file.write(f"{row['id']}\\n".encode())
    >>> folder = tempfile.mkdtemp()
    >>> aktis.data.range(3).write_datasink(Lines(folder, file_format="txt"))
    >>> sorted(row["text"] for row in aktis.data.read_text(folder).take_all())
    ['0', '1', '2']
    """

    is_row_a_file: ClassVar[bool] = False

    def __init__(
        self, path: str | os.PathLike[str], *, min_rows_per_file: int | None = None, **file_datasink_kwargs: Any
    ) -> None:
        super().__init__(path, **file_datasink_kwargs)
        self._min_rows_per_file = min_rows_per_file

    def write_block_to_file(self, block: BlockAccessor, file: pyarrow.NativeFile) -> None:
        """Writes the rows of a file. Called in workers.

        Args:
            block: The rows: ``to_arrow()``, ``to_pandas()`` and the like give them.
            file: The file, which is open for bytes and closed afterwards.

        Raises:
            NotImplementedError: the class does not say.

        >>> class Numbers(BlockBasedFileDatasink):
        ...     def write_block_to_file(self, block, file):
        ...         file.write(block.to_numpy("id").tobytes())
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method write_block_to_file(self, block, file)")

    @property
    def min_rows_per_write(self) -> int | None:
        return self._min_rows_per_file
