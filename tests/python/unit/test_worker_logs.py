"""Lines of workers and lines of progress, which are written by different threads."""

import io
import sys
import threading

from aktis._session.worker_logs import print_worker_lines
from aktis.data._terminal_bars import TerminalBars

DEADLINE_S = 30


class Slow(io.StringIO):
    """A terminal that takes its time to say that it is one."""

    def __init__(self):
        super().__init__()
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def isatty(self):
        if threading.current_thread().name == "printer":
            self.is_asked.set()
            self.may_answer.wait(DEADLINE_S)
        return True


def test_no_bar_comes_between_the_question_which_stream_it_is_and_the_line(monkeypatch):
    terminal = Slow()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    bars, is_shown = TerminalBars(terminal), threading.Event()

    def show():
        bars.show(["bar"])
        is_shown.set()

    lines = {"pid": 7, "source": "f", "lines": ["line"]}
    printer = threading.Thread(target=print_worker_lines, args=(lines,), name="printer", daemon=True)
    printer.start()
    assert terminal.is_asked.wait(DEADLINE_S)
    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    # It would come at once, and the line over it.
    assert not is_shown.wait(0.3)
    terminal.may_answer.set()
    printer.join(DEADLINE_S)
    assert is_shown.wait(DEADLINE_S)
    shower.join(DEADLINE_S)
    bars.close(["done"])
    written = terminal.getvalue()
    assert written.index("line\n") < written.index("bar")
