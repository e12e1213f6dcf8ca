"""Actors inside their process: threads, loops, order, limits. Needs no native module."""

import asyncio
import functools
import os
import queue
import select
import threading

import pytest
from aktis._process import actor_host, async_host
from aktis._process.actor_host import ActorExit, find_method, host_actor

DEADLINE_S = 20
#: Methods that are called for their items.
STREAMS = ("numbers", "plain_numbers", "meet_in_stream")


class Feed:
    """Stands for the native feed: calls come from another thread."""

    def __init__(self):
        self.calls = queue.SimpleQueue()
        self.bell, self.ring = os.pipe()
        self.fds = [self.bell]

    def watch(self, fd):
        self.fds.append(fd)

    def put(self, call):
        self.calls.put(call)
        os.write(self.ring, b"!")

    def dispatch(self, timeout):
        if self.bell in select.select(self.fds, [], [], timeout)[0]:
            for _ in os.read(self.bell, 4096):
                self.calls.get()()
        return True


class Calls:
    """Dispatches calls to a host and collects the answers."""

    def __init__(self, host):
        self.host = host
        self.answers = queue.Queue()
        self.start = lambda call: call()
        if host.kind == "async":
            feed = Feed()
            self.start = feed.put
            threading.Thread(target=host.run, args=(feed,), daemon=True).start()

    def send(self, method, *args):
        answers = self.answers

        class Done:
            is_streaming = method.rpartition(":")[2] in STREAMS

            def __init__(self):
                self.items = []

            def __call__(self, value, exc=None):
                answers.put((list(value) if self.is_streaming and exc is None else value, exc))

            def emit(self, item):
                self.items.append(item)

            def end_stream(self):
                answers.put((self.items, None))

            def resume(self):
                pass

            def enter(self):
                return True

            def task_id(self):
                return method.encode()

        self.start(lambda: self.host.dispatch(method, args, {}, Done()))

    def answer(self):
        value, error = self.answers.get(timeout=DEADLINE_S)
        if error is not None:
            raise error
        return value


class Plain:
    def __init__(self, log=None):
        self.log = [] if log is None else log
        self.barrier = threading.Barrier(3, timeout=DEADLINE_S)

    def meet(self):
        self.barrier.wait()
        return threading.get_ident()

    def note(self, i):
        self.log.append(i)

    def fail(self):
        raise ValueError("no")


class Async:
    def __init__(self):
        self.running = 0
        self.most = 0
        self.seen = []

    async def work(self, i):
        self.seen.append(i)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        return i

    def plain(self):
        return threading.current_thread().name

    async def name(self):
        return threading.current_thread().name

    async def fail(self):
        raise ValueError("no")

    async def numbers(self):
        for i in range(3):
            await asyncio.sleep(0)
            yield i

    def plain_numbers(self):
        yield threading.current_thread().name
        yield from range(2)

    async def meet_in_stream(self):
        self.running += 1
        while self.running < 40:
            await asyncio.sleep(0.001)
        yield self.running


def test_a_plain_class_is_hosted_by_the_native_loop(monkeypatch):
    monkeypatch.setattr(actor_host, "request_exit", lambda: None)
    host = host_actor(Plain, (), {}, 0)
    assert host.kind == "sync"
    assert host.instance.__ray_ready__() is True
    with pytest.raises(ActorExit):
        host.instance.__ray_terminate__()


def test_threads_run_that_many_calls_at_once():
    calls = Calls(host_actor(Plain, (), {}, 3))
    assert calls.host.kind == "threaded"
    for _ in range(6):
        calls.send("meet")
    assert len({calls.answer() for _ in range(6)}) == 3


def test_calls_of_one_thread_run_in_order():
    calls = Calls(host_actor(type("One", (Plain,), {"__aktis_concurrency_groups__": {"io": 1}}), (), {}, 1))
    for i in range(100):
        calls.send("note", i)
    for _ in range(100):
        calls.answer()
    assert calls.host.instance.log == list(range(100))


@pytest.mark.parametrize(("cls", "concurrency"), [(Plain, 2), (Async, 0)])
def test_an_error_answers_its_call(cls, concurrency):
    calls = Calls(host_actor(cls, (), {}, concurrency))
    calls.send("fail")
    with pytest.raises(ValueError, match="no"):
        calls.answer()


def test_async_methods_interleave_up_to_the_limit_and_start_in_order():
    calls = Calls(host_actor(Async, (), {}, 3))
    assert calls.host.kind == "async"
    for i in range(30):
        calls.send("work", i)
    assert sorted(calls.answer() for _ in range(30)) == list(range(30))
    assert calls.host.instance.most == 3
    assert calls.host.instance.seen == list(range(30))


