"""Actors: state, order, methods, handles."""

import os
import time

import pytest

from .system import DEADLINE_S, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
class Counter:
    """Counts."""

    def __init__(self, start=0):
        self.value = start

    def add(self, amount=1):
        self.value += amount
        return self.value

    def read(self):
        return self.value

    def pid(self):
        return os.getpid()

    def fail(self):
        raise ValueError(f"at {self.value}")

    @ray.method(num_returns=2)
    def pair(self):
        return self.value, -self.value


def test_an_actor_keeps_its_state_between_calls():
    counter = Counter.remote(10)
    assert get([counter.add.remote(), counter.add.remote(5), counter.read.remote()]) == [11, 16, 16]


def test_actors_do_not_share_state():
    first, second = Counter.remote(), Counter.remote(start=100)
    assert get([first.add.remote(), second.add.remote()]) == [1, 101]
    assert get(first.pid.remote()) != get(second.pid.remote())
    assert get(first.pid.remote()) != os.getpid()


def test_calls_of_one_caller_run_in_the_order_they_were_made():
    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def note(self, i, _late=None):
            self.seen.append(i)

        def read(self):
            return self.seen

    @ray.remote
    def late():
        time.sleep(0.3)

    log = Log.remote()
    slow = late.remote()
    for i in range(500):
        # One call in the middle waits for its argument; those after it wait for the call.
        log.note.remote(i, slow) if i == 250 else log.note.remote(i)
    assert get(log.read.remote()) == list(range(500))


def test_methods_can_return_several_references():
    first, second = Counter.remote(3).pair.remote()
    assert get([first, second]) == [3, -3]


def test_method_options_override_one_call():
    counter = Counter.remote(3)
    assert get(counter.pair.options(num_returns=1).remote()) == (3, -3)
    assert get(counter.read.options(name="named read").remote()) == 3


def test_an_error_of_a_method_leaves_the_actor_alive():
    counter = Counter.remote(7)
    with pytest.raises(ValueError, match="at 7") as caught:
        get(counter.fail.remote())
    assert isinstance(caught.value, exceptions.RayTaskError)
    assert "Counter.fail()" in str(caught.value)
    assert get(counter.add.remote()) == 8


def test_an_actor_class_cannot_be_instantiated_directly():
    with pytest.raises(TypeError, match="remote"):
        Counter()


def test_a_method_cannot_be_called_directly():
    counter = Counter.remote()
    with pytest.raises(TypeError, match="remote"):
        counter.add()


def test_an_unknown_method_is_an_attribute_error():
    counter = Counter.remote()
    with pytest.raises(AttributeError):
        counter.nothing.remote()


def test_wrong_arguments_of_a_method_are_refused_by_the_caller():
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.add.remote(1, 2, 3)
    with pytest.raises(TypeError):
        Counter.remote(1, 2, 3)
    assert get(counter.read.remote()) == 0


def test_attributes_of_the_instance_are_not_reachable():
    counter = Counter.remote()
    with pytest.raises(AttributeError):
        _ = counter.value


def test_a_reference_is_an_argument_of_a_method_and_of_the_constructor():
    counter = Counter.remote(ray.put(5))
    assert get(counter.add.remote(ray.put(2))) == 7


def test_a_failed_argument_fails_the_call_and_not_the_actor():
    @ray.remote
    def fail():
        raise KeyError("argument")

    counter = Counter.remote()
    with pytest.raises(KeyError):
        get(counter.add.remote(fail.remote()))
    assert get(counter.read.remote()) == 0


def test_a_handle_can_be_passed_to_tasks_and_actors():
    @ray.remote
    def drive(counter, times):
        return get([counter.add.remote() for _ in range(times)])[-1]

    @ray.remote
    class Driver:
        def __init__(self, counter):
            self.counter = counter

        def run(self):
            return get(self.counter.add.remote())

    counter = Counter.remote()
    assert get(drive.remote(counter, 10)) == 10
    assert get(Driver.remote(counter).run.remote()) == 11
    assert get(drive.remote(*[counter, 2])) == 13


