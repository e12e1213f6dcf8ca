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
    context = DataContext.get_current()
    before, context.max_worker_deaths_per_input = context.max_worker_deaths_per_input, 2
    yield
    context.max_worker_deaths_per_input = before


def wait_for(condition):
    """What the condition gives, when it gives something."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise TimeoutError("the workers do not do what the test waits for")


def kill_both(folder, failures):
    """Kills the worker of row 0 and another one, which has done a row and begun the next, again and again, always new ones."""
    killed = set()

    def two():
        begun = {path.name: path.read_text() for path in folder.iterdir() if path.name.startswith("row")}
        news = {name: int(pid) for name, pid in begun.items() if pid and pid not in killed}
        others = [pid for name, pid in news.items() if name != "row0" and (folder / f"done{pid}").exists()]
        return [news["row0"], others[0]] if "row0" in news and others else None

    try:
        for _ in range(ROUNDS):
            pids = wait_for(two)
            for pid in pids:
                killed.add(str(pid))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    except TimeoutError as error:
        failures.append(error)
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
        (tmp_path / f"done{os.getpid()}").touch()
        return row

    failures = []
    killer = threading.Thread(target=kill_both, args=(tmp_path, failures))
    killer.start()
    ds = aktis.data.range(40, override_num_blocks=40).map(work)
    try:
        assert [row["id"] for row in ds.take_all()] == list(range(40))
    finally:
        (tmp_path / "over").touch()
        killer.join()
    assert not failures
    assert sum(stage["worker_deaths"] for stage in ds.get_stats_summary()["stages"]) >= 2 * ROUNDS
