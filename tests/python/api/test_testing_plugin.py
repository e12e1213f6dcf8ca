"""The plugin for pytest: sessions of their own, and what tests leave. Each run of pytest here is a process of its own."""

import os
import pathlib
import re
import subprocess
import sys
import tomllib

import aktis
import pytest

ROOT = pathlib.Path(__file__).parents[3]
PLUGIN = "aktis.testing.pytest_plugin"

pytestmark = pytest.mark.usefixtures("no_session")


def run(folder, text, *arguments):
    """Runs pytest over a file; what it says."""
    (folder / "test_it.py").write_text(text)
    package = pathlib.Path(aktis.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "-q", "-rA", "--rootdir", str(folder), "-p", "no:cacheprovider", *arguments, "test_it.py"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def outcomes(said):
    return {
        name: outcome for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) test_it\.py::(\w+)", said, re.MULTILINE)
    }


#: What is left is left for good: nobody has to wait whether it goes by itself. Segments are looked at beside other runs, too, as far as
#: they are those of the tests.
QUICK = """
import pytest

@pytest.fixture(autouse=True)
def quick(monkeypatch):
    from aktis.testing import _leaks
    monkeypatch.setattr(_leaks, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(_leaks, "_OURS", ("psm_of_a_test",))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
"""

FRESH = """
import os, threading, aktis, pytest

seen = []

@aktis.remote
def pid():
    return os.getpid()

def test_one(aktis_session):
    seen.append(aktis.get_runtime_context().get_job_id())
    assert aktis.cluster_resources()["CPU"] == 2
    assert aktis.get(pid.remote()) != os.getpid()

@pytest.mark.aktis(num_cpus=3, resources={"licence": 1})
def test_another(aktis_session):
    seen.append(aktis.get_runtime_context().get_job_id())
    assert len(set(seen)) == 2
    assert (aktis.cluster_resources()["CPU"], aktis.cluster_resources()["licence"]) == (3, 1)

@pytest.mark.aktis(num_gpus=2)
def test_in_this_process(aktis_local):
    assert aktis.get(pid.remote()) == os.getpid()
    assert aktis.cluster_resources()["GPU"] == 2

def test_nothing_is_there():
    assert not aktis.is_initialized()

def test_a_dataset_leaves_nothing(aktis_session):
    import aktis.data
    kept = aktis.data.range(100).map(lambda row: row).materialize()
    assert kept.count() == 100
"""


def test_each_test_has_a_session_of_its_own(tmp_path):
    said = run(tmp_path, FRESH)
    assert set(outcomes(said).values()) == {"PASSED"}, said
    assert len(outcomes(said)) == 5


LEAKS = """
import os, subprocess, sys, aktis, pytest
from multiprocessing import resource_tracker, shared_memory

CACHE = {}

class Holder:
    pass

KEPT = Holder()

@aktis.remote
class Server:
    def ping(self):
        return "pong"

def test_references(aktis_session):
    CACHE["model"] = aktis.put([1, 2])
    KEPT.ref = aktis.put(3)

def test_actor(aktis_session):
    CACHE.clear()
    server = Server.options(name="left", namespace="here", lifetime="detached").remote()
    assert aktis.get(server.ping.remote()) == "pong"

@pytest.mark.aktis(may_leave=["actors"])
def test_actor_that_may_stay(aktis_session):
    Server.options(name="left", lifetime="detached").remote()

def test_process(aktis_session):
    CACHE["process"] = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600) # left behind"])

def test_end_the_process():
    CACHE["process"].kill()
    CACHE["process"].wait()

def test_shared_memory(aktis_session):
    CACHE["segment"] = shared_memory.SharedMemory(f"psm_of_a_test_{os.getpid()}", create=True, size=100)
    resource_tracker.unregister(CACHE["segment"]._name, "shared_memory")

def test_end_the_segment():
    CACHE["segment"].unlink()

def test_that_fails_is_not_asked(aktis_session):
    CACHE["ref"] = aktis.put(5)
    assert False

def test_after_it(aktis_session):
    pass

def test_that_ends_its_session(aktis_session):
    aktis.shutdown()

@pytest.mark.aktis(may_leave="actor")
def test_unknown_kind(aktis_session):
    pass

@pytest.mark.aktis(may_leave=3)
def test_no_kind(aktis_session):
    pass

@pytest.mark.aktis(4)
def test_argument_without_a_name(aktis_session):
    pass

@pytest.fixture
def broken(aktis_session):
    CACHE["ref"] = aktis.put(6)
    raise RuntimeError("no database")

def test_whose_fixture_fails_is_not_asked(broken):
    pass
"""


def test_what_a_test_leaves_is_named(tmp_path):
    (tmp_path / "conftest.py").write_text(QUICK)
    said = run(tmp_path, LEAKS)
    found = outcomes(said)
    blamed = {"test_references", "test_actor", "test_process", "test_shared_memory"}
    wrong = {"test_unknown_kind", "test_no_kind", "test_argument_without_a_name"}
    failed = {"test_whose_fixture_fails_is_not_asked"}
    assert {name for name, outcome in found.items() if outcome == "ERROR"} == blamed | wrong | failed, said
    assert {name for name, outcome in found.items() if outcome == "FAILED"} == {"test_that_fails_is_not_asked"}, said
    assert re.search(r"references: ObjectRef\(\w+\), held by test_it\.CACHE", said), said
    assert re.search(r"references: ObjectRef\(\w+\), held by test_it\.KEPT", said), said
    assert re.search(r"actors: Server \('left' in namespace 'here', \w+\)", said), said
    assert re.search(r"processes: \d+: .*left behind", said), said
    assert "shared memory: /dev/shm/psm_of_a_test_" in said, said
    assert "@pytest.mark.aktis(may_leave=['actors'])" in said, said
    assert "['actor'] are none of ['references', 'actors', 'processes', 'shared memory']" in said, said
    assert "[3] are none of" in said and "aktis(4): arguments go by their names, as num_cpus=4" in said, said
    assert "ERROR at teardown of test_whose_fixture_fails" not in said, said


UNUSED = """
import sys

def test_nothing_was_imported():
    assert "aktis._aktis" not in sys.modules
    assert "aktis._session" not in sys.modules
    assert "aktis.testing._leaks" not in sys.modules
    assert not [name for name in ("numpy", "pyarrow", "cloudpickle") if name in sys.modules]
"""


def test_projects_that_do_not_use_it_pay_nothing(tmp_path):
    said = run(tmp_path, UNUSED, "--markers")
    assert "@pytest.mark.aktis(may_leave=(), **arguments)" in said
    assert outcomes(run(tmp_path, UNUSED)) == {"test_nothing_was_imported": "PASSED"}


def test_the_wheel_names_it():
    with open(ROOT / "python-bindings" / "pyproject.toml", "rb") as file:
        assert tomllib.load(file)["project"]["entry-points"]["pytest11"] == {"aktis": PLUGIN}


def test_a_session_that_is_there_is_not_ended(tmp_path):
    text = "import aktis\ndef test_it(aktis_session):\n    pass\n"
    (tmp_path / "conftest.py").write_text("import aktis, pytest\n\n@pytest.fixture(autouse=True, scope='session')\ndef own():\n    aktis.init(num_cpus=1)\n    yield\n    assert aktis.is_initialized()\n    aktis.shutdown()\n")  # fmt: skip
    said = run(tmp_path, text)
    assert "there is one already: end it first" in said
    assert outcomes(said) == {"test_it": "ERROR"}
