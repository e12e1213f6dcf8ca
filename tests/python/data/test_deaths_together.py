"""Workers that die together, again and again: the job goes on, and no input is given up for it."""

# Functions are made for one test.
# pyright: reportArgumentType=false

import contextlib
import os
import signal
import threading
import time

import aktis.data
import pytest
from aktis.data import DataContext

DEADLINE_S = 60
ROUNDS = 4


@pytest.fixture
def few_deaths():
    """Two deaths give an input up; rows come as they are done, so that the test sees what the job has seen."""
    context = DataContext.get_current()
    options = context.execution_options
    before = context.max_worker_deaths_per_input, options.preserve_order
    context.max_worker_deaths_per_input, options.preserve_order = 2, False
    yield
    context.max_worker_deaths_per_input, options.preserve_order = before


def wait_for(condition):
    """What the condition gives, when it gives something."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise TimeoutError("the workers do not do what the test waits for")


def kill_both(folder, rows, failures):
    """Kills the worker of row 0 and one of another row, again and again, when new workers have got on since."""
    # Of those that are known, rows may have been on their way at the last kill.
    killed, known = set(), set()

    def two():
        try:
            begun = {path.name: path.read_text() for path in folder.iterdir() if path.name.startswith("row")}
        except FileNotFoundError:
            return None
        news = {name: pid for name, pid in begun.items() if pid and pid not in killed}
        others = [pid for name, pid in news.items() if name != "row0"]
        has_got_on = any(pid not in known for _, pid in rows)
        return [news["row0"], others[0]] if has_got_on and "row0" in news and others else None

    try:
        for _ in range(ROUNDS):
            pids = wait_for(two)
            for pid in pids:
                killed.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            known.update(killed, (pid for _, pid in rows))
    except (OSError, TimeoutError) as error:
        failures.append(error)
    finally:
        (folder / "over").touch()


def test_inputs_are_not_given_up_for_workers_that_were_killed_together(tmp_path, few_deaths):
    def work(row):
        mark = tmp_path / f"row{row['id']}"
        mark.write_text(str(os.getpid()))
        over = tmp_path / "over"
        # Row 0 is never done before the last round; the others get on between rounds.
        while row["id"] == 0 and not over.exists():
            time.sleep(0.01)
        if not over.exists():
            time.sleep(0.2)
        mark.unlink()
        return {**row, "pid": str(os.getpid())}

    rows, failures = [], []
    ds = aktis.data.range(40, override_num_blocks=40).map(work)
    killer = threading.Thread(target=kill_both, args=(tmp_path, rows, failures))
    killer.start()
    try:
        for row in ds.iter_rows():
            rows.append((row["id"], row["pid"]))
    finally:
        (tmp_path / "over").touch()
        killer.join()
    assert not failures
    assert sorted(number for number, _ in rows) == list(range(40))
    assert sum(stage["worker_deaths"] for stage in ds.get_stats_summary()["stages"]) >= 2 * ROUNDS
