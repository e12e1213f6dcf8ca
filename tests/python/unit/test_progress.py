"""Progress in terminals of all widths: one line per stage that changes, and everything that is printed meanwhile."""

import itertools
import pathlib
import re
import subprocess
import sys

import pytest
from aktis.data._progress_lines import Ending, StageProgress, Tracker, lines
from terminal import CTRL_C, Terminal

PROGRAM = str(pathlib.Path(__file__).with_name("progress_program.py"))
WIDTHS = (40, 60, 80, 110, 170)


def bars(found):
    """The lines that show progress."""
    return [line for line in found if re.search(r"MapBatches|\d%  ", line)]


def look(case, columns, each_moment=None, **options):
    """Runs a case to its end; on the way there are never two bars of the same stage."""
    with Terminal(PROGRAM, case, columns=columns, **options) as terminal:
        most = [0]

        def count():
            most[0] = max(most[0], len(bars(terminal.lines())))
            if each_moment:
                each_moment(terminal)

        found = terminal.until_end(count)
        return found, most[0], terminal


@pytest.mark.parametrize("columns", WIDTHS)
def test_sixty_lines_of_workers_are_sixty_lines_and_there_is_one_bar(columns):
    """Until November 2026, 33 of 60 were left, with 27 bars between them."""
    found, most_bars, _ = look("worker lines", columns)
    assert [line for line in found if "line" in line] == [f"(f pid=7) line {number}" for number in range(60)]
    assert most_bars == 1
    assert len(bars(found)) == 1 and "done" in bars(found)[0], found
    assert ("done in 12.3 s" in bars(found)[0]) == (columns >= 60)
    assert found[-1] == "the end TextIOWrapper", "standard output is what it was"
    assert len(found) == 62


@pytest.mark.parametrize("columns", WIDTHS)
def test_each_stage_has_one_line_in_any_width(columns):
    seen = []
    found, most_bars, _ = look("two stages", columns, lambda terminal: seen.append(terminal.lines()))
    assert most_bars == 2
    assert len(found) == 3 and all("100%" in line and "done" in line for line in found[:2]), found
    during = [line for state in seen for line in state if "ETA" in line]
    assert during and all("%" in line for line in during)
    assert ("1,000,000 rows" in during[-1]) == (columns >= 110)


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_the_program_prints_and_logs_stays(columns):
    found, most_bars, _ = look("loop", columns)
    for number in range(30):
        for text in (f"printed {number}", f"in two pieces {number}", f"logged {number}", f"to error {number}"):
            assert found.count(text) == 1, (text, found)
    assert most_bars == 1 and len(bars(found)) == 1


def test_a_bar_of_the_users_own_and_ours_keep_out_of_each_others_way():
    found, _, _ = look("tqdm", 80)
    assert [line for line in found if "line" in line] == [f"(f pid=7) line {number}" for number in range(0, 30, 3)]
    assert len([line for line in found if line.startswith("mine: 100%")]) == 1, found
    assert len(bars(found)) == 1, found


def test_a_bar_inside_of_the_loop_keeps_its_place_below():
    found, most_bars, _ = look("inner tqdm", 80)
    assert most_bars == 1 and len(bars(found)) == 1
    assert [line.partition("|")[0] for line in found if line.startswith("inner")] == [
        "inner 0: 100%", "inner 10: 100%", "inner 20: 100%",
    ]  # fmt: skip
    assert len(found) == 5, found


def test_a_question_has_a_line_of_its_own():
    with Terminal(PROGRAM, "question", columns=80) as terminal:
        terminal.until(lambda found: any(line.startswith("really?") for line in found))
        assert "really?" in terminal.lines() and not bars(terminal.lines()), terminal.lines()
        terminal.type(b"yes\r")
        found = terminal.until_end()
        assert "really? yes" in found and "the answer yes" in found and len(bars(found)) == 1


def test_without_tqdm_it_says_once_what_to_install():
    found, _, _ = look("no tqdm", 170)
    assert len(found) == 2 and "install aktis[data], or set AKTIS_PROGRESS=0" in found[0], found


@pytest.mark.parametrize("columns", [40, 170])
def test_a_failed_run_says_so(columns):
    """Until November 2026 it said "100% ... done"."""
    found, most_bars, terminal = look("failure", columns)
    assert most_bars == 1
    (bar,) = bars(found)
    assert 0 < int(re.findall(r" (\d+)%", bar)[0]) <= 53 and "failed" in bar
    assert columns < 60 or "failed after 12.3 s" in bar
    assert terminal.status == 1 and found[-1] == "ValueError: row 7 is bad"
    assert not any("100%" in line or "done" in line for line in found)


@pytest.mark.parametrize("columns", [40, 170])
def test_an_interrupted_run_says_so(columns):
    with Terminal(PROGRAM, "for ever", columns=columns) as terminal:
        terminal.until(lambda found: any(" 50%" in line and "ETA" in line for line in found))
        terminal.type(CTRL_C)
        found = terminal.until_end()
        bar = next(line for line in found if "interrupted" in line)
        assert columns < 60 or "interrupted after 12.3 s" in bar
        assert " 50%" in bar and found[-1] == "KeyboardInterrupt"
        assert not any("100%" in line or "done" in line or "ETA" in line for line in found)


def test_a_run_that_nobody_wants_the_rest_of_was_stopped():
    found, _, _ = look("given up", 80)
    assert len(bars(found)) == 1 and "stopped after 12.3 s" in bars(found)[0]


