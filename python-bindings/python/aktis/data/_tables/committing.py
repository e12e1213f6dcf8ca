"""Writing into a table: workers add files that nobody sees, and the driver names all of them in one commit (ADR 146).

::

    worker   rows ──► an Arrow file here ──► Target.add ──► a receipt ──► the job's notes
    driver   when all rows are written: receipts of the attempts that count ──► Target.commit, once

The way of files that are not local is used for it (ADR 130): what native sinks upload is brought into the table, and what they would
publish is noted.
"""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pyarrow

from aktis.data import _folders, _together
from aktis.data._context import DataContext
from aktis.data._formats import writing
from aktis.data._formats.write_arrow import ArrowSink
from aktis.data._stores.writing import workplace

#: Actors of writers are nobody else's.
_NAMESPACE = "aktis-table-writes"


class Target:
    """A table that is written into. Workers have a copy of it."""

    #: The method of the user.
    function: ClassVar[str]
    #: Whether several writes at once do not harm each other.
    is_shared: ClassVar[bool] = False
    #: How many rows were committed, where those that are added are others.
    rows: Callable[[], int] | None = None

    def add(self, rows: pyarrow.Table) -> Any:
        """Adds files of these rows that no reader sees. Called in workers. Gives a receipt for :meth:`commit`, which can be pickled."""
        raise NotImplementedError

    def commit(self, receipts: list[Any]) -> None:
        """Makes what was added visible, all or nothing. Called in the driver. An exception says that nothing of it is visible, and
        :class:`OutcomeUnknown` that this is not known."""
        raise NotImplementedError

    def how_to_tell(self) -> str:
        """By what a user finds out whether the commit was made."""
        raise NotImplementedError

    def discard(self, receipts: list[Any]) -> None:
        """Removes what was added and will not be visible, as far as that can be done. Called in the driver, and in workers that the
        job has not waited for."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Nothing is committed. Called in the driver."""


class OutcomeUnknown(Exception):
    """A commit of which nobody could tell whether it has been made: what it names stays. Its cause is the user's error."""


class _Progress:
    """How far a job has come."""

    commits = False


class _Notes:
    """What workers have added, and which of it counts: an actor."""

    def __init__(self) -> None:
        self._receipts: dict[str, Any] = {}
        self._final: list[str] = []
        self._is_over = False

    def note(self, receipts: dict[str, Any]) -> bool:
        """Whether it is not too late."""
        if not self._is_over:
            self._receipts.update(receipts)
        return not self._is_over

    def choose(self, names: list[str]) -> None:
        self._final = names

    def chosen(self) -> list[Any]:
        return [self._receipts[name] for name in self._final]

    def left(self, *, but_chosen: bool) -> list[Any]:
        self._is_over = True
        chosen = set(self._final) if but_chosen else set()
        return [receipt for name, receipt in self._receipts.items() if name not in chosen]


class _Adding:
    """Takes the place of a store for native sinks."""

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name

    def _tell(self, method: str, *args: Any) -> Any:
        import aktis

        notes = aktis.get_actor(self._name, namespace=_NAMESPACE)
        return aktis.get(getattr(notes, method).remote(*args))

    def upload(self, files: list[tuple[str, str]]) -> None:
        """Adds the rows of files to the table: paths, and the names of the attempts at them."""
        receipts: dict[str, Any] = {}
        for path, name in files:
            with pyarrow.memory_map(path) as source:
                rows = pyarrow.ipc.open_file(source).read_all()
                try:
                    receipts[name] = self._target.add(rows)
                except Exception as error:
                    # Nobody has heard of those before.
                    with contextlib.suppress(Exception):
                        self._target.discard(list(receipts.values()))
                    said = f"{self._target.function}(): {type(error).__name__}: {error}"
                    raise OSError(getattr(error, "errno", None) or errno.EIO, said) from error
        try:
            is_noted = self._tell("note", receipts)
        except Exception:
            # The job has ended, and its notes with it.
            self._target.discard(list(receipts.values()))
            raise
        if not is_noted:
            self._target.discard(list(receipts.values()))

    def download(self, files: list[tuple[str, str]]) -> None:
        """Never asked for: what was added is not made alike."""
        raise NotImplementedError(f"{self._target.function}(): files of a table do not come back: {files}")

    def publish(self, folder: str, new: list[tuple[str, str]], replaces: bool) -> None:
        """Notes which attempts count."""
        self._tell("choose", [hidden for hidden, _ in new])

    def sweep(self, folder: str) -> None:
        """There is no folder of the job."""


