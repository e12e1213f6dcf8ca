"""Rows on their way through the steps of a processor.

What steps add to a row may be anything: messages of different shapes, parameters that only some rows have. As columns they would be made
alike, with nulls where there was nothing. So between workers they travel as they are, in one column beside those that the dataset has.

>>> given = {"id": 1}
>>> carried = closed(given, {"id": 1, "payload": {"n": 2}})
>>> sorted(carried), opened(carried, is_first=False)
(['__data', 'id'], {'id': 1, 'payload': {'n': 2}})
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Any

#: The column's name, as in Ray.
DATA = "__data"
#: How its values begin.
_SIGN = b"aktis.data.llm\n"
#: What a row that did not fail has, for scripts that look at it.
ERROR = "__inference_error__"


def opened(row: Mapping[str, Any], *, is_first: bool) -> dict[str, Any]:
    """The row with all that steps have added to it; ``is_first``: nothing yet."""
    own = {name: value for name, value in row.items() if name != DATA}
    carried = row.get(DATA)
    if is_first:
        if carried is not None and not (isinstance(carried, bytes) and carried.startswith(_SIGN)):
            raise ValueError(f"the column {DATA!r} is where a processor keeps what it adds to rows: rename yours")
        # One of ours comes with a dead letter, which begins anew. What lies in a file is never unpickled.
        return own
    own.update(pickle.loads(row[DATA].removeprefix(_SIGN)))
    return own


def closed(row: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row for the next worker."""
    own = {name: value for name, value in row.items() if name != DATA}
    added = {name: value for name, value in data.items() if name not in own or value is not own[name]}
    return {**own, DATA: _SIGN + pickle.dumps(added, protocol=5)}


def prepared(function: Callable[[dict[str, Any]], Any] | None, data: dict[str, Any]) -> dict[str, Any]:
    """A row with what the user's ``preprocess`` makes of it."""
    if function is None:
        return data
    made = function(dict(data))
    if not isinstance(made, Mapping):
        raise TypeError(f"preprocess must return a dict of columns, not {type(made).__name__}")
    return {**data, **made}


def finished(
    function: Callable[[dict[str, Any]], Any] | None, data: dict[str, Any], *, tells_errors: bool
) -> dict[str, Any]:
    """What the user's ``postprocess`` makes of a row; the whole row without one."""
    made = data if function is None else function(data)
    if not isinstance(made, Mapping):
        raise TypeError(f"postprocess must return a dict of columns, not {type(made).__name__}")
    return {**made, ERROR: ""} if tells_errors else dict(made)


def check_columns(stage: str, wanted: Mapping[str, str], data: Mapping[str, Any]) -> None:
    """Raises for a column that a stage needs and a row has not."""
    for name, what in wanted.items():
        if data.get(name) is None:
            raise ValueError(
                f"{stage} needs the column {name!r} ({what}), and the row has {', '.join(map(repr, data)) or 'none'}: "
                "give build_processor() a preprocess= that returns it"
            )
