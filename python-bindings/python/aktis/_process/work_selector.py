"""The selector of an async actor's event loop: waits for work of the actor and for the loop's descriptors at once."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkFeed(Protocol):
    """Where the calls come from. See ``work_feed.rs`` of the native module."""

    def watch(self, fd: int) -> None:
        """Sets the descriptor that also ends waits."""

    def dispatch(self, timeout: float | None) -> bool:
        """Waits, then starts the calls that came; false when the process is to end."""
        ...


class WorkSelector(selectors.EpollSelector):
    """Waits in the native module, which polls the lanes and this selector's descriptor together.

    Before calls can come, while the constructor of the actor uses its loop, it is a selector as any other.
    """

    def __init__(self) -> None:
        super().__init__()
        self._feed: WorkFeed | None = None
        self._stop: Callable[[], Any] | None = None

    def attach(self, feed: WorkFeed, stop: Callable[[], Any]) -> None:
        """From now on waits for calls, too. ``stop`` is called when the process is to end."""
        feed.watch(self.fileno())
        self._feed, self._stop = feed, stop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The descriptors that are ready, after calls that came have been started."""
        if self._feed is None or self._stop is None:
            return super().select(timeout)
        if not self._feed.dispatch(timeout):
            self._stop()
        return super().select(0)
