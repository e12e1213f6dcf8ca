"""Columns whose values are folders of what is written: ``partition_cols``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def checked(plan: Any, function: str, columns: Any) -> list[str]:
    """The names, where they can be folders."""
    if columns is None:
        return []
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise TypeError(f"{function}(partition_cols=...) takes a list of column names, not {columns!r}")
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{function}(partition_cols=...) takes names of columns, not {type(name).__name__}")
        if not name or "/" in name or "=" in name or name in (".", ".."):
            raise ValueError(
                f"{function}(partition_cols={names}): {name!r} makes no folder that tells its column; rename it, without / and ="
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{function}(partition_cols={names}): a column comes twice")
    schema = plan.schema() if names else None
    if schema is not None:
        known = list(schema.names)
        if missing := [name for name in names if name not in known]:
            raise ValueError(
                f"{function}(partition_cols={names}): there is no column {missing[0]!r}; the columns are {', '.join(known)}"
            )
        if set(names) == set(known):
            raise ValueError(
                f"{function}(partition_cols={names}): all columns are in it, so that nothing is left to write; leave one out"
            )
    return names
