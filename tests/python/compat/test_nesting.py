"""Tasks that wait for tasks: deeper and wider than there are CPUs, without deadlock."""

import time

import pytest

from .system import DEADLINE_S, IS_RAY, SESSION_CPUS, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
def depth(n):
    return 0 if n == 0 else 1 + get(depth.remote(n - 1))


@ray.remote
def leaf(x):
    return x


def test_a_chain_of_blocked_tasks_deeper_than_the_cpus_finishes():
    assert get(depth.remote(3 * SESSION_CPUS)) == 3 * SESSION_CPUS


def test_more_parents_than_cpus_that_all_wait_for_children_finish():
    @ray.remote
    def parent(x):
        return sum(get([leaf.remote(x), leaf.remote(1)]))

    assert get([parent.remote(i) for i in range(4 * SESSION_CPUS)]) == [i + 1 for i in range(4 * SESSION_CPUS)]


def test_parents_that_use_wait_finish():
    @ray.remote
    def parent():
        ready, _ = ray.wait([leaf.remote(1)], timeout=DEADLINE_S)
        return get(ready[0])

    assert get([parent.remote() for _ in range(2 * SESSION_CPUS)]) == [1] * (2 * SESSION_CPUS)


def test_tasks_that_ask_for_all_cpus_nest():
    @ray.remote(num_cpus=SESSION_CPUS)
    def outer():
        return get(leaf.options(num_cpus=SESSION_CPUS).remote("inner"))

    assert get(outer.remote()) == "inner"


@pytest.mark.skipif(IS_RAY, reason="Ray deadlocks: an actor blocked in `get` keeps its CPU, only a task gives it back")
def test_actor_methods_that_wait_for_tasks_finish_with_all_cpus_in_use():
    @ray.remote(num_cpus=1)
    class Holder:
        def ask(self, x):
            return get(leaf.remote(x))

    holders = [Holder.remote() for _ in range(SESSION_CPUS)]
    assert get([holder.ask.remote(i) for i, holder in enumerate(holders)]) == list(range(SESSION_CPUS))


def test_a_reference_made_in_a_child_is_readable_by_the_grandparent():
    @ray.remote
    def child():
        return ray.put("from the child")

    @ray.remote
    def parent():
        return get(child.remote())

    assert get(get(parent.remote())) == "from the child"


def test_a_reference_passed_down_and_up_keeps_its_object():
    @ray.remote
    def pass_on(holder):
        return holder

    ref = ray.put(bytes(1_000_000))
    back = get(pass_on.remote([get(pass_on.remote([ref]))[0]]))[0]
    del ref
    assert len(get(back)) == 1_000_000


def test_a_task_defined_inside_a_task_runs():
    @ray.remote
    def outer():
        @ray.remote
        def inner(x):
            return x * 2

        return get(inner.remote(21))

    assert get(outer.remote()) == 42


def test_a_recursive_sum_over_a_tree_finishes():
    @ray.remote
    def tree(levels):
        return 1 if levels == 0 else sum(get([tree.remote(levels - 1), tree.remote(levels - 1)]))

    assert get(tree.remote(5)) == 32


def test_resources_limit_how_many_tasks_run_at_once():
    @ray.remote(num_cpus=2)
    def interval():
        started = time.time()
        time.sleep(0.2)
        return started, time.time()

    spans = get([interval.remote() for _ in range(6)])
    for start, _ in spans:
        running = sum(1 for begin, end in spans if begin <= start < end)
        assert running <= SESSION_CPUS // 2


def test_fractional_cpus_let_more_tasks_run_at_once():
    @ray.remote(num_cpus=0.5)
    def meet(gate, others):
        get(gate.arrive.remote())
        deadline = time.monotonic() + DEADLINE_S
        while get(gate.count.remote()) < others:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return True

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self):
            self.arrived = 0

        def arrive(self):
            self.arrived += 1

        def count(self):
            return self.arrived

    gate = Gate.remote()
    # Each blocked `get` also gives its CPU back, so that this can only fail by a deadlock or a leak.
    assert all(get([meet.remote(gate, SESSION_CPUS * 2) for _ in range(SESSION_CPUS * 2)]))
