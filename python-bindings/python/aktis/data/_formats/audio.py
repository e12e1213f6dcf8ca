"""Sound, as libsndfile decodes it: a row per file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy
import soundfile  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports] - it need not be there

from .reading import Format, Part


class Audio(Format):
    """Samples in the column ``amplitude``, an array of channels and times, and how many there are a second in ``sample_rate``."""

    function = "read_audio"
    rows_per_file = 1

    def read(self, part: Part) -> Iterator[Any]:
        with part.open() as file:
            data = file.read()
        try:
            samples, rate = soundfile.read(io.BytesIO(data), always_2d=True, dtype="float32")
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise ValueError(f"read {part.path}: it is broken, or no sound that libsndfile reads: {error}") from None
        amplitude = numpy.ascontiguousarray(samples.T)
        yield {"amplitude": [amplitude], "sample_rate": numpy.array([rate], numpy.int32)}
