"""Large arguments that are sent by value again and again, where they could be put once.

Called by the native module for calls with much to send; other calls do not come here.

>>> import numpy, warnings
>>> array = numpy.zeros(1_000_000)
>>> note("f", (array,), None)
>>> with warnings.catch_warnings(record=True) as seen:
...     warnings.simplefilter("always")
...     note("f", (1,), {"image": array})
...     note("f", (array,), None)
>>> print(*(each.message for each in seen))
f() was given the same ndarray of 8 MB again, as 'image', and each time it is copied: put it once, ref = aktis.put(value), \
and pass the reference
"""

from __future__ import annotations

import weakref
from typing import Any

_LARGE_BYTES = 1 << 20

#: Of each callee that was given something large: that, weakly; ``None``: its user was told.
_given: dict[str, weakref.WeakValueDictionary[int, Any] | None] = {}


def note(callee: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Looks at the arguments of a call; warns, once for each callee, if something large was sent before."""
    known = _given.setdefault(callee, weakref.WeakValueDictionary())
    if known is None:
        return
    places: list[tuple[int | str, Any]] = [*enumerate(args), *(kwargs or {}).items()]
    for place, value in places:
        size = getattr(value, "nbytes", None)
        if not isinstance(size, int) or size < _LARGE_BYTES:
            continue
        if known.get(id(value)) is value:
            _given[callee] = None
            _warn(callee, place, value, size)
            return
        try:
            known[id(value)] = value
        except TypeError:  # it takes no weak references, and is not to be kept alive
            continue


def _warn(callee: str, place: int | str, value: Any, size: int) -> None:
    from .user_warning import warn

    where = f"as {place!r}" if isinstance(place, str) else f"as its argument {place}"
    warn(
        f"{callee}() was given the same {type(value).__name__} of {size // 1_000_000} MB again, {where}, and each time it is "
        "copied: put it once, ref = aktis.put(value), and pass the reference"
    )
