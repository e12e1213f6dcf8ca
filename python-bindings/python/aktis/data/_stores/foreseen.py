"""What will be asked for in a moment, asked for before."""

from __future__ import annotations

from collections.abc import Iterable

from .requests import Request


class Foreseen:
    """Requests that are under way for whoever asks for the same bytes of the same file next."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int, int], Request] = {}

    def add(self, requests: Iterable[tuple[tuple[str, int, int], Request]]) -> None:
        """They are for these bytes: name, first byte, end."""
        self._requests.update(requests)

    def taken(self, name: str, start: int, end: int) -> Request | None:
        """The request for these bytes, which is given once: a later reader wants what lies there then."""
        return self._requests.pop((name, start, end), None)

    def forget(self) -> None:
        """Nobody will ask for the others."""
        self._requests.clear()
