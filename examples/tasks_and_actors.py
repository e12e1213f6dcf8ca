"""A tour of tasks, actors and objects. The names are Ray's: the same file runs with `import ray` as its first import.

Run it by ``python examples/tasks_and_actors.py``.
"""

import aktis as ray
import numpy as np


@ray.remote
def square(number):
    return number * number


@ray.remote
def total(*numbers):
    return sum(numbers)


@ray.remote
def last(values):
    return values[-1]


@ray.remote(num_returns=2)
def split(values):
    middle = len(values) // 2
    return values[:middle], values[middle:]


@ray.remote
def sum_of_squares(count):
    """A task that starts tasks: while it waits, its CPU is free for them."""
    return sum(ray.get([square.remote(number) for number in range(count)]))


@ray.remote
def fail():
    raise ValueError("this is the message")


@ray.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self, amount=1):
        self.value += amount
        return self.value


@ray.remote
class Echo:
    """An asynchronous actor: its calls run at the same time."""

    async def say(self, text):
        return text


def tasks():
    print("squares:", ray.get([square.remote(number) for number in range(5)]))
    # A reference is an argument like any other: the task starts when its value is there.
    print("sum of squares:", ray.get(total.remote(*[square.remote(number) for number in range(5)])))
    print("nested:", ray.get(sum_of_squares.remote(5)))
    left, right = split.remote([1, 2, 3, 4])
    print("two results:", ray.get(left), ray.get(right))
    done, pending = ray.wait([square.remote(number) for number in range(4)], num_returns=2)
    print("wait:", len(done), "done,", len(pending), "pending")


def actors():
    counter = Counter.remote(start=10)
    # Calls of one caller run in the order in which they were made.
    print("counter:", ray.get([counter.add.remote() for _ in range(3)]))
    named = Counter.options(name="shared").remote()
    ray.get(named.add.remote(5))
    print("by name:", ray.get(ray.get_actor("shared").add.remote()))
    echo = Echo.remote()
    print("asynchronous:", ray.get([echo.say.remote(text) for text in ("a", "b")]))
    ray.kill(counter)
    try:
        ray.get(counter.add.remote())
    except ray.exceptions.RayActorError as error:
        print("after kill:", type(error).__name__)


def objects():
    array = np.arange(1_000_000)
    reference = ray.put(array)
    shared = ray.get(reference)  # a read-only view of shared memory, not a copy
    print("shared array:", int(shared.sum()), "writable:", shared.flags.writeable)
    print("in a task:", int(ray.get(last.remote(reference))))


def errors():
    try:
        ray.get(fail.remote())
    except ValueError as error:  # also a RayTaskError, with the remote traceback
        print("error:", isinstance(error, ray.exceptions.RayTaskError), "this is the message" in str(error))


def main():
    ray.init(num_cpus=2)
    tasks()
    actors()
    objects()
    errors()
    print("resources:", ray.cluster_resources()["CPU"], "CPUs")
    ray.shutdown()


if __name__ == "__main__":
    main()
