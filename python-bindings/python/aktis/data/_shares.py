"""Who gets which rows of a stream that several consumers share. Pure: no threads, no clock, nothing is read.

SHARE-1 (every-row-once): what is put in comes to one consumer, but for up to ``n - 1`` rows at the end of equal shares.
SHARE-2 (equal-at-the-end): in equal shares nobody ever gets so much that the others could not be given as many rows, of
those that wait. So a consumer that is ahead may have to wait, and the one behind never does while rows wait.
"""

from __future__ import annotations

from collections import deque

from ._parts import Part


class Shares:
    """Rows that wait for consumers, in order.

    >>> shares = Shares(2, is_equal=True)
    >>> shares.put(Part("block", 0, 5, 50, True))
    >>> shares.end()
    >>> shares.take(0).rows, shares.take(0), shares.take(1).rows, shares.take(1)
    (2, None, 2, None)
    >>> shares.is_over(0), shares.is_over(1)
    (True, True)
    """

    def __init__(self, consumers: int, *, is_equal: bool) -> None:
        self._is_equal = is_equal
        self._waiting: deque[Part] = deque()
        self._waiting_rows = 0
        self._given = [0] * consumers
        self._has_left = [False] * consumers
        self._has_ended = False

    def put(self, part: Part) -> None:
        """More rows."""
        if part.rows:
            self._waiting.append(part)
            self._waiting_rows += part.rows
        self._drop_for_who_left()

    def end(self) -> None:
        """There are no more rows."""
        self._has_ended = True
        self._drop_for_who_left()

    def leave(self, consumer: int) -> None:
        """This one wants no more: in equal shares its rows come to nobody, else to the others."""
        self._has_left[consumer] = True
        self._drop_for_who_left()

    def take(self, consumer: int) -> Part | None:
        """Rows for this one; ``None``: none now."""
        if not self._waiting:
            return None
        allowed = self._allowed(consumer)
        # A block is cut only where this consumer would have to wait for the others, or to the end.
        if (
            allowed < self._waiting[0].rows
            and not (self._has_ended or self.is_full())
            and not self._is_behind(consumer)
        ):
            return None
        return self._take(consumer, allowed)

    def is_over(self, consumer: int) -> bool:
        """Whether nothing will ever come to this one again."""
        return self._has_ended and (not self._waiting or self._allowed(consumer) == 0)

    def is_full(self) -> bool:
        """Whether enough waits, so that some consumer can be given rows."""
        consumers = len(self._given)
        return len(self._waiting) > consumers and self._waiting_rows >= consumers

    def waits_for(self, consumer: int) -> list[int]:
        """Those that must take rows before this one can have more; nobody, if more rows may come."""
        if not self.is_full() or self._allowed(consumer) > 0:
            return []
        least = min(self._given)
        return [other for other, given in enumerate(self._given) if given == least and other != consumer]

    def everybody_left(self) -> bool:
        """Whether nobody wants any more."""
        return all(self._has_left)

    def _allowed(self, consumer: int) -> int:
        """How many rows it may be given so that there are enough for the others to catch up (SHARE-2)."""
        if not self._is_equal:
            return self._waiting_rows
        consumers = len(self._given)
        most = max(self._given)
        missing = consumers * most - sum(self._given)
        return most - self._given[consumer] + (self._waiting_rows - missing) // consumers

    def _is_behind(self, consumer: int) -> bool:
        return self._given[consumer] < max(self._given)

    def _take(self, consumer: int, allowed: int) -> Part | None:
        """The first rows that wait; what is taken waits for nobody else any more (SHARE-1)."""
        if allowed == 0:
            return None
        part = self._waiting.popleft()
        if part.rows > allowed:
            self._waiting.appendleft(part.rest(allowed))
            part = part.first(allowed)
        self._waiting_rows -= part.rows
        self._given[consumer] += part.rows
        return part

    def _drop_for_who_left(self) -> None:
        """In equal shares, rows that would be theirs are not in the way of the others."""
        if not self._is_equal:
            return
        for consumer, has_left in enumerate(self._has_left):
            while has_left and self._waiting and self._take(consumer, self._allowed(consumer)):
                pass
