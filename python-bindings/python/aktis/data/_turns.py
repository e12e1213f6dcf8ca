"""When calls may begin, so that no second has more of them than a limit. Pure: no clock, no process, nobody waits here.

Turns of one key have a pace, one after ``1 / per_second``, of which ``burst`` may be saved up. Besides, each second is looked at:

- TURN-1 (never-more): calls that begin in any second are at most ``ceil(per_second) + burst - 1``. A turn that was given and of whose
  beginning nobody has told yet may begin at any time: it is one of every second until then, and one of the second after it.
- TURN-2 (nothing-for-the-dead): a turn whose worker has died has been used; it is counted for :data:`LOST_S`, no longer, and nobody
  gets another one for it.
"""

from __future__ import annotations

import heapq
import math

#: How long a call counts that has begun: a second, and what may lie between the word that it begins and its beginning.
SECOND_S = 1.01
#: Turns of whose beginning nobody tells are used by then. Whoever gets one later than that must take another.
LOST_S = 5.0
#: While somebody waits, the pace makes up for so much that was lost by waking up late.
_CATCH_UP_S = 0.1
#: Of a turn: what floats lose.
_ROUNDING = 1e-6


class Turns:
    """The turns of one key.

    >>> turns = Turns(2, burst=1, now=0.0)
    >>> turns.wait_s(1, 0.0), turns.take(1, 0.0)
    (0.0, 0)
    >>> turns.wait_s(1, 0.1)
    0.4
    """

    def __init__(self, per_second: float, burst: int, now: float, *, is_fresh: bool = True) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most_per_second(per_second, burst)
        #: Turns that the pace has room for; less than none after a call that took several.
        self._saved = float(burst) if is_fresh else 0.0
        self._seen_at = now
        self._next_ticket = 0
        #: Given, and not known to have begun: how many, and when they were given. The earliest one first.
        self._given: dict[int, tuple[int, float]] = {}
        #: When turns do not count any more, and how many.
        self._counted: list[tuple[float, int]] = []
        self._in_second = 0
        if not is_fresh:
            # What was given before, nobody knows.
            self._in_second = self._most
            self._counted.append((now + SECOND_S, self._most))

    def wait_s(self, count: int, now: float, *, has_waited: bool = False) -> float:
        """How long a call that takes ``count`` turns has to wait from now on, as far as is known.

        Args:
            has_waited: somebody has been waiting for the pace since it was last asked.
        """
        self._forget(now)
        self._save(now, has_waited=has_waited)
        missing = min(count, self._burst) - self._saved
        wait = missing / self._per_second if missing > _ROUNDING else 0.0
        if self._in_second + count > self._most:
            wait = max(wait, self._next_change(now) - now)
        return wait

    def take(self, count: int, now: float) -> int:
        """Gives these turns, for which nobody has to wait any more. The ticket is for :meth:`began`."""
        # TURN-1: from now on, and until a second after somebody has said that the call has begun.
        ticket = self._next_ticket
        self._next_ticket += 1
        self._saved -= count
        self._in_second += count
        self._given[ticket] = (count, now)
        return ticket

    def began(self, ticket: int, now: float) -> None:
        """The call has begun, now or before."""
        if (given := self._given.pop(ticket, None)) is not None:
            heapq.heappush(self._counted, (now + SECOND_S, given[0]))

    def is_idle(self, now: float) -> bool:
        """Whether it is as if it were new."""
        self._forget(now)
        self._save(now, has_waited=False)
        return not self._in_second and self._saved >= self._burst

    def _save(self, now: float, *, has_waited: bool) -> None:
        most = max(self._burst, self._per_second * _CATCH_UP_S) if has_waited else self._burst
        saved = self._saved + (now - self._seen_at) * self._per_second
        # What is there already is not lost.
        self._saved = min(saved, max(most, self._saved))
        self._seen_at = now

    def _forget(self, now: float) -> None:
        while self._given:
            ticket, (_, given_at) = next(iter(self._given.items()))
            if given_at + LOST_S > now:
                break
            # TURN-2.
            self.began(ticket, given_at + LOST_S)
        while self._counted and self._counted[0][0] <= now:
            self._in_second -= heapq.heappop(self._counted)[1]

    def _next_change(self, now: float) -> float:
        """When there will be fewer in the second; of those that are told to have begun, somebody will say so before."""
        if self._counted:
            return self._counted[0][0]
        given_at = next(iter(self._given.values()))[1] if self._given else now
        return given_at + LOST_S


def most_per_second(per_second: float, burst: int) -> int:
    """How many calls may begin in any second.

    >>> most_per_second(100, 1), most_per_second(0.5, 1), most_per_second(2.5, 3)
    (100, 1, 5)
    """
    return math.ceil(per_second) + burst - 1
