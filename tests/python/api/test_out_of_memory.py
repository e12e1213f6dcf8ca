"""Memory that runs out for real: the kernel is to take the worker that ate it, and the session is to say so and live on."""

import contextlib
import pathlib
import uuid

import pytest
from waiting import run, until

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


@pytest.fixture
def memory_group():
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


@pytest.mark.parametrize("eater", ["task", "actor"])
def test_who_eats_all_memory_is_what_the_kernel_takes_and_the_error_says_so(memory_group, eater):
    output = run(
        f"""
        import os, pathlib
        pathlib.Path({str(memory_group / "cgroup.procs")!r}).write_text(str(os.getpid()))
        import aktis
        aktis.init(num_cpus=2, object_store_memory=32 << 20, log_to_driver=False)
        held = bytearray(b"x") * (250 << 20)  # more than any worker has when memory runs out

        def eat_all():
            eaten = []
            while True:
                eaten.append(bytearray(b"x") * (8 << 20))

        @aktis.remote(max_retries=0)
        def eat():
            eat_all()

        @aktis.remote
        class Actor:
            def pid(self): return os.getpid()
            def eat(self): eat_all()

        bystander, other = Actor.remote(), Actor.remote()
        before = aktis.get(bystander.pid.remote(), timeout=60)
        try:
            aktis.get(dict(task=eat, actor=other.eat)[{eater!r}].remote(), timeout=60)
        except aktis.exceptions.OutOfMemoryError as error:
            print("told:", error)
        assert aktis.get(bystander.pid.remote(), timeout=60) == before
        assert aktis.get(aktis.remote(len).remote("abc"), timeout=60) == 3
        print("lives", len(held))
        """
    )
    assert "memory ran out" in output, output
    assert "it held" in output, output
    assert "lives" in output
