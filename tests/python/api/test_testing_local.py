"""``aktis.testing.local()``: calls run in this process, and mean what they mean with workers."""

import asyncio
import os
import sys
import threading
import time
from typing import Any
from unittest import mock

import aktis
import aktis.testing
import numpy as np
import pytest
from aktis import exceptions
from waiting import until

from .worlds import outcome, plain

DEADLINE_S = 60

pytestmark = pytest.mark.usefixtures("no_session")


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote
def pid():
    return os.getpid(), threading.current_thread() is threading.main_thread()


@aktis.remote
class Counter:
    def __init__(self, start=0):
        if start < 0:
            raise KeyError("negative")
        self.value = start

    def add(self, amount=1):
        self.value += amount
        return self.value

    def upto(self, end):
        for value in range(end):
            self.value = value
            yield value

    def fail(self):
        raise ValueError("no", self.value)

    def exit(self, code=None):
        sys.exit(code) if code is not None else aktis.actor.exit_actor()

    def own(self):
        return aktis.get(aktis.get_runtime_context().current_actor.add.remote())


@aktis.remote
class Signal:
    def __init__(self):
        self.event = asyncio.Event()

    async def send(self):
        self.event.set()

    async def wait(self):
        await self.event.wait()
        return "sent"

    async def numbers(self, n):
        for value in range(n):
            yield value

    async def forever(self):
        await asyncio.sleep(3600)


def test_everything_runs_in_this_process(local):
    assert get(pid.remote()) == (os.getpid(), True)
    counter = Counter.remote(10)
    assert get([counter.add.remote(), counter.add.remote(5)]) == [11, 16]
    assert aktis.is_initialized()


def test_a_session_that_is_there_waits_until_the_end():
    aktis.init(num_cpus=1, log_to_driver=False)
    outer = aktis.put("outer")
    with aktis.testing.local():
        assert get(pid.remote())[0] == os.getpid()
        with pytest.raises(exceptions.NotConnectedError, match="outside of aktis.testing.local"):
            aktis.get(outer)
        inner = aktis.put("inner")
    assert get(outer) == "outer"
    assert get(pid.remote())[0] != os.getpid()
    with pytest.raises(exceptions.NotConnectedError, match="which is over"):
        aktis.get(inner)
    with pytest.raises(exceptions.NotConnectedError, match="which is over"):
        aktis.wait([inner])


def test_the_end_is_the_end_also_after_an_error_and_after_shutdown():
    with pytest.raises(ZeroDivisionError), aktis.testing.local():
        raise ZeroDivisionError
    assert not aktis.is_initialized()
    with aktis.testing.local():
        aktis.shutdown()
        assert not aktis.is_initialized()
    assert not aktis.is_initialized()


def test_an_interrupt_while_an_actor_ends_ends_it_too():
    @aktis.remote
    class Interrupted:
        def __ray_shutdown__(self):
            raise KeyboardInterrupt

    exits = os._exit
    with pytest.raises(KeyboardInterrupt), aktis.testing.local():
        keep = Interrupted.remote()  # noqa: F841 - it lives until the end
    assert not aktis.is_initialized()
    assert os._exit is exits


def test_no_thread_of_an_actor_outlives_it(local):
    @aktis.remote(max_concurrency=3)
    class Threaded:
        def name(self):
            return threading.current_thread().name

    actor = Threaded.remote()
    assert get(actor.name.remote()).startswith("aktis-actor")
    del actor
    until(
        lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("aktis-actor")],
        "its threads end",
    )


def test_what_a_test_has_patched_is_what_functions_see(local, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "DEADLINE_S", 7)

    @aktis.remote
    def look():
        return DEADLINE_S

    assert aktis.get(look.remote()) == 7


def test_mocks_arrive_as_they_are(local):
    client = mock.MagicMock()
    client.fetch.return_value = "page"

    @aktis.remote
    class Crawler:
        def __init__(self, client):
            self.client = client

        def crawl(self, url):
            return self.client.fetch(url)

    assert get(Crawler.remote(client).crawl.remote("u")) == "page"
    client.fetch.assert_called_once_with("u")

    @aktis.remote
    def fetch():
        return client.fetch("closure")

    assert get(fetch.remote()) == "page"
    assert client.fetch.call_args.args == ("closure",)


