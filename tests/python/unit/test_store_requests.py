"""Requests to stores: tried again, never waited for without end; and files of stores as streams."""

import io
import random
import threading
from typing import Any

import pytest
from aktis.data._stores import requests
from aktis.data._stores.file import RangeFile, Upcoming
from aktis.data._stores.store import Store


@pytest.fixture
def hurry(monkeypatch):
    """Short limits."""
    monkeypatch.setattr(requests, "LIMIT_SECONDS", 0.2)
    monkeypatch.setattr(requests, "FIRST_WAIT_SECONDS", 0.001)


class Hanging:
    """Answers from a number of calls on; those before wait for the end of the test."""

    def __init__(self, hanging):
        self.hanging, self.calls, self.end = hanging, 0, threading.Event()
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            self.calls += 1
            hangs = self.calls <= self.hanging
        if hangs:
            self.end.wait()
        return "here"


def test_request_that_hangs_is_made_again(hurry):
    call = Hanging(1)
    assert requests.made(call, "read a") == "here"
    # Or once more, if there was no answer in so short a time.
    assert call.calls >= 2
    call.end.set()


def test_request_that_always_hangs_ends_with_an_error(hurry):
    call = Hanging(1000)
    with pytest.raises(TimeoutError, match=r"read a: there was no answer for 0 seconds.*\(tried 6 times\)"):
        requests.made(call, "read a")
    call.end.set()


def test_requests_that_hang_hold_no_other_up(hurry):
    hanging = Hanging(requests.MOST_AT_ONCE)
    answers = requests.all_made([requests.Call(hanging, "read a") for _ in range(requests.MOST_AT_ONCE)])
    assert answers == ["here"] * requests.MOST_AT_ONCE
    # The threads of the first attempts are still waiting.
    assert requests.all_made([requests.Call(lambda: 1, "read b")] * 100) == [1] * 100
    hanging.end.set()
    assert requests.made(lambda: 2, "read c") == 2


def test_requests_that_nobody_waits_for_hold_no_other_up(hurry):
    hanging = Hanging(1000)
    for _ in range(2 * requests.MOST_AT_ONCE):
        requests.Request(hanging, "read a")
    assert requests.made(lambda: 1, "read b") == 1
    hanging.end.set()


def test_what_no_second_attempt_changes_is_asked_once():
    calls = []

    def missing():
        calls.append(1)
        raise FileNotFoundError("no such thing")

    with pytest.raises(FileNotFoundError, match="read a: there is no such file"):
        requests.made(missing, "read a")
    assert len(calls) == 1


def test_all_are_waited_for_when_one_has_failed():
    done = []

    def fails():
        raise PermissionError("no")

    failure = requests.all_settled(
        [requests.Call(fails, "write a"), *(requests.Call(lambda: done.append(1), "write b") for _ in range(20))]
    )
    assert isinstance(failure, PermissionError)
    assert len(done) == 20


class Memory:
    """A file, and what was asked of it."""

    has_folders = True

    def __init__(self, data):
        self.data, self.asked = data, []

    def read(self, path, start, end):
        self.asked.append((start, end))
        return self.data[start:end]


def file_of(data, **options):
    files: Any = Memory(data)
    store = Store(files, "x://")
    return files, RangeFile(store, "x://a", len(data), **options)


def test_stream_gives_the_bytes_of_the_file_wherever_it_is_moved():
    chance = random.Random(5)
    data = chance.randbytes(6 << 20)
    _, file = file_of(data)
    plain = io.BytesIO(data)
    for _ in range(300):
        if chance.random() < 0.4:
            place = chance.randrange(len(data))
            assert file.seek(place) == plain.seek(place)
        size = chance.choice([1, 100, 70_000, 900_000])
        assert file.read(size) == plain.read(size)
        assert file.tell() == plain.tell()
    file.seek(-10, io.SEEK_END)
    assert file.read() == data[-10:]
    assert file.read(5) == b""


def test_file_that_is_read_from_its_beginning_is_asked_for_once():
    data = random.Random(5).randbytes(20 << 20)
    files, file = file_of(data, expected=len(data))
    assert b"".join(iter(lambda: file.read(100_000), b"")) == data
    assert sum(end - start for start, end in files.asked) == len(data)
    # The first pieces are short, as long as connections are unused.
    assert len(files.asked) == 10 and files.asked[0] == (0, 1 << 18)


def test_a_look_at_the_beginning_reads_little():
    files, file = file_of(bytes(20 << 20))
    file.read(1000)
    assert sum(end - start for start, end in files.asked) <= 1 << 20


def test_small_files_are_asked_for_ahead_and_within_limits():
    files: Any = Memory(bytes(5 << 20))
    store = Store(files, "x://")
    names = [(f"x://{number}", 1 << 20) for number in range(100)]
    upcoming = Upcoming(store, [*names, ("x://large", 100 << 20)])
    first = upcoming.taken("x://0")
    assert first is not None and len(first.result()) == 1 << 20
    assert upcoming.taken("x://large") is None
    for name, _ in names[1:]:
        request = upcoming.taken(name)
        assert request is not None
        request.result()
    assert len(files.asked) == 100
