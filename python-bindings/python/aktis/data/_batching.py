"""How rows are put into batches: what users say of it, as the plan takes it.

>>> of_step(batch_size=32).rows
32
>>> of_step(batch_size="auto").plan["is_auto"]
True
>>> of_step(token_budget=4096)
Traceback (most recent call last):
...
ValueError: map_batches(token_budget=...) needs tokens=: the column that tells how many tokens a row has, or a function of a batch
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ._given_numbers import is_whole

#: The options of ``map_batches`` that say it.
OPTIONS = ("batch_size", "token_budget", "tokens", "byte_budget", "window_rows")
#: Rows that an input should have where the size of batches is to be found, or measured: several batches of the usual sizes.
INPUT_ROWS = 4096


class Batching(NamedTuple):
    """What a step does."""

    #: Rows of a batch; None: something else says it, or as many as there are at hand.
    rows: int | None = None
    #: What else says it, for the plan.
    plan: dict[str, Any] | None = None
    #: Counts tokens, in workers.
    counter: Callable[[Any], Any] | None = None
    #: Rows that an input should have; 0: one batch's.
    input_rows: int = 0

    @property
    def is_sorted(self) -> bool:
        """Whether rows are called in another order, and what comes out is put back: there must be one row for each."""
        return self.plan is not None and self.plan["sorted_rows"] > 0


def of_groups(keys: list[str]) -> dict[str, Any]:
    """Batches of whole groups of rows that come sorted by ``keys``, for the plan.

    >>> of_groups(["k"])["group_keys"]
    ['k']
    """
    return _plan(group_keys=keys)


def _plan(**given: Any) -> dict[str, Any]:
    return {
        "is_auto": False,
        "token_budget": None,
        "token_column": None,
        "byte_budget": None,
        "sorted_rows": 0,
        "group_keys": [],
        **given,
    }


def of_step(
    *,
    batch_size: Any = None,
    num_gpus: float | None = None,
    token_budget: Any = None,
    tokens: Any = None,
    byte_budget: Any = None,
    window_rows: Any = None,
    call: str = "map_batches",
) -> Batching:
    """What ``map_batches``, or another ``call``, was told."""
    is_auto = batch_size == "auto"
    rows = None if is_auto else _rows(batch_size)
    token_budget, byte_budget, window_rows = (
        _least_one(f"{call}({name}=...) must be", value)
        for name, value in (("token_budget", token_budget), ("byte_budget", byte_budget), ("window_rows", window_rows))
    )
    _check_tokens(call, token_budget, tokens, window_rows)
    if window_rows is not None and is_auto:
        raise ValueError(
            f'{call}(window_rows=...) makes batches of rows of similar length, and batch_size="auto" looks for one number of rows: '
            "give token_budget= instead"
        )
    if window_rows is not None and token_budget is None and rows is None:
        raise ValueError(
            f"{call}(window_rows=...) sorts rows by length: say how they are cut, by token_budget= or batch_size="
        )
    has_budget = token_budget is not None or byte_budget is not None
    if num_gpus and rows is None and not is_auto and not has_budget:
        raise ValueError(
            f"{call}(num_gpus=...) needs a batch_size: the best one depends on the model, the data and the GPU; "
            'batch_size="auto" finds it while the job runs'
        )
    if not is_auto and not has_budget and window_rows is None:
        return Batching(rows)
    plan = _plan(
        is_auto=is_auto,
        token_budget=token_budget,
        token_column=tokens if isinstance(tokens, str) else None,
        byte_budget=byte_budget,
        sorted_rows=window_rows or 0,
    )
    many = INPUT_ROWS if is_auto or token_budget is not None else 0
    return Batching(rows, plan, None if isinstance(tokens, str) else tokens, max(many, 2 * (window_rows or 0)))


def _check_tokens(call: str, token_budget: Any, tokens: Any, window_rows: Any) -> None:
    counts = {"token_budget": token_budget, "window_rows": window_rows}
    asked = next((name for name, value in counts.items() if value is not None), None)
    if tokens is None and asked is not None:
        raise ValueError(
            f"{call}({asked}=...) needs tokens=: the column that tells how many tokens a row has, or a function of a batch"
        )
    if tokens is not None and asked is None:
        raise ValueError(f"{call}(tokens=...) counts for token_budget= or window_rows=, and neither is given")
    if tokens is not None and not isinstance(tokens, str) and not callable(tokens):
        raise TypeError(
            f"{call}(tokens=...) is the name of a column, or a function from a batch to a number for each row, not {tokens!r}"
        )


def _rows(batch_size: Any) -> int | None:
    """Rows per call for what the user wrote."""
    return 1024 if batch_size == "default" else _least_one("batch_size must be None, 'auto' or", batch_size)


def _least_one(what: str, value: Any) -> int | None:
    """A whole number, of numpy too."""
    if value is None:
        return None
    if not is_whole(value) or value < 1:
        raise ValueError(f"{what} a whole number of at least 1, not {value!r}")
    return int(value)


def counts_of(counted: Any, name: str) -> list[int]:
    """What a function of ``tokens=`` returned, as the native worker takes it.

    >>> counts_of([3, 4], "MapBatches(f)")
    [3, 4]
    >>> counts_of([3.5], "MapBatches(f)")
    Traceback (most recent call last):
    ...
    ValueError: MapBatches(f): the function of tokens= must return a whole number of at least 0 for each row, not 3.5
    """
    listed = counted.tolist() if hasattr(counted, "tolist") else counted
    listed = listed.to_pylist() if hasattr(listed, "to_pylist") else listed
    if isinstance(listed, (str, bytes)) or not hasattr(listed, "__iter__"):
        raise ValueError(f"{name}: the function of tokens= must return a number for each row, not {counted!r:.40}")
    whole = []
    for number in listed:
        if not hasattr(number, "__index__") or number < 0:
            raise ValueError(
                f"{name}: the function of tokens= must return a whole number of at least 0 for each row, not {number!r:.40}"
            )
        whole.append(int(number))
    return whole
