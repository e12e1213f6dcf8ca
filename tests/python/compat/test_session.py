"""``init`` and ``shutdown``: starting, stopping, starting again, and what is refused in between."""

import os
import subprocess
import sys

import pytest

from .system import DEADLINE_S, IS_RAY, SYSTEM, exceptions, ray


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
def one():
    return 1


def test_is_initialized_follows_init_and_shutdown(no_session):
    assert not ray.is_initialized()
    ray.init(**no_session())
    assert ray.is_initialized()
    ray.shutdown()
    assert not ray.is_initialized()


def test_shutdown_twice_and_without_init_is_harmless(no_session):
    ray.shutdown()
    ray.init(**no_session())
    ray.shutdown()
    ray.shutdown()


def test_init_twice_is_refused_unless_ignored(no_session):
    ray.init(**no_session())
    with pytest.raises(RuntimeError):
        ray.init(**no_session())
    ray.init(**no_session(ignore_reinit_error=True))
    assert get(one.remote()) == 1


def test_a_function_and_an_actor_class_work_in_the_next_session(no_session):
    @ray.remote
    class Holder:
        def value(self):
            return 2

    for _ in range(2):
        ray.init(**no_session())
        assert get(one.remote()) == 1
        assert get(Holder.remote().value.remote()) == 2
        ray.shutdown()


def test_a_reference_of_an_earlier_session_is_refused_or_lost(no_session):
    ray.init(**no_session())
    old = ray.put("old")
    assert get(old) == "old"
    ray.shutdown()
    ray.init(**no_session())
    with pytest.raises(Exception) as caught:  # which type is checked below
        ray.get(old, timeout=2)
    assert isinstance(caught.value, (exceptions.RayError, ValueError, RuntimeError))


def test_an_actor_of_an_earlier_session_is_refused(no_session):
    @ray.remote
    class Holder:
        def value(self):
            return 2

    ray.init(**no_session())
    old = Holder.remote()
    assert get(old.value.remote()) == 2
    ray.shutdown()
    ray.init(**no_session())
    with pytest.raises(Exception) as caught:
        ray.get(old.value.remote(), timeout=2)
    assert IS_RAY or isinstance(caught.value, (exceptions.RayError, ValueError, RuntimeError))  # Ray: bare Exception


def test_init_declares_cpus_gpus_and_resources(no_session):
    ray.init(**no_session(num_cpus=3, num_gpus=1, resources={"a": 2}))
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["a"]) == (3.0, 1.0, 2.0)


def test_init_can_be_used_as_a_context_manager(no_session):
    with ray.init(**no_session()) as context:
        assert ray.is_initialized()
        assert "node_id" in context.address_info
        assert get(one.remote()) == 1
    assert not ray.is_initialized()


def test_a_namespace_is_kept(no_session):
    ray.init(**no_session(namespace="mine"))
    assert ray.get_runtime_context().namespace == "mine"


def test_unknown_arguments_of_init_are_refused(no_session):
    with pytest.raises(RuntimeError if IS_RAY else (RuntimeError, TypeError, ValueError), match="no_such_argument"):
        ray.init(**no_session(no_such_argument=1))


def run_script(text):
    """Runs a script in a process of its own, in a session of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"import {SYSTEM} as ray\n{text}"],
        capture_output=True, text=True, timeout=DEADLINE_S, env=os.environ, check=False,
    )  # fmt: skip


def test_the_first_remote_call_initialises(no_session):
    done = run_script(
        "@ray.remote\ndef f(): return 'auto'\n"
        "print(ray.get(f.remote()), ray.is_initialized())\n"
    )  # fmt: skip
    assert done.stdout.strip().endswith("auto True"), done.stderr


def test_the_first_put_initialises(no_session):
    done = run_script("print(ray.get(ray.put(5)), ray.is_initialized())")
    assert done.stdout.strip().endswith("5 True"), done.stderr


def test_a_script_that_forgets_shutdown_ends_by_itself(no_session):
    done = run_script("ray.init(num_cpus=1)\nref = ray.put(1)\nprint('end')")
    assert done.returncode == 0 and "end" in done.stdout, done.stderr


def test_a_script_that_raises_ends_with_its_error(no_session):
    done = run_script("ray.init(num_cpus=1)\nraise ValueError('the script')")
    assert done.returncode == 1 and "ValueError: the script" in done.stderr


def test_what_a_task_prints_reaches_the_driver(no_session):
    done = run_script(
        "import time\n@ray.remote\ndef f():\n    print('hello from the task', flush=True)\n"
        "ray.init(num_cpus=1)\nray.get(f.remote())\ntime.sleep(1)\nray.shutdown()\n"
    )
    assert "hello from the task" in done.stdout + done.stderr
