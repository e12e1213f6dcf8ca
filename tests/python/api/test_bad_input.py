"""Each mistake ends in a clear exception, in bounded time, and the session goes on."""

import os
import re
import signal
import threading

import aktis
import numpy
import pytest
from aktis import exceptions

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 30


@pytest.fixture(autouse=True)
def the_session_is_still_usable():
    """After every mistake tasks, actors and objects work."""
    yield
    if aktis.is_initialized():
        assert get(echo.remote("still")) == "still"
        assert get(Holder.remote(5).value.remote()) == 5
        assert get(aktis.put("object")) == "object"


@aktis.remote
def echo(value):
    return value


@aktis.remote
class Holder:
    def __init__(self, value):
        self.held = value

    def value(self):
        return self.held

    def take(self, value):
        self.held = value

    def crash(self):
        os._exit(1)


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


class Model:
    def __init__(self):
        self.state = {"guard": threading.Lock()}


def test_an_unpicklable_argument_names_the_attribute_at_fault():
    for call in (echo.remote, Holder.remote, Holder.remote(1).take.remote, aktis.put):
        with pytest.raises(TypeError, match=r"state\['guard'\] \(of type _thread.lock\)"):
            call(Model())


def test_an_unpicklable_closure_names_the_variable():
    guard = threading.Lock()
    with pytest.raises(TypeError, match="'guard'"):
        aktis.remote(lambda: guard).remote()


def test_an_unpicklable_result_is_an_error_of_the_task_that_says_why():
    with pytest.raises(TypeError, match="lock"):
        get(aktis.remote(lambda: threading.Lock()).remote())


def test_a_constructor_that_raises_is_an_actor_died_error_with_its_cause():
    @aktis.remote
    class Broken:
        def __init__(self):
            raise FileNotFoundError("no model at /nowhere")

        def call(self):
            return 1

    with pytest.raises(exceptions.ActorDiedError, match="no model at /nowhere") as caught:
        get(Broken.remote().call.remote())
    assert "Broken" in str(caught.value)


def test_a_function_that_raises_is_its_error():
    def fail():
        raise KeyError("column")

    with pytest.raises(KeyError, match="column"):
        get(aktis.remote(fail).remote())


def test_a_function_that_ends_its_process_is_a_worker_crashed_error():
    @aktis.remote(max_retries=0)
    def leave():
        os._exit(7)

    with pytest.raises(exceptions.WorkerCrashedError) as caught:
        get(leave.remote())
    assert "leave" in str(caught.value) or "code 7" in str(caught.value)


def test_a_function_that_is_killed_is_a_worker_crashed_error():
    @aktis.remote(max_retries=0)
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(exceptions.WorkerCrashedError):
        get(killed.remote())


def test_an_actor_that_is_killed_is_an_actor_died_error():
    holder = Holder.remote(1)
    assert get(holder.value.remote()) == 1
    with pytest.raises(exceptions.ActorDiedError):
        get(holder.crash.remote())


def test_a_request_that_no_node_can_satisfy_says_what_is_missing():
    with pytest.raises(exceptions.TaskUnschedulableError, match="unobtainium"):
        get(echo.options(resources={"unobtainium": 1}).remote(1))
    with pytest.raises(exceptions.AktisError, match="GPU"):
        get(Holder.options(num_gpus=64).remote(1).value.remote())


def test_every_call_of_an_actor_that_no_node_can_host_says_what_is_missing():
    holder = Holder.options(resources={"unobtainium": 2}).remote(1)
    for _ in range(3):  # before it is known, and after
        with pytest.raises(exceptions.AktisError, match="unobtainium"):
            aktis.get(holder.value.remote(), timeout=10)
    named = Holder.options(num_cpus=1000, name="too large").remote(1)
    with pytest.raises(exceptions.AktisError, match="CPU"):
        aktis.get(named.value.remote(), timeout=10)
    with pytest.raises(exceptions.AktisError, match="CPU"):
        aktis.get(aktis.get_actor("too large").value.remote(), timeout=10)


def test_arguments_that_do_not_fit_are_refused_by_the_caller():
    with pytest.raises(TypeError, match="echo"):
        echo.remote()  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="Holder"):
        Holder.remote(1, 2)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match=r"Holder\.value"):
        Holder.remote(1).value.remote("too many")


def test_a_forked_child_cannot_use_or_harm_the_session():
    reference = aktis.put("parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            aktis.put("child")
        except RuntimeError as error:
            status = 0 if "forked" in str(error) else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert get(reference) == "parent"


def test_get_after_shutdown_says_that_the_session_is_over(no_session):
    aktis.init(num_cpus=1, log_to_driver=False)
    reference = aktis.put(1)
    aktis.shutdown()
    with pytest.raises(exceptions.NotConnectedError, match="init"):
        aktis.get(reference, timeout=DEADLINE_S)
    aktis.init(num_cpus=2, log_to_driver=False)


def test_an_object_larger_than_the_store_names_both_sizes(no_session):
    aktis.init(num_cpus=1, log_to_driver=False, object_store_memory=80 << 20)
    with pytest.raises(exceptions.ObjectStoreFullError) as caught:
        aktis.put(numpy.zeros(200 << 20, "uint8"))
    assert re.search(r"2097\d{5} bytes", str(caught.value)), "the object's size, its header included"
    assert str(80 << 20) in str(caught.value), "the store's size"
    assert get(aktis.put(numpy.ones(1 << 20))).sum() == 1 << 20


def test_an_address_where_nobody_listens_is_a_connection_error(no_session):
    with pytest.raises(ConnectionError, match="127.0.0.1:1"):
        aktis.init(address="127.0.0.1:1")
    aktis.init(num_cpus=1, log_to_driver=False)
