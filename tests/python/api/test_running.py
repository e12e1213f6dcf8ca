"""What `aktis status` and `aktis list tasks` say of what runs: which function, where, for how long, what it waits for."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import aktis
import pytest
from waiting import DEADLINE_S, until

pytestmark = pytest.mark.usefixtures("session")


def command(*arguments):
    """What the command says of this process's session."""
    address = aktis.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-m", "aktis._cli", *arguments, "--address", address],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def running(name):
    """The calls of this name that run."""
    return [call for call in json.loads(command("list", "tasks", "--json")) if call["name"] == name]


def await_calls(name, count, is_wanted=lambda call: True):
    """Waits until so many calls of this name run and are as wanted."""

    def found():
        calls = running(name)
        return len(calls) == count and all(is_wanted(call) for call in calls) and calls

    return until(found, f"{count} x {name} run")


def await_status(*parts):
    """Waits until `aktis status` says all of this: a process that is slow to answer is not asked twice by one call of it."""

    def is_said():
        status = command("status")
        return all(part in status for part in parts)

    until(is_said, f"status says {parts}")


@pytest.fixture
def gate(tmp_path):
    """A file until whose end calls stay."""
    path = tmp_path / "gate"
    path.write_text("")
    yield str(path)
    path.unlink(missing_ok=True)


def stay(gate):
    import pathlib
    import time

    while pathlib.Path(gate).exists():
        time.sleep(0.01)
    return os.getpid()


@aktis.remote
def load_images(gate):
    return stay(gate)


@aktis.remote(num_cpus=0)
def total(gate):
    return aktis.get(load_images.remote(gate))


@aktis.remote
class Model:
    def __init__(self, gate=None):
        if gate:
            stay(gate)

    def classify(self, gate):
        return stay(gate)


@aktis.remote
class Client:
    async def fetch(self, references):
        return await references[0]

    async def pause(self, gate):
        while os.path.exists(gate):
            await asyncio.sleep(0.01)


def test_a_task_is_listed_while_it_runs_with_its_process(gate):
    assert running("load_images") == []
    reference = load_images.remote(gate)
    (call,) = await_calls("load_images", 1, lambda call: call["running_seconds"] > 0.2)
    assert call["task_id"] == reference.task_id().hex()
    assert call["node_id"] == aktis.get_runtime_context().get_node_id()
    assert call["waits_for"] is None
    os.unlink(gate)
    assert aktis.get(reference) == call["pid"]
    until(lambda: running("load_images") == [], "it runs no more")


def test_who_waits_says_for_what(gate):
    reference = total.remote(gate)
    (call,) = await_calls("total", 1, lambda call: call["waits_for"])
    (awaited,) = await_calls("load_images", 1)
    (call,) = await_calls("total", 1, lambda call: str(awaited["pid"]) in (call["waits_for"] or ""))
    assert call["waits_for"] == (
        f"load_images, which was sent to a worker, and has not ended; it is made by process {awaited['pid']}"
    )
    assert call["awaited_task_id"] == awaited["task_id"]
    waiting = threading.Thread(target=aktis.get, args=(reference,))
    waiting.start()
    (script,) = await_calls("script", 1)
    assert script["pid"] == os.getpid()
    assert script["waits_for"].startswith("total, which was sent to a worker")
    await_status("  total for ", f"process {call['pid']}: waits for load_images, which")
    os.unlink(gate)
    waiting.join()


def test_a_constructor_and_methods_are_named_by_their_class(gate, tmp_path):
    model = Model.remote(gate)
    reference = model.classify.remote(gate)
    (call,) = await_calls("Model.__init__", 1)
    assert call["actor_id"] == model._actor_id.hex()
    os.unlink(gate)
    aktis.get(reference)
    (tmp_path / "gate").write_text("")
    reference = model.classify.remote(gate)
    (call,) = await_calls("Model.classify", 1)
    assert call["actor_id"] == model._actor_id.hex()
    os.unlink(gate)
    assert aktis.get(reference) == call["pid"]


def test_each_coroutine_says_what_it_awaits(gate):
    client = Client.remote()
    awaited = load_images.remote(gate)
    references = [client.fetch.remote([awaited]), client.pause.remote(gate)]
    (call,) = await_calls("Client.fetch", 1, lambda call: call["waits_for"])
    assert call["waits_for"].startswith(f"object {awaited.hex()} of process ")
    (pause,) = await_calls("Client.pause", 1)
    assert (pause["waits_for"], pause["pid"]) == (None, call["pid"])
    os.unlink(gate)
    aktis.get(references)
    until(lambda: running("Client.fetch") == running("Client.pause") == [], "they run no more")


def test_of_very_many_calls_a_hundred_are_listed_and_the_others_counted(gate):
    client = Client.options(max_concurrency=500).remote()
    references = [client.pause.remote(gate) for _ in range(300)]
    until(lambda: json.loads(command("status", "--json"))["running_left_out"] == 200, "the others are counted")
    until(lambda: len(running("Client.pause")) == 100, "a hundred are listed")
    await_status("  and 280 more (aktis list tasks)")
    os.unlink(gate)
    aktis.get(references)


def test_a_worker_that_is_stopped_is_silent_and_holds_nobody_up(gate):
    reference = load_images.remote(gate)
    (call,) = await_calls("load_images", 1)
    os.kill(call["pid"], signal.SIGSTOP)
    try:
        assert f"process {call['pid']} of node {call['node_id']} does not answer" in command("status")
        silent = json.loads(command("status", "--json"))["silent"]
        assert (call["pid"], call["node_id"]) in [(one["pid"], one["node_id"]) for one in silent]
    finally:
        os.kill(call["pid"], signal.SIGCONT)
    os.unlink(gate)
    aktis.get(reference)


def test_the_nodes_are_not_asked_where_that_is_not_wanted():
    facts = json.loads(command("status", "--json", "--no-tasks"))
    assert "running" not in facts
    assert "Running" not in command("status", "--no-tasks")