def write(
    plan: Any,
    target: Target,
    called: str,
    concurrency: int | None,
    keep: Callable[[Any], None],
    *,
    min_rows: int | None = None,
) -> None:
    """Runs a plan into a table, or with others at the end of a block that it is in (:func:`aktis.data.run_together`).

    Args:
        called: The table, as the user named it.
        keep: is given the execution as soon as there is one.
    """
    _folders.check_counts(target.function, {"concurrency": concurrency})
    if DataContext.get_current().checkpoint_config is not None:
        from aktis._messages.user_warning import warn

        warn(
            f"{target.function}(): DataContext.checkpoint_config is set, but this job will begin anew if it does not end, because a table gets "
            "all rows by one commit or none",
            UserWarning,
        )
    _together.write(lambda places: _prepared(plan, target, called, concurrency, keep, min_rows, places))


def _prepared(
    plan: Any, target: Target, called: str, concurrency: int | None, keep: Callable[[Any], None], min_rows: int | None,
    places: contextlib.ExitStack,
) -> _together.Write:  # fmt: skip
    import aktis
    from aktis._values import definition
    from aktis.data import _native

    _native.ensure_session()
    name = uuid.uuid4().hex
    notes: Any = aktis.remote(num_cpus=0)(_Notes).options(name=name, namespace=_NAMESPACE).remote()
    places.callback(aktis.kill, notes)
    try:
        store = definition._dump(_Adding(target, name), object()).data
    except Exception as error:
        raise TypeError(f"{target.function}(): the table cannot be sent to workers, which write: {error}") from error
    sink: dict[str, Any] = {
        "kind": "files", "operation": f"{target.function}()", "definition": writing.definition_of(ArrowSink(), None),
        "partition_cols": [], "min_rows_per_file": min_rows, "max_writers": concurrency, "folder": places.enter_context(workplace()),
        "prefix": name[:12], "mode": "append", "names": None, "identity": None, "takes_up": False, "far": (store, "table", False, False),
    }  # fmt: skip

    @contextlib.contextmanager
    def committed() -> Iterator[None]:
        try:
            with _discarding(target, notes) as progress:
                yield
                chosen = aktis.get(notes.chosen.remote())
                progress.commits = True
                target.commit(chosen)
        except Exception as error:
            target.failed(error)
            raise

    place = name if target.is_shared else f"{target.function} {called}"
    return _together.Write(
        target.function, called, place, plan, sink, None, keep, committed, commits=True, rows=target.rows,
        is_off=target.failed,
    )  # fmt: skip


@contextlib.contextmanager
def _discarding(target: Target, notes: Any) -> Iterator[_Progress]:
    """Removes what was added by attempts that do not count: by all of them, if this fails."""
    import aktis

    progress = _Progress()
    fails = True
    try:
        yield progress
        fails = False
    except OutcomeUnknown as unknown:
        fails = False
        error = unknown.__cause__ or unknown
        error.add_note(_unknown(target))
        raise error from None
    except Exception:
        raise
    except BaseException as error:
        # Ctrl-C comes when the library's call has returned, so that the table may name all files by now.
        if progress.commits:
            fails = False
            error.add_note(_unknown(target))
        raise
    finally:
        # What remains is no one's: it costs room, and no reader sees it.
        with contextlib.suppress(Exception):
            if left := aktis.get(notes.left.remote(but_chosen=not fails)):
                target.discard(left)


def _unknown(target: Target) -> str:
    return (
        f"{target.function}(): nobody can tell whether the commit was made, so the files that were written stay; {target.how_to_tell()} tells "
        "that it was"
    )
