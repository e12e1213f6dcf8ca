"""Actors that are killed, crash, fail to start, restart or leave."""

import os
import time

import pytest

from .system import DEADLINE_S, exceptions, ray

pytestmark = pytest.mark.usefixtures("session")


def get(refs):
    return ray.get(refs, timeout=DEADLINE_S)


@ray.remote
class Victim:
    def __init__(self):
        self.calls = 0

    def call(self):
        self.calls += 1
        return self.calls

    def pid(self):
        return os.getpid()

    def crash(self):
        os._exit(1)

    def crash_once(self, marker):
        if not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        return "second attempt"

    def leave(self):
        ray.actor.exit_actor()

    def sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def restarted(self):
        return ray.get_runtime_context().was_current_actor_reconstructed


def until_alive(actor):
    """The first answer of a restarting actor: calls made while it is away may fail."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return get(actor.call.remote())
        except exceptions.RayActorError:
            assert time.monotonic() < deadline, "the actor did not come back"
            time.sleep(0.1)


def until_dead(actor):
    """The error of the first call that finds the actor dead for good: `kill` itself does not wait for that."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            get(actor.call.remote())
        except exceptions.ActorDiedError as error:
            return error
        except exceptions.ActorUnavailableError:
            pass
        assert time.monotonic() < deadline, "the actor did not die"
        time.sleep(0.05)


def test_kill_ends_the_actor_and_its_calls():
    victim = Victim.remote()
    get(victim.call.remote())
    running, queued = victim.sleep.remote(30), victim.call.remote()
    ray.kill(victim)
    for ref in (running, queued):
        with pytest.raises(exceptions.RayActorError):
            get(ref)


def test_a_call_to_a_dead_actor_is_an_actor_died_error():
    victim = Victim.remote()
    get(victim.call.remote())
    ray.kill(victim)
    until_dead(victim)
    with pytest.raises(exceptions.ActorDiedError) as caught:
        get(victim.call.remote())
    assert "Victim" in str(caught.value), "names the class"
    assert victim._actor_id.hex() in str(caught.value), "names the actor"


def test_kill_twice_is_harmless():
    victim = Victim.remote()
    get(victim.call.remote())
    ray.kill(victim)
    ray.kill(victim)


def test_kill_takes_only_an_actor_handle():
    with pytest.raises(ValueError):
        ray.kill(ray.put(1))
    with pytest.raises(ValueError):
        ray.kill(Victim)


def test_a_crash_is_an_actor_died_error():
    victim = Victim.remote()
    with pytest.raises(exceptions.ActorDiedError):
        get(victim.crash.remote())
    until_dead(victim)


def test_a_crash_leaves_the_results_already_delivered():
    victim = Victim.remote()
    first = victim.call.remote()
    assert get(first) == 1
    with pytest.raises(exceptions.RayActorError):
        get(victim.crash.remote())
    assert get(first) == 1


def test_a_constructor_that_raises_is_the_error_of_every_call():
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("no model here")

        def call(self):
            return 1

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(exceptions.RayActorError) as caught:
            get(broken.call.remote())
        assert isinstance(caught.value, exceptions.ActorDiedError)
        assert "no model here" in str(caught.value) and "ValueError" in str(caught.value)
        assert not isinstance(caught.value, ValueError), "the error of a constructor is not of its original type"


def test_a_constructor_that_crashes_is_an_actor_died_error():
    @ray.remote
    class Crashes:
        def __init__(self):
            os._exit(1)

        def call(self):
            return 1

    with pytest.raises(exceptions.ActorDiedError):
        get(Crashes.remote().call.remote())


def test_exit_actor_ends_the_actor_quietly():
    victim = Victim.remote()
    get(victim.call.remote())
    with pytest.raises(exceptions.RayActorError):
        get(victim.leave.remote())
    until_dead(victim)


def test_exit_actor_outside_an_actor_is_refused():
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_terminate_runs_the_calls_before_it():
    victim = Victim.remote()
    before = victim.call.remote()
    victim.__ray_terminate__.remote()
    assert get(before) == 1
    until_dead(victim)