def test_values_are_copied_and_arrays_read_only(local):
    given = {"list": [1], "array": np.zeros(3)}

    @aktis.remote
    def change(value):
        value["list"].append(2)
        with pytest.raises(ValueError, match="read-only"):
            value["array"][0] = 1
        return value

    ref = change.remote(given)
    given["array"][:] = 5
    assert given["list"] == [1]
    assert get(ref)["list"] == [1, 2]
    assert get(ref)["array"].tolist() == [0, 0, 0]
    assert get(ref) is not get(ref)


def test_what_could_not_be_sent_is_refused_as_with_workers(local):
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object"):
        Counter.remote().add.remote(lock)
    with pytest.raises(TypeError, match="captured variable 'lock'"):
        aktis.remote(lambda: lock).remote()
    with pytest.raises(TypeError, match="cannot pickle"):
        get(aktis.remote(threading.Lock).remote())


#: What is done in both worlds: what comes of it must be the same.
SCENARIOS: dict = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
def two_values():
    return get(aktis.remote(num_returns=2)(lambda: (1, 2)).remote())


@scenario
def wrong_number_of_values():
    return get(aktis.remote(num_returns=2)(lambda: (1, 2, 3)).remote())


@scenario
def an_error_of_a_task():
    def divide(a, b):
        return a / b

    return get(aktis.remote(divide).remote(1, 0))


@scenario
def an_error_of_an_argument():
    failing = aktis.remote(lambda: {}["nothing"])
    return get(aktis.remote(lambda x: x).remote(failing.remote()))


@scenario
def an_error_that_cannot_be_pickled():
    class Locked(Exception):
        def __init__(self, text):
            super().__init__(text)
            self.lock = threading.Lock()

    def fail():
        raise Locked("it")

    return get(aktis.remote(fail).remote())


@scenario
def a_generator():
    def two_then_fail():
        yield 1
        yield 2
        raise OSError("torn")

    found = []
    for ref in aktis.remote(two_then_fail).remote():
        try:
            found.append(get(ref))
        except OSError as error:
            found.append(type(error).__name__)
    return found


@scenario
def no_generator():
    return get(next(aktis.remote(num_returns="streaming")(lambda: 5).remote()))


@scenario
def an_infeasible_task():
    return get(aktis.remote(resources={"licence": 2})(lambda: 1).remote())


@scenario
def a_task_that_exits():
    return get(aktis.remote(max_retries=0)(lambda: sys.exit(3)).remote())


@scenario
def a_constructor_that_fails():
    return get(Counter.remote(-1).add.remote())


@scenario
def a_method_that_fails():
    return get(Counter.remote(3).fail.remote())


@scenario
def a_call_of_oneself():
    return get(Counter.remote().own.remote())


@scenario
def an_actor_that_ends_itself():
    counter = Counter.remote()
    try:
        get(counter.exit.remote())
    except exceptions.ActorDiedError as error:
        first = str(error)
    try:
        get(counter.add.remote())
    except exceptions.ActorDiedError as error:
        return plain(first), plain(str(error))


@scenario
def an_actor_that_is_killed():
    counter = Counter.remote()
    get(counter.add.remote())
    aktis.kill(counter)
    return get(counter.add.remote())


@scenario
def an_actor_that_exits_is_started_again():
    counter = Counter.options(max_restarts=1, max_task_retries=1).remote(5)
    get(counter.add.remote())
    with pytest.raises(exceptions.ActorError):
        get(counter.exit.options(max_task_retries=0).remote(2))
    return get(counter.add.remote())


@scenario
def names():
    keep = Counter.options(name="n", namespace="here").remote(1)
    with pytest.raises(ValueError, match="is taken"):
        Counter.options(name="n", namespace="here").remote()
    again = Counter.options(name="n", namespace="here", get_if_exists=True).remote()
    found = get(aktis.get_actor("n", namespace="here").add.remote()), get(again.add.remote()), keep == again
    with pytest.raises(ValueError, match="Failed to look up"):
        aktis.get_actor("other")
    return found


