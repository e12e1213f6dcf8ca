"""An actor begins although tasks keep all CPUs busy."""

import time

import pytest

from .system import DEADLINE_S, SESSION_CPUS, ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def quick():
    time.sleep(0.02)


@ray.remote(num_cpus=1)
class Waits:
    def ping(self):
        return "pong"


def test_actor_begins_although_more_tasks_wait_than_there_are_cpus():
    under_way = [quick.remote() for _ in range(3 * SESSION_CPUS)]
    answer = Waits.remote().ping.remote()
    end = time.monotonic() + DEADLINE_S
    while not ray.wait([answer], timeout=0)[0]:
        assert time.monotonic() < end, "the actor never got its turn"
        done, under_way = ray.wait(under_way, timeout=1)
        under_way += [quick.remote() for _ in done]
    assert ray.get(answer) == "pong"
