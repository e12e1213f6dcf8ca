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


def limited_group():
    """A new cgroup with a limit; nothing where none can be made."""
    for root, limit in GROUPS:
        group = root / f"aktis-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            group.rmdir()
            continue
        return group
    return None


@contextlib.contextmanager
def limited_memory():
    """A cgroup with a limit; needs root, and a kernel that lets root make one here."""
    group = limited_group()
    if group is None:
        pytest.skip("no cgroup with a limit of memory can be made here")
    # No way out into swap space, where there is any.
    for name, value in (("memory.memsw.limit_in_bytes", str(LIMIT_BYTES)), ("memory.swap.max", "0")):
        with contextlib.suppress(OSError):
            (group / name).write_text(value)
    yield group
    until(lambda: (group / "cgroup.procs").read_text() == "", "all processes of the group have ended")
    group.rmdir()
