"""Tracebacks as the caller of a remote function wants to read them: the user's frames, and where they ran."""

from __future__ import annotations

import os
import traceback

import aktis

_PACKAGE_FOLDER = os.path.dirname(os.path.abspath(aktis.__file__)) + os.sep
_HEADER = "Traceback (most recent call last):\n"


def remote_traceback(error: BaseException, name: str) -> str:
    """The traceback of an error that a remote function raised in this process, without Aktis' own frames.

    >>> print(remote_traceback(KeyError("a"), "load"))  # doctest: +ELLIPSIS
    aktis::load() (pid=..., node=...)
    KeyError: 'a'
    """
    report = traceback.TracebackException.from_exception(error)
    _keep_user_frames(report, seen=set())
    text = "".join(report.format())
    return f"aktis::{name}() (pid={os.getpid()}, node={os.uname().nodename})\n{text.removeprefix(_HEADER).rstrip()}"


def _keep_user_frames(report: traceback.TracebackException, seen: set[int]) -> None:
    """Drops the package's own frames, in the errors that led to this one too."""
    if id(report) in seen:
        return
    seen.add(id(report))
    kept = [frame for frame in report.stack if not frame.filename.startswith(_PACKAGE_FOLDER)]
    report.stack = traceback.StackSummary.from_list(kept)
    for other in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if other is not None:
            _keep_user_frames(other, seen)
