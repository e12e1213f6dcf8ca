"""An actor that waits for itself is told so, and so is one that blocks its loop."""

import aktis
import pytest
from waiting import run

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
