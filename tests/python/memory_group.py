"""Groups of processes that may have so much memory together, and no more."""

import contextlib
import pathlib
import uuid

import pytest
from waiting import until

LIMIT_BYTES = 600 << 20
#: Where groups are made, and the file of their limit: version 1, version 2.
GROUPS = (
    (pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (pathlib.Path("/sys/fs/cgroup"), "memory.max"),
)


def limited_group(limit_bytes=LIMIT_BYTES):
    """A new cgroup with a limit; nothing where none can be made."""
    for root, limit in GROUPS:
        group = root / f"aktis-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@contextlib.contextmanager
def limited_memory(limit_bytes=LIMIT_BYTES):
    """A cgroup with a limit; needs root, and a kernel that lets root make one here."""
    group = limited_group(limit_bytes)
    if group is None:
        pytest.skip("no cgroup with a limit of memory can be made here")
    # No way out into swap space, where there is any.
    for name, value in (("memory.memsw.limit_in_bytes", str(limit_bytes)), ("memory.swap.max", "0")):
        with contextlib.suppress(OSError):
            (group / name).write_text(value)
    yield group
    until(lambda: (group / "cgroup.procs").read_text() == "", "all processes of the group have ended")
    group.rmdir()


def held_bytes(group):
    """What processes of a group hold that the kernel cannot take from them: their own memory, and what they share."""
    figures = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    names = ("total_rss", "total_shmem") if "total_rss" in figures else ("anon", "shmem")
    return sum(int(figures.get(name, 0)) for name in names)


def kills(group):
    """How many processes of a group the kernel has killed because memory ran out."""
    for name in ("memory.oom_control", "memory.events"):
        with contextlib.suppress(OSError):
            figures = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(figures["oom_kill"])
    raise AssertionError(f"{group} does not count kills")