def test_plain_methods_of_an_async_actor_run_on_its_loop():
    calls = Calls(host_actor(Async, (), {}, 0))
    calls.send("plain")
    calls.send("name")
    assert calls.answer() == calls.answer()


@pytest.fixture
def _others_run(monkeypatch):
    """In place of the native module, which knows whether a consumer has read enough."""
    monkeypatch.setattr(async_host, "_let_others_run", lambda _done: asyncio.sleep(0))


@pytest.mark.usefixtures("_others_run")
def test_items_of_an_async_generator_are_sent_from_the_loop():
    calls = Calls(host_actor(Async, (), {}, 0))
    calls.send("numbers")
    assert calls.answer() == [0, 1, 2]


@pytest.mark.usefixtures("_others_run")
def test_streams_overlap_up_to_the_limit_of_the_actor_and_not_that_of_an_executor():
    calls = Calls(host_actor(Async, (), {}, 0))
    for _ in range(40):
        calls.send("meet_in_stream")
    assert [calls.answer() for _ in range(40)] == [[40]] * 40


def test_a_plain_generator_of_an_async_actor_has_a_thread_of_its_own():
    calls = Calls(host_actor(Async, (), {}, 0))
    calls.send("plain_numbers")
    assert calls.answer() == ["aktis-actor-stream", 0, 1]


def test_groups_of_async_actors_have_loops_of_their_own():
    cls = type("Grouped", (Async,), {"__aktis_concurrency_groups__": {"io": 1}})
    calls = Calls(host_actor(cls, (), {}, 0))
    gate = threading.Event()
    calls.host.instance.block = lambda: gate.wait(DEADLINE_S)
    calls.host.instance.open = gate.set
    calls.send("block")
    calls.send("io:open")
    assert [calls.answer() for _ in range(2)] in ([None, True], [True, None])


def test_a_call_in_a_group_of_an_async_actor_is_cancelled():
    calls = Calls(host_actor(type("Grouped", (Endless,), {"__aktis_concurrency_groups__": {"io": 1}}), (), {}, 1))
    calls.send("io:forever")
    calls.start(lambda: calls.host.cancel(b"io:forever"))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(asyncio.CancelledError):
        calls.answer()


class Shadowed(Plain):
    def __init__(self):
        super().__init__()
        self.meet = False  # pyright: ignore[reportAttributeAccessIssue]

    @staticmethod
    def plain():
        return "static"


def test_an_attribute_does_not_hide_the_method_of_its_name():
    instance = Shadowed()
    assert find_method(instance, "meet").__func__ is Plain.meet  # pyright: ignore[reportFunctionMemberAccess]
    assert find_method(instance, "plain")() == "static"
    with pytest.raises(AttributeError, match="no_such"):
        find_method(instance, "no_such")


def test_methods_do_not_begin_once_the_actor_has_asked_for_its_end(monkeypatch):
    begun = []

    class Done:
        def enter(self):
            return True

        def __call__(self, value, exc=None):
            begun.append(exc)

    monkeypatch.setattr(actor_host, "_is_ending", True)
    asyncio.run(async_host.CallLoop(1)._call(begun.append, ("on the loop",), {}, Done()))  # pyright: ignore[reportArgumentType]
    actor_host._run(begun.append, ("on a thread",), {}, Done())  # pyright: ignore[reportArgumentType]
    assert begun == []


def test_groups_have_threads_of_their_own():
    cls = type("Grouped", (Plain,), {"__aktis_concurrency_groups__": {"io": 1}})
    calls = Calls(host_actor(cls, (), {}, 1))
    gate = threading.Event()
    calls.host.instance.wait = lambda: gate.wait(DEADLINE_S)
    calls.host.instance.open = gate.set
    calls.send("wait")
    calls.send("io:open")
    assert [calls.answer() for _ in range(2)] in ([None, True], [True, None])


def test_an_unknown_group_names_those_that_are_declared():
    host = host_actor(type("Grouped", (Plain,), {"__aktis_concurrency_groups__": {"io": 1}}), (), {}, 1)
    with pytest.raises(ValueError, match="declares 'io'"):
        host.dispatch("none:note", (1,), {}, None)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_coroutine_that_waits_for_its_slot_is_cancelled():
    calls = Calls(host_actor(Endless, (), {}, 1))
    calls.send("forever")
    calls.send("other")
    for method in (b"other", b"forever"):
        calls.start(functools.partial(calls.host.cancel, method))  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(asyncio.CancelledError):
            calls.answer()


class Endless:
    async def forever(self):
        await asyncio.sleep(DEADLINE_S)

    async def other(self):
        raise AssertionError("must not begin")
