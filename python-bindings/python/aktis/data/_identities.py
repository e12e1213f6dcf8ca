"""What makes a job that writes files the same as one before, so that it is taken up where that was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import _failing, _native
from ._context import DataContext
from ._fingerprints import Described, fingerprint

#: Names and values; jobs are the same if all of them are.
Traits = list[tuple[str, str]]


def identity_of(plan: Any, sink: dict[str, Any], written_as: Any) -> tuple[Traits | None, str]:
    """What the job of writing ``plan`` into ``sink`` is; or ``None``, and why it cannot be taken up."""
    if isinstance(plan, _native.Recorder) and plan._waits:
        return None, "it begins with what this process has computed before"
    context = DataContext.get_current()
    keeps_order = bool(context.execution_options.preserve_order)
    traits, why = _native.jobs().identity(plan, sink, keeps_order=keeps_order, failures=_failing.job_wide(context))
    if why is not None:
        return None, why
    seen: Counter[str] = Counter()
    functions: Traits = []
    for definition in definitions(plan):
        seen[definition.name] += 1
        again = f" ({seen[definition.name]})" if seen[definition.name] > 1 else ""
        functions.append((f"the function of {definition.name}{again}", fingerprint(dict(definition.parts))))
    if written_as is not None:
        functions.append(("the format of the files", fingerprint(written_as)))
    return functions + [tuple(known) for known in traits], ""


def definitions(plan: Any) -> Iterator[Described]:
    """The functions of a plan, in the order in which it was made."""
    if not isinstance(plan, _native.Recorder):
        return
    for call in plan._calls:
        for value in (*call.args, *call.kwargs.values()):
            if isinstance(value, Described):
                yield value