@pytest.mark.parametrize("value", ["0", "off"])
def test_nothing_is_shown_where_it_is_switched_off(value):
    for case, environment in (("switched off", {}), ("one stage", {"AKTIS_PROGRESS": value})):
        found, _, _ = look(case, 80, env=environment)
        assert found == ["the end TextIOWrapper"]


def test_nothing_is_shown_where_it_is_no_terminal():
    done = subprocess.run([sys.executable, PROGRAM, "worker lines"], capture_output=True, text=True, check=True)
    assert done.stderr == "" and "%" not in done.stdout


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def stats(*stages, source_rows=1000):
    """Statistics of stages, each given by the rows that it took and gave, and more of its keys."""
    described = []
    for took, gave, *more in stages:
        operators = [{"rows_out": took}, {"rows_out": gave}]
        stage = {"name": "s", "inputs": 0, "known_inputs": 0, "workers": 1, "starting": 0, "is_done": False}
        givers = [len(described) - 1] if described else []
        described.append({**stage, "givers": givers, "operators": operators, **(more[0] if more else {})})
    return {"source_rows": source_rows, "stages": described}


def test_rate_is_that_of_the_last_seconds_and_the_start_does_not_count():
    clock, starting = Clock(), {"starting": 1}
    tracker = Tracker(clock)
    (stage,) = tracker.read(stats((0, 0, starting)))
    assert stage.is_starting and stage.rows_per_s is None and stage.remaining_s is None
    clock.now += 60
    tracker.read(stats((0, 0, starting)))
    clock.now += 1
    tracker.read(stats((0, 0)))
    for rows in range(10, 510, 10):
        clock.now += 1
        (stage,) = tracker.read(stats((rows, rows)))
    assert stage.rows_per_s == pytest.approx(10) and stage.remaining_s == pytest.approx(50)
    assert (stage.share, stage.total_rows) == (0.5, 1000)


def test_a_stage_that_stands_still_slows_down():
    clock = Clock()
    tracker = Tracker(clock)
    for rows in range(0, 600, 100):
        tracker.read(stats((rows, rows)))
        clock.now += 1
    rates = []
    for _ in range(4):
        clock.now += 60
        (stage,) = tracker.read(stats((500, 500)))
        rates.append((stage.rows_per_s, stage.remaining_s))
    assert all(after[0] < before[0] and after[1] > before[1] for before, after in itertools.pairwise(rates))
    assert rates[0][0] < 10, "a hundred rows a second were those of a minute ago"


def test_a_later_stage_is_as_far_as_its_share_of_the_stage_before():
    clock = Clock()
    tracker = Tracker(clock)
    tracker.read(stats((0, 0), (0, 0)))
    clock.now += 10
    first, second = tracker.read(stats((500, 1000), (250, 250)))
    assert (first.share, second.share) == (0.5, 0.125)
    assert (first.remaining_s, second.remaining_s) == (pytest.approx(10), pytest.approx(70))


def test_branches_are_as_far_as_their_shares_of_the_stage_before_the_branch():
    tracker = Tracker(Clock())
    _, fast, slow, both = tracker.read(
        stats((500, 1000), (1000, 10, {"givers": [0]}), (250, 250, {"givers": [0]}), (130, 0, {"givers": [1, 2]}))
    )
    assert (fast.share, slow.share, both.share) == (0.5, 0.125, 0.0625)


def test_a_source_that_leaves_rows_out_is_as_far_as_its_parts():
    (stage,) = Tracker(Clock()).read(stats((5, 5, {"inputs": 6, "known_inputs": 10})))
    assert stage.share == 0.6


def test_nobody_knows_how_far_a_source_of_unknown_length_is():
    (stage,) = Tracker(Clock()).read(stats((5000, 5000), source_rows=0))
    assert (stage.share, stage.total_rows, stage.remaining_s) == (None, None, None)
    (line,) = lines([stage], 80, is_ascii=True)
    assert "5,000 rows" in line and "%" not in line and "#" not in line and "ETA ?" in line


def test_only_what_is_over_has_a_hundred_percent():
    stage = StageProgress("Read->f", 1000, 1000, 1.0, 10.0, 0.0, 2)
    assert " 99%" in lines([stage], 80)[0]
    assert "100%" in lines([stage], 80, ending=Ending("done", 100.0))[0]
    failed = lines([stage], 80, ending=Ending("failed", 100.0))[0]
    assert " 99%" in failed and "failed after 1:40" in failed and "done" not in failed


@pytest.mark.parametrize(
    "ending", [None, *(Ending(kind, 3e5) for kind in ("done", "failed", "interrupted", "stopped"))]
)
@pytest.mark.parametrize("is_ascii", [False, True])
def test_no_line_is_longer_than_the_terminal(ending, is_ascii):
    stages = [
        StageProgress("Read->" + "MapBatches(Preprocess)->" * 5 + "Write", 10**12, 10**13, 0.1, 1e9, 1e6, 1000),
        StageProgress("Write", 0, is_starting=True),
    ]
    for width in range(1, 200):
        shown = lines(stages, width, ending=ending, is_ascii=is_ascii)
        assert len(shown) == 2 and all(len(line) <= width for line in shown)
        assert width < 40 or (" 10%" in shown[0] or "100%" in shown[0])