def test_a_restarted_actor_has_lost_its_state():
    victim = Victim.options(max_restarts=1).remote()
    assert get(victim.call.remote()) == 1
    with pytest.raises(exceptions.RayActorError):
        get(victim.crash.remote())
    assert until_alive(victim) == 1
    assert get(victim.restarted.remote()) is True
    with pytest.raises(exceptions.RayActorError):
        get(victim.crash.remote())
    until_dead(victim)


def test_a_crashing_call_is_retried_on_the_restarted_actor_when_asked(tmp_path):
    victim = Victim.options(max_restarts=1, max_task_retries=1).remote()
    assert get(victim.crash_once.remote(str(tmp_path / "marker"))) == "second attempt"


def test_calls_queued_during_a_restart_are_retried_when_asked():
    victim = Victim.options(max_restarts=1, max_task_retries=2).remote()
    get(victim.call.remote())
    pid = get(victim.pid.remote())
    os.kill(pid, 9)
    # Each runs once on the new instance; their order is not kept by Ray.
    assert sorted(get([victim.call.remote() for _ in range(10)])) == list(range(1, 11))
    assert get(victim.pid.remote()) != pid


def test_kill_without_no_restart_restarts_the_actor():
    victim = Victim.options(max_restarts=1).remote()
    pid = get(victim.pid.remote())
    ray.kill(victim, no_restart=False)
    deadline = time.monotonic() + DEADLINE_S
    while until_alive(victim) and _pid_or_none(victim) in (pid, None):  # `kill` does not wait for the end
        assert time.monotonic() < deadline, "the actor did not restart"
        time.sleep(0.05)


def test_an_actor_kept_from_restarting_stays_dead_after_kill():
    victim = Victim.options(max_restarts=5).remote()
    get(victim.call.remote())
    ray.kill(victim)
    until_dead(victim)


@ray.remote(max_task_retries=3)
class Flaky:
    def __init__(self):
        self.attempts = 0

    @ray.method(retry_exceptions=True)
    def work(self, last_attempt, its_seconds=0):
        self.attempts += 1
        if self.attempts < last_attempt:
            raise ValueError("again")
        time.sleep(its_seconds)
        return self.attempts

    def plain(self):
        self.attempts += 1
        raise ValueError(f"attempt {self.attempts}")


def test_an_actor_without_handles_lives_until_its_last_call_has_been_repeated():
    # Long enough for an actor to be ended meanwhile.
    assert get(Flaky.remote().work.remote(last_attempt=2, its_seconds=0.5)) == 2


def test_method_errors_are_retried_when_asked():
    assert get(Flaky.remote().work.remote(last_attempt=3)) == 3
    with pytest.raises(ValueError, match="attempt 1"):
        get(Flaky.remote().plain.remote())


def test_too_many_pending_calls_are_refused_when_limited():
    victim = Victim.options(max_pending_calls=2).remote()
    get(victim.call.remote())
    refs = []
    with pytest.raises(exceptions.PendingCallsLimitExceeded):
        for _ in range(10):
            refs.append(victim.sleep.remote(1))
    assert 1 <= len(refs) <= 3
    ray.kill(victim)


def test_actor_options_are_checked():
    with pytest.raises(ValueError):
        Victim.options(max_restarts=-2).remote()
    with pytest.raises(ValueError):
        Victim.options(lifetime="for ever").remote()
    with pytest.raises(ValueError):
        Victim.options(num_returns=2).remote()
    with pytest.raises(ValueError, match="no_such_option"):
        Victim.options(no_such_option=1)


def test_a_call_to_an_actor_kept_alive_by_another_process_still_works():
    @ray.remote
    class Keeper:
        def __init__(self, victim):
            self.victim = victim

        def use(self):
            return get(self.victim.call.remote())

    victim = Victim.remote()
    keeper = Keeper.remote(victim)
    get(keeper.use.remote())
    del victim
    time.sleep(0.5)
    assert get(keeper.use.remote()) == 2


def _pid_or_none(actor):
    try:
        return get(actor.pid.remote())
    except exceptions.RayActorError:
        return None
