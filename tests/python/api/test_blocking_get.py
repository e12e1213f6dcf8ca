"""An actor that waits for itself is told so, and so is one that blocks its loop."""

import os
import signal

import aktis
import pytest
from waiting import run, until

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 60


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote(num_cpus=0)
class Selfish:
    def one(self):
        return 1

    def of_myself(self):
        me = aktis.get_runtime_context().current_actor
        return aktis.get([me.one.remote()])

    def hand_on(self):
        return [aktis.get_runtime_context().current_actor.one.remote()]


@aktis.remote(num_cpus=0)
class AsyncSelfish:
    async def one(self):
        return 1

    async def of_myself(self):
        return aktis.get(aktis.get_runtime_context().current_actor.one.remote())

    async def awaits_itself(self):
        return await aktis.get_runtime_context().current_actor.one.remote()


@pytest.mark.parametrize("kind", [Selfish, AsyncSelfish])
def test_get_of_a_call_that_the_actor_made_of_itself_is_refused_and_names_the_method(kind):
    with pytest.raises(RuntimeError, match=r"elfish\.one is a method of this very actor"):
        get(kind.remote().of_myself.remote())


def test_an_actor_with_threads_may_wait_for_itself():
    assert get(Selfish.options(max_concurrency=2).remote().of_myself.remote()) == [1]


def test_calls_of_itself_may_be_awaited_or_handed_on():
    assert get(AsyncSelfish.remote().awaits_itself.remote()) == 1
    actor = Selfish.remote()
    (ref,) = get(actor.hand_on.remote())
    assert get(ref) == 1


def test_a_get_that_blocks_the_loop_of_an_async_actor_is_warned_of():
    output = run(
        """
        import aktis, os, time
        os.dup2(1, 2)
        aktis.init(num_cpus=2)

        @aktis.remote
        def slow():
            time.sleep(0.3)
            return 1

        @aktis.remote
        class Blocks:
            async def get(self):
                return aktis.get(slow.remote())
            async def get_ready(self, value):
                return aktis.get(aktis.put(value))

        actor = Blocks.remote()
        print(aktis.get(actor.get_ready.remote(1), timeout=60))
        print("first part", flush=True)
        print(aktis.get(actor.get.remote(), timeout=60))
        aktis.shutdown()
        """
    )
    before, _, after = output.partition("first part")
    assert "blocks the event loop" in after and "blocks the event loop" not in before


def test_shutdown_in_a_task_is_refused_and_the_worker_lives():
    @aktis.remote
    def ends_the_session():
        aktis.shutdown()

    with pytest.raises(RuntimeError, match="cannot be called in a task"):
        get(ends_the_session.remote())


def test_a_value_that_is_nested_too_deeply_is_named_as_such():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="nested too deeply"):
        aktis.put(deep)
    while deep:  # or its end would be as deep
        deep = deep.pop()


def test_a_get_that_timed_out_says_what_is_waited_for(tmp_path):
    @aktis.remote(num_cpus=4)
    def waits_for(path):
        until(path.exists, "it may go on")

    @aktis.remote(num_cpus=0, max_restarts=1, max_task_retries=-1)
    class SlowToComeBack:
        def __init__(self, begun, may_go_on):
            if begun.exists():
                until(may_go_on.exists, "it may go on")
            begun.touch()

        def pid(self):
            return os.getpid()

    def reason(ref):
        with pytest.raises(aktis.exceptions.GetTimeoutError) as caught:
            aktis.get(ref, timeout=0.2)
        return str(caught.value)

    gate = tmp_path / "gate"
    running = waits_for.remote(gate)
    until(lambda: "was sent to a worker" in reason(running), "it has a worker")
    behind = waits_for.options(num_cpus=3).remote(gate)
    assert "waits_for waits for a worker; `aktis status` says" in reason([behind])
    assert "waits for its arguments" in reason(waits_for.remote(behind))
    actor = SlowToComeBack.remote(tmp_path / "begun", gate)
    os.kill(get(actor.pid.remote()), signal.SIGKILL)
    call = actor.pid.remote()
    until(lambda: "pid waits for its actor, which is being started again" in reason(call), "the end is known")
    gate.touch()
    get([running, behind, call])
