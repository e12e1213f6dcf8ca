"""Webdatasets: tar files whose members of one name, but for what follows its first point, are a row."""

from __future__ import annotations

import fnmatch
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from tarfile import HeaderError, ReadError
from typing import Any

import numpy

from aktis.data import _batches
from aktis.data._packages import needs

from .reading import Format, Part

#: Bytes of members after which a batch is whole.
_BATCH_BYTES = 4 << 20
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")
#: What the module raises, and keeps to itself, where there is no whole header.
_CUT_OFF = frozenset({"EmptyHeaderError", "TruncatedHeaderError"})
_IMAGES = frozenset({"jpg", "jpeg", "png", "ppm", "pgm", "pbm", "pnm"})

Choice = Sequence[str] | Callable[[str], bool] | None


class _Member(tarfile.TarInfo):
    """A member of an archive that was not cut off: the module takes any end for that of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> Any:
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ in _CUT_OFF:
                raise ReadError(f"there is no mark of its end ({error})") from None
            raise


class WebDataset(Format):
    """A column per ending, and ``__key__`` and ``__url__``."""

    function = "read_webdataset"

    def __init__(
        self,
        decoders: list[Callable[[dict[str, Any]], dict[str, Any]]],
        fileselect: Choice,
        suffixes: Choice,
        *,
        expand_json: bool,
    ) -> None:
        self._decoders = decoders
        self._fileselect = fileselect
        self._suffixes = suffixes
        self._expands_json = expand_json

    def read(self, part: Part) -> Iterator[Any]:
        rows: list[dict[str, Any]] = []
        size = 0
        try:
            for sample in self._samples(part):
                size += sum(len(value) for value in sample.values() if isinstance(value, bytes))
                rows.append(self._decoded({**sample, "__url__": part.path}, part))
                if size >= _BATCH_BYTES:
                    yield _batches.rows_to_arrow(rows, "read_webdataset()")
                    rows, size = [], 0
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"read {part.path}: it is no tar file, or was cut off: {error}") from None
        if rows:
            yield _batches.rows_to_arrow(rows, "read_webdataset()")

    def _samples(self, part: Part) -> Iterator[dict[str, Any]]:
        sample: dict[str, Any] = {}
        seen: set[str] = set()
        for name, data in self._members(part):
            found = _NAME.fullmatch(name)
            if found is None:
                continue
            key, suffix = found[1], found[2]
            if key != sample.get("__key__"):
                if len(sample) > 1:
                    yield sample
                if key in seen:
                    raise ValueError(
                        f"read {part.path}: the members of {key!r} do not stand beside each other; pack it anew, sorted by name: tar --sort=name"
                    )
                seen.add(key)
                sample = {"__key__": key}
            if suffix in sample:
                raise ValueError(f"read {part.path}: there are two members {name!r}")
            if _is_chosen(suffix, self._suffixes):
                sample[suffix] = data
        if len(sample) > 1:
            yield sample

    def _members(self, part: Part) -> Iterator[tuple[str, bytes]]:
        with part.open() as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
            for member in archive:
                if member.isreg() and _is_chosen(member.name, self._fileselect):
                    content = archive.extractfile(member)
                    data = content.read() if content is not None else b""
                    if len(data) != member.size:
                        raise EOFError(f"{member.name} has {len(data)} of its {member.size} bytes")
                    yield member.name, data

    def _decoded(self, sample: dict[str, Any], part: Part) -> dict[str, Any]:
        try:
            for decode in self._decoders:
                sample = decode(sample)
        except Exception as error:
            raise ValueError(f"read {part.path}, member {sample.get('__key__')!r}: {error}") from error
        if self._expands_json and isinstance(sample.get("json"), dict):
            sample.update(sample.pop("json"))
        return sample


def _is_chosen(name: str, choice: Choice) -> bool:
    if choice is None:
        return True
    if callable(choice):
        return bool(choice(name))
    return any(
        fnmatch.fnmatch(f".{name}", pattern) if "*" in pattern or "?" in pattern else pattern in (name, f".{name}")
        for pattern in choice
    )


def decoded(sample: dict[str, Any]) -> dict[str, Any]:
    """The members as what their endings say: text, numbers, images, JSON, arrays; others stay bytes.

    >>> decoded({"__key__": "a", "txt": b"one", "cls": b"3", "json": b"[1]", "bin": b"x"})
    {'__key__': 'a', 'txt': 'one', 'cls': 3, 'json': [1], 'bin': b'x'}
    """
    return {
        name: value if name.startswith("__") else _value(name.rpartition(".")[2], value)
        for name, value in sample.items()
    }


def _value(ending: str, data: bytes) -> Any:
    if ending in ("txt", "text"):
        return data.decode()
    if ending in ("cls", "cls2"):
        return int(data)
    if ending == "json":
        return json.loads(data)
    if ending == "mp":
        return needs("read_webdataset", "msgpack", "msgpack").unpackb(data, raw=False)
    if ending == "npy":
        return numpy.load(io.BytesIO(data), allow_pickle=False)
    if ending in _IMAGES:
        from PIL import Image  # pyright: ignore[reportMissingImports] - it need not be there

        with Image.open(io.BytesIO(data)) as image:
            return numpy.array(image)
    if ending in ("pt", "pth", "pickle", "pkl"):
        raise ValueError(
            f".{ending} may run code when it is read; give a decoder of your own, or decoder=None for bytes"
        )
    return data
