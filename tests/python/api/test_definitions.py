"""What functions and classes may refer to: themselves, each other, references, actors, imported and local things."""

import aktis
import pytest

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 30


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote
class Counter:
    def __init__(self, start=0):
        self.value = start

    def add(self):
        self.value += 1
        return self.value

    def twin(self):
        return Counter.remote(self.value)


@aktis.remote
def factorial(n):
    return 1 if n == 0 else n * get(factorial.remote(n - 1))  # pyright: ignore[reportFunctionMemberAccess]


@aktis.remote
def is_even(n):
    return True if n == 0 else get(is_odd.remote(n - 1))


@aktis.remote
def is_odd(n):
    return False if n == 0 else get(is_even.remote(n - 1))  # pyright: ignore[reportFunctionMemberAccess]


def test_a_function_calls_itself():
    assert get(factorial.remote(10)) == 3_628_800


def test_two_functions_call_each_other():
    assert get(is_even.remote(7)) is False


def test_an_actor_class_makes_actors_of_itself():
    counter = Counter.remote(5)
    assert get(get(counter.twin.remote()).add.remote()) == 6


def test_a_function_uses_an_actor_and_a_reference_from_around_it():
    counter, data = Counter.remote(), aktis.put(bytes(300_000))

    @aktis.remote
    def use():
        return len(get(data)), get(counter.add.remote())

    assert get([use.remote(), use.remote()]) in ([(300_000, 1), (300_000, 2)], [(300_000, 2), (300_000, 1)])


def test_an_actor_class_uses_a_reference_from_around_it():
    data = aktis.put("around")

    @aktis.remote
    class User:
        def read(self):
            return get(data)

    assert get(User.remote().read.remote()) == "around"


def test_an_options_variant_of_a_recursive_function_works():
    assert get(factorial.options(num_cpus=0.5).remote(4)) == 24


def test_remote_functions_are_arguments_and_results():
    @aktis.remote
    def apply(function, x):
        return get(function.remote(x))

    assert get(apply.remote(factorial, 5)) == 120


def test_a_concurrency_group_is_chosen_by_class_or_caller():
    @aktis.remote(concurrency_groups={"io": 1})
    class Grouped:
        def where(self):
            import threading

            return threading.current_thread().name

        @aktis.method(concurrency_group="io")
        def declared(self):
            return self.where()

    grouped = Grouped.remote()
    assert "io" in get(grouped.declared.remote())
    assert "default" in get(grouped.where.remote())
    assert "io" in get(grouped.where.options(concurrency_group="io").remote())


def test_environment_variables_of_the_session_reach_workers():
    import os

    aktis.shutdown()
    aktis.init(num_cpus=2, log_to_driver=False, runtime_env={"env_vars": {"AKTIS_TEST_VARIABLE": "seen"}})
    assert get(aktis.remote(lambda: os.environ.get("AKTIS_TEST_VARIABLE")).remote()) == "seen"
    assert "AKTIS_TEST_VARIABLE" not in os.environ


def test_a_definition_that_captures_a_large_value_is_warned_of_or_refused():
    large = bytes(11 << 20)

    @aktis.remote
    def measure():
        return len(large)

    with pytest.warns(RuntimeWarning, match=r"measure has 11 MB, most of it in captured variable .*aktis.put"):
        ref = measure.remote()
    assert get(ref) == len(large)
    too_large = bytes(101 << 20)
    with pytest.raises(ValueError, match="The limit is 100 MB"):
        aktis.remote(lambda: len(too_large)).remote()


@aktis.remote
def loaded(name):
    """What the functions of this name in this worker have captured."""
    import gc

    gc.collect()
    found = (item for item in gc.get_objects() if getattr(item, "__name__", "") == name)
    return [function.__closure__[0].cell_contents for function in found]


def test_a_worker_keeps_the_functions_that_it_used_last_and_no_others():
    def make(number):
        def numbered():
            return number

        return aktis.remote(numbered)

    aktis.shutdown()
    aktis.init(num_cpus=1, log_to_driver=False)
    first, often = make(0), make(-1)
    for number in range(600):
        assert get([make(number).remote(), often.remote()]) == [number, -1]
    kept = get(loaded.remote("numbered"))
    assert len(kept) <= 256
    assert {-1, 599} <= set(kept)
    assert 0 not in kept
    assert get(first.remote()) == 0, "the session has its definition"


def test_a_worker_keeps_few_functions_of_many_bytes():
    def make(number):
        large = bytes([number]) * (8 << 20)

        def heavy():
            return large[0]

        return aktis.remote(heavy)

    aktis.shutdown()
    aktis.init(num_cpus=1, log_to_driver=False)
    functions = [make(number) for number in range(10)]
    assert get([function.remote() for function in functions]) == list(range(10))
    assert sorted(data[0] for data in get(loaded.remote("heavy"))) == [3, 4, 5, 6, 7, 8, 9]
    assert get(functions[0].remote()) == 0
