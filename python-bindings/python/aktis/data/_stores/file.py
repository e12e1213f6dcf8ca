"""A file of a store as readers want it: a stream that may be moved in, read ahead in pieces that are asked for side by side."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from .requests import Request, have_room

if TYPE_CHECKING:
    from .store import Store

#: Nobody knows yet how much will be read; each piece after the first one is four times as long as the one before.
_FIRST_BYTES, _LONGEST_BYTES = 256 << 10, 4 << 20
#: Pieces that are under way, once a file is read one after the other.
_AHEAD = 4
#: Files that are read as a whole are asked for before it is their turn, as far as they are small and together not large.
_SMALL_BYTES, _UPCOMING_BYTES, _UPCOMING_FILES = _LONGEST_BYTES, 32 << 20, 16


class _Piece(NamedTuple):
    start: int
    end: int
    request: Request


class RangeFile(io.RawIOBase):
    """The bytes of a file.

    ``expected``: how many will be read from the first place on, if that is known.
    """

    def __init__(
        self, store: Store, path: str, size: int, *, expected: int | None = None, whole: Request | None = None
    ) -> None:
        super().__init__()
        self._store, self._path, self._size = store, path, size
        self._place = 0
        self._expected = expected
        self._pieces: deque[_Piece] = deque([_Piece(0, size, whole)] if whole is not None else [])
        self._next = size if whole is not None else 0
        self._held: tuple[int, bytes] = (0, b"")
        self._slow_start()

    def _slow_start(self) -> None:
        self._length, self._ahead, self._until = _FIRST_BYTES, 1, self._size
        self._is_fast = False

    def _fast_start(self, place: int, expected: int) -> None:
        self._length, self._ahead = min(expected, _FIRST_BYTES if have_room() else _LONGEST_BYTES), _AHEAD
        self._until = min(self._size, place + expected)
        self._is_fast = True

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """Any place may come next."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to another place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readall(self) -> bytes:
        """All bytes from here on."""
        return self.read(self._size - self._place)

    def readinto(self, buffer: Any) -> int:
        """The next bytes, as many as fit."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """The next bytes: fewer only at the end."""
        left = self._size - self._place
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        parts: list[bytes] = []
        while wanted > 0:
            start, data = self._piece_at(self._place, wanted)
            part = data[self._place - start : self._place - start + wanted]
            parts.append(part)
            self._place += len(part)
            wanted -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece_at(self, place: int, wanted: int) -> tuple[int, bytes]:
        start, data = self._held
        if start <= place < start + len(data):
            return self._held
        while self._pieces and self._pieces[0].end <= place:
            self._pieces.popleft()
        if not self._pieces or place < self._pieces[0].start:
            if self._expected is not None:
                self._fast_start(place, self._expected)
                self._expected = None
            elif place != self._next:
                self._slow_start()
            if wanted > self._length and not self._is_fast:
                self._fast_start(place, wanted)
            self._pieces.clear()
            self._next = place
        self._ask()
        piece = self._pieces.popleft()
        self._held = (piece.start, piece.request.result())
        self._length, self._ahead = min(_LONGEST_BYTES, 4 * self._length), min(_AHEAD, 2 * self._ahead)
        if self._ahead > 1 and self._next < self._until:
            self._ask()
        return self._held

    def _ask(self) -> None:
        """Has as many pieces under way as it may, and one at least."""
        while len(self._pieces) < self._ahead and self._next < self._size:
            if self._pieces and self._next >= self._until:
                return
            is_expected = self._next < self._until
            end = min(self._size, self._next + (self._length if is_expected else min(self._length, _FIRST_BYTES)))
            if is_expected:
                end = min(end, self._until)
            self._pieces.append(_Piece(self._next, end, self._store.request(self._path, self._next, end)))
            self._next = end


class Upcoming:
    """Small files that will be read as a whole, in this order."""

    def __init__(self, store: Store, files: Iterable[tuple[str, int]]) -> None:
        self._store = store
        self._files = deque(file for file in files if 0 < file[1] <= _SMALL_BYTES)
        self._requests: dict[str, tuple[int, Request]] = {}

    def taken(self, path: str) -> Request | None:
        """The request for a file, whose turn it is."""
        self._ask()
        _, request = self._requests.pop(path, (0, None))
        self._ask()
        return request

    def _ask(self) -> None:
        while self._files and len(self._requests) < _UPCOMING_FILES:
            path, size = self._files[0]
            under_way = sum(length for length, _ in self._requests.values())
            if self._requests and under_way + size > _UPCOMING_BYTES:
                return
            self._files.popleft()
            self._requests[path] = (size, self._store.request(path, 0, size))
