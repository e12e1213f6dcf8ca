"""Forks that look at what they were born with."""

import contextlib
import multiprocessing
import os
import select
import signal

import numpy as np
from waiting import DEADLINE_S

MB = 1 << 20

#: How programs fork.
WAYS = ("os.fork", "multiprocessing")


def array_of(number, size=10_000):
    """80 kB that no other number gives."""
    return np.arange(size, dtype=np.float64) + number * size


def stored_of(number):
    """1 MB, which goes to the object store."""
    return array_of(number, MB // 8)


class Child:
    """A fork that lives until it is asked whether an array it was born with is still the same."""

    def __init__(self, way, held, expected):
        self._asked, ask = os.pipe()
        answer, self._answered = os.pipe()
        if way == "os.fork":
            self._process = None
            self.pid = os.fork()
            if self.pid == 0:
                status = 99
                try:
                    self._live(held, expected)
                    status = 0
                finally:
                    os._exit(status)
        else:
            fork = multiprocessing.get_context("fork")
            self._process = fork.Process(target=self._live, args=(held, expected), daemon=True)
            self._process.start()
            self.pid = self._process.pid
        self._ask, self._answer = ask, answer

    def _live(self, held, expected):
        os.read(self._asked, 1)
        is_same = all(np.array_equal(array, wanted) for array, wanted in zip(held, expected, strict=True))
        os.write(self._answered, b"y" if is_same else b"n")

    def still_sees_it(self):
        """Asks, and waits for the child's end."""
        os.write(self._ask, b"?")
        is_answered = select.select([self._answer], [], [], DEADLINE_S)[0]
        answer = os.read(self._answer, 1) if is_answered else b"nothing"
        with contextlib.suppress(ProcessLookupError):
            if not is_answered:
                os.kill(self.pid, signal.SIGKILL)  # pyright: ignore[reportArgumentType]
        if self._process is None:
            os.waitpid(self.pid, 0)  # pyright: ignore[reportArgumentType]
        else:
            self._process.join(DEADLINE_S)
        for descriptor in (self._ask, self._asked, self._answer, self._answered):
            os.close(descriptor)
        assert answer != b"nothing", "the child hangs"
        return answer == b"y"
