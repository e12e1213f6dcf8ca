"""Sources of files of one's own: which rows a file has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import Datasource

if TYPE_CHECKING:
    import pyarrow

    from .._chosen_files import FileShuffleConfig
    from ..block import Block
    from . import Partitioning

#: Files are found, opened and read again after a loss as those of ``read_binary_files``: nothing of this is the source's.
_NOT_CALLED = ("get_read_tasks", "_open_input_source", "_read_task")


class FileBasedDatasource(Datasource):
    """Files of a format of one's own, for :func:`aktis.data.read_datasource`: a class with :meth:`_read_stream`.

    Files are found, shared out to workers and fetched as those of other formats, from wherever paths lead.

    Args:
        paths: As for :func:`aktis.data.read_csv`, and so are the arguments that are not named here.
        filesystem: One of ``pyarrow.fs`` or fsspec that the paths lie in.
        schema: Only ``None``: the columns are those of the blocks.
        open_stream_args: ``{"compression": None}``: compressed files are given as they are; others as ``arrow_open_stream_args`` there.
        meta_provider: Ray's; only ``None``.
        partition_filter: Gets all paths and returns those that are read.
        partitioning: ``"hive"``, or a ``Partitioning``: paths add columns.
        ignore_missing_paths: Passes over paths that are not there.
        shuffle: ``"files"``, or a ``FileShuffleConfig``.
        include_paths: Adds the column ``path``.
        file_extensions: Endings of the files of a folder that are read; ``None``: all files.

    Raises:
        TypeError: the class has a method that is not called.
        NotImplementedError: ``schema`` or ``meta_provider`` is given.

    >>> import os, tempfile, aktis.data
    >>> class Lengths(FileBasedDatasource):
    ...     def _read_stream(self, f, path):
    ...         yield {"length": [len(f.read())]}
    >>> path = os.path.join(tempfile.mkdtemp(), "a.bin")
    >>> _ = open(path, "wb").write(b"abc")
    >>> aktis.data.read_datasource(Lengths(path)).take_all()
    [{'length': 3}]
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        filesystem: Any = None,
        schema: None = None,
        open_stream_args: Mapping[str, Any] | None = None,
        meta_provider: None = None,
        partition_filter: Callable[[list[str]], Iterable[str]] | None = None,
        partitioning: str | Partitioning | None = None,
        ignore_missing_paths: bool = False,
        shuffle: str | FileShuffleConfig | None = None,
        include_paths: bool = False,
        file_extensions: list[str] | None = None,
    ) -> None:
        for name in _NOT_CALLED:
            if getattr(type(self), name, None) is not getattr(Datasource, name, None):
                raise TypeError(
                    f"{type(self).__name__}.{name} would never be called: files are found and opened as those of read_binary_files(). "
                    "Derive from aktis.data.Datasource, and open files in its tasks"
                )
        if meta_provider is not None:
            raise NotImplementedError(
                f"{type(self).__name__}(meta_provider=...) is not there yet: give the paths that it would find, or a partition_filter"
            )
        if schema is not None:
            raise NotImplementedError(
                f"{type(self).__name__}(schema=...) is not there yet: leave it out, and give blocks with these columns in _read_stream()"
            )
        #: What :class:`aktis.data._chosen_files.Files` is told, but for what is said of the run.
        self._told = (
            paths,
            file_extensions,
            partitioning,
            include_paths,
            ignore_missing_paths,
            shuffle,
            partition_filter,
            open_stream_args,
        )
        self._filesystem = filesystem

    def __getstate__(self) -> dict[str, Any]:
        """What workers need: which files there are is the driver's matter, and a filter may not be sent."""
        return {**vars(self), "_told": None, "_filesystem": None}

    def _read_stream(self, f: pyarrow.NativeFile, path: str) -> Iterable[Block]:
        """The rows of a file. Called in workers; once more when a worker dies.

        Args:
            f: The file, uncompressed, which is open for bytes and closed afterwards.
            path: Where it lies.

        Returns:
            Blocks, one after another: tables of pyarrow, data frames of pandas or dicts of columns.

        Raises:
            NotImplementedError: the class does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method _read_stream(self, f, path)")
