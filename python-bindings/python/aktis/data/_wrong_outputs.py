"""What functions must not return, told with what was meant.

>>> str(no_batch(None, "MapBatches(f)"))[:24]
'MapBatches(f) returned N'
>>> print(no_row([1], "Map(f)"))
Map(f) returned a list; it must return a dict for a row. For any number of rows from each, use flat_map()
>>> print(no_rows({"a": 1}, "FlatMap(f)"))
FlatMap(f) returned a dict; it must return a list of dicts: return [row], or use map() for one row from each
>>> print(no_column([1, "x"]))
it has values of int (1 in row 0) and of str ('x' in row 1): make them of one type, for example text by str(value)
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

_BATCH = "a dict of columns (numpy arrays or lists), a pandas.DataFrame or a pyarrow.Table, or yield such batches"
_NO_RETURN = "did you forget 'return'?"


def check_names(names: list[str], function: str) -> None:
    """Refuses two columns of one name: rows, arrays by name and files have room for one of them.

    >>> check_names(["a", "b", "a"], "MapBatches(f)")
    Traceback (most recent call last):
    ...
    ValueError: MapBatches(f): two columns have the name 'a'; rename one of them
    """
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{function}: two columns have the name {twice!r}; rename one of them")


def no_batch(output: Any, function: str) -> ValueError:
    """For what is no batch."""
    if output is None:
        return ValueError(f"{function} returned None: {_NO_RETURN} It must return {_BATCH}")
    text = f"{function} returned {_kind(output)}; it must return {_BATCH}"
    if isinstance(output, (list, tuple)) and output and isinstance(output[0], Mapping):
        text += ". For rows as dicts, use flat_map(), which calls the function with each row"
    elif hasattr(output, "__array__"):
        text += ". Give the array a name: return {'name': array}"
    return ValueError(text)


def no_row(output: Any, function: str) -> ValueError:
    """For what is no row, of a function that makes one of one."""
    if output is None:
        return ValueError(f"{function} returned None: {_NO_RETURN} It must return a dict for a row")
    text = f"{function} returned {_kind(output)}; it must return a dict for a row"
    if isinstance(output, Iterable) and not isinstance(output, (str, bytes)):
        text += ". For any number of rows from each, use flat_map()"
    return ValueError(text)


def no_rows(output: Any, function: str) -> ValueError:
    """For what is not any number of rows."""
    if output is None:
        return ValueError(
            f"{function} returned None: {_NO_RETURN} It must return a list of dicts, which is [] where there are no rows"
        )
    text = f"{function} returned {_kind(output)}; it must return a list of dicts"
    if isinstance(output, Mapping):
        text += ": return [row], or use map() for one row from each"
    return ValueError(text)


def no_item(item: Any, function: str) -> ValueError:
    """For what is no row among several."""
    return ValueError(f"{function} returned rows with {_kind(item)} among them; each must be a dict")


def no_column(values: Any) -> str | None:
    """Why values have no place in one column; None: not because of their types."""
    first: dict[type, tuple[int, Any]] = {}
    if isinstance(values, (list, tuple)) or getattr(values, "dtype", None) == object:
        for row, value in enumerate(values):
            if value is not None and type(value).__name__ not in ("NAType", "NaTType"):
                first.setdefault(type(value), (row, value))
    if len(first) < 2:
        return None
    told = [f"of {kind.__name__} ({reprlib.repr(value)} in row {row})" for kind, (row, value) in first.items()]
    return f"it has values {' and '.join(told[:2])}: make them of one type, for example text by str(value)"


def no_value(error: Exception) -> str | None:
    """Why a value has no place in any column; None: for another reason.

    >>> import pyarrow
    >>> try:
    ...     pyarrow.array([1 + 2j])
    ... except pyarrow.ArrowException as error:
    ...     print(no_value(error))
    columns have numbers, texts, bytes, times, lists, dicts and arrays, and no complex: (1+2j). Make one of these of it (a dict, str(value)), \
or bytes by pickle.dumps(value) and of them the value by pickle.loads()
    """
    told = re.match(r"Could not convert (.*) with type (\w+): did not recognize", str(error), re.DOTALL)
    if told is not None:
        return (
            f"columns have numbers, texts, bytes, times, lists, dicts and arrays, and no {told[2]}: {told[1]}. Make one of these of it "
            "(a dict, str(value)), or bytes by pickle.dumps(value) and of them the value by pickle.loads()"
        )
    if "does not fit into 64 bits" in str(error):
        return f"{error}: make a float, a decimal.Decimal or text of it"
    return None


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"a {name}" if name in ("dict", "list", "tuple", "generator", "set") else name
