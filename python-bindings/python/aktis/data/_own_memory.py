"""Columns in memory that nobody writes to behind their back.

Blocks share the memory of arrays that functions return. A function that computes into one buffer again and again, as it is done
with pinned memory, returns that buffer every time: the rows of a call would become those of the next one before they are in the
store. So an array that somebody else holds is copied; one that was made for the call is not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy


def owned(columns: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The columns, with copies in the place of arrays that others than ``columns`` can write to.

    What looks at an array from the outside is told by counts of references, so an array that a suspended generator has a name for is
    copied, too. Arrays that cannot be written to (columns that a function got) are not.

    >>> import numpy
    >>> buffer = numpy.zeros(3)
    >>> columns = owned({"new": numpy.zeros(3), "part": buffer[:2]})
    >>> buffer[0] = 1
    >>> columns["part"].tolist()
    [0.0, 0.0]
    """
    copies = {}
    for name, values in columns.items():
        references = sys.getrefcount(values) - _ALONE
        if isinstance(values, numpy.ndarray):
            if values.flags.writeable and (references > 0 or _is_part(values)):
                copies[name] = values.copy()
        elif _is_series(values):
            # How many hold its memory cannot be seen through pandas; converting it takes longer than the copy.
            copies[name] = values.copy()
        elif _is_tensor(values) and (references > 0 or _is_part_of_storage(values)):
            copies[name] = values.clone()
    return {**columns, **copies} if copies else columns


def owned_row(row: Any) -> Any:
    """The same for what a function of rows returned, if it is a row; the rows of a batch become columns when all are there."""
    if type(row) is dict and not _ARRAYS.isdisjoint(map(type, row.values())):
        return owned(row)
    return row


def look_for_tensors() -> None:
    """Rows may have tensors from now on, if somebody has loaded what makes them."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is not None:
        _ARRAYS.add(tensor)


#: Types of values that share memory with what they are made of.
_ARRAYS: set[type] = {numpy.ndarray}


def _count(columns: Mapping[Any, Any]) -> int:
    """References to an array that only a mapping holds, as `owned` sees them; versions of Python differ in that."""
    counts = []
    for _name, values in columns.items():  # noqa: PERF102 - as above: the pair counts, too
        counts.append(sys.getrefcount(values))
    return counts[0]


_ALONE = _count({"only": numpy.zeros(1)})


def _count_base(view: numpy.ndarray) -> int:
    base: Any = view.base
    return sys.getrefcount(base)


#: Of what only one view looks at.
_ONE_VIEW = _count_base(numpy.zeros((2, 1)).reshape(2))


def _is_part(values: numpy.ndarray) -> bool:
    """Whether it looks at memory of something that others may hold."""
    base: Any = values.base
    if base is None:
        return False
    if sys.getrefcount(base) > _ONE_VIEW:
        return True
    if isinstance(base, numpy.ndarray):
        return _is_part(base)
    return not _is_tensor(base) or _is_part_of_storage(base)


def _is_series(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "pandas" and isinstance(
        getattr(values, "values", None), numpy.ndarray
    )


def _is_tensor(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "torch" and hasattr(values, "untyped_storage")


def _is_part_of_storage(tensor: Any) -> bool:
    """Whether there may be a larger tensor of which it is a part."""
    return tensor._base is not None or tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
