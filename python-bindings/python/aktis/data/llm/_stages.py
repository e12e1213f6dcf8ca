"""The stages of a processor, and how they run over datasets.

Rows go from step to step in one worker where they can: what the user's functions do is done where the stage beside them runs, unless
they were given workers of their own.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from aktis._session import session
from aktis.data._compute import ActorPoolStrategy

from . import _carrying
from ._stage_configs import StageConfig

RowFunction = Callable[[dict[str, Any]], Mapping[str, Any]]


def set_environment(variables: Mapping[str, str]) -> None:
    """Sets variables of this worker, which `aktis.testing.local()` takes back from the process of the test."""
    local = session.local()
    if local is None:
        os.environ.update(variables)
    else:
        local.set_environment(variables)


@dataclasses.dataclass
class Stage:
    """A step of a processor between the user's own two.

    Args:
        fn: What workers run: an :class:`AsyncStage`, or a class with a ``work`` on several rows.
        arguments: Those of ``fn``, behind the :class:`Ends` of an :class:`AsyncStage`.
        settings: Workers and sizes.
        required: Columns that rows must have, and what they are.
        optional: Columns that rows may have besides.
        in_flight: Rows under way in each worker.
        resources: GPUs and others of each worker, as :meth:`~aktis.data.Dataset.map` takes them.
        tasks_in_flight: As of :class:`~aktis.data.ActorPoolStrategy`.
    """

    fn: type
    arguments: tuple[Any, ...]
    settings: StageConfig
    required: Mapping[str, str]
    optional: Mapping[str, str] = dataclasses.field(default_factory=dict)
    in_flight: int = 1
    resources: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tasks_in_flight: int | None = None

    @property
    def is_async(self) -> bool:
        """Whether rows wait for somebody else, each for itself."""
        return issubclass(self.fn, AsyncStage)

    @property
    def env_vars(self) -> Mapping[str, str]:
        """Variables that its workers have besides."""
        return (self.settings.runtime_env or {}).get("env_vars") or {}

    @property
    def name(self) -> str:
        """The name that users know it by."""
        return self.fn.__name__

    def get_required_input_keys(self) -> dict[str, str]:
        """The columns that rows must have, and what they are."""
        return dict(self.required)

    def get_optional_input_keys(self) -> dict[str, str]:
        """The columns that rows may have besides, and what they are."""
        return dict(self.optional)

    def options(self) -> dict[str, Any]:
        """The workers of the stage, as :meth:`~aktis.data.Dataset.map` takes them."""
        wanted = self.settings.concurrency or 1
        least, most = (1, wanted) if isinstance(wanted, int) else (wanted[0], wanted[-1])
        return {
            "compute": ActorPoolStrategy(
                min_size=least, max_size=most, max_tasks_in_flight_per_actor=self.tasks_in_flight
            ),
            "num_cpus": self.settings.num_cpus,
            "memory": self.settings.memory,
            **({"max_concurrency": self.in_flight} if self.is_async else {"batch_size": self.settings.batch_size}),
            **self.resources,
        }

    def shares_workers(self, other: Stage) -> bool:
        """Whether another stage can run in the same calls: none of them waits, and they ask for the same."""
        alike = ("batch_size", "concurrency", "runtime_env", "num_cpus", "memory")
        asks = [[getattr(stage.settings, name) for name in alike] for stage in (self, other)]
        return not self.is_async and not other.is_async and asks[0] == asks[1]


@dataclasses.dataclass(frozen=True)
class Ends:
    """What is before and behind the work of a worker."""

    #: The user's, where they are done here.
    before: RowFunction | None = None
    after: RowFunction | None = None
    #: Whether rows come from the dataset, and whether they go back to it.
    is_first: bool = True
    is_last: bool = True
    #: Whether good rows say that they are.
    tells_errors: bool = False
    required: Mapping[str, str] = dataclasses.field(default_factory=dict)
    env_vars: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def signed_parts(self) -> tuple[Any, ...]:
        """What results depend on: a token among the variables does not."""
        return (self.before, self.after, self.is_first, self.is_last, self.tells_errors, self.required)

    def enter(self) -> None:
        """In a worker, before anything is loaded."""
        set_environment(self.env_vars)

    def opened(self, row: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """A row with all that the work needs."""
        data = _carrying.prepared(self.before, _carrying.opened(row, is_first=self.is_first))
        _carrying.check_columns(stage, self.required, data)
        return data

    def closed(self, row: Mapping[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """A row for who comes next."""
        if self.is_last:
            return _carrying.finished(self.after, data, tells_errors=self.tells_errors)
        return _carrying.closed(row, data)


class AsyncStage:
    """Work on rows, many of which are under way at once.

    Args:
        ends: What is before and behind it.
    """

    def __init__(self, ends: Ends) -> None:
        ends.enter()
        self._ends = ends

    async def work(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The columns that a row gets."""
        raise NotImplementedError

    async def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        data = self._ends.opened(row, type(self).__name__)
        data.update(await self.work(data))
        return self._ends.closed(row, data)


class TextStages:
    """Work on batches of rows, step by step.

    Args:
        ends: What is before and behind it.
        steps: The stages: their names, classes, arguments, and the columns that they need.
    """

    def __init__(self, ends: Ends, *steps: tuple[str, type, tuple[Any, ...], Mapping[str, str]]) -> None:
        ends.enter()
        self._ends = ends
        self._first = steps[0][0]
        self._steps = [(name, kind(*arguments), required) for name, kind, arguments, required in steps]

    def __call__(self, batch: Any) -> Any:
        from aktis.data import _batches

        own = type(self).__name__
        # One batch of the table: columns that stay become what they were.
        given = _batches.to_arrow(batch, own)
        rows = _batches.rows_of(given)
        data = [self._ends.opened(row, self._first) for row in rows]
        # A tokenizer may have no answer to no question.
        for name, step, required in self._steps if rows else ():
            for each in data:
                _carrying.check_columns(name, required, each)
            for each, added in zip(data, step.work(data), strict=True):
                each.update(added)
        closed = [self._ends.closed(row, each) for row, each in zip(rows, data, strict=True)]
        return _batches.rows_to_arrow(closed, own, given)


class UsersStep:
    """``preprocess`` or ``postprocess`` of the user's with workers of its own."""

    def __init__(self, name: str, ends: Ends) -> None:
        self.__name__ = name
        self._ends = ends

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return self._ends.closed(row, self._ends.opened(row, self.__name__))
