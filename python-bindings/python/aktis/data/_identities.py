"""What makes a job that writes files the same as one before, so that it is taken up where that was left."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from . import _caching, _failing, _native
from ._context import DataContext
from ._fingerprints import Described, fingerprint
from ._sql_functions import Steps

#: Names and values; jobs are the same if all of them are.
Traits = list[tuple[str, str]]


class Written(NamedTuple):
    """Rows on their way into a folder."""

    plan: Any
    #: ``None``: they come here.
    sink: dict[str, Any] | None
    #: What of the sink's settings only Python understands.
    written_as: Any


def keeps_all() -> bool:
    """Whether what all functions make is kept where rows of different inputs meet, and not of those alone that are worth it anyway."""
    return DataContext.get_current().checkpoint_config is not None


def identity_of(outputs: Sequence[Written]) -> tuple[Traits | None, str]:
    """What the job is that has these outputs; or ``None``, and why it cannot be taken up."""
    if any(isinstance(output.plan, _native.Recorder) and output.plan._waits for output in outputs):
        return None, "it begins with what this process has computed before"
    context = DataContext.get_current()
    keeps_order = bool(context.execution_options.preserve_order)
    native = [(output.plan, output.sink, None) for output in outputs]
    traits, why = _native.jobs().identity(
        native, keeps_order=keeps_order, keeps_all=keeps_all(), failures=_failing.job_wide(context)
    )
    if why is not None:
        return None, why
    formats: Traits = []
    for number, output in enumerate(outputs, 1):
        if output.written_as is not None:
            of_output = f" of output {number}" if len(outputs) > 1 else ""
            formats.append((f"the format of the files{of_output}", fingerprint(output.written_as)))
    return _functions(outputs) + _models(outputs) + formats + [tuple(known) for known in traits], ""


def sign_of(plan: Any) -> str | None:
    """What tells apart jobs that make rows; ``None``: nobody could tell this one from others."""
    traits, _ = identity_of([Written(plan, None, None)])
    return None if traits is None else fingerprint(traits)


def _functions(outputs: Sequence[Written]) -> Traits:
    """What the functions are; one that is on the way to several outputs is one."""
    found: dict[int, tuple[Described, list[int]]] = {}
    for number, output in enumerate(outputs, 1):
        for definition in definitions(output.plan):
            _, ways = found.setdefault(id(definition), (definition, []))
            ways.append(number)
    seen: Counter[str] = Counter()
    functions: Traits = []
    for definition, ways in found.values():
        name = definition.name
        if len(outputs) > 1 and set(ways) != set(range(1, len(outputs) + 1)):
            name += f" on the way to output {' and '.join(map(str, sorted(set(ways))))}"
        for _ in range(max(ways.count(number) for number in ways)):
            seen[name] += 1
            again = f" ({seen[name]})" if seen[name] > 1 else ""
            functions.append((f"the function of {name}{again}", fingerprint(dict(definition.parts))))
    return functions


def _models(outputs: Sequence[Written]) -> Traits:
    """What native models are: their settings, and their files or what these are called on a hub."""
    from aktis import _aktis

    found: dict[str, int] = {}
    for output in outputs:
        here = Counter(_specs(output.plan))
        for spec, count in here.items():
            found[spec] = max(found.get(spec, 0), count)
    seen: Counter[str] = Counter()
    models: Traits = []
    for spec, count in found.items():
        described = json.loads(spec)
        on_hub = described.get(_caching.HUB)
        (settings,) = (part for kind, part in described.items() if kind != _caching.HUB)
        path = settings.get("path") or (settings.get("embedder") or settings.get("model") or settings).get("model_dir")
        label = on_hub["repository"] if on_hub else os.path.basename(path)
        for _ in range(count):
            seen[label] += 1
            name = f"the model {label}" + (f" ({seen[label]})" if seen[label] > 1 else "")
            models.append((f"what is asked of {name}", fingerprint(_caching.settings_of_model(spec))))
            if on_hub:
                # The name alone is told of what is different.
                models.append((f"{name} at revision {on_hub['commit']}", ""))
            else:
                files = _aktis.data.Plan.model_files(spec)
                models.append((f"the files of {name}", fingerprint(_caching.content_of_model(spec, files))))
    return models


def _specs(plan: Any) -> Iterator[str]:
    """The native models of a plan, in the order in which it was made."""
    if not isinstance(plan, _native.Recorder):
        return
    for call in plan._calls:
        if call.name == "model":
            # Workers of other kinds make the same.
            yield call.args[0]
        for value in (*call.args, *call.kwargs.values()):
            yield from _specs_within(value)


def _specs_within(value: Any) -> Iterator[str]:
    """Those of an argument: of other plans, and of what a query calls."""
    if isinstance(value, _native.Recorder):
        yield from _specs(value)
    elif isinstance(value, Steps):
        yield from value.models()
    elif type(value) in (list, tuple):
        for item in value:
            yield from _specs_within(item)


def definitions(plan: Any) -> Iterator[Described]:
    """The functions of a plan, in the order in which it was made."""
    if not isinstance(plan, _native.Recorder):
        return
    for call in plan._calls:
        yield from _within((*call.args, *call.kwargs.values()))


def _within(value: Any) -> Iterator[Described]:
    """Those of an argument: of other plans, and of what a query calls."""
    if isinstance(value, Described):
        yield value
    elif isinstance(value, _native.Recorder):
        yield from definitions(value)
    elif isinstance(value, Steps):
        yield from value.definitions()
    elif type(value) in (list, tuple):
        for item in value:
            yield from _within(item)
    elif type(value) is dict:
        # Workers of other kinds, whose function is made in another way.
        yield from _within([other["definition"] for other in value.get("others", ())])
