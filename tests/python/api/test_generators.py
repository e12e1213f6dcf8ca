"""Generators that wait for their consumer: nobody waits for ever."""

import asyncio
import os
import time

import aktis
import pytest

pytestmark = pytest.mark.usefixtures("session")

DEADLINE_S = 30


@aktis.remote(_generator_backpressure_num_objects=1, max_retries=1)
def numbers(count, folder=None, crash_at=None):
    for i in range(count):
        if crash_at == i and not os.path.exists(folder + "/crashed"):
            open(folder + "/crashed", "w").close()
            os._exit(1)
        yield i


def test_a_generator_whose_consumer_is_gone_runs_on():
    del_me = numbers.remote(1000)
    end = del_me.completed()
    next(del_me)
    del del_me
    assert aktis.get(end, timeout=DEADLINE_S) is None


def test_a_generator_that_is_run_again_remembers_what_was_taken(tmp_path):
    stream = numbers.remote(20, str(tmp_path), crash_at=10)
    assert [aktis.get(ref, timeout=DEADLINE_S) for ref in stream] == list(range(20))
    assert (tmp_path / "crashed").exists()


def test_a_generator_that_waits_for_its_consumer_is_cancelled():
    stream = numbers.remote(10)
    aktis.get(next(stream), timeout=DEADLINE_S)
    aktis.cancel(stream)
    with pytest.raises(aktis.exceptions.TaskCancelledError):
        aktis.get(list(stream), timeout=DEADLINE_S)


def test_many_items_pass_a_narrow_window():
    assert aktis.get(list(numbers.remote(3000)), timeout=DEADLINE_S) == list(range(3000))


def test_several_streams_are_read_on_one_loop():
    async def total(stream):
        return sum([await ref async for ref in stream])

    async def main():
        return await asyncio.gather(*(total(numbers.remote(50)) for _ in range(6)))

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == [1225] * 6


def test_wait_hears_of_a_generator_that_fails():
    @aktis.remote(max_retries=0)
    def fails():
        time.sleep(0.1)
        yield from ()
        raise ValueError("no")

    stream = fails.remote()
    ready, _ = aktis.wait([stream], timeout=DEADLINE_S)
    assert ready == [stream]
    with pytest.raises(ValueError, match="no"):
        aktis.get(next(stream))
