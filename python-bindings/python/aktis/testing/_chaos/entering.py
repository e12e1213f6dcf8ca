"""Begins and ends faults in a session."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aktis._session import session
from aktis._session.logging_level import logger
from aktis._values.definition import Definition
from aktis.testing._decorating import Decorating

from . import faults as _faults
from .in_workers import FaultyTask

if TYPE_CHECKING:
    from aktis.data._context import DataContext

_LOGGER = logger("aktis.testing")


class Fault(NamedTuple):
    """One fault that was injected.

    Attributes:
        kind: ``"kill"``, ``"slow"`` or ``"error"``.
        name: of the function, or what was asked of a store.
        what: more of it.
        pid: the process.

    >>> Fault("kill", "MapBatches(f)", "call 3, before it", 4711).kind
    'kill'
    """

    kind: str
    name: str
    what: str
    pid: int


class Chaos:
    """The faults of a :func:`chaos`, and what became of them.

    Attributes:
        seed: which faults they are.
        faults: those that were injected so far, in order.

    >>> import aktis.testing
    >>> with aktis.testing.chaos(seed=1) as faults:
    ...     pass
    >>> faults, faults.count("kill")
    (Chaos(seed=1: 0 kill, 0 slow, 0 error; 0 calls), 0)
    """

    def __init__(self, plan: dict[str, Any]):
        self.seed: int = plan["seed"]
        self._plan = plan
        self._over: tuple[list[Fault], int] | None = None

    @property
    def faults(self) -> list[Fault]:
        return self._over[0] if self._over is not None else self._read()[0]

    @property
    def calls(self) -> int:
        """How many calls of functions there were."""
        return self._over[1] if self._over is not None else self._read()[1]

    def count(self, kind: str) -> int:
        """How many faults of a kind were injected.

        Args:
            kind: as :class:`Fault` has it.

        Returns:
            A number.
        """
        return sum(fault.kind == kind for fault in self.faults)

    def _read(self) -> tuple[list[Fault], int]:
        folder = self._plan["folder"]
        lines: list[str] = []
        calls = 0
        with suppress(FileNotFoundError), open(os.path.join(folder, "events")) as file:
            lines = file.readlines()
        with suppress(FileNotFoundError):
            calls = os.path.getsize(os.path.join(folder, "calls"))
        return [Fault(**json.loads(line)) for line in lines], calls

    def _end(self) -> None:
        self._over = self._read()
        missed = self._plan["kill_workers"] - self.count("kill")
        if missed > 0:
            _LOGGER.warning(
                "chaos(seed=%d, kill_workers=%d) has killed %d workers: there were %d calls of functions to kill one in",
                self.seed, self._plan["kill_workers"], self.count("kill"), self.calls,
            )  # fmt: skip

    def __repr__(self) -> str:
        told = ", ".join(f"{self.count(kind)} {kind}" for kind in ("kill", "slow", "error"))
        return f"Chaos(seed={self.seed}: {told}; {self.calls} calls)"


def chaos(
    *, seed: int = 0, kill_workers: int = 0, slow: float = 0.0, errors: float = 0.0, _calls: int | None = None
) -> Decorating[Chaos]:
    """Runs what is within under faults, as a cluster has them, that the seed chooses.

    The faults are real: processes are killed with SIGKILL in the middle of their work. What Aktis promises must hold all the same:
    :func:`chaos_check` compares the rows. Only in a session of this machine, which is begun if there is none.

    Args:
        seed: the same seed gives the same faults: the same numbers of calls die or are slow, the same attempts of the same requests fail. With
            several workers it differs from run to run which rows are in the call of a number.
        kill_workers: how many workers are killed: before or after the work of a call of a dataset's function, or of a task with
            ``max_retries`` that this process submits. No work is killed twice. ``DataContext.max_worker_deaths_per_input`` is at least
            this number meanwhile.
        slow: which share of these calls takes longer, up to 0.2 s.
        errors: which share of requests to stores (files elsewhere, see ``filesystem=``) fails with a ``ConnectionResetError``, before the
            store hears of it or after it has answered; at most two in a row.

    Returns:
        A context manager; its value, a :class:`Chaos`, tells what was done. Also a decorator of ordinary functions.

    Raises:
        TypeError: it decorates an async function or a generator, which runs when its call has returned.
        ValueError: a number makes no sense.
        RuntimeError: within ``local()``, a worker or another ``chaos()``, or in a session of several machines.

    Example:
        >>> import aktis.data, aktis.testing
        >>> with aktis.testing.chaos(seed=3, kill_workers=1) as faults:
        ...     total = aktis.data.range(100).map_batches(lambda batch: {"n": batch["id"] * 2}, batch_size=10).sum("n")
        >>> total, faults.count("kill")
        (9900, 1)
    """
    return Decorating("chaos()", functools.partial(_within, seed, kill_workers, slow, errors, _calls))


@contextmanager
def _within(seed: int, kill_workers: int, slow: float, errors: float, calls: int | None) -> Iterator[Chaos]:
    _check(seed, kill_workers, slow, errors)
    folder = _session_folder()
    path = os.path.join(folder, _faults.FILE)
    plan: dict[str, Any] = {
        "seed": seed, "kill_workers": kill_workers, "slow": slow, "errors": errors, "calls": calls,
        "folder": tempfile.mkdtemp(prefix="chaos-", dir=folder),
    }  # fmt: skip
    told = Chaos(plan)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, plan["folder"], ignore_errors=True)
        undo.callback(told._end)
        undo.callback(_remove, path)
        _write(path, plan)
        _begin_here(plan, undo)
        yield told


def _check(seed: Any, kill_workers: Any, slow: Any, errors: Any) -> None:
    for name, value in (("seed", seed), ("kill_workers", kill_workers)):
        if isinstance(value, bool) or not isinstance(value, int) or (name != "seed" and value < 0):
            raise ValueError(
                f"chaos({name}={value!r}): a whole number is needed" + (", 0 or more" if name != "seed" else "")
            )
    for name, share in (("slow", slow), ("errors", errors)):
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"chaos({name}={share!r}): a share from 0 to 1 is needed, as 0.1 for one of ten")


def _session_folder() -> str:
    if session.is_worker or session.local() is not None:
        where = "within aktis.testing.local(), which has no workers" if session.local() is not None else "in a worker"
        raise RuntimeError(f"chaos() kills workers of a session of this process, and this is {where}")
    session.ensure_connected()
    context = session.runtime.context()
    if not str(context["gcs_address"]).startswith("unix:"):
        raise RuntimeError(
            f"chaos() is for a session of this machine, and this one is the cluster {context['gcs_address']}: leave out the address, "
            "aktis.init()"
        )
    if os.path.exists(os.path.join(context["session_dir"], _faults.FILE)):
        raise RuntimeError("this is within an aktis.testing.chaos() already: leave the inner one out")
    return str(context["session_dir"])


def _write(path: str, plan: dict[str, Any]) -> None:
    with open(path + ".new", "w") as file:
        json.dump(plan, file)
    os.rename(path + ".new", path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):  # the session is over
        os.unlink(path)


def _begin_here(plan: dict[str, Any], undo: ExitStack) -> None:
    """What this process does differently meanwhile."""
    from aktis.data._context import DataContext
    from aktis.data._stores import requests

    context = DataContext.get_current()
    undo.callback(_end_here, context, context.max_worker_deaths_per_input)
    context.max_worker_deaths_per_input = max(context.max_worker_deaths_per_input, plan["kill_workers"])
    requests.around = _faults.Faults(plan).request
    session.instead_of = lambda remote: _faulty(remote, plan)
    session.begin_anew()


def _end_here(context: DataContext, deaths: int) -> None:
    from aktis.data._stores import requests

    context.max_worker_deaths_per_input = deaths
    requests.around = None
    session.instead_of = None
    session.begin_anew()


def _faulty(remote: Any, plan: dict[str, Any]) -> Definition | None:
    """What is sent in the place of a remote function; ``None``: itself, because nobody would try it again."""
    if remote._options.get("max_retries") == 0:
        return None
    return Definition(FaultyTask(remote._function, plan, getattr(remote._function, "__name__", "task")))
