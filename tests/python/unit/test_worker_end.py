"""The deadline for the end of a worker. What runs at the end is tested with real workers in ``tests/python/api``."""

import subprocess
import sys
import textwrap


def end_with(at_exit, patience_s):
    script = f"""
        import atexit, ctypes, os
        from aktis._process import end
        end.PATIENCE_S = {patience_s}
        atexit.register({at_exit})
        end.end_in_order(None, 7)
        ctypes.CDLL(None).usleep({round((patience_s + 0.3) * 1e6)})  # longer than the deadline was
        os._exit(3)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_an_end_that_takes_too_long_is_cut_short_even_where_foreign_code_keeps_the_lock_of_the_interpreter():
    done = end_with("ctypes.PyDLL(None).sleep, 60", 0.3)
    assert done.returncode == 7
    assert "the end of this worker took longer than 0.3 s and was cut short" in done.stderr


def test_an_end_in_time_leaves_no_deadline_behind():
    done = end_with("print, 'at exit'", 3)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (3, "at exit", "")
