"""Much of everything for a while, in two programs side by side: all results are right, and no wake-up is lost.

A lost wake-up shows in calls that take as long as a slice of waiting, again and again for the rest of the program. So after the
load each program makes single calls, and what is counted is how many more took just about a slice than took a bit less: a slow machine
makes calls that take any time, and not only these. A round with too many of them is repeated, and only the second one decides.
"""

import json
import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("soak_program.py")
LOAD_S = 5
SINGLE_CALLS = 300
#: Slices in which threads of the runtime wait, in seconds.
SLICES_S = (0.05, 0.1, 1.0)
TOLERANCE = 0.1
#: Single calls that may take a slice by accident.
ACCIDENTS = 5
KINDS = {"_single", "_bursts", "_nested", "_arrays", "_futures", "_coroutines"}


def slices(durations):
    """How many calls took a slice, beyond those that a machine as slow as this one makes so slow without any."""

    def around(seconds, width_s):
        return sum(abs(taken - seconds) <= width_s for taken in durations)

    widths = [(slice_s, TOLERANCE * slice_s) for slice_s in SLICES_S]
    return sum(max(0, around(slice_s, width) - around(slice_s - 2 * width, width)) for slice_s, width in widths)


def test_calls_that_took_a_slice_are_told_from_slow_ones():
    assert slices([0.0005] * 280 + [0.0502] * 20) == 20
    assert slices([number / 1000 for number in range(300)]) <= 2


def line_of(program):
    line = program.stdout.readline()
    assert line, f"the program ended with {program.wait()}: {program.stderr.read()}"
    return line


def round_of_single_calls(programs):
    """Both programs at once. Returns for each how many calls took a slice, and all durations."""
    for program in programs:
        assert line_of(program) == "ready\n"
    for program in programs:
        program.stdin.write("go\n")
        program.stdin.flush()
    taken = [json.loads(line_of(program)) for program in programs]
    return list(map(slices, taken)), taken


def test_two_programs_under_load_get_right_results_and_lose_no_wake_up():
    command = [sys.executable, str(PROGRAM), str(LOAD_S), str(SINGLE_CALLS), "2"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    programs = [subprocess.Popen(command, text=True, env=os.environ, **pipes) for _ in range(2)]  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        first, _ = round_of_single_calls(programs)
        if max(first) > ACCIDENTS:
            second, taken = round_of_single_calls(programs)
            slowest = [sorted(durations)[-10:] for durations in taken]
            assert max(second) <= ACCIDENTS, f"{first}, then {second} calls took a slice; the slowest: {slowest}"
        for program in programs:
            output, errors = program.communicate(timeout=60)
            ended = json.loads(output.splitlines()[-1])
            assert program.returncode == 0, errors
            assert ended["failures"] == []
            assert set(ended["rounds"]) == KINDS, "every thread has done something"
    finally:
        for program in programs:
            program.kill()
            program.communicate()
