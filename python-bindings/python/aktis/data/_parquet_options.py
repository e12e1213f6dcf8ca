"""Options of ``pyarrow.parquet.write_table`` that :meth:`~aktis.data.Dataset.write_parquet` takes, as Ray's does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Names of codecs that mean the same.
_CODECS = {"uncompressed": "none", "lz4_raw": "lz4"}

#: All that are known, with what they are when nobody says.
DEFAULTS: dict[str, Any] = {
    "compression": None,
    "compression_level": None,
    "row_group_size": None,
    "use_dictionary": True,
    "write_statistics": True,
    "data_page_size": None,
    "sorting_columns": None,
}


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the native sink is told."""
    options = {**DEFAULTS, **{name: value for name, value in given.items() if value is not None}}
    for name in ("use_dictionary", "write_statistics"):
        if not isinstance(options[name], bool):
            raise NotImplementedError(
                f"write_parquet({name}={options[name]!r}) is not there yet: give True or False, for all columns alike"
            )
    level = options["compression_level"]
    if level is not None and (not isinstance(level, int) or isinstance(level, bool)):
        raise NotImplementedError(
            f"write_parquet(compression_level={level!r}) is not there yet: give a whole number, for all columns alike"
        )
    compression = options["compression"] or "snappy"
    if not isinstance(compression, str):
        raise NotImplementedError(
            f"write_parquet(compression={compression!r}) is not there yet: give one name, for all columns alike"
        )
    compression = compression.lower()
    return {
        **options,
        "compression": _CODECS.get(compression, compression),
        "sorting_columns": [_sorted_by(column) for column in options["sorting_columns"] or ()],
    }


def _sorted_by(column: Any) -> tuple[int, bool, bool]:
    try:
        return int(column.column_index), bool(column.descending), bool(column.nulls_first)
    except AttributeError:
        raise TypeError(
            f"write_parquet(sorting_columns=...) takes pyarrow.parquet.SortingColumn, not {type(column).__name__}"
        ) from None
