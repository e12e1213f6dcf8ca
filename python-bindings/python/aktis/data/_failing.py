"""Rows that a function fails for: what users say of them, and the error that names them.

>>> policy("map()", on_error="skip", max_errors=3)["max_errors"]
3
>>> policy("map()", on_error="ignore")
Traceback (most recent call last):
...
ValueError: map(on_error='ignore'): on_error is 'raise', 'skip' or 'dead_letter'; did you mean 'skip'?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._context import DataContext

#: What may become of rows that a function fails for.
ON_ERROR = ("raise", "skip", "dead_letter")
#: The options of a step that say it.
OPTIONS = ("on_error", "max_errors", "max_error_ratio", "timeout_s")


class RowError(Exception):
    """Raised by a function that knows which rows it fails for; or returned, in the place of a row.

    With ``on_error="skip"`` or ``"dead_letter"`` these rows are left out, and nobody has to find them by calling the function with
    halves of the batch. With ``on_error="raise"``, the default, it fails the job as any exception does.

    A function over rows (``map``, ``flat_map``, ``filter``) raises it, or returns it instead of what it would return for a good
    row. A function over batches raises it with the positions of the bad rows, and is called again with the others; or, if it is a
    generator, yields it besides what it yields for the others, and is not called again.

    Args:
        message: what is wrong; the column ``message`` of dead letters.
        rows: of a batch: a position, several of them, or a dict from positions to messages of their own.

    Example:
        >>> import aktis.data
        >>> def root(batch):
        ...     bad = [at for at, x in enumerate(batch["x"]) if x < 0]
        ...     if bad:
        ...         raise aktis.data.RowError("negative", rows=bad)
        ...     return {"root": batch["x"] ** 0.5}
        >>> ds = aktis.data.from_items([{"x": 4}, {"x": -1}, {"x": 9}])
        >>> ds.map_batches(root, on_error="skip").take_all()
        [{'root': 2.0}, {'root': 3.0}]
    """

    def __init__(self, message: str = "", *, rows: int | Iterable[int] | Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.rows = _positions(rows, message)

    def __reduce__(self) -> Any:
        return _row_error, (type(self), self.args, self.rows)


def _row_error(kind: type[RowError], args: tuple[Any, ...], rows: dict[int, str] | None) -> RowError:
    error = kind.__new__(kind)
    error.args, error.rows = args, rows
    return error


def _positions(rows: Any, message: str) -> dict[int, str] | None:
    if rows is None:
        return None
    if isinstance(rows, Mapping):
        return {int(row): str(text) for row, text in rows.items()}
    if not isinstance(rows, Iterable):
        rows = [rows]
    return {int(row): message for row in rows}


def policy(
    call: str,
    *,
    on_error: Any = None,
    max_errors: Any = None,
    max_error_ratio: Any = None,
    timeout_s: Any = None,
) -> dict[str, Any]:
    """What a step does with rows that fail, as the plan takes it; what is None is what the job says."""
    check_on_error(call, "on_error", on_error)
    check_count(call, "max_errors", max_errors)
    check_ratio(call, "max_error_ratio", max_error_ratio)
    check_seconds(call, "timeout_s", timeout_s)
    if on_error == "raise" and (max_errors is not None or max_error_ratio is not None):
        raise ValueError(
            f"{call}: max_errors and max_error_ratio say how many rows may be left out, and on_error='raise' leaves out none: "
            "give on_error='skip' or 'dead_letter'"
        )
    return {
        "on_error": on_error,
        "max_errors": max_errors,
        "max_error_ratio": None if max_error_ratio is None else float(max_error_ratio),
        "max_errored_batches": None,
        "timeout_s": None if timeout_s is None else float(timeout_s),
    }


def of_step(call: str, **options: Any) -> dict[str, Any]:
    """The policy that options of a step say. Limits where no row may be left out are refused."""
    from ._context import DataContext

    said = policy(call, **options)
    has_limit = said["max_errors"] is not None or said["max_error_ratio"] is not None
    if has_limit and said["on_error"] is None and not may_lose_rows(DataContext.get_current()):
        raise ValueError(
            f"{call}: max_errors and max_error_ratio say how many rows may be left out, and none is: give on_error='skip' or 'dead_letter'"
        )
    return said


def taken(call: str, options: dict[str, Any]) -> dict[str, Any]:
    """The same, of options that are taken out of others."""
    return of_step(call, **{name: options.pop(name, None) for name in OPTIONS})


def job_wide(context: DataContext) -> dict[str, Any] | None:
    """What holds where steps say nothing; None: rows that fail end the job, and those that may be lost have no limit."""
    blocks = context.max_errored_blocks
    on_error = "skip" if blocks and context.on_error == "raise" else context.on_error
    wide = policy(
        "DataContext",
        # Limits hold also for steps that say themselves that rows are left out.
        on_error=None if on_error == "raise" else on_error,
        max_errors=context.max_errors,
        max_error_ratio=context.max_error_ratio,
        timeout_s=context.batch_timeout_s,
    ) | {"max_errored_batches": blocks if blocks > 0 else None}
    return None if all(said is None for said in wide.values()) else wide


def may_lose_rows(context: DataContext) -> bool:
    """Whether steps that say nothing leave out rows that fail."""
    wide = job_wide(context)
    return wide is not None and wide["on_error"] is not None


def check_on_error(call: str, name: str, value: Any) -> None:
    """Raises for what is no way to treat rows that fail."""
    if value is None or value in ON_ERROR:
        return
    import difflib

    nearest = difflib.get_close_matches(str(value), ON_ERROR, n=1) or (["skip"] if value == "ignore" else [])
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    told = f"{call.removesuffix('()')}({name}={value!r})" if call.endswith("()") else f"{_told(call, name)} = {value!r}"
    raise ValueError(f"{told}: {name} is 'raise', 'skip' or 'dead_letter'{hint}")


def check_chosen(call: str, name: str, value: Any) -> None:
    """The same where one must be chosen."""
    check_on_error(call, name, value if value is not None else "None")


def _told(call: str, name: str) -> str:
    """
    >>> _told("map()", "timeout_s"), _told("DataContext", "batch_timeout_s")
    ('map(): timeout_s', 'DataContext.batch_timeout_s')
    """
    return f"{call}: {name}" if call.endswith("()") else f"{call}.{name}"


def check_blocks(call: str, name: str, value: Any) -> None:
    """Raises for what is no number of blocks as Ray counts them: -1 is any."""
    if not isinstance(value, int) or isinstance(value, bool) or value < -1:
        raise ValueError(f"{_told(call, name)} must be a whole number, or -1 for any number, not {value!r}")


def check_count(call: str, name: str, value: Any) -> None:
    """Raises for what is no number of rows."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise ValueError(f"{_told(call, name)} must be a whole number of at least 0, not {value!r}")


def check_ratio(call: str, name: str, value: Any) -> None:
    """Raises for what is no share."""
    if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1):
        raise ValueError(
            f"{_told(call, name)} must be a number from 0 to 1, as 0.01 for one row of a hundred, not {value!r}"
        )


def check_seconds(call: str, name: str, value: Any) -> None:
    """Raises for what is no time to wait for a batch."""
    if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9):
        raise ValueError(f"{_told(call, name)} must be a number of seconds above 0, not {value!r}")