def test_a_handle_inside_a_container_and_an_object_works():
    @ray.remote
    def drive(handles):
        return get(handles["counter"].add.remote())

    counter = Counter.remote()
    assert get(drive.remote({"counter": counter})) == 1
    assert get(get(ray.put([counter]))[0].add.remote()) == 2


def test_an_actor_creates_actors_and_tasks():
    @ray.remote
    class Parent:
        def __init__(self):
            self.child = Counter.remote(1)

        def ask(self):
            return get(self.child.add.remote())

        def give(self):
            return self.child

    parent = Parent.remote()
    assert get(parent.ask.remote()) == 2
    assert get(get(parent.give.remote()).add.remote()) == 3


def test_an_actor_calls_itself_through_its_handle():
    @ray.remote
    class Selfish:
        def handle(self):
            return ray.get_runtime_context().current_actor

        def value(self):
            return 5

    selfish = Selfish.remote()
    assert get(get(selfish.handle.remote()).value.remote()) == 5


def test_a_class_can_be_wrapped_later_and_options_given():
    class Plain:
        def where(self):
            return "worker"

    assert get(ray.remote(Plain).remote().where.remote()) == "worker"
    assert get(ray.remote(num_cpus=1)(Plain).remote().where.remote()) == "worker"
    assert get(ray.remote(Plain).options(num_cpus=0.5, max_restarts=1).remote().where.remote()) == "worker"


def test_inherited_static_and_class_methods_work():
    class Base:
        def inherited(self):
            return "base"

    @ray.remote
    class Child(Base):
        @staticmethod
        def static(x):
            return x

        @classmethod
        def made_by(cls):
            return cls.__name__

        def overridden(self):
            return super().inherited()

    child = Child.remote()
    assert get([child.inherited.remote(), child.static.remote(1), child.overridden.remote()]) == ["base", 1, "base"]
    assert get(child.made_by.remote()) == "Child"


def test_special_methods_are_callable_remotely():
    @ray.remote
    class Callable:
        def __call__(self, x):
            return x + 1

        def __len__(self):
            return 3

    actor = Callable.remote()
    assert get(actor.__call__.remote(1)) == 2
    assert get(actor.__len__.remote()) == 3


def test_an_actor_needs_no_constructor():
    @ray.remote
    class Empty:
        def hello(self):
            return "hello"

    assert get(Empty.remote().hello.remote()) == "hello"


def test_ready_method_waits_for_the_constructor():
    @ray.remote
    class Slow:
        def __init__(self):
            time.sleep(0.2)

    assert get(Slow.remote().__ray_ready__.remote()) is True


def test_more_actors_than_cpus_run_because_a_running_actor_needs_none():
    actors = [Counter.remote(i) for i in range(10)]
    assert get([actor.add.remote() for actor in actors]) == list(range(1, 11))


def test_a_handle_prints_its_class_and_id():
    counter = Counter.remote()
    assert repr(counter).startswith("Actor(Counter")
    assert counter._actor_id.hex() in repr(counter)


def test_handles_of_one_actor_are_equal():
    counter = Counter.remote()
    other = get(ray.put(counter))
    assert counter == other and hash(counter) == hash(other)
    assert counter != Counter.remote()


def test_an_actor_out_of_scope_ends():
    counter = Counter.remote()
    pid = get(counter.pid.remote())
    del counter
    deadline = time.monotonic() + DEADLINE_S
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def test_calls_made_before_the_handle_goes_out_of_scope_still_finish():
    refs = [Counter.remote(i).add.remote() for i in range(3)]
    assert get(refs) == [1, 2, 3]


def test_a_task_sees_the_effects_of_calls_it_made_through_two_handles():
    counter = Counter.remote()
    same = get(ray.put(counter))
    refs = [handle.add.remote() for _ in range(50) for handle in (counter, same)]
    assert get(refs) == list(range(1, 101))


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
