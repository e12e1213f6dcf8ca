"""References that a process made and handed out before it ended in good order."""

import time

import pytest

from .system import DEADLINE_S, IS_RAY, ray, session_arguments


@pytest.fixture(scope="module", autouse=True)
def session():
    ray.init(**session_arguments(num_gpus=1))
    yield
    ray.shutdown()


@ray.remote
def child(after_s, value):
    time.sleep(after_s)
    return value


@ray.remote
class Actor:
    def make(self):
        return make()

    def ping(self):
        return "alive"


def make():
    inner = ray.put("inner")
    return [
        ray.put("small"),
        ray.put(b"x" * 500_000),
        ray.put([inner]),
        child.remote(0, "child"),
        child.remote(2, "late"),
    ]


def make_actor():
    actor = Actor.remote()
    ray.get(actor.ping.remote())
    return [actor]


def check(refs):
    time.sleep(1)  # longer than a process takes to end
    small, stored, nested, early, late = refs
    assert ray.get(late, timeout=DEADLINE_S) == "late"
    assert ray.get(small, timeout=DEADLINE_S) == "small"
    assert len(ray.get(stored, timeout=DEADLINE_S)) == 500_000
    assert ray.get(ray.get(nested, timeout=DEADLINE_S)[0], timeout=DEADLINE_S) == "inner"
    assert ray.get(early, timeout=DEADLINE_S) == "child"


ENDING = [pytest.param({"num_gpus": 0.5}, id="gpu"), pytest.param({"max_calls": 1}, id="max_calls")]


@pytest.mark.parametrize("options", ENDING)
def test_task_whose_process_ends_with_it(options):
    check(ray.get(ray.remote(**options)(make).remote(), timeout=DEADLINE_S))


@pytest.mark.parametrize("options", ENDING)
def test_what_it_made_is_read_by_other_tasks(options):
    @ray.remote
    def read(refs):
        time.sleep(1)
        return ray.get(refs[0]), len(ray.get(refs[1]))

    refs = ray.get(ray.remote(**options)(make).remote(), timeout=DEADLINE_S)
    assert ray.get(read.remote(refs[:2]), timeout=DEADLINE_S) == ("small", 500_000)


def test_actor_that_is_dropped():
    actor = Actor.remote()
    refs = ray.get(actor.make.remote(), timeout=DEADLINE_S)
    del actor
    check(refs)


def test_actor_that_ends_itself():
    @ray.remote
    class Leaving:
        def make(self):
            return make()

        def leave(self):
            ray.actor.exit_actor()

    actor = Leaving.remote()
    refs = ray.get(actor.make.remote(), timeout=DEADLINE_S)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.leave.remote(), timeout=DEADLINE_S)
    check(refs)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.make.remote(), timeout=DEADLINE_S)


@pytest.mark.parametrize("options", [{}, {"num_gpus": 0.5}, {"max_calls": 1}], ids=["plain", "gpu", "max_calls"])
def test_actor_that_a_task_made_lives_as_long_as_its_handles(options):
    make_one = ray.remote(**options)(make_actor) if options else ray.remote(make_actor)
    [actor] = ray.get(make_one.remote(), timeout=DEADLINE_S)
    time.sleep(1)
    assert ray.get(actor.ping.remote(), timeout=DEADLINE_S) == "alive"


def test_gpu_is_free_for_the_next_task_while_references_are_held():
    held = [ray.get(ray.remote(num_gpus=1)(make).remote(), timeout=DEADLINE_S) for _ in range(3)]
    for refs in held:
        check(refs)


@pytest.mark.skipif(IS_RAY, reason="Ray keeps processes for tasks and for actors apart")
def test_what_a_task_made_outlives_an_actor_that_comes_after_it(no_session):
    ray.init(**session_arguments(num_cpus=1))

    @ray.remote
    def put():
        return [ray.put("kept")]

    [kept] = ray.get(put.remote(), timeout=DEADLINE_S)
    actor = Actor.options(num_cpus=1).remote()
    ray.get(actor.ping.remote(), timeout=DEADLINE_S)
    ray.kill(actor)
    time.sleep(1)
    assert ray.get(kept, timeout=DEADLINE_S) == "kept"
