"""Answers of an endpoint: which are good, which may be better at another try, and when that may be."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Of a bad answer, so many characters are told.
_TOLD = 300
#: Statuses below 500 that say: later. Of those above, two say: never.
_LATER = frozenset({408, 425, 429})
_NEVER = frozenset({501, 505})


class HttpRequestError(RuntimeError):
    """A request has failed, for the reason that it says.

    Args:
        message: What happened.
        status: The status of the last answer, if there was one.
        attempts: How often the request was sent.

    >>> HttpRequestError("POST http://localhost/v1: 400 Bad Request", status=400).status
    400
    """

    def __init__(self, message: str, *, status: int | None = None, attempts: int = 1) -> None:
        super().__init__(message)
        self.status, self.attempts = status, attempts

    def __reduce__(self) -> Any:
        return _error, (self.args[0], self.status, self.attempts)


def _error(message: str, status: int | None, attempts: int) -> HttpRequestError:
    return HttpRequestError(message, status=status, attempts=attempts)


class Answer(NamedTuple):
    """What came back; headers have small letters."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Refusal(NamedTuple):
    """Why an answer, or that there was none, is not what was asked for."""

    text: str
    #: Whether another try may help.
    is_passing: bool
    status: int | None = None
    #: Seconds that the server asks to wait.
    wait_s: float | None = None


def judged(answer: Answer) -> Any:
    """The JSON of an answer, or a :class:`Refusal`.

    >>> judged(Answer(200, "OK", {}, b'{"n": 1}'))
    {'n': 1}
    >>> judged(Answer(429, "Too Many Requests", {"retry-after": "2"}, b"slow down"))
    Refusal(text='429 Too Many Requests: slow down', is_passing=True, status=429, wait_s=2.0)
    >>> judged(Answer(200, "OK", {"content-type": "text/html"}, b"<html>")).text
    'the answer (200, text/html) is not JSON: <html>'
    >>> judged(Answer(200, "OK", {"content-length": "6"}, b"<html>")).is_passing, judged(Answer(200, "OK", {}, b"[1")).is_passing
    (False, True)
    """
    status = answer.status
    if 200 <= status < 300:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            kind = answer.headers.get("content-type", "without a type")
            text = f"the answer ({status}, {kind}) is not JSON: {_shortened(answer.body)}"
            # It may be a part of one that is, and nothing says so.
            return Refusal(text, not _tells_its_end(answer.headers), status)
    said = f"{status} {answer.reason}".rstrip()
    if 300 <= status < 400:
        return Refusal(f"{said}: give {answer.headers.get('location', 'another address')!r} as url", False, status)
    is_passing = status in _LATER or status >= 500 and status not in _NEVER
    wait_s = asked_wait_s(answer.headers) if is_passing else None
    return Refusal(f"{said}: {_shortened(answer.body)}", is_passing, status, wait_s)


def _tells_its_end(headers: Mapping[str, str]) -> bool:
    """Whether a body that breaks off is not one that ends: without a length, as in HTTP/1.0, both end with the connection."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()


def asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, by ``Retry-After`` (seconds, or a date), or by the finer ``retry-after-ms``.

    >>> asked_wait_s({"retry-after-ms": "250", "retry-after": "1"}), asked_wait_s({"retry-after": "soon"}), asked_wait_s({})
    (0.25, None, None)
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())


def _shortened(body: bytes) -> str:
    text = " ".join(body[: 4 * _TOLD].decode("utf-8", "replace").split())
    return text[:_TOLD] + "..." if len(text) > _TOLD else text or "(nothing)"