@scenario
def an_async_actor():
    signal = Signal.remote()
    waiting = [signal.wait.remote() for _ in range(3)]
    ready, _ = aktis.wait(waiting, timeout=0.05)
    signal.send.remote()
    return len(ready), get(waiting), [get(ref) for ref in signal.numbers.remote(3)]


@scenario
def a_cancelled_method():
    ref = Signal.remote().forever.remote()
    aktis.cancel(ref)
    return get(ref)


@scenario
def references_inside_of_values():
    inner = aktis.put([1])
    outer = aktis.put({"ref": inner})
    found = get(outer)["ref"]
    return found == inner, isinstance(found, aktis.ObjectRef), get(found)


@scenario
def a_task_waits_for_an_async_argument():
    signal = Signal.remote()
    ref = aktis.remote(lambda text: text.upper()).remote(signal.wait.remote())
    ready, _ = aktis.wait([ref], timeout=0.05)
    get(signal.send.remote())
    return len(ready), get(ref)


@scenario
def where_code_runs():
    def look():
        context = aktis.get_runtime_context()
        return context.get_assigned_resources(), context.get_task_id() is not None, context.get_actor_id()

    here = aktis.get_runtime_context()
    return get(aktis.remote(num_cpus=2)(look).remote()), here.get_task_id(), aktis.cluster_resources()["CPU"]


@scenario
def mistakes():
    found = []
    anything: Any = aktis
    counters: Any = Counter
    task: Any = pid
    for wrong in (lambda: counters.remote().nope, lambda: anything.get(3), lambda: anything.put(aktis.put(1)), lambda: counters.remote(1, 2),
                  lambda: anything.wait([aktis.put(1)] * 2 + [5]), lambda: anything.put(1) + 1, lambda: get(task.remote(5))):  # fmt: skip
        with pytest.raises(Exception) as caught:
            wrong()
        found.append((type(caught.value).__name__, plain(str(caught.value))))
    return found


#: What says how it is with workers, or here.
TOLD_OTHERWISE = {"an_infeasible_task", "a_task_that_exits"}


