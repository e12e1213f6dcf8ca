"""Rows that were put aside because a function failed for them: those of a run, and those that lie in files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._stores.store import Store
    from .dataset import Dataset

#: The folder beside written files.
FOLDER = "_dead_letters"


def letters_of(execution: Any, operator: str | None) -> Dataset:
    """The rows that a run has put aside."""
    from . import _one_schema, _parts
    from .dataset import MaterializedDataset

    told = [letters for letters in execution.dead_letters() if operator in (None, letters[0])]
    if not told:
        return _none()
    schema = _one_schema.unified(
        [schema for _, schema, _ in told], "dead_letters()", [f"rows of {name}" for name, _, _ in told]
    )
    parts = [_parts.Part(reference, first_row, rows, size, True) for _, _, (reference, first_row, rows, size) in told]
    return MaterializedDataset(schema, parts)


def read_dead_letters(path: str | os.PathLike[str], *, operator: str | None = None, filesystem: Any = None) -> Dataset:
    """The rows that steps with ``on_error="dead_letter"`` have put aside while files were written.

    Args:
        path: the folder that was written into, or the one that ``dead_letters=`` named.
        operator: only those of the step of this name, as the column ``operator`` has it. Needed where rows of several steps have
            columns of one name and types that do not go together.
        filesystem: one of ``pyarrow.fs`` or fsspec that the folder lies in, where the path does not say it (``s3://``, ...).

    Returns:
        A dataset with a row for each row that failed; without rows if none did. Its columns:

        =============  ====================================================================================
        ``row``        the row as the step got it, a dict (a struct)
        ``position``   where it lies: ``file``, ``row_group`` and ``row`` in that, as far as they are known;
                       ``input`` and ``input_row``, the number of the input of the step and the row's in it
        ``operator``   the step: ``MapBatches(f)``
        ``error``      the class of the exception; ``WorkerCrashedError``, ``OutOfMemoryError`` or
                       ``TimeoutError`` for a row that ended its process or took too long
        ``message``    what it says
        ``traceback``  where it was raised
        ``attempts``   how many calls with the row failed
        ``worker``     the process, and its node
        ``time``       when it was found
        =============  ====================================================================================

    Raises:
        FileNotFoundError: there is no such folder.

    Example:
        >>> import tempfile, aktis.data
        >>> folder = tempfile.mkdtemp()
        >>> ds = aktis.data.from_items([{"x": "1"}, {"x": "two"}, {"x": "3"}])
        >>> ds = ds.map(lambda row: {"x": int(row["x"])}, on_error="dead_letter")
        >>> ds.write_parquet(folder)
        >>> [(dead["row"], dead["error"]) for dead in aktis.data.read_dead_letters(folder).take_all()]
        [({'x': 'two'}, 'ValueError')]
    """
    from ._stores.choosing import chosen_store

    store, (folder,) = chosen_store("read_dead_letters", [os.fspath(path)], filesystem)
    found = _local_files(folder) if store is None else _files_in(store, folder)
    files = [file for file, opened in found if _has_letters(opened(), operator)]
    if not files:
        return _none()
    letters = _read(store, files)
    if operator is None:
        return letters
    from .expressions import col

    return letters.filter(expr=col("operator") == operator)


#: Files, each with its name, length and version, and what opens it.
_Files = list[tuple[tuple[str, int, int], Callable[[], Any]]]


def _local_files(folder: str) -> _Files:
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"read_dead_letters({folder!r}): there is no such folder")
    beside = os.path.join(folder, FOLDER)
    entries = os.scandir(beside if os.path.isdir(beside) else folder)
    paths = sorted(entry.path for entry in entries if entry.name.endswith(".parquet") and entry.is_file())
    return [((path, os.path.getsize(path), 0), functools.partial(os.fspath, path)) for path in paths]


def _files_in(store: Store, folder: str) -> _Files:
    folder = folder.rstrip("/")
    (entry,) = store.entries([folder])
    if entry is None or entry.size is not None or not store.has_folders:
        raise FileNotFoundError(f"read_dead_letters({folder!r}): there is no such folder")
    all_files = store.files_below(folder)
    beside = [file for file in all_files if file.path.startswith(f"{folder}/{FOLDER}/")]
    here = [file for file in all_files if "/" not in file.path.removeprefix(f"{folder}/")]
    files = sorted(file for file in beside or here if file.path.endswith(".parquet"))
    opened = [functools.partial(store.open, file.path, file.size or 0) for file in files]
    return [((file.path, file.size or 0, file.version), opens) for file, opens in zip(files, opened, strict=True)]


def _has_letters(opened: Any, operator: str | None) -> bool:
    """Whether a file is one of letters, of this step if one is named: not one of an output that has none beside it."""
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(opened) as file:
        if not {"row", "position", "operator", "error", "traceback"} <= set(file.schema_arrow.names):
            return False
        return operator is None or operator in file.read(columns=["operator"]).column(0).unique().to_pylist()


def _read(store: Store | None, files: list[tuple[str, int, int]]) -> Dataset:
    from . import _native
    from ._reading import read_parquet
    from .dataset import Dataset

    if store is None:
        return read_parquet([path for path, *_ in files], partitioning=None)
    return Dataset(_native.plan().read_parquet_in(store.dumped("read_dead_letters"), files, False, False, True))


def _none() -> Dataset:
    """No letters, with their columns."""
    import pyarrow

    from ._reading import from_arrow

    position = pyarrow.struct(
        [("file", "string"), ("row_group", "int64"), ("row", "int64"), ("input", "int64"), ("input_row", "int64")]
    )
    texts = [(name, pyarrow.string()) for name in ("operator", "error", "message", "traceback")]
    schema = pyarrow.schema([
        ("row", pyarrow.null()), ("position", position), *texts, ("attempts", pyarrow.int64()), ("worker", pyarrow.string()),
        ("time", pyarrow.timestamp("us", "UTC")),
    ])  # fmt: skip
    return from_arrow(schema.empty_table())
