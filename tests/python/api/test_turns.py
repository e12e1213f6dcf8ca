"""Who wants more than is ever free at once has a turn all the same."""

import time

import aktis
import pytest
from waiting import until

CPUS = 4

pytestmark = pytest.mark.usefixtures("session")


@aktis.remote
def busy(seconds):
    time.sleep(seconds)


@aktis.remote(num_cpus=CPUS)
class Wide:
    def ping(self):
        return "pong"


def test_an_actor_that_wants_all_cpus_begins_beside_a_flood_of_tasks_of_one():
    # They take longer than an actor waits for room that is not kept for it, and do not end together.
    lengths = [1.2 + number / 10 for number in range(2 * CPUS)]
    under_way = {busy.remote(length): length for length in lengths}
    answer = Wide.remote().ping.remote()

    def has_answered():
        for done in aktis.wait(list(under_way), timeout=0.05)[0]:
            length = under_way.pop(done)
            under_way[busy.remote(length)] = length
        return aktis.wait([answer], timeout=0)[0]

    until(has_answered, "the actor has its turn")
    assert aktis.get(answer) == "pong"
