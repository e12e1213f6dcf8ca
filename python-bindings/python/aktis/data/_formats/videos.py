"""Films, as FFmpeg decodes them (PyAV): a row per frame."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import av  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports] - it need not be there
import numpy

from .reading import Format, Part

#: Frames that are put together.
_BATCH_BYTES = 16 << 20


class Videos(Format):
    """Frames in the column ``frame``, arrays of height, width and three colours, with their numbers in ``frame_index``."""

    function = "read_videos"

    def __init__(self, *, has_timestamps: bool) -> None:
        self._has_timestamps = has_timestamps

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            data = file.read()
        frames: list[Any] = []
        times: list[float | None] = []
        first = 0
        try:
            with av.open(io.BytesIO(data)) as film:
                if not film.streams.video:
                    raise ValueError(f"read {part.path}: there are no pictures in it")
                for frame in film.decode(video=0):
                    frames.append(frame.to_ndarray(format="rgb24"))
                    times.append(frame.time)
                    if len(frames) * frames[0].nbytes >= _BATCH_BYTES:
                        yield self._rows(frames, times, first)
                        first, frames, times = first + len(frames), [], []
        except av.FFmpegError as error:
            raise ValueError(f"read {part.path}: it is broken, or no film that FFmpeg reads: {error}") from None
        if frames:
            yield self._rows(frames, times, first)

    def _rows(self, frames: list[Any], times: list[float | None], first: int) -> dict[str, Any]:
        rows = {"frame": numpy.stack(frames), "frame_index": numpy.arange(first, first + len(frames))}
        if self._has_timestamps:
            rows["frame_timestamp"] = numpy.array([numpy.nan if time is None else time for time in times])
        return rows
