"""Which files a dataset begins in, and what is said of those of any format."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _native, _partitioning
from ._functions import definition_of
from ._keywords import refuse_reseeding
from ._reading import _check_hints, _in_parts, _paths
from .dataset import Dataset

if TYPE_CHECKING:
    from ._stores.finding import Foresees
    from ._stores.store import Store

#: The smallest and the largest part of a file, and how many splits there are about: see the native source of files.
PART_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
_SPLITS = 256
#: Beginnings of files that are looked at at once, where answers take long.
_LOOKS = 16


@dataclasses.dataclass(frozen=True)
class FileShuffleConfig:
    """Reads files in an order by chance, as ``shuffle=`` of what reads files.

    Attributes:
        seed: The same order every time; ``None``: another one each time.
        reseed_after_execution: Ray's; only ``False``, the default here: the seed says the order, however often the dataset runs.

    >>> FileShuffleConfig(seed=7).seed
    7
    """

    seed: int | None = None
    reseed_after_execution: bool = False

    def __post_init__(self) -> None:
        refuse_reseeding("FileShuffleConfig", self.reseed_after_execution)


class Found(NamedTuple):
    """Files with their lengths and versions, and where they lie."""

    store: Store | None
    files: list[tuple[str, int, int]]


class Files(NamedTuple):
    """What may be said of the files of any format."""

    paths: Any
    extensions: Any
    partitioning: Any
    include_paths: bool
    ignore_missing_paths: bool
    shuffle: Any
    partition_filter: Any
    open_args: Any
    hints: Mapping[str, Any]
    #: One that is not among the hints.
    filesystem: Any = None

    def dataset(self, format: Any) -> Dataset:
        """The dataset of their rows."""
        from ._formats import lines, reading

        function = format.function
        parts = _check_hints(function, self.hints)
        said = lines.compression_said(function, self.open_args)
        is_hive = _partitioning.is_hive(function, self.partitioning)
        has_path = self.include_paths or _partitioning.needs_path_column(self.partitioning)

        def foresees(listed: list[tuple[str, int]]) -> Iterable[tuple[str, int, int]]:
            least = _least_bytes(sum(size for _, size in listed), parts)
            looked_at = format.glimpse_bytes()
            large = ((path, size) for path, size in listed if looked_at and size > least)
            return [(path, 0, min(size, looked_at)) for path, size in large if lines.compression_of(path, said) is None]

        store, found = chosen_files(
            function,
            self.paths,
            extensions_of(self.extensions),
            self.ignore_missing_paths,
            self.partition_filter,
            self.shuffle,
            filesystem=self.filesystem if self.filesystem is not None else self.hints.get("filesystem"),
            foresees=foresees,
        )
        reader = reading.Reader(format, said, store, has_path=has_path)
        definition = definition_of(reader, kind="read", name=f"Read{type(format).__name__}")

        least = _least_bytes(sum(size for _, size, _ in found), parts)

        def has_parts(file: tuple[str, int, int]) -> bool:
            path, size, _ = file
            is_large = size > least and lines.compression_of(path, said) is None
            return is_large and format.has_parts(reading.Part(path, size, 0, size, None, store))

        looked_at = _each(has_parts, store, found)
        if store is not None:
            store.forget_foreseen()
        plan = _native.plan().read_files(
            operation=f"{function}()",
            definition=definition.data,
            store=b"" if store is None else store.dumped(function) if store.can_look_again else None,
            files=list(zip(found, looked_at, strict=True)),
            schema=format.schema(),
            rows_per_file=format.rows_per_file,
            is_hive=is_hive,
            has_path=has_path,
        )
        return _partitioning.applied(
            function,
            _in_parts(plan, parts),
            self.partitioning,
            [path for path, *_ in found],
            include_paths=self.include_paths,
        )


def _least_bytes(total: int, parts: int | None) -> int:
    """Smaller files are not cut, so that nobody needs to look into them. The native module has the last word."""
    return max(1, total // parts) if parts is not None else max(PART_BYTES, min(_MOST_BYTES, total // _SPLITS))


def _each(
    look: Callable[[tuple[str, int, int]], bool], store: Store | None, files: list[tuple[str, int, int]]
) -> Iterable[bool]:
    """What is found in each file: side by side where answers take long."""
    if store is None:
        return map(look, files)
    with ThreadPoolExecutor(_LOOKS) as looks:
        return list(looks.map(look, files))


def extensions_of(extensions: Any) -> list[str] | None:
    """Endings of files for what the user wrote."""
    return [extensions] if isinstance(extensions, str) else None if extensions is None else list(extensions)


def chosen_files(
    function: str,
    paths: Any,
    extensions: list[str] | None,
    ignores_missing: bool,
    partition_filter: Any,
    shuffle: Any,
    *,
    filesystem: Any = None,
    foresees: Foresees | None = None,
) -> Found:
    """The files that paths mean, with their sizes and versions. ``foresees``: as for ``finding.found_files``."""
    from ._stores import choosing, finding

    seed = _seed(function, shuffle)
    store, names = choosing.chosen_store(function, _paths(function, paths), filesystem)
    found: list[tuple[str, int, int]]
    if store is None:
        found = _native.plan().find_files(f"{function}()", names, extensions, ignores_missing)
    elif names:
        found = finding.found_files(
            store, names, extensions, ignores_missing=ignores_missing, foresees=None if partition_filter else foresees
        )
    else:
        raise ValueError(f"{function}() needs at least one path")
    if partition_filter is not None:
        if not callable(partition_filter):
            raise TypeError(
                f"{function}(partition_filter=...) takes a function from a list of paths to those that are wanted"
            )
        chosen: Any = partition_filter([path for path, *_ in found])
        wanted = set(chosen)
        found = [file for file in found if file[0] in wanted]
        if not found:
            raise ValueError(f"{function}(): partition_filter leaves no file")
    if shuffle is not None and shuffle is not False:
        import random

        random.Random(seed).shuffle(found)
    if store is not None:
        store.want(path for path, *_ in found)
    return Found(store, found)


def without(function: str, paths: list[str], skipped: list[str]) -> list[str]:
    """The paths but for those that are, or lie in, one of `skipped`."""
    left_out = [_whole(path) for path in skipped]

    def stays(path: str) -> bool:
        whole = _whole(path)
        return not any(whole == out or whole.startswith(f"{out}/") for out in left_out)

    left = [path for path in paths if stays(path)]
    if not left and paths:
        raise ValueError(f"{function}(): skip_paths leaves no file")
    return left


def _whole(path: str) -> str:
    """The path as it is compared."""
    if "://" in path and not path.startswith("file://"):
        return path.rstrip("/")
    return os.path.abspath(path.removeprefix("file://"))


def _seed(function: str, shuffle: Any) -> int | None:
    if shuffle in (None, False, "files"):
        return None
    if not hasattr(shuffle, "seed"):
        raise ValueError(f"{function}(): shuffle must be None, 'files' or a FileShuffleConfig, not {shuffle!r}")
    return shuffle.seed
