"""Actors and tasks that end themselves: what they clean up, what their callers learn, and whether they are started again."""

import atexit
import multiprocessing
import os
import signal
import sys

import aktis
import pytest
from waiting import is_running, run, until

pytestmark = pytest.mark.usefixtures("session")
DEADLINE_S = 60


def get(refs):
    return aktis.get(refs, timeout=DEADLINE_S)


@aktis.remote(num_cpus=0)
class Holder:
    def __init__(self, notes):
        self.notes = notes
        atexit.register(self.note, "atexit")

    def note(self, what):
        with open(self.notes, "a") as file:
            file.write(f"{what}\n")

    def __ray_shutdown__(self):
        self.note("shutdown")

    def pid(self):
        return os.getpid()

    def leave(self):
        aktis.actor.exit_actor()

    def leave_and_catch(self):
        try:
            aktis.actor.exit_actor()
        except BaseException:  # noqa: BLE001 - what user code does
            return "caught"

    def leave_by(self, code):
        sys.exit(code)


@aktis.remote(num_cpus=0)
class AsyncHolder(Holder._class):  # type: ignore[name-defined]
    async def __ray_shutdown__(self):
        self.note("shutdown")

    async def leave(self):
        aktis.actor.exit_actor()


def notes_of(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("kind", [Holder, AsyncHolder], ids=["sync", "async"])
@pytest.mark.parametrize("method", ["leave", "__ray_terminate__"])
def test_an_actor_that_ends_itself_runs_its_hook_and_then_what_was_registered_with_atexit(tmp_path, kind, method):
    notes = tmp_path / "notes"
    actor = kind.remote(str(notes))
    with pytest.raises(aktis.exceptions.ActorDiedError, match="ended itself"):
        get(getattr(actor, method).remote())
    until(lambda: notes_of(notes) == ["shutdown", "atexit"], "both notes")


def test_an_actor_whose_last_handle_is_gone_runs_both(tmp_path):
    notes = tmp_path / "notes"
    actor = Holder.remote(str(notes))
    get(actor.pid.remote())
    del actor
    until(lambda: notes_of(notes) == ["shutdown", "atexit"], "both notes")


def test_killed_actor_runs_neither(tmp_path):
    notes = tmp_path / "notes"
    actor = Holder.remote(str(notes))
    pid = get(actor.pid.remote())
    aktis.kill(actor)
    until(lambda: not is_running(pid), "the process ends")
    assert notes_of(notes) == []


def test_tasks_of_a_worker_that_ends_after_its_last_call_run_what_they_registered(tmp_path):
    notes = tmp_path / "notes"

    @aktis.remote(max_calls=1)
    def register():
        atexit.register(notes.touch)

    get(register.remote())
    until(notes.exists, "the function registered with atexit runs")


@aktis.remote(num_cpus=0)
class Parent:
    """Has a child of multiprocessing that is no daemon, and a function that wants to hear from it."""

    def __init__(self, notes):
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()
        self.child = fork.Process(target=serve, args=(theirs, notes))
        self.child.start()
        atexit.register(ask, ours, notes)

    def pids(self):
        return os.getpid(), self.child.pid


def serve(connection, notes):
    def leave(_signal, _frame):
        with notes.open("a") as file:
            file.write("told\n")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    while True:
        connection.send(connection.recv())


def ask(connection, notes):
    connection.send("answered\n")
    notes.write_text(connection.recv())


def test_a_child_is_told_to_end_after_what_its_parent_registered_and_not_waited_for(tmp_path):
    notes = tmp_path / "notes"
    actor = Parent.remote(notes)
    parent, child = get(actor.pids.remote())
    del actor
    until(lambda: not is_running(parent) and not is_running(child), "both processes end")
    # One that was killed when the patience of its parent had run out would not have been told.
    assert notes_of(notes) == ["answered", "told"]


def test_a_hook_that_fails_is_printed_and_does_not_keep_the_others_from_running(tmp_path):
    output = run(
        f"""
        import aktis, atexit, pathlib, time
        aktis.init(num_cpus=1)
        notes = pathlib.Path({str(tmp_path / "notes")!r})

        @aktis.remote
        class Fails:
            def __init__(self):
                atexit.register(notes.touch)
            def __ray_shutdown__(self):
                raise ValueError("cannot close")

        actor = Fails.remote()
        actor.__ray_terminate__.remote()
        end = time.monotonic() + 30
        while not notes.exists() and time.monotonic() < end:
            time.sleep(0.01)
        print("touched", notes.exists(), flush=True)
        """
    )
    assert "touched True" in output


def test_exit_that_the_method_catches_ends_the_actor_all_the_same(tmp_path):
    actor = Holder.remote(str(tmp_path / "notes"))
    pid = get(actor.pid.remote())
    with pytest.raises(aktis.exceptions.ActorDiedError):
        get(actor.leave_and_catch.remote())
    until(lambda: not is_running(pid), "the process ends")


@pytest.mark.parametrize("leave", [("leave",), ("__ray_terminate__",), ("leave_by", 0)], ids=str)
def test_an_actor_that_ends_itself_is_not_started_again(tmp_path, leave):
    actor = Holder.options(max_restarts=3).remote(str(tmp_path / "notes"))
    pid = get(actor.pid.remote())
    method, *arguments = leave
    with pytest.raises(aktis.exceptions.ActorDiedError):
        get(getattr(actor, method).remote(*arguments))
    until(lambda: not is_running(pid), "the process ends")
    with pytest.raises(aktis.exceptions.ActorDiedError):
        get(actor.pid.remote())


@pytest.mark.parametrize("code", [3, None, "text"])
def test_sys_exit_ends_the_process_and_restarts_apply(tmp_path, code):
    actor = Holder.options(max_restarts=1).remote(str(tmp_path / "notes"))
    pid = get(actor.pid.remote())
    with pytest.raises(aktis.exceptions.ActorError):
        get(actor.leave_by.remote(code))

    def new_pid():
        try:
            return get(actor.pid.remote())
        except aktis.exceptions.ActorUnavailableError:
            return None

    assert until(new_pid, "the actor is back") != pid
    until(lambda: not is_running(pid), "the process ends")


def test_sys_exit_in_a_task_is_a_crash_that_retries_apply_to(tmp_path):
    @aktis.remote(max_retries=1)
    def exit_once(marker):
        if not marker.exists():
            marker.touch()
            sys.exit(3)
        return "second attempt"

    assert get(exit_once.remote(tmp_path / "marker")) == "second attempt"
    with pytest.raises(aktis.exceptions.WorkerCrashedError):
        get(exit_once.options(max_retries=0).remote(tmp_path / "other"))


def test_exit_in_a_constructor_is_named():
    @aktis.remote(num_cpus=0)
    class LeavesAtOnce:
        def __init__(self):
            aktis.actor.exit_actor()

        def call(self):
            return 1

    with pytest.raises(aktis.exceptions.ActorDiedError, match=r"exit_actor\(\) was called"):
        get(LeavesAtOnce.remote().call.remote())


def test_the_error_of_a_constructor_shows_its_line_and_what_led_to_it():
    @aktis.remote(num_cpus=0)
    class Model:
        def __init__(self):
            self.load_weights()

        def load_weights(self):
            try:
                open("/no/such/model.bin").close()
            except OSError as error:
                raise RuntimeError("weights are missing") from error

        def predict(self):
            return 1

    model = Model.remote()
    for _ in range(2):
        with pytest.raises(aktis.exceptions.ActorDiedError) as caught:
            get(model.predict.remote())
        text = str(caught.value)
        assert "in load_weights" in text and "model.bin" in text and "test_actor_ends.py" in text
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert caught.value.actor_init_failed and caught.value.actor_id == model._actor_id.hex()
