"""What a worker finds around it: threads of numerical libraries, and a stack when native code crashes."""

import os

import aktis
import pytest
from waiting import driver

DEADLINE_S = 60


@pytest.fixture
def session(no_session, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    aktis.init(num_cpus=4, log_to_driver=False)


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote
def threads():
    return os.environ.get("OMP_NUM_THREADS")


@aktis.remote
class Model:
    def threads(self):
        return os.environ.get("OMP_NUM_THREADS")


@pytest.mark.usefixtures("session")
def test_numerical_libraries_use_as_many_threads_as_a_task_or_actor_has_cpus():
    for cpus in (1, 2, 0.5, 3, 1):
        expected = str(max(1, int(cpus)))
        assert get(threads.options(num_cpus=cpus).remote()) == expected
        assert get(Model.options(num_cpus=cpus).remote().threads.remote()) == expected


@pytest.mark.usefixtures("session")
def test_an_actor_that_asks_for_nothing_has_one_thread():
    assert get(Model.remote().threads.remote()) == "1"


@pytest.mark.usefixtures("session")
def test_a_task_that_sets_the_variable_itself_is_left_alone():
    @aktis.remote(num_cpus=0)
    class Chooses:
        def choose(self):
            os.environ["OMP_NUM_THREADS"] = "7"

        def threads(self):
            return os.environ["OMP_NUM_THREADS"]

    actor = Chooses.remote()
    get(actor.choose.remote())
    assert get(actor.threads.remote()) == "7"


def test_what_the_user_sets_for_the_session_is_kept(no_session, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    aktis.init(num_cpus=2, log_to_driver=False)
    assert get([threads.remote(), threads.options(num_cpus=2).remote()]) == ["3", "3"]


def test_loaded_libraries_are_told(no_session):
    @aktis.remote
    def threads_of_openblas():
        import ctypes

        import numpy  # noqa: F401
        from aktis._process import thread_limits

        (path,) = thread_limits._loaded_openblas()
        return ctypes.CDLL(path).scipy_openblas_get_num_threads64_()

    aktis.init(num_cpus=2, log_to_driver=False)
    assert get(threads_of_openblas.remote()) == 1
    assert get(threads_of_openblas.options(num_cpus=2).remote()) == 2
    assert get(threads_of_openblas.remote()) == 1


def test_a_crash_in_native_code_leaves_the_stack_of_python():
    script = """
        import aktis, os
        os.dup2(1, 2)  # what workers print to standard error comes with the rest
        aktis.init(num_cpus=1)

        def reads_null():
            import ctypes
            ctypes.string_at(0)

        @aktis.remote(max_retries=0)
        def crash():
            reads_null()

        while True:  # ended by the test
            try:
                aktis.get(crash.remote(), timeout=60)
            except aktis.exceptions.WorkerCrashedError as error:
                print("ERROR", str(error).replace(chr(10), " "), flush=True)
        """
    wanted = {"SIGSEGV", "in reads_null"}
    with driver(script) as process:
        for line in process.stdout:
            wanted -= {text for text in wanted if text in line}
            if not wanted:
                break
    assert not wanted