@pytest.fixture(scope="module")
def outcomes_with_workers():
    aktis.shutdown()
    with aktis.init(num_cpus=2, log_to_driver=False):
        return {name: outcome(function) for name, function in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_outcome_is_that_of_a_session_with_workers(name, outcomes_with_workers):
    aktis.shutdown()
    with aktis.testing.local(num_cpus=2):
        found = outcome(SCENARIOS[name])
    if name in TOLD_OTHERWISE:
        assert found[:2] == outcomes_with_workers[name][:2]
    else:
        assert found == outcomes_with_workers[name]


def test_a_generator_runs_as_it_is_read(local):
    made = []

    @aktis.remote
    def numbers():
        for value in range(3):
            made.append(value)
            yield value

    stream = numbers.remote()
    assert made == []
    assert (get(next(stream)), made) == (0, [0])
    assert get(stream.completed()) is None
    assert made == [0, 1, 2]
    assert [get(ref) for ref in stream] == [1, 2]


def test_a_call_of_an_actor_comes_after_the_generator_before_it(local):
    counter = Counter.remote()
    stream = counter.upto.remote(4)
    assert get(next(stream)) == 0
    assert get(counter.add.remote(10)) == 13
    assert [get(ref) for ref in stream] == [1, 2, 3]


def test_methods_of_threaded_actors_wait_for_each_other(local):
    @aktis.remote(max_concurrency=2)
    class Gate:
        def __init__(self):
            self.event = threading.Event()

        def wait(self):
            return self.event.wait(DEADLINE_S)

        def open(self):
            self.event.set()

    gate = Gate.remote()
    waiting = gate.wait.remote()
    get(gate.open.remote())
    assert get(waiting)


def test_an_actor_goes_with_its_last_handle(local):
    counter = Counter.options(name="gone").remote()
    method = counter.add
    del counter
    assert get(method.remote()) == 1
    del method
    assert aktis.util.list_named_actors() == []
    keep = Counter.options(name="stays", lifetime="detached").remote()
    del keep
    assert aktis.util.list_named_actors() == ["stays"]


def test_a_process_that_would_end_is_not_that_of_the_test(local):
    with pytest.raises(exceptions.WorkerCrashedError, match="code 9"):
        get(aktis.remote(max_retries=0)(lambda: os._exit(9)).remote())
    attempts = []

    @aktis.remote
    def crashes_twice():
        attempts.append(1)
        if len(attempts) < 3:
            os._exit(1)
        return "done"

    assert get(crashes_twice.remote()) == "done"


def test_exceptions_are_tried_again_as_asked(local):
    attempts = []

    @aktis.remote(max_retries=2, retry_exceptions=[OSError])
    def fails(kind):
        attempts.append(kind)
        raise kind("again")

    with pytest.raises(OSError, match="again"):
        get(fails.remote(OSError))
    with pytest.raises(KeyError):
        get(fails.remote(KeyError))
    assert attempts == [OSError] * 3 + [KeyError]


def test_a_call_that_waits_for_its_caller_is_told_of(local, monkeypatch, caplog):
    from aktis.testing._local import long_calls

    monkeypatch.setattr(long_calls, "PATIENCE_S", 0.05)
    told = mock.Mock(side_effect=lambda: "waits has run for" in caplog.text)

    @aktis.remote
    def waits():
        deadline = time.monotonic() + DEADLINE_S
        while not told() and time.monotonic() < deadline:
            time.sleep(0.01)

    get(waits.remote())
    assert "within .remote()" in caplog.text


def test_local_mode_of_init_says_what_there_is_instead():
    begin: Any = aktis.init
    with pytest.raises(RuntimeError, match=r"aktis\.testing\.local\(\)"):
        begin(local_mode=True)


def test_there_is_one_at_a_time_and_quantities_make_sense(local):
    with pytest.raises(RuntimeError, match="already"), aktis.testing.local():
        pass
    with pytest.raises(RuntimeError, match="session already"):
        aktis.init()
    aktis.shutdown()
    with pytest.raises(ValueError, match="amount of CPU"), aktis.testing.local(num_cpus=-1):
        pass
    with pytest.raises(TypeError, match="resources is a dict of quantities"), aktis.testing.local(resources=[1]):  # pyright: ignore[reportArgumentType]
        pass


def test_it_decorates_what_runs_in_its_call_and_nothing_else():
    @aktis.testing.local(num_cpus=3)
    def twice(value):
        return value, aktis.cluster_resources()["CPU"], get(pid.remote())[0]

    assert [twice(1), twice(2)] == [(value, 3.0, os.getpid()) for value in (1, 2)]

    async def later():
        pass

    def items():
        yield 1

    async def later_items():
        yield 1

    for function, kind in ((later, "an async function"), (items, "a generator"), (later_items, "an async generator")):
        with pytest.raises(TypeError, match=f"{function.__name__} is {kind}, which runs later"):
            aktis.testing.local()(function)
        with pytest.raises(TypeError, match=rf"@aktis.testing.chaos\(\) is over when .* {function.__name__} is {kind}"):
            aktis.testing.chaos()(function)
    assert not aktis.is_initialized()


def test_declared_resources_are_what_calls_may_ask_for():
    with aktis.testing.local(num_gpus=1):
        found = get(aktis.remote(num_gpus=0.5)(lambda: aktis.get_gpu_ids()).remote())
        assert found == [0]
        with pytest.raises(exceptions.TaskUnschedulableError, match=r"aktis\.testing\.local\(num_gpus=2\)"):
            get(aktis.remote(num_gpus=2)(lambda: 1).remote())


def test_await_and_futures_give_values(local):
    async def main():
        signal = Signal.remote()
        waiting = signal.wait.remote()
        await signal.send.remote()
        return await asyncio.gather(waiting, pid.remote())

    assert asyncio.run(main()) == ["sent", (os.getpid(), True)]
    assert aktis.put(3).future().result(timeout=DEADLINE_S) == 3
