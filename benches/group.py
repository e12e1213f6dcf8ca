"""A control group of one measured process and all that it starts: how much memory they hold together, seen from outside.

Held is what the kernel cannot take back: own memory of processes, and what they share (an object store). Pages of files that
it only keeps in case they are read again are not.
"""

import contextlib
import os
import pathlib
import signal
import threading
import time
import uuid

#: Where groups are made, and the file of their limit: version 1, version 2.
GROUPS = (
    (pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (pathlib.Path("/sys/fs/cgroup"), "memory.max"),
)
LOOK_EVERY_S = 0.02
END_WITHIN_S = 20


class Group:
    """Runs commands inside of itself; `peak_bytes` is the most that they held, `kills` how many the kernel ended for it."""

    def __init__(self, folder):
        self._folder = folder
        self._is_over = threading.Event()
        self.peak_bytes = 0
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def command(self, command):
        """The command, which begins by joining the group."""
        join = f'echo $$ > {self._folder}/cgroup.procs && exec "$@"'
        return ["sh", "-c", join, "sh", *command]

    @property
    def kills(self):
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                figures = dict(line.split() for line in (self._folder / name).read_text().splitlines())
                return int(figures["oom_kill"])
        return 0

    def _look(self):
        while not self._is_over.wait(LOOK_EVERY_S):
            text = (self._folder / "memory.stat").read_text()
            figures = dict(line.split() for line in text.splitlines())
            names = ("total_rss", "total_shmem") if "total_rss" in figures else ("anon", "shmem")
            self.peak_bytes = max(self.peak_bytes, sum(int(figures.get(name, 0)) for name in names))

    def _end_all(self):
        """What a system leaves running is ended with its group."""
        end = time.monotonic() + END_WITHIN_S
        while (pids := (self._folder / "cgroup.procs").read_text().split()) and time.monotonic() < end:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(LOOK_EVERY_S)

    def close(self):
        self._is_over.set()
        self._watch.join()
        self._end_all()
        self._folder.rmdir()


@contextlib.contextmanager
def limited(limit_bytes):
    """A new group with this limit, swap included; `None` where none can be made: it needs root."""
    folder = _made(limit_bytes)
    if folder is None:
        yield None
        return
    group = Group(folder)
    try:
        yield group
    finally:
        group.close()


def _made(limit_bytes):
    for root, limit in GROUPS:
        folder = root / f"aktis-bench-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(limit_bytes))
        except OSError:
            folder.rmdir()
            continue
        for name, value in (("memory.memsw.limit_in_bytes", str(limit_bytes)), ("memory.swap.max", "0")):
            with contextlib.suppress(OSError):
                (folder / name).write_text(value)
        return folder
    return None
