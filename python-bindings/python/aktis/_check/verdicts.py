"""Same, different or missing: what is told of a name, and of the arguments of a call."""

from __future__ import annotations

import difflib
import inspect
import sys
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .things import Named


class NotLiteral:
    """Stands for a value that is known only when the script runs."""


@dataclass(frozen=True)
class Verdict:
    """What is told of one use."""

    kind: Literal["same", "different", "missing"]
    text: str
    #: The argument it is about, if it is about one.
    argument: str | None = None


@dataclass(frozen=True)
class Finding:
    """A verdict and its place, both counted from one."""

    line: int
    column: int
    verdict: Verdict


def same(text: str) -> Verdict:
    return Verdict("same", text)


def different(text: str) -> Verdict:
    return Verdict("different", text)


def missing(text: str, argument: str | None = None) -> Verdict:
    return Verdict("missing", text, argument)


def judge_options(what: str, given: Mapping[str, Any]) -> list[Verdict]:
    """Options of ``@remote``, ``@method`` and ``.options()``: as the call itself would judge them."""
    from aktis._calls import options

    known = {"task": options.TASK_OPTIONS, "actor": options.ACTOR_OPTIONS, "method": options.METHOD_OPTIONS}[what]
    verdicts = []
    for name, value in given.items():
        # Of what is known only when the script runs no more than the name is judged.
        told = {name: None if value is NotLiteral else value}
        try:
            options.check_options(what, known, told)
        except (ValueError, TypeError) as error:
            verdicts.append(missing(str(error), name))
    return verdicts


def judge_call(function: Named, given: Mapping[str, Any]) -> list[Verdict]:
    """The keywords of a call, by the signature of what is called."""
    try:
        signature = inspect.signature(function.value)
    except (TypeError, ValueError):
        return []
    parameters = signature.parameters
    rest = next((one for one in parameters.values() if one.kind is one.VAR_KEYWORD), None)
    named = {name for name, one in parameters.items() if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
    more = _typed_keywords(function.value, rest.annotation) if rest is not None else {}
    verdicts = []
    for name, value in given.items():
        takes_nothing = name in named and _is_none(parameters[name].annotation) is None
        if name in named and not takes_nothing:
            continue
        if takes_nothing or (rest is not None and more is None):
            verdict = _judge_refused(function.path.rpartition(".")[2], name, value)
        else:
            verdict = _judge_keyword(function, name, value, more or {}, named)
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


def _judge_keyword(function: Named, name: str, value: Any, more: Mapping[str, Any], named: set[str]) -> Verdict | None:
    call = function.path.rpartition(".")[2]
    if name not in more:
        known = [*named, *more]
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        return missing(f"{call}({name}=...) is not there{hint}", name)
    takes_nothing = more[name] in (None, type(None))
    if str(more[name]).startswith("Literal["):
        return None if value is NotLiteral else _judge_refused(call, name, value)
    if not takes_nothing or value is None:
        return None
    if name not in _refused(call):
        return missing(f"{call}({name}=...) is not there yet", name)
    return _judge_refused(call, name, value)


def _judge_refused(call: str, name: str, value: Any) -> Verdict | None:
    """A keyword that the call refuses, unless it says what is so anyway."""
    refused = _refused(call).get(name)
    if refused is None or any(type(value) is type(fine) and value == fine for fine in refused.accepted):
        return None
    return missing(f"{call}({name}=...) is not there yet: {refused.way_out}", name)


def _typed_keywords(function: Any, annotation: Any) -> Mapping[str, Any] | None:
    """Names and types that ``**kwargs`` takes, of a typed dictionary; ``None``: anything."""
    if not isinstance(annotation, str) or not annotation.startswith("Unpack["):
        return None
    from aktis.data import _typed

    declared = getattr(_typed, annotation.removeprefix("Unpack[").removesuffix("]"), None)
    declared = declared or getattr(sys.modules[function.__module__], annotation[7:-1], None)
    if declared is None:
        return None
    keys: dict[str, Any] = {}
    for one in reversed(declared.__mro__ if hasattr(declared, "__mro__") else [declared]):
        keys.update(getattr(one, "__annotations__", {}))
    return {name: _is_none(told) for name, told in keys.items()}


def _is_none(told: Any) -> Any:
    text = told.__forward_arg__ if isinstance(told, typing.ForwardRef) else told
    return None if text in ("None", None, type(None)) else text


def _refused(call: str) -> Mapping[str, Any]:
    from aktis.data import _reading, _relational, _writing_files
    from aktis.data._keywords import REMOTE_ARGS

    if call.startswith("read_"):
        return _reading._REFUSED
    for keywords in (_relational._SORT, _relational._SHUFFLE, _relational._REPARTITION):
        if keywords.function == call:
            return keywords.refused
    return {**REMOTE_ARGS, **(_writing_files._REFUSED if call.startswith("write_") else {})}
