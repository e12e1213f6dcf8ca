"""Whole scripts in processes of their own: as users run them."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import aktis
from waiting import is_running, until

DEADLINE_S = 60


def run(script, *, folder=None, check=True):
    """Runs a script written to a file, as ``python script.py``."""
    arguments = [sys.executable, "-c", textwrap.dedent(script)]
    if folder is not None:
        path = folder / "script.py"
        path.write_text(textwrap.dedent(script))
        arguments = [sys.executable, str(path)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=check)


def test_a_script_for_ray_runs_by_another_import(tmp_path):
    done = run(
        """
        import aktis as ray

        @ray.remote
        class Counter:
            def __init__(self):
                self.n = 0
            def increment(self):
                self.n += 1
                return self.n

        class Point:
            def __init__(self, x):
                self.x = x

        @ray.remote(num_returns=2, max_retries=1)
        def split(point):
            return Point(point.x + 1), point.x

        @ray.remote
        def fail():
            raise ValueError("expected")

        ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
        counter = Counter.remote()
        print(ray.get([counter.increment.remote() for _ in range(3)]))
        first, second = split.remote(ray.put(Point(1)))
        print(ray.get(first).x, ray.get(second))
        try:
            ray.get(fail.remote())
        except ray.exceptions.RayTaskError as error:
            print(type(error.cause).__name__, isinstance(error, ValueError))
        ready, rest = ray.wait([first, second], num_returns=2, timeout=10)
        print(len(ready), len(rest), ray.is_initialized(), ray.cluster_resources()["CPU"])
        ray.kill(counter)
        ray.shutdown()
        """,
        folder=tmp_path,
    )
    assert done.stdout.splitlines() == ["[1, 2, 3]", "2 1", "ValueError True", "2 0 True 2.0"], done.stderr


def test_workers_import_modules_next_to_the_script(tmp_path):
    (tmp_path / "neighbour.py").write_text("def value():\n    return 'next door'\n")
    done = run(
        """
        import aktis, neighbour
        print(aktis.get(aktis.remote(neighbour.value).remote()))
        """,
        folder=tmp_path,
    )
    assert done.stdout.strip() == "next door", done.stderr


def test_a_guardless_script_is_not_run_again_by_workers(tmp_path):
    done = run(
        """
        import aktis
        print("top level")
        print(aktis.get([aktis.remote(lambda x: x).remote(i) for i in range(3)]))
        """,
        folder=tmp_path,
    )
    assert done.stdout.splitlines() == ["top level", "[0, 1, 2]"], done.stderr


def test_an_interrupt_ends_get_with_keyboard_interrupt_and_leaves_the_session():
    script = """
        import aktis, signal, sys, time

        # Ignored where the tests run in the background of a shell.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        @aktis.remote
        def slow():
            time.sleep(60)

        aktis.init(num_cpus=2)
        ref = slow.remote()
        try:
            print("waiting", flush=True)
            aktis.get(ref)
        except KeyboardInterrupt:
            print("interrupted", aktis.get(aktis.put("usable")), flush=True)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout.readline().strip() == "waiting"
        time.sleep(0.3)  # let get() begin to wait: there is nothing to observe that says so
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert output.strip() == "interrupted usable"
        assert process.returncode == 0
    finally:
        process.kill()


def test_what_workers_print_names_its_source():
    done = run(
        """
        import aktis, time

        @aktis.remote
        def speak():
            print("hello")

        @aktis.remote
        def shout():
            print("HELLO")

        @aktis.remote
        class Speaker:
            def speak(self):
                import sys
                print("warning", file=sys.stderr)

        aktis.init(num_cpus=2)
        speaker = Speaker.remote()
        aktis.get([speak.remote(), shout.remote(), speaker.speak.remote()])
        time.sleep(1)
        """
    )
    said = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert sorted((source, text.partition(") ")[2]) for source, text in said) == [
        ("(shout", "HELLO"),
        ("(speak", "hello"),
    ], done
    assert "(Speaker pid=" in done.stderr and ") warning" in done.stderr, done


def test_nothing_is_left_when_a_driver_is_killed(tmp_path):
    script = f"""
        import aktis, os, time
        aktis.init(num_cpus=2)
        pids = aktis.get([aktis.remote(os.getpid).remote() for _ in range(4)])
        folder = aktis.get_runtime_context().get()
        print(*set(pids), aktis.init(ignore_reinit_error=True)["session_dir"], flush=True)
        time.sleep({DEADLINE_S})
        """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    *pids, session_dir = process.stdout.readline().split()
    assert pathlib.Path(session_dir).is_dir()
    process.kill()
    process.wait()
    until(lambda: not pathlib.Path(session_dir).exists(), "the session's folder is gone")
    until(lambda: not any(map(is_running, pids)), "the workers have ended")


def test_the_command_prints_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "aktis._cli", "--version"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert aktis.__version__ in done.stdout


def test_writing_into_a_read_only_array_is_explained_where_nobody_catches_it():
    script = """
        import sys
        import aktis, numpy

        before = sys.excepthook
        sys.excepthook = lambda *error: (print("mine too", file=sys.stderr), before(*error))
        aktis.init(num_cpus=1)
        aktis.shutdown()
        aktis.init(num_cpus=1)
        array = aktis.get(aktis.put(numpy.zeros(3)))
        try:
            array[0] = 1
        except ValueError as error:
            assert str(error) == "assignment destination is read-only" and not hasattr(error, "__notes__")
        array[0] = 1
    """
    done = run(script, check=False)
    assert done.returncode == 1
    assert "ValueError: assignment destination is read-only" in done.stderr
    assert done.stderr.count("change a copy, array = array.copy()") == 1
    assert done.stderr.count("mine too") == 1, "the hook that was there is called"


def test_errors_that_have_nothing_to_do_with_arrays_are_left_as_they_are():
    done = run("import aktis; aktis.init(num_cpus=1); raise ValueError('something else')", check=False)
    assert done.stderr.endswith("ValueError: something else\n")
