"""Requests to a store, many under way at once, tried again where that may help, and none waited for without end.

Threads of this module are daemons: a request that never ends holds neither the job nor the end of the process up.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

from .refused import asks_for_patience, is_final, refused

#: Requests of a process that are under way at once.
MOST_AT_ONCE = 32
#: Fewer than these leave connections unused that a process has to a store.
FULL = 16
#: How often a request is made before what it says counts.
ATTEMPTS = 6
#: After so long no further attempt is made, if there were two: libraries try again by themselves as well, and none of them knows
#: of the others. A store that asks for patience is given more.
PATIENCE_SECONDS, LONG_PATIENCE_SECONDS = 20.0, 120.0
#: How long one attempt may take, and how many bytes a second a long one has to move at least.
LIMIT_SECONDS, LEAST_BYTES_PER_SECOND = 60.0, 1 << 20
#: The longest wait before the second attempt; it doubles with each one, to this.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0


class Call(NamedTuple):
    """What is asked for."""

    call: Callable[[], Any]
    #: For messages: `read s3://bucket/a`.
    doing: str
    #: Bytes that it moves, if these are many.
    size: int = 0


class _Attempt:
    """One call on its way to an answer."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call
        self.answer: Future[Any] = Future()
        self.has_begun = threading.Event()
        self.is_given_up = False

    def run(self) -> None:
        self.has_begun.set()
        try:
            self.answer.set_result(self.call())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the answer raises it
            self.answer.set_exception(error)


class _Threads:
    """As many threads as there are requests, up to a limit; one whose request hangs is replaced."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Attempt] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # Attempts that no thread has taken, and threads that wait for one: both change at once, when a thread has taken one.
        self._untaken = 0
        self._idle = 0
        self._threads = 0
        self._under_way = 0

    def begin(self, call: Callable[[], Any]) -> _Attempt:
        attempt = _Attempt(call)
        with self._lock:
            self._untaken += 1
            self._under_way += 1
            is_wanted = self._untaken > self._idle and self._threads < MOST_AT_ONCE
        self._waiting.put(attempt)
        if is_wanted:
            self.add()
        return attempt

    def add(self) -> None:
        """One more thread, also beyond the limit: all others are waiting for answers that do not come."""
        with self._lock:
            self._threads += 1
            self._idle += 1
        threading.Thread(target=self._serve, name="aktis-request", daemon=True).start()

    def give_up(self, attempt: _Attempt) -> None:
        """Nobody waits for the answer: its thread counts no more."""
        with self._lock:
            attempt.is_given_up = True
            self._threads -= 1
            self._under_way -= 1
            is_wanted = self._untaken > self._idle
        if is_wanted:
            self.add()

    def _serve(self) -> None:
        while True:
            attempt = self._waiting.get()
            with self._lock:
                self._untaken -= 1
                self._idle -= 1
            attempt.run()
            with self._lock:
                if attempt.is_given_up:  # another thread has taken this one's place
                    return
                self._idle += 1
                self._under_way -= 1
            del attempt

    def have_room(self) -> bool:
        with self._lock:
            return self._under_way < FULL


_threads = _Threads()

#: What is called in the place of a request, of which it is given the call and what that does: within ``aktis.testing.chaos()``.
around: Callable[[Callable[[], Any], str], Callable[[], Any]] | None = None


class Request:
    """A request that is under way."""

    def __init__(self, call: Callable[[], Any], doing: str, size: int = 0) -> None:
        self._call = call = call if around is None else around(call, doing)
        self._doing = doing
        self._limit = LIMIT_SECONDS + size / LEAST_BYTES_PER_SECOND
        self._attempt = _threads.begin(call)

    def result(self) -> Any:
        """The answer. Raises an ``OSError`` that says what was done, why it failed and what helps."""
        begun = time.monotonic()
        for number in range(ATTEMPTS):
            try:
                return self._answer()
            except Exception as error:
                patience = LONG_PATIENCE_SECONDS if asks_for_patience(error) else PATIENCE_SECONDS
                is_over = number > 0 and time.monotonic() - begun > patience
                if is_final(error) or is_over or number + 1 == ATTEMPTS:
                    raise refused(error, self._doing, number + 1) from error
            # All who were turned away at once do not come back at once.
            longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**number)
            time.sleep(random.uniform(0, longest))
            self._attempt = _threads.begin(self._call)
        raise AssertionError("the last attempt has returned or raised")

    def _answer(self) -> Any:
        attempt = self._attempt
        # Whoever has given up waiting for others has not told so.
        while not attempt.has_begun.wait(self._limit):
            for _ in range(MOST_AT_ONCE):
                _threads.add()
        try:
            return attempt.answer.result(self._limit)
        except TimeoutError:
            if attempt.answer.done():  # the call's own
                raise
            _threads.give_up(attempt)
            raise TimeoutError(f"there was no answer for {self._limit:.0f} seconds") from None


def have_room() -> bool:
    """Whether connections to the store are unused: then what is long comes sooner in short pieces."""
    return _threads.have_room()


def made(call: Callable[[], Any], doing: str) -> Any:
    """The answer to one request."""
    return Request(call, doing).result()


def all_made(calls: Iterable[Call]) -> list[Any]:
    """The answers to requests that are under way at once; the first failure ends it."""
    return [request.result() for request in [Request(*call) for call in calls]]


def all_answers(calls: Iterable[Call]) -> list[Any]:
    """The answers to requests that are under way at once, or why there is none."""
    answers: list[Any] = []
    for request in [Request(*call) for call in calls]:
        try:
            answers.append(request.result())
        except OSError as error:
            answers.append(error)
    return answers


def all_settled(calls: Iterable[Call]) -> OSError | None:
    """Waits for requests that are under way at once, whatever becomes of them. Returns the first failure."""
    failure: OSError | None = None
    for request in [Request(*call) for call in calls]:
        try:
            request.result()
        except OSError as error:
            failure = failure or error
    return failure
