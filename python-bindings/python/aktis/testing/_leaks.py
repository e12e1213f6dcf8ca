"""What a test has left: references, actors, processes, shared memory."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
import weakref
from typing import Any, NamedTuple

#: How long what was let go of may take to be gone.
_PATIENCE_S = 3.0
_SHARED = "/dev/shm"
#: Names of segments that Aktis, and `multiprocessing.shared_memory`, make.
_OURS = ("aktis", "psm_")
_SHOWN = 10
#: A process that Python begins once, and ends itself.
_OF_PYTHON = "multiprocessing.resource_tracker"


#: References that were there before, or were told of; and the last session that was looked at.
_known: weakref.WeakSet[Any] = weakref.WeakSet()
_generation = 0


class Left(NamedTuple):
    """One thing that was left."""

    kind: str
    told: str


class Machine(NamedTuple):
    """What there is on the machine besides the session."""

    processes: frozenset[int]
    segments: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        """Of this process."""
        return cls(frozenset(_descendants()), frozenset(_segments()))


def in_session(may_leave: set[str]) -> list[Left]:
    """What is left in the session, before it ends."""
    gc.collect()
    left = [] if "references" in may_leave else [Left("references", told) for told in _new_references()]
    if "actors" not in may_leave:
        left += [Left("actors", told) for told in _after_a_while(_actors)]
    return left


def on_machine(before: Machine, may_leave: set[str]) -> list[Left]:
    """What is left on the machine, when the session has ended."""
    left = []
    if "processes" not in may_leave:
        new = _after_a_while(lambda: sorted(_descendants() - before.processes))
        left += [Left("processes", f"{pid}: {_command(pid)}") for pid in new]
    if "shared memory" not in may_leave:
        names = _after_a_while(lambda: sorted(_segments() - before.segments))
        left += [Left("shared memory", os.path.join(_SHARED, name)) for name in names]
    return left


def message(left: list[Left]) -> str:
    """For the one whose test has left it."""
    lines = ["the test has left behind:"]
    for kind in dict.fromkeys(each.kind for each in left):
        told = [each.told for each in left if each.kind == kind]
        lines += [f"  {kind}: {text}" for text in told[:_SHOWN]]
        lines += [f"  {kind}: {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    lines.append(
        "Let go of it at the end of the test (del, aktis.kill(), a fixture that ends what it began), or say that it is meant: "
        f"@pytest.mark.aktis(may_leave={sorted({each.kind for each in left})})"
    )
    return "\n".join(lines)


def _after_a_while(look: Any) -> list[Any]:
    """What is still there when what goes by itself has had its time."""
    deadline = time.monotonic() + _PATIENCE_S
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return list(found)


def begin() -> None:
    """A test begins. References of sessions that this module knows nothing of are not the test's."""
    from aktis._session import session

    if session.generation() != _generation:
        forget_references()


def end() -> None:
    """A test has ended, and its session."""
    global _generation
    from aktis._session import session

    _generation = session.generation()


def forget_references() -> None:
    """What is there now is nobody's."""
    _known.update(_references().values())


def _references() -> dict[int, Any]:
    """References that something in this process still holds."""
    from aktis import ObjectRef

    everything = gc.get_objects()
    return {id(each): each for each in gc.get_referents(*everything) if type(each) is ObjectRef}


def _new_references() -> list[str]:
    """Those that were not there before, and what holds them."""
    held = {key: ref for key, ref in _references().items() if ref not in _known}
    _known.update(held.values())
    return [f"{ref!r}, held by {_holder(ref, held)}" for ref in held.values()]


def _holder(ref: Any, besides: Any) -> str:
    """Names of what holds it: a module's variable if there is one within reach."""
    level = [ref]
    seen = {id(besides), id(level)}
    nearest = ""
    for _ in range(4):
        holders = [each for each in gc.get_referrers(*level) if id(each) not in seen and not _is_of_this_look(each)]
        seen |= {id(each) for each in (*level, *holders)}
        for holder in holders:
            if (
                isinstance(holder, dict)
                and isinstance(holder.get("__name__"), str)
                and holder["__name__"] in sys.modules
            ):
                names = [name for name, value in holder.items() if any(value is each for each in level)]
                return f"{holder['__name__']}.{names[0]}" if names else holder["__name__"]
        nearest = nearest or ", ".join(sorted({f"a {type(each).__name__}" for each in holders}))
        if not holders:
            break
        level = holders
        seen.add(id(level))
    return nearest or "native code"


def _is_of_this_look(each: Any) -> bool:
    return type(each).__name__ in ("frame", "list_iterator", "dict_valueiterator") and "_leaks" in repr(each)


def _actors() -> list[str]:
    from aktis._session import session

    living = (actor for actor in session.runtime.list_actors() if actor.get("state") != "DEAD")
    return sorted(_actor(actor) for actor in living)


def _actor(actor: dict[str, Any]) -> str:
    name = f"{actor['name']!r} in namespace {actor.get('namespace')!r}, " if actor.get("name") else ""
    return f"{actor.get('class_name') or 'actor'} ({name}{actor['actor_id']})"


def _descendants() -> set[int]:
    """Processes that this one has begun, and theirs; not those that have ended."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state != "Z" and _OF_PYTHON not in _command(int(entry)):
                    parents[int(entry)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _command(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as file:
        return file.read().replace("\0", " ").strip()[:200]
    return "it has just ended"


def _segments() -> set[str]:
    if "PYTEST_XDIST_WORKER" in os.environ or not os.path.isdir(_SHARED):
        return set()  # other runs beside this one make their own
    with os.scandir(_SHARED) as entries:
        mine = [each for each in entries if each.name.startswith(_OURS)]
    uid = os.getuid()
    found = set()
    for entry in mine:
        with contextlib.suppress(OSError):
            if entry.stat(follow_symlinks=False).st_uid == uid:
                found.add(entry.name)
    return found
