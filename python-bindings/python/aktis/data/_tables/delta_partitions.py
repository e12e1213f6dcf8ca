"""The columns that partition a Delta table. Files do not have them: the log tells their values for each file, and folders like ``day=3``
are a custom that many writers have, some of the time."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from typing import Any

import pyarrow
from pyarrow import types

#: What a folder is called that stands for null.
_NULL = "__HIVE_DEFAULT_PARTITION__"
#: Filesystems take no longer names.
_MOST_BYTES = 255


def folder_of(texts: dict[str, str | None]) -> str:
    """The folders of a file by the custom; none where these would not tell the values.

    >>> folder_of({"day": "2026-11-29", "word": "a/b", "more": None})
    'day=2026-11-29/word=a%2Fb/more=__HIVE_DEFAULT_PARTITION__'
    >>> folder_of({"word": "x" * 300}), folder_of({"a=b": "x"}), folder_of({})
    ('', '', '')
    """
    folders = [f"{name}={urllib.parse.quote(text, safe='') if text else _NULL}" for name, text in texts.items()]
    is_told = all(urllib.parse.quote(name, safe="") == name for name in texts)
    return "/".join(folders) if is_told and all(len(folder) <= _MOST_BYTES for folder in folders) else ""


def files_of(table: Any) -> tuple[list[str], Any]:
    """The files of a table, and what the log says of each, in the same order."""
    actions = pyarrow.table(table.get_add_actions())
    uris, paths = table.file_uris(), actions.column("path").to_pylist()
    if len(paths) != len(uris) or not all(map(_is_of, uris, paths)):
        raise RuntimeError(
            "read_delta(): deltalake gives the files of the table in another order than their values, so that these cannot be told; give "
            "from_arrow() what DeltaTable(path).to_pyarrow_table() gives, and report this with the version of deltalake"
        )
    return uris, actions


def values_of(actions: pyarrow.Table, fields: Sequence[pyarrow.Field]) -> pyarrow.Table:
    """What the log says of files, a row for each."""
    # Releases have called it so and so.
    name = "partition" if "partition" in actions.column_names else "partition_values"
    values = actions.column(name).combine_chunks()
    return pyarrow.table({field.name: values.field(field.name).cast(field.type) for field in fields})


def _is_of(uri: str, path: str) -> bool:
    # Releases write paths as the log or as the store has them, and a store's addresses otherwise once more.
    return _plain(uri).endswith(_plain(path))


def _plain(text: str) -> str:
    return urllib.parse.unquote(urllib.parse.unquote(text))


def folders_tell(uris: Sequence[str], values: pyarrow.Table) -> bool:
    """Whether the folders of all files are the values that the log says, and nothing more."""
    if any(not _is_told(column.type) for column in values.columns):
        return False
    told: list[list[str | None]] = []
    for uri in uris:
        pairs = [part.split("=") for part in os.path.dirname(uri).split("/") if part.count("=") == 1]
        if [name for name, _ in pairs] != values.column_names:
            return False
        told.append([None if text in ("", _NULL) else urllib.parse.unquote(text) for _, text in pairs])
    try:
        return all(
            pyarrow.chunked_array([pyarrow.array(list(texts), pyarrow.string())]).cast(column.type).equals(column)
            for texts, column in zip(zip(*told, strict=True), values.columns, strict=True)
        )
    except pyarrow.ArrowInvalid:
        return False


def _is_told(kind: pyarrow.DataType) -> bool:
    """Whether a value has one text, which all read alike."""
    return types.is_string(kind) or types.is_integer(kind) or types.is_date32(kind) or types.is_boolean(kind)


def alike(uris: Sequence[str], values: pyarrow.Table) -> list[tuple[dict[str, Any], list[str]]]:
    """The files by their values."""
    lots: dict[tuple[Any, ...], tuple[dict[str, Any], list[str]]] = {}
    for uri, row in zip(uris, values.to_pylist(), strict=True):
        # NaN is not itself, and -0.0 is 0.0.
        lots.setdefault(tuple(map(repr, row.values())), (row, []))[1].append(uri)
    return list(lots.values())
