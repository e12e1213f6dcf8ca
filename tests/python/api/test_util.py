"""Actor pools, queues and scheduling strategies."""

import asyncio
import os
import time

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
        time.sleep(0.02 * (5 - x))
        return 2 * x

    def fail(self, x):
        raise ValueError(str(x))

    def sleep(self, seconds):
        time.sleep(seconds)


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


@aktis.remote
class Mortal:
    def work(self, x):
        if x == "die":
            os._exit(1)
        return x

    def pair(self, x):
        return x, -x


def test_a_pool_gives_no_more_work_to_an_actor_that_has_died():
    pool = ActorPool([Mortal.remote() for _ in range(2)])
    for x in ["die", *range(12)]:
        pool.submit(lambda actor, x: actor.work.remote(x), x)
    results, deaths = [], 0
    while pool.has_next():
        try:
            results.append(pool.get_next_unordered(timeout=DEADLINE_S))
        except aktis.exceptions.ActorDiedError:
            deaths += 1
    assert (sorted(results), deaths) == (list(range(12)), 1)


def test_a_pool_whose_actors_have_all_died_says_so_for_each_piece_of_work():
    pool = ActorPool([Mortal.remote()])
    for x in ["die", 1, 2]:
        pool.submit(lambda actor, x: actor.work.remote(x), x)
    with pytest.raises(aktis.exceptions.ActorDiedError):
        pool.get_next(timeout=DEADLINE_S)
    assert pool.has_next()
    with pytest.raises(aktis.exceptions.ActorDiedError, match="all actors of the pool are dead"):
        pool.get_next(timeout=DEADLINE_S)
    pool.push(Mortal.remote())
    assert pool.get_next(timeout=DEADLINE_S) == 2
    assert not pool.has_next()


@pytest.mark.parametrize("take", ["get_next", "get_next_unordered"])
def test_a_result_that_is_given_up_at_its_timeout_is_a_timeout_and_not_a_value(take):
    pool = pool_of(1)
    pool.submit(lambda actor, x: actor.sleep.remote(x), 0.5)
    pool.submit(lambda actor, x: actor.double.remote(x), 4)
    with pytest.raises(TimeoutError):
        getattr(pool, take)(timeout=0, ignore_if_timedout=True)
    assert getattr(pool, take)(timeout=DEADLINE_S) == 8
    assert not pool.has_next()


def test_a_pool_takes_methods_with_several_results():
    pool = ActorPool([Mortal.remote() for _ in range(2)])
    pairs = pool.map(lambda actor, x: actor.pair.options(num_returns=2).remote(x), range(4))
    assert list(pairs) == [[x, -x] for x in range(4)]


def test_a_queue_that_was_shut_down_has_no_actor():
    queue = Queue()
    queue.shutdown()
    assert queue.actor is None
    queue.shutdown()


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
