"""What a user's function was doing when it raised: for which rows, with which columns, and what to do about it.

All of it is found out when there is an error; calls that go well pay nothing.

>>> import pyarrow
>>> batch = pyarrow.RecordBatch.from_pydict({"name": ["a", "b"]})
>>> explained(KeyError("nam"), batch, "batches")
["there is no column 'nam': the columns are 'name'. Did you mean 'name'?", \
"raised for a batch of 2 rows, the first of which is {'name': 'a'}; on_error='dead_letter' puts rows aside that it fails for"]
"""

from __future__ import annotations

import difflib
import reprlib
from typing import Any

from aktis._messages import hints

from . import _batches

_SHORT = reprlib.Repr()
_SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 8, 60, 60
_WAY_OUT = "on_error='dead_letter' puts rows aside that it fails for"
_READ_ONLY = {
    "batches": (
        "batches are read-only, because they lie in memory that others read too: give map_batches(zero_copy_batch=False), or "
        "change a copy, batch[name] = batch[name].copy()"
    ),
    "others": "arrays of rows are read-only, because they lie in memory that others read too: change a copy, array.copy()",
}


def explain(error: BaseException, batch: Any, kind: str) -> None:
    """Says of an error of a function that got ``batch`` what there is to say.

    Args:
        batch: the record batch.
        kind: of the function, as its definition has it.
    """
    hints.about(error, *explained(error, batch, kind))


def explain_row(error: BaseException, rows: list[Any], position: int) -> None:
    """Says of an error which of the rows it was raised for, and what lets the others go on."""
    text = f"raised for row {position} of a batch of {len(rows)}: {_SHORT.repr(rows[position])}; {_WAY_OUT}"
    hints.about(error, text)


def explained(error: BaseException, batch: Any, kind: str) -> list[str]:
    """What there is to say, line by line."""
    lines = []
    names = [name for name in batch.schema.names if _batches.MADE_ON_THE_WAY not in name]
    batch = batch.select(names)
    if _is_about_columns(error, names):
        lines.append(_columns(error, names))
    if hints.is_about_read_only(error):
        lines.append(_READ_ONLY.get(kind, _READ_ONLY["others"]))
    if isinstance(error, ValueError) and "inhomogeneous shape" in str(error):
        lines.append("arrays of different shapes go into one column as a list of them: {'name': [array, array]}")
    if kind in ("batches", "column"):
        lines.append(_batch(batch))
    return lines


def _is_about_columns(error: BaseException, names: list[str]) -> bool:
    if isinstance(error, KeyError):
        # A key that is a column was looked for somewhere else.
        return not error.args or error.args[0] not in names
    return isinstance(error, AttributeError) and str(error).startswith("'DataFrame' object has no attribute")


def _columns(error: BaseException, names: list[str]) -> str:
    known = ", ".join(repr(name) for name in names) or "none"
    key = error.args[0] if isinstance(error, KeyError) and error.args else getattr(error, "name", None)
    if not isinstance(key, str) or " " in key:
        return f"the columns are {known}"
    nearest = difflib.get_close_matches(key, names, n=1)
    guess = f". Did you mean {nearest[0]!r}?" if nearest else ""
    return f"there is no column {key!r}: the columns are {known}{guess}"


def _batch(batch: Any) -> str:
    rows = _batches.rows_of(batch.slice(0, 1))
    first = f", the first of which is {_SHORT.repr(rows[0])}" if rows else ""
    count = f"{batch.num_rows} row" if batch.num_rows == 1 else f"{batch.num_rows} rows"
    return f"raised for a batch of {count}{first}; {_WAY_OUT}"
