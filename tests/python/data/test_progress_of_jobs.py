"""The progress of jobs with real workers, in terminals."""

import re

import pytest
from terminal import CTRL_C, Terminal

JOB = """
import logging, sys, time, aktis, aktis.data
logging.getLogger("aktis.data").setLevel("ERROR")  # workers may take long to start, on a busy machine
aktis.init(num_cpus=2)
rows, good_rows, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def speak(batch):
    number = batch["id"][0]
    if number >= good_rows:
        raise ValueError(f"row {number} is bad")
    print("line", number)
    time.sleep(0.05)
    return batch

aktis.data.range(rows).map_batches(speak, batch_size=1).write_parquet(folder)
"""


def bars(lines):
    return [line for line in lines if re.match(r"(Read->)?MapBatches\(", line)]


@pytest.mark.parametrize("columns", [60, 170])
def test_sixty_lines_that_workers_print_are_there_with_one_bar_below(columns, tmp_path):
    most_bars = 0
    with Terminal("-c", JOB, "60", "60", str(tmp_path), columns=columns) as terminal:

        def count():
            nonlocal most_bars
            most_bars = max(most_bars, len(bars(terminal.lines())))

        found = terminal.until_end(count)
    assert terminal.status == 0, found
    numbers = [int(line.rpartition(" ")[2]) for line in found if " line " in line]
    assert sorted(numbers) == list(range(60)) and len(found) == 61, found
    assert most_bars == 1 and "100%" in bars(found)[0] and "done in" in bars(found)[0]
    assert columns < 110 or "60 rows" in bars(found)[0]
    # Whoever looks seldom does not see all that is shown.
    shares = [int(share) for share in re.findall(rb" (\d+)%", terminal.raw)]
    assert any(0 < share < 100 for share in shares), "how far it is can be seen on the way"


def test_a_job_that_fails_ends_without_saying_that_it_is_done(tmp_path):
    with Terminal("-c", JOB, "60", "40", str(tmp_path), columns=110) as terminal:
        found = terminal.until_end()
    (bar,) = bars(found)
    assert "failed after" in bar and "done" not in bar
    assert 0 < int(re.findall(r" (\d+)%", bar)[0]) < 100
    assert terminal.status == 1 and any("is bad" in line for line in found)


def test_an_interrupted_job_says_so(tmp_path):
    with Terminal("-c", JOB, "5000", "5000", str(tmp_path), columns=110) as terminal:
        terminal.until(bars)
        terminal.type(CTRL_C)
        found = terminal.until_end()
    (bar,) = bars(found)
    assert "interrupted after" in bar and "done" not in bar and "100%" not in bar
    # A worker's last line may come after it.
    assert any("KeyboardInterrupt" in line for line in found)
