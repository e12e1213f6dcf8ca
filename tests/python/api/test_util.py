"""Actor pools, queues and scheduling strategies."""

import asyncio

import aktis
import pytest
from aktis.util import ActorPool
from aktis.util.queue import Empty, Full, Queue
from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 30


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote
class Doubler:
    def double(self, x):
        return 2 * x

    def slow_double(self, x):
        import time

        time.sleep(0.02 * (5 - x))
        return 2 * x

    def fail(self, x):
        raise ValueError(str(x))


def pool_of(count):
    return ActorPool([Doubler.remote() for _ in range(count)])


def test_a_pool_maps_in_order():
    assert list(pool_of(2).map(lambda a, x: a.slow_double.remote(x), range(5))) == [0, 2, 4, 6, 8]


def test_a_pool_maps_unordered():
    assert sorted(pool_of(2).map_unordered(lambda a, x: a.slow_double.remote(x), range(5))) == [0, 2, 4, 6, 8]


def test_a_pool_keeps_work_until_an_actor_is_free():
    pool = pool_of(1)
    for x in range(3):
        pool.submit(lambda a, x: a.double.remote(x), x)
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
    assert pool.has_free() and not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()


def test_an_error_of_a_pool_leaves_its_actor_free():
    pool = pool_of(1)
    pool.submit(lambda a, x: a.fail.remote(x), 1)
    with pytest.raises(ValueError, match="1"):
        pool.get_next()
    pool.submit(lambda a, x: a.double.remote(x), 4)
    assert pool.get_next(timeout=DEADLINE_S) == 8


def test_a_pool_refuses_an_actor_twice():
    actor = Doubler.remote()
    pool = ActorPool([actor])
    with pytest.raises(ValueError):
        pool.push(actor)
    assert pool.pop_idle() == actor and pool.pop_idle() is None


def test_a_queue_is_shared_with_tasks():
    queue = Queue()

    @aktis.remote
    def produce(queue, count):
        for i in range(count):
            queue.put(i)

    get(produce.remote(queue, 5))
    assert [queue.get(timeout=DEADLINE_S) for _ in range(5)] == [0, 1, 2, 3, 4]
    queue.shutdown()


def test_a_queue_says_that_it_is_empty_or_full():
    queue = Queue(maxsize=2)
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(timeout=0.05)
    queue.put_nowait_batch([1, 2])
    assert queue.full() and len(queue) == 2
    with pytest.raises(Full):
        queue.put_nowait(3)
    with pytest.raises(Full):
        queue.put(3, timeout=0.05)
    with pytest.raises(ValueError):
        queue.put(3, timeout=-1)
    assert queue.get_nowait_batch(2) == [1, 2]
    assert queue.empty()
    queue.shutdown(force=True)


def test_a_queue_is_used_by_coroutines():
    queue = Queue()

    async def main():
        await queue.put_async("x")
        return await queue.get_async()

    assert asyncio.run(main()) == "x"
    queue.shutdown()


def test_a_task_is_pinned_to_a_node():
    here = aktis.nodes()[0]["NodeID"]
    where = aktis.remote(lambda: aktis.get_runtime_context().get_node_id())
    strategy = NodeAffinitySchedulingStrategy(here, soft=False)
    assert get(where.options(scheduling_strategy=strategy).remote()) == here
