"""Remote generators: a stream of references while the task still runs."""

# ruff: noqa: UP028 - `yield from` an iterator does not work in a remote generator of Ray
import asyncio
import time

import pytest

from .system import DEADLINE_S, IS_RAY, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote(num_returns="streaming")
def count_to(n):
    for i in range(n):  # not `yield from`: see test_yield_from_works_in_a_generator
        yield i


@ray.remote
def fails_after(n):
    for i in range(n):
        yield i
    raise ValueError("in the middle")


def test_a_generator_gives_one_reference_per_value():
    stream = count_to.remote(5)
    assert isinstance(stream, ray.ObjectRefGenerator)
    refs = list(stream)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert get(refs) == [0, 1, 2, 3, 4]


def test_get_of_a_generator_is_the_generator():
    stream = count_to.remote(3)
    assert ray.get(stream) is stream
    assert [get(ref) for ref in stream] == [0, 1, 2]


def test_a_generator_function_streams_without_being_asked():
    @ray.remote
    def implied():
        yield "a"
        yield "b"

    assert [get(ref) for ref in implied.remote()] == ["a", "b"]


def test_values_arrive_before_the_generator_has_ended(tmp_path):
    marker = tmp_path / "go on"

    @ray.remote
    def paused(path):
        import os

        yield "first"
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield "second"

    stream = paused.remote(str(marker))
    assert get(next(stream)) == "first"
    marker.touch()
    assert get(next(stream)) == "second"
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.skipif(IS_RAY, reason="Ray sends a value into the generator, which `yield from` an iterator refuses")
def test_yield_from_works_in_a_generator():
    @ray.remote
    def delegating():
        yield from range(3)

    assert get(list(delegating.remote())) == [0, 1, 2]


def test_an_empty_generator_ends_at_once():
    assert list(count_to.remote(0)) == []


def test_large_values_stream():
    @ray.remote
    def blocks():
        for i in range(5):
            yield bytes([i]) * 1_000_000

    assert [get(ref)[0] for ref in blocks.remote()] == [0, 1, 2, 3, 4]


def test_an_error_is_the_last_reference():
    stream = fails_after.remote(2)
    refs = list(stream)
    assert get(refs[:2]) == [0, 1]
    assert len(refs) == 3
    with pytest.raises(ValueError, match="in the middle"):
        get(refs[2])


def test_a_generator_is_iterated_asynchronously():
    async def main():
        return [await ref async for ref in count_to.remote(4)]

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE_S)) == [0, 1, 2, 3]


def test_a_method_can_be_a_generator():
    @ray.remote
    class Source:
        def numbers(self, n):
            for i in range(n):
                yield i

        @ray.method(num_returns="streaming")
        def declared(self, n):
            for i in range(n):
                yield i

    source = Source.remote()
    assert get(list(source.numbers.remote(3))) == [0, 1, 2]
    assert get(list(source.declared.remote(3))) == [0, 1, 2]


def test_an_async_method_can_be_a_generator():
    @ray.remote
    class Source:
        async def numbers(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i

    assert get(list(Source.remote().numbers.remote(3))) == [0, 1, 2]


def test_wait_accepts_a_generator():
    stream = count_to.remote(2)
    ready, pending = ray.wait([stream], timeout=DEADLINE_S)
    assert ready == [stream] and pending == []
    assert get(next(stream)) == 0


def test_completed_is_a_reference_to_the_end_of_the_stream():
    stream = count_to.remote(3)
    get(stream.completed())
    assert get(list(stream)) == [0, 1, 2]


def test_a_generator_with_a_fixed_number_of_returns_fills_them():
    @ray.remote(num_returns=3)
    def three():
        yield from "abc"

    assert get(three.remote()) == ["a", "b", "c"]


def test_back_pressure_stops_a_generator_that_nobody_reads(tmp_path):
    @ray.remote(_generator_backpressure_num_objects=2)
    def eager(path):
        for i in range(10):
            (path / str(i)).touch()
            yield i

    stream = eager.remote(tmp_path)
    first = get(next(stream))
    time.sleep(0.5)
    assert first == 0
    assert len(list(tmp_path.iterdir())) <= 5
    assert get(list(stream)) == list(range(1, 10))


def test_a_generator_that_crashes_ends_with_an_error(tmp_path):
    @ray.remote(max_retries=0)
    def crashes():
        import os

        yield 1
        os._exit(1)

    with pytest.raises(exceptions.RayError):
        for ref in crashes.remote():
            get(ref)


def test_a_generator_that_raised_has_completed():
    stream = fails_after.remote(1)
    get(stream.completed())
    assert get(next(stream)) == 0
    with pytest.raises(ValueError, match="in the middle"):
        get(next(stream))


def test_wait_tells_generators_that_have_something_from_those_that_have_not(tmp_path):
    @ray.remote
    def paused(path):
        import os

        yield "first"
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    marker = tmp_path / "go on"
    stream, other = paused.remote(str(marker)), count_to.remote(1)
    ref = ray.put(1)
    ready, pending = ray.wait([stream, other, ref], num_returns=3, timeout=DEADLINE_S)
    assert ready == [stream, other, ref] and pending == []
    assert get(next(stream)) == "first"
    ready, pending = ray.wait([stream, other], num_returns=2, timeout=0.2)
    assert ready == [other] and pending == [stream]
    marker.touch()
    ready, _ = ray.wait([stream], timeout=DEADLINE_S)  # it has ended
    assert ready == [stream]
    assert list(stream) == []


def test_back_pressure_holds_a_method_back(tmp_path):
    @ray.remote
    class Source:
        @ray.method(_generator_backpressure_num_objects=1)
        def numbers(self, path):
            for i in range(6):
                (path / str(i)).touch()
                yield i

    stream = Source.remote().numbers.remote(tmp_path)
    assert get(next(stream)) == 0
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) <= 3
    assert get(list(stream)) == [1, 2, 3, 4, 5]


def test_a_generator_says_what_it_has():
    stream = count_to.remote(2)
    get(stream.completed())
    assert stream.next_ready() and not stream.is_finished()
    assert get(list(stream)) == [0, 1]
    assert stream.is_finished() and not stream.next_ready()
