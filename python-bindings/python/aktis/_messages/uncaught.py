"""What to do about an error that nobody catches in the user's own program, where numpy's words name no way out.

A plain array cannot say more than "assignment destination is read-only". What a program does not catch is shown by
``sys.excepthook``, or by IPython's cells: there a line is added, by the hook that was there before and not instead of it.

>>> error = ValueError("assignment destination is read-only")
>>> explain(error)
>>> error.__notes__[0][:53]
'arrays from aktis.get() and from batches are read-onl'
>>> explain(KeyError("x"))
"""

from __future__ import annotations

import sys

# As type checkers know it; `init` waits for what is imported here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_READ_ONLY = (
    "arrays from aktis.get() and from batches are read-only, because they lie in memory that others read, too: change a copy, "
    "array = array.copy()"
)
_is_hooked = False


def hook() -> None:
    """From now on errors that nobody catches are explained. Once per process."""
    global _is_hooked
    if _is_hooked:
        return
    _is_hooked = True
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        explain(error)
        before(kind, error, traceback)

    sys.excepthook = show
    # Who runs in a cell has imported it.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        shell.events.register("post_run_cell", _after_cell)


def explain(error: BaseException) -> None:
    """Adds what to do to an error, unless that is said already."""
    from .hints import is_about_read_only

    # What comes from a worker has been explained there, with the place.
    if is_about_read_only(error) and "copy()" not in str(error) and _READ_ONLY not in getattr(error, "__notes__", ()):
        error.add_note(_READ_ONLY)


def _after_cell(result: Any) -> None:
    """Says it below the traceback, which IPython has shown by now."""
    error = result.error_in_exec
    if isinstance(error, BaseException):
        explain(error)
        if _READ_ONLY in getattr(error, "__notes__", ()):
            print(_READ_ONLY, file=sys.stderr)
