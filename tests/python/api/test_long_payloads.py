"""Values of 16 to 128 KiB, which travel through memory that both processes have mapped: they stay what they were for as long
as somebody holds them, however many others follow."""

import concurrent.futures
import gc
import os
import signal
import tempfile
import time

import aktis
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("session")

DEADLINE_S = 60
#: More than fit the memory of one lane.
MANY = 100


def array_of(number, size=10_000):
    """80 kB that no other number gives."""
    return np.arange(size, dtype=np.float64) + number * size


@aktis.remote
def echo(value):
    return value


@aktis.remote(num_cpus=0)
class Keeper:
    """Keeps what it gets."""

    def __init__(self):
        self.kept = []

    def keep(self, array):
        self.kept.append(array)
        return len(self.kept)

    def give(self, number):
        return self.kept[number]

    def let_go(self):
        self.kept.clear()

    def sums(self):
        return [float(array.sum()) for array in self.kept]

    def drop_in_a_fork(self):
        pid = os.fork()
        if pid == 0:
            self.kept.clear()
            gc.collect()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def pid(self):
        return os.getpid()


@pytest.mark.parametrize(
    "size_bytes",
    [15_000, 16_384, 16_500, 40_000, 80_000, 100_000, 102_400, 110_000, 130_000, 131_072, 140_000, 300_000],
)
def test_every_size_arrives_in_both_directions(size_bytes):
    sent = [np.random.default_rng(seed).bytes(size_bytes) for seed in range(5)]
    assert aktis.get([echo.remote(value) for value in sent], timeout=DEADLINE_S) == sent


def test_many_results_are_held_at_once():
    results = aktis.get([echo.remote(array_of(number)) for number in range(MANY)], timeout=DEADLINE_S)
    aktis.get([echo.remote(array_of(number)) for number in range(MANY, 2 * MANY)], timeout=DEADLINE_S)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(result, array_of(number))


def test_arguments_that_an_actor_keeps_do_not_change():
    keeper = Keeper.remote()
    counts = aktis.get([keeper.keep.remote(array_of(number)) for number in range(MANY)], timeout=DEADLINE_S)
    assert counts == list(range(1, MANY + 1))
    assert aktis.get(keeper.sums.remote(), timeout=DEADLINE_S) == [array_of(number).sum() for number in range(MANY)]
    aktis.get(keeper.let_go.remote(), timeout=DEADLINE_S)
    aktis.get([keeper.keep.remote(array_of(number)) for number in range(MANY, 2 * MANY)], timeout=DEADLINE_S)
    np.testing.assert_array_equal(aktis.get(keeper.give.remote(MANY - 1), timeout=DEADLINE_S), array_of(2 * MANY - 1))


def test_the_caller_may_change_its_array_after_the_call():
    keeper = Keeper.remote()
    array = array_of(0)
    for number in range(MANY):
        array[:] = number
        keeper.keep.remote(array)
    assert aktis.get(keeper.sums.remote(), timeout=DEADLINE_S) == [number * 10_000.0 for number in range(MANY)]


def test_a_result_outlives_the_process_that_made_it():
    keeper = Keeper.remote()
    aktis.get(keeper.keep.remote(array_of(1)), timeout=DEADLINE_S)
    result = aktis.get(keeper.give.remote(0), timeout=DEADLINE_S)
    os.kill(aktis.get(keeper.pid.remote(), timeout=DEADLINE_S), signal.SIGKILL)
    with pytest.raises(aktis.exceptions.RayActorError):
        aktis.get(keeper.pid.remote(), timeout=DEADLINE_S)
    np.testing.assert_array_equal(result, array_of(1))


def test_a_fork_that_drops_its_copies_frees_nothing():
    keeper = Keeper.remote()
    aktis.get([keeper.keep.remote(array_of(number)) for number in range(3)], timeout=DEADLINE_S)
    assert aktis.get(keeper.drop_in_a_fork.remote(), timeout=DEADLINE_S) == 0
    aktis.get([keeper.keep.remote(array_of(number)) for number in range(3, MANY)], timeout=DEADLINE_S)
    assert aktis.get(keeper.sums.remote(), timeout=DEADLINE_S) == [array_of(number).sum() for number in range(MANY)]


def test_threads_share_the_memory_of_a_lane():
    keeper = Keeper.options(max_concurrency=4).remote()

    def work(number):
        for step in range(50):
            array = array_of(50 * number + step)
            got = aktis.get(echo.remote(array), timeout=DEADLINE_S)
            aktis.get(keeper.keep.remote(array), timeout=DEADLINE_S)
            np.testing.assert_array_equal(got, array)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    sums = aktis.get(keeper.sums.remote(), timeout=DEADLINE_S)
    assert sorted(sums) == sorted(float(array_of(number).sum()) for number in range(200))


def test_workers_that_are_killed_meanwhile_change_no_result():
    @aktis.remote(max_retries=-1)
    def killed_at_times(array, number):
        if number % 10 == 0 and not os.path.exists(f"{folder}/{number}"):
            open(f"{folder}/{number}", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return array

    with tempfile.TemporaryDirectory() as folder:
        refs = [killed_at_times.remote(array_of(number), number) for number in range(MANY)]
        for number, result in enumerate(aktis.get(refs, timeout=DEADLINE_S)):
            np.testing.assert_array_equal(result, array_of(number))


def test_memory_of_ended_lanes_is_given_back():
    for _ in range(3):
        keepers = [Keeper.remote() for _ in range(15)]
        aktis.get([keeper.keep.remote(array_of(1)) for keeper in keepers], timeout=DEADLINE_S)
        for keeper in keepers:
            aktis.kill(keeper)
    deadline = time.monotonic() + DEADLINE_S

    def mapped():
        with open("/proc/self/maps") as maps:
            return sum("memfd:aktis-lane" in line for line in maps)

    del keepers
    while mapped() > 15 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mapped() <= 15
