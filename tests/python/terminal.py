"""Programs in a terminal that is emulated: what somebody sees who looks at it, and what he finds scrolling up."""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

import pyte

DEADLINE_S = 120
CTRL_C = b"\x03"


class Terminal:
    """A Python program in a terminal of its own."""

    def __init__(self, *arguments, columns, rows=30, env=None):
        self.columns = columns
        self._screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.1)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.status = None
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            # Somebody's own COLUMNS would go before the size of the terminal.
            keep = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "LINES")}
            # The first thing it does, so that nobody asks for the size before it has one.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(sys.executable, [sys.executable, *arguments], {**keep, "PYTHONUTF8": "1", **(env or {})})

    def lines(self):
        """All lines from the first that was written, without blanks at their ends."""
        above = ["".join(line[column].data for column in range(self.columns)) for line in self._screen.history.top]
        lines = [line.rstrip() for line in [*above, *self._screen.display]]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def type(self, keys):
        """Presses keys."""
        os.write(self._terminal, keys)

    def until_end(self, each_moment=lambda: None):
        """Reads until the program has ended; calls back whenever something has changed. Returns :meth:`lines`."""
        while self.read():
            each_moment()
        return self.lines()

    def until(self, is_there):
        """Reads until the lines are as wanted."""
        while not is_there(self.lines()):
            assert self.read(), "it ended before: " + "\n".join(self.lines())

    def read(self):
        """Takes in what has been written meanwhile; False: the program has ended."""
        end = time.monotonic() + DEADLINE_S
        while not select.select([self._terminal], [], [], 0.5)[0]:
            assert time.monotonic() < end, "nothing happens: " + "\n".join(self.lines())
        try:
            data = os.read(self._terminal, 4096)
        except OSError:  # what Linux says of a terminal that nobody has open any more
            data = b""
        if not data:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])  # pyright: ignore[reportArgumentType]
            self._pid = None
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pid is not None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)
