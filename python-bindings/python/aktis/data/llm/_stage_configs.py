"""Settings of single stages, and what all settings have in common: names that are not there are told.

>>> HttpRequestStageConfig(batchsize=3)
Traceback (most recent call last):
...
TypeError: HttpRequestStageConfig() got an unknown argument 'batchsize'; did you mean 'batch_size'?
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, dataclass_transform

from aktis.data._keywords import Keywords, Refused


class Settings:
    """Settings with names and a check, which is made again when a processor is built: they may be assigned to meanwhile."""

    #: Names of Ray's that are not there.
    _REFUSED: ClassVar[Mapping[str, Refused]] = {}

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        """Raises for what cannot be meant."""


S = TypeVar("S", bound=type[Settings])


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
def settings(kind: S) -> S:
    """Makes a class of fields one of settings: they are given by their names, and others are told."""
    made: Any = dataclasses.dataclass(kw_only=True)(kind)
    begin = made.__init__
    names = [field.name for field in dataclasses.fields(made)]

    @functools.wraps(begin)
    def checked(self: Any, **given: Any) -> None:
        unknown = {name: value for name, value in given.items() if name not in names}
        Keywords(kind.__name__, used=names, refused=kind._REFUSED).check(unknown)
        begin(self, **given)

    made.__init__ = checked
    return made


@settings
class StageConfig(Settings):
    """What every stage may be given for itself; what is None is as the processor has it.

    Args:
        enabled: Whether the stage runs.
        batch_size: As of the processor.
        concurrency: As of the processor.
        runtime_env: ``{"env_vars": {...}}``, set in the workers of the stage before they load anything.
        num_cpus: CPUs of each worker.
        memory: Bytes of memory of each worker.

    Raises:
        TypeError, ValueError: An argument is not known, or cannot be meant.
    """

    enabled: bool = True
    batch_size: int | None = None
    concurrency: int | tuple[int, int] | None = None
    #: There may be a token among the variables.
    runtime_env: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False)
    num_cpus: float | None = None
    memory: float | None = None

    def _check(self) -> None:
        """Raises for what cannot be meant."""
        name = type(self).__name__
        if not isinstance(self.enabled, bool):
            raise TypeError(f"{name}: enabled is True or False, not {self.enabled!r}")
        for amount in ("num_cpus", "memory"):
            if getattr(self, amount) is not None:
                check_number(name, amount, getattr(self, amount), may_be_zero=True, most=1e18)
        if self.batch_size is not None:
            check_count(name, "batch_size", self.batch_size)
        if self.concurrency is not None:
            check_concurrency(name, self.concurrency)
        check_runtime_env(name, self.runtime_env)


@settings
class HttpRequestStageConfig(StageConfig):
    """The stage that sends requests.

    Args:
        enabled: Whether the stage runs.
        batch_size, concurrency, runtime_env: Those of this stage; by default the processor's.
        num_cpus, memory: CPUs, and bytes of memory, of each worker.

    >>> HttpRequestStageConfig(concurrency=(1, 4)).concurrency
    (1, 4)
    """


@settings
class ChatTemplateStageConfig(StageConfig):
    """The stage that makes a ``prompt`` of ``messages``.

    Args:
        model_source: Folder or name of the model whose template it is; by default the processor's.
        chat_template: Another template, in Jinja.
        chat_template_kwargs: What the template gets besides, as ``{"enable_thinking": False}``.
        enabled: Whether the stage runs.
        batch_size, concurrency, runtime_env: Those of this stage; by default the processor's.
        num_cpus, memory: CPUs, and bytes of memory, of each worker.

    >>> ChatTemplateStageConfig(chat_template="{{ messages[0].content }}").enabled
    True
    """

    model_source: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None


@settings
class TokenizerStageConfig(StageConfig):
    """The stage that makes ``tokenized_prompt`` of a ``prompt``.

    Args:
        model_source: Folder or name of the model whose tokenizer it is; by default the processor's.
        enabled: Whether the stage runs.
        batch_size, concurrency, runtime_env: Those of this stage; by default the processor's.
        num_cpus, memory: CPUs, and bytes of memory, of each worker.

    >>> TokenizerStageConfig(batch_size=256).batch_size
    256
    """

    model_source: str | None = None


@settings
class DetokenizeStageConfig(StageConfig):
    """The stage that makes ``generated_text`` of ``generated_tokens``, where the engine has made none.

    Args:
        model_source: Folder or name of the model whose tokenizer it is; by default the processor's.
        enabled: Whether the stage runs.
        batch_size, concurrency, runtime_env: Those of this stage; by default the processor's.
        num_cpus, memory: CPUs, and bytes of memory, of each worker.

    >>> DetokenizeStageConfig(num_cpus=0.5).num_cpus
    0.5
    """

    model_source: str | None = None


T = TypeVar("T", bound=StageConfig)


def resolved(given: Any, kind: type[T], **defaults: Any) -> T:
    """The settings of a stage from what a processor's config has: a truth value, a dict or settings.

    Args:
        given: What the config has.
        kind: The class of the settings.
        defaults: What the stage has where they say nothing.

    Returns:
        Settings of their own.

    >>> resolved({"batch_size": 8}, HttpRequestStageConfig, batch_size=64, concurrency=2)
    HttpRequestStageConfig(enabled=True, batch_size=8, concurrency=2, num_cpus=None, memory=None)
    >>> resolved(False, HttpRequestStageConfig).enabled
    False
    """
    if isinstance(given, bool):
        given = {"enabled": given}
    if isinstance(given, kind):
        stage = dataclasses.replace(given)
    elif isinstance(given, Mapping):
        stage = kind(**given)
    else:
        raise TypeError(f"a stage is given by True, False, a dict or a {kind.__name__}, not {given!r}")
    for name, value in defaults.items():
        if hasattr(stage, name) and getattr(stage, name) is None:
            setattr(stage, name, value)
    return stage


def check_count(owner: str, name: str, value: Any, least: int = 1) -> None:
    """Raises for what is no whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{owner}: {name} must be a whole number of at least {least}, not {value!r}")


def check_number(owner: str, name: str, value: Any, *, may_be_zero: bool = False, most: float = 1e9) -> None:
    """Raises for what is no number above 0."""
    if (
        not isinstance(value, (int, float))
        or isinstance(value, bool)
        or not (0 < value < most or may_be_zero and value == 0)
    ):
        raise ValueError(
            f"{owner}: {name} must be a number {'of at least' if may_be_zero else 'above'} 0, not {value!r}"
        )


def check_concurrency(owner: str, value: Any) -> None:
    """Raises for what is neither a number of workers nor the least and the most of them."""
    bounds = list(value) if isinstance(value, (tuple, list)) else [value, value]
    for bound in bounds:
        check_count(owner, "concurrency", bound)
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ValueError(f"{owner}: concurrency is a number of workers, or (least, most), not {value!r}")


def check_runtime_env(owner: str, value: Any) -> None:
    """Raises for what cannot be set in a worker that runs already."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise TypeError(f"{owner}: runtime_env is a dict, not {value!r}")
    refused = {
        name: Refused("set it where the nodes are started", (None, {}, [])) for name in value if name != "env_vars"
    }
    Keywords(f"{owner}(runtime_env=...)", refused=refused).check({name: value[name] for name in refused})
    for name, text in (value.get("env_vars") or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{owner}: env_vars of runtime_env are texts by their names, not {name!r}: {text!r}")
