"""What to do about an error that user code raised in a worker: lines below its traceback.

Who knows more of what went on than the exception says gives it to the exception, on its way out of the worker:

```text
 data._mistakes ──about──► exception ──► worker.describe_exception ──take──► name of the function, lines below the traceback
```

>>> error = KeyError("x")
>>> about(error, "the columns are 'id'", name="MapBatches(f)")
>>> take(error)
('MapBatches(f)', ["the columns are 'id'"])
>>> take(error)
(None, [])
>>> take(ValueError("assignment destination is read-only"))[1][0][:41]
'values that come from another process are'
"""

from __future__ import annotations

#: Where an exception carries them; nothing of it leaves the process.
_ATTRIBUTE = "__aktis_hints__"
_READ_ONLY = (
    "values that come from another process are read-only, because all that read them share their memory: change a copy, "
    "array = array.copy()"
)


def about(error: BaseException, *lines: str, name: str | None = None) -> None:
    """Says more of an error.

    Args:
        lines: what happened, or what to do.
        name: of the function that raised it, for people.
    """
    known, before = error.__dict__.get(_ATTRIBUTE, (None, []))
    error.__dict__[_ATTRIBUTE] = (known or name, [*before, *lines])


def take(error: BaseException) -> tuple[str | None, list[str]]:
    """What was said of the error: the name of the function, and lines for people."""
    name, lines = error.__dict__.pop(_ATTRIBUTE, (None, []))
    if is_about_read_only(error) and not any("read-only" in line for line in lines):
        lines = [*lines, _READ_ONLY]
    return name, lines


def is_about_read_only(error: BaseException) -> bool:
    """Whether somebody wrote into memory that others read.

    >>> is_about_read_only(ValueError("output array is read-only")), is_about_read_only(ValueError("no"))
    (True, False)
    """
    return isinstance(error, (ValueError, BufferError)) and "read-only" in str(error)
