"""Actors found by name."""

import time
import uuid

import pytest

from .system import DEADLINE_S, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@pytest.fixture
def name():
    return f"actor-{uuid.uuid4().hex[:8]}"


@ray.remote
class Store:
    def __init__(self, value=None):
        self.value = value

    def set(self, value):
        self.value = value

    def get(self):
        return self.value


def test_a_named_actor_is_found_by_its_name(name):
    store = Store.options(name=name).remote(1)
    found = ray.get_actor(name)
    assert found == store
    assert get(found.get.remote()) == 1


def test_a_named_actor_is_found_at_once_even_while_its_constructor_runs(name):
    @ray.remote
    class Slow:
        def __init__(self):
            time.sleep(0.5)

        def hello(self):
            return "hello"

    _slow = Slow.options(name=name).remote()
    assert get(ray.get_actor(name).hello.remote()) == "hello"


def test_a_named_actor_is_found_inside_tasks_and_actors(name):
    @ray.remote
    def look(name):
        return get(ray.get_actor(name).get.remote())

    _store = Store.options(name=name).remote("seen")
    assert get(look.remote(name)) == "seen"


def test_an_unknown_name_is_a_value_error(name):
    with pytest.raises(ValueError, match=name):
        ray.get_actor(name)


def test_an_empty_or_wrong_name_is_refused():
    for empty in ("", None):
        with pytest.raises(ValueError):
            ray.get_actor(empty)
    with pytest.raises(TypeError):
        Store.options(name=5).remote()
    with pytest.raises(ValueError):
        Store.options(name="").remote()


def test_a_name_can_be_used_once(name):
    _first = Store.options(name=name).remote()
    with pytest.raises(ValueError) as caught:
        Store.options(name=name).remote()
    assert isinstance(caught.value, exceptions.ActorAlreadyExistsError)
    assert name in str(caught.value)


def test_get_if_exists_returns_the_living_actor_or_makes_one(name):
    first = Store.options(name=name, get_if_exists=True).remote(1)
    second = Store.options(name=name, get_if_exists=True).remote(2)
    assert first == second
    assert get(second.get.remote()) == 1


def test_get_if_exists_needs_a_name():
    with pytest.raises(ValueError):
        Store.options(get_if_exists=True).remote()


def test_a_name_is_free_again_after_kill(name):
    store = Store.options(name=name).remote()
    get(store.get.remote())
    ray.kill(store)
    _until_gone(name)
    again = Store.options(name=name).remote("second life")
    assert get(again.get.remote()) == "second life"


def test_a_named_actor_that_is_not_detached_ends_with_its_last_handle(name):
    store = Store.options(name=name).remote()
    get(store.get.remote())
    del store
    _until_gone(name)


def test_a_detached_actor_outlives_its_handle(name):
    store = Store.options(name=name, lifetime="detached").remote("kept")
    get(store.get.remote())
    del store
    time.sleep(0.5)
    found = ray.get_actor(name)
    assert get(found.get.remote()) == "kept"
    ray.kill(found)


def test_a_namespace_separates_names(name):
    here = Store.options(name=name).remote("here")
    there = Store.options(name=name, namespace="other").remote("there")
    assert here != there
    assert get(ray.get_actor(name).get.remote()) == "here"
    assert get(ray.get_actor(name, namespace="other").get.remote()) == "there"
    with pytest.raises(ValueError):
        ray.get_actor(name, namespace="third")


def test_named_actors_are_listed(name):
    _store = Store.options(name=name).remote()
    get(_store.get.remote())
    assert name in ray.util.list_named_actors()
    assert {"name": name, "namespace": ray.get_runtime_context().namespace} in ray.util.list_named_actors(
        all_namespaces=True
    )


def _until_gone(name):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            ray.get_actor(name)
        except ValueError:
            return
        time.sleep(0.05)
    raise AssertionError(f"actor {name} is still there")
