"""What is expected of rows: how users say it, and what they are told when it does not hold.

>>> limit(3), limit(0.01)
((3, None), (None, 0.01))
>>> import numpy
>>> limit(numpy.int64(3)), limit(numpy.float32(0.01))
((3, None), (None, 0.01))
>>> limit(1.5)
Traceback (most recent call last):
...
ValueError: expect(): max_violations is a number of rows, or a float below 1 for a share of them, not 1.5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aktis._session.logging_level import logger
from aktis.exceptions import AktisError

from . import _batches
from ._given_numbers import is_real, is_whole

#: What is told of a row in a message, at most.
_MOST_CHARACTERS = 200

_LOGGER = logger("aktis.data")


class ExpectationError(AktisError):
    """More rows violate an expectation (:meth:`Dataset.expect`) than may. The job has ended, and what it had written is gone.

    Attributes:
        name: of the expectation: its expression, or what the user has called it.
        violations: rows that violate it, of those that came by then.
        rows: those that came by then.
        max_violations: how many may, as the user has said it.
        examples: some of them, dicts with ``row``, the row as it came to the expectation (columns that nobody asks for are not read),
            and ``position``, where it lies: ``file``, ``row_group`` and ``row``, as far as they are known, then ``input`` and ``input_row``,
            the number of the part of the rows that it came with and its own in that.

    Example:
        >>> import aktis.data
        >>> try:
        ...     aktis.data.from_items([{"x": 1}, {"x": -1}]).expect("x >= 0").take_all()
        ... except aktis.data.ExpectationError as error:
        ...     print(error.name, error.violations, [example["row"] for example in error.examples])
        x >= 0 1 [{'x': -1}]
    """

    def __init__(self, message: str, found: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.name: str = found["name"]
        self.violations: int = found["violations"]
        self.rows: int = found["rows"]
        self.max_violations: int | float = found["max_violations"]
        self.examples: list[dict[str, Any]] = found["examples"]

    def __reduce__(self) -> Any:
        names = ("name", "violations", "rows", "max_violations", "examples")
        return type(self), (str(self), {name: getattr(self, name) for name in names})


def broken(message: str, found: Mapping[str, Any]) -> ExpectationError:
    """The exception for an expectation that has ended the job. Called by the native module."""
    examples = _examples(found["examples"])
    return ExpectationError(message + _some_of_them(examples), {**found, "examples": examples})


def warn(execution: Any) -> None:
    """Logs of a run that has ended which expectations do not hold that only warn."""
    for found in execution.expectations():
        if found["verdict"] == "broken" and found["on_violation"] == "warn":
            rows = "row" if found["rows"] == 1 else "rows"
            violate = "violates" if found["violations"] == 1 else "violate"
            _LOGGER.warning(
                "expect(%s): %s of %s %s %s it, more than max_violations=%s allows%s",
                found["name"], found["violations"], found["rows"], rows, violate, found["max_violations"],
                _some_of_them(_examples(found["examples"])),
            )  # fmt: skip


def limit(max_violations: Any) -> tuple[int | None, float | None]:
    """How many rows may violate an expectation, or which share of them."""
    wanted = "a number of rows, or a float below 1 for a share of them"
    if not is_real(max_violations):
        raise TypeError(f"expect(): max_violations is {wanted}, not {max_violations!r}")
    if max_violations < 0 or not (is_whole(max_violations) or max_violations < 1):
        raise ValueError(f"expect(): max_violations is {wanted}, not {max_violations!r}")
    if is_whole(max_violations):
        return min(int(max_violations), (1 << 64) - 1), None
    # 0.01 of 32 bits is a little less than that of 64.
    return None, float(str(max_violations)) if hasattr(max_violations, "dtype") else float(max_violations)


def only_warns(on_violation: Any) -> bool:
    """Whether a broken expectation is only told."""
    if on_violation not in ("raise", "warn"):
        raise ValueError(
            f"expect(): on_violation is 'raise' or 'warn', not {on_violation!r}; filter(expr=...) leaves rows out, and on_error= those that "
            "a function fails for"
        )
    return bool(on_violation == "warn")


def _examples(batches: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows with their positions, of batches of one row each."""
    examples = [row for batch in batches for row in _batches.rows_of(batch)]
    for example in examples:
        if isinstance(example["row"], dict):
            example["row"] = {
                name: value for name, value in example["row"].items() if _batches.MADE_ON_THE_WAY not in name
            }
    return examples


def _some_of_them(examples: Sequence[Mapping[str, Any]]) -> str:
    """
    >>> _some_of_them([{"row": {"x": 1}, "position": {"file": "a", "row_group": 0, "row": 7, "input": 0, "input_row": 9}}])
    ". For example: {'x': 1} (a, row group 0, row 7)"
    """
    told = [f"{_short(example['row'])} ({_place(example['position'])})" for example in examples]
    return ". For example: " + "; ".join(told) if told else ""


def _short(row: Any) -> str:
    text = repr(row)
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def _place(position: Mapping[str, Any]) -> str:
    """
    >>> _place({"file": None, "row_group": None, "row": None, "input": 2, "input_row": 5})
    'row 5 of input 2'
    """
    told = [] if position["file"] is None else [position["file"]]
    if position["row_group"] is not None:
        told.append(f"row group {position['row_group']}")
    if position["row"] is not None:
        told.append(f"row {position['row']}")
    elif position["input_row"] is not None:
        told.append(f"row {position['input_row']} of input {position['input']}")
    return ", ".join(told) or f"input {position['input']}"
