"""Modules that workers share with the zygote."""

import ctypes
import subprocess
import sys
import textwrap

import pytest

DEADLINE_S = 60


def lines_of(script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    return done.stdout.split()


def test_the_zygote_stays_single_threaded_and_its_environment_the_same():
    script = """
        import os
        from aktis._process import shared_modules
        before = dict(os.environ)
        shared_modules.load(shared_modules.MODULES)
        import sys
        print(all(name in sys.modules for name in shared_modules.MODULES))
        print(len(os.listdir("/proc/self/task")), os.environ == before)
    """
    assert lines_of(script) == ["True", "1", "True"]


def test_pandas_is_imported_ahead_and_stages_wait_for_it_only_where_it_is_likely_to_be_used():
    script = """
        import sys
        import aktis.data
        from aktis._process.shared_modules import likely_modules, modules_of_stages
        print("pandas" in sys.modules, "pyarrow" in likely_modules(), ",".join(modules_of_stages()))
        aktis.data._batches.check_format("numpy")
        print("pandas" in modules_of_stages() + likely_modules())
        {uses}
        print("pandas" in modules_of_stages(), likely_modules()[-1])
    """
    for uses in ("aktis.data._batches.check_format('pandas')", "import pandas"):
        told = lines_of(script.replace("{uses}", uses))
        assert told == [
            "False",
            "True",
            "numpy,pyarrow,aktis.data._worker,aktis.data._from_python",
            "False",
            "True",
            "pandas",
        ]


def test_zygote_of_a_session_that_began_before_datasets_were_imported_imports_ahead():
    script = """
        import sys, time
        import aktis
        aktis.init(num_cpus=1)
        looks = aktis.remote(lambda: {"pyarrow", "aktis.data._worker"} <= set(sys.modules))
        import aktis.data
        deadline = time.monotonic() + 30
        while not (has := aktis.get(looks.options(max_calls=1).remote())) and time.monotonic() < deadline:
            time.sleep(0.05)
        print(has)
    """
    assert lines_of(script)[-1] == "True"


def test_workers_find_the_planner_made():
    script = """
        import ctypes, sys
        from aktis import _aktis
        from aktis._process import shared_modules

        class Allocated(ctypes.Structure):
            _fields_ = [(f"field {n}", ctypes.c_size_t) for n in range(10)]

        def allocated_bytes():
            ask = ctypes.CDLL(None).mallinfo2
            ask.restype = Allocated
            return getattr(ask(), "field 7")

        if "{is_zygote}" == "True":
            shared_modules.load(shared_modules.MODULES)
        numbers = _aktis.data.Sources.range(1)
        before = allocated_bytes()
        filtered = numbers.filter("id = 1")
        print(allocated_bytes() - before)
    """
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("only this allocator tells what it gave")
    alone, forked = (int(lines_of(script.replace("{is_zygote}", str(it)))[0]) for it in (False, True))
    assert forked < alone / 4, (alone, forked)


def test_workers_draw_different_random_numbers():
    script = """
        import os, sys
        from aktis._process import shared_modules
        shared_modules.load(["numpy"])
        import numpy.random
        for _ in range(2):
            if os.fork() == 0:
                shared_modules.after_fork()
                print(numpy.random.rand(), flush=True)
                os._exit(0)
            os.wait()
    """
    first, second = lines_of(script)
    assert first != second


def test_only_modules_that_are_known_to_work_after_a_fork_are_imported():
    script = """
        import sys
        from aktis._process import shared_modules
        shared_modules.load(["colorsys", "no_such_module"])
        print("colorsys" in sys.modules)
    """
    assert lines_of(script) == ["False"]
