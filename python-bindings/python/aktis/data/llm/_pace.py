"""When the requests of one worker may be sent: so many in a second, and none while the server has asked to wait."""

from __future__ import annotations

import asyncio


class Pace:
    """The turns of requests, in the order in which they asked.

    Args:
        per_second: Requests in a second at most; None: any number.
    """

    def __init__(self, per_second: float | None) -> None:
        self._interval_s = 1 / per_second if per_second else 0.0
        self._next_turn = self._held_until = float("-inf")
        self._line = asyncio.Lock()

    async def turn(self) -> None:
        """Waits until another request may be sent."""
        clock = asyncio.get_running_loop().time
        async with self._line:
            while (wait_s := max(self._next_turn, self._held_until) - clock()) > 0:
                await asyncio.sleep(wait_s)
            # A turn that came a little late does not delay all others.
            is_in_time = clock() - self._next_turn < self._interval_s
            self._next_turn = (self._next_turn if is_in_time else clock()) + self._interval_s

    def hold(self, seconds: float) -> None:
        """Nothing is sent for so long: who asks one request to wait means all."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
