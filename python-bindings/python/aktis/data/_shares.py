"""Who gets which rows of a stream that several consumers share. Pure: no threads, no clock, nothing is read.

SHARE-1 (every-row-once): what is put in comes to one consumer, but for up to ``n - 1`` rows at the end of equal shares.
SHARE-2 (equal-at-the-end): in equal shares nobody ever gets so much that the others could not be given as many rows, of
those that wait. So a consumer that is ahead may have to wait, and the one behind never does while rows wait.
"""

from __future__ import annotations

from collections import deque

from ._parts import Part, rows_of

#: So much may wait for consumers that are slower than others.
ROOM_BYTES = 32 << 20


class Shares:
    """Rows that wait for consumers.

    >>> shares = Shares(2)
    >>> for number in range(3):
    ...     shares.put(Part(number, 0, 5, 50, True))
    >>> shares.take(1).reference, shares.take(1), shares.take(0).reference
    (1, None, 0)
    """

    def __init__(self, consumers: int, room_bytes: int = ROOM_BYTES) -> None:
        self._room_bytes = room_bytes
        #: Of what waits.
        self._bytes = 0
        self._given = [0] * consumers
        self._has_left = [False] * consumers
        self._has_ended = False
        self._begin(consumers)

    def _begin(self, consumers: int) -> None:
        #: What waits for each.
        self._waiting: list[deque[Part]] = [deque() for _ in range(consumers)]
        #: Whether somebody else has been given what waited for it, and it has taken nothing since.
        self._is_late = [False] * consumers

    def put(self, part: Part) -> None:
        """More rows, for who has been given the fewest."""
        if not part.rows:
            return
        there = [consumer for consumer, has_left in enumerate(self._has_left) if not has_left]
        if there:
            consumer = min(there, key=self._given.__getitem__)
            self._given[consumer] += part.rows
            self._waiting[consumer].append(part)
            self._bytes += part.bytes

    def end(self) -> None:
        """There are no more rows."""
        self._has_ended = True

    def leave(self, consumer: int) -> None:
        """This one wants no more: what waits for it is for the others."""
        self._has_left[consumer] = True
        left, self._waiting[consumer] = self._waiting[consumer], deque()
        for part in left:
            self._bytes -= part.bytes
            self.put(part)

    def take(self, consumer: int, *, is_starved: bool = False) -> Part | None:
        """Rows for this one; ``None``: none now. One that has been waiting for long takes from who has the most waiting, if
        nothing more can come before somebody takes something; and from then on at once, until that one takes something, too."""
        # What is taken waits for nobody else any more (SHARE-1).
        if self._waiting[consumer]:
            self._is_late[consumer] = False
            part = self._waiting[consumer].popleft()
            self._bytes -= part.bytes
            return part
        if not self.is_full():
            return None
        slow = max(range(len(self._waiting)), key=lambda other: rows_of(self._waiting[other]))
        if not (is_starved or self._is_late[slow]):
            return None
        self._is_late[slow] = True
        part = self._waiting[slow].pop()
        self._bytes -= part.bytes
        self._given[slow] -= part.rows
        self._given[consumer] += part.rows
        return part

    def is_over(self, consumer: int) -> bool:
        """Whether nothing will ever come to this one again."""
        return self._has_ended and not self._waiting[consumer]

    def is_full(self) -> bool:
        """Whether so much waits that no more should be made before somebody takes some of it."""
        blocks = sum(map(len, self._waiting))
        return not self._has_ended and blocks > 2 * len(self._given) and self._bytes > self._room_bytes

    def waits_for(self, consumer: int) -> list[int]:
        """Those that must take rows before this one can have more; nobody, if more rows may come."""
        if not self.is_full() or self._waiting[consumer]:
            return []
        return [other for other, waiting in enumerate(self._waiting) if waiting]

    def everybody_left(self) -> bool:
        """Whether nobody wants any more."""
        return all(self._has_left)


class EqualShares(Shares):
    """The same, where all get the same number of rows in the end.

    >>> shares = EqualShares(2)
    >>> shares.put(Part("block", 0, 5, 50, True))
    >>> shares.end()
    >>> shares.take(0).rows, shares.take(0), shares.take(1).rows, shares.take(1)
    (2, None, 2, None)
    >>> shares.is_over(0), shares.is_over(1)
    (True, True)
    """

    def _begin(self, consumers: int) -> None:
        #: What waits for whoever may take it.
        self._rest: deque[Part] = deque()
        self._rest_rows = 0

    def put(self, part: Part) -> None:
        if part.rows:
            self._rest.append(part)
            self._rest_rows += part.rows
            self._bytes += part.bytes
        self._drop_for_who_left()

    def end(self) -> None:
        super().end()
        self._drop_for_who_left()

    def leave(self, consumer: int) -> None:
        """This one wants no more: its rows come to nobody."""
        self._has_left[consumer] = True
        self._drop_for_who_left()

    def take(self, consumer: int, *, is_starved: bool = False) -> Part | None:
        if not self._rest:
            return None
        allowed = self._allowed(consumer)
        # A block is cut only where this consumer would have to wait for the others, or to the end.
        may_wait = not (self._has_ended or self.is_full()) and self._given[consumer] == max(self._given)
        if allowed < self._rest[0].rows and may_wait:
            return None
        return self._take(consumer, allowed)

    def is_over(self, consumer: int) -> bool:
        return self._has_ended and (not self._rest or self._allowed(consumer) == 0)

    def is_full(self) -> bool:
        consumers = len(self._given)
        is_enough = len(self._rest) > consumers and self._rest_rows >= consumers
        return not self._has_ended and is_enough and self._bytes > self._room_bytes

    def waits_for(self, consumer: int) -> list[int]:
        if not self.is_full() or self._allowed(consumer) > 0:
            return []
        least = min(self._given)
        return [other for other, given in enumerate(self._given) if given == least and other != consumer]

    def _allowed(self, consumer: int) -> int:
        """How many rows it may be given so that there are enough for the others to catch up (SHARE-2)."""
        consumers = len(self._given)
        most = max(self._given)
        missing = consumers * most - sum(self._given)
        return most - self._given[consumer] + (self._rest_rows - missing) // consumers

    def _take(self, consumer: int, allowed: int) -> Part | None:
        if allowed == 0:
            return None
        part = self._rest.popleft()
        self._bytes -= part.bytes
        if part.rows > allowed:
            rest = part.rest(allowed)
            self._rest.appendleft(rest)
            self._bytes += rest.bytes
            part = part.first(allowed)
        self._rest_rows -= part.rows
        self._given[consumer] += part.rows
        return part

    def _drop_for_who_left(self) -> None:
        """Rows that would be theirs are not in the way of the others."""
        for consumer, has_left in enumerate(self._has_left):
            while has_left and self._rest and self._take(consumer, self._allowed(consumer)):
                pass
