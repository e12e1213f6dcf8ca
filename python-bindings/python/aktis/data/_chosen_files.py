"""Which files a dataset begins in, and what is said of those of any format."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import _native
from ._functions import definition_of
from ._reading import _check_hints, _in_parts, _is_hive, _paths
from .dataset import Dataset

#: The smallest and the largest part of a file, and how many splits there are about: see the native source of files.
PART_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
_SPLITS = 256


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

    def dataset(self, format: Any) -> Dataset:
        """The dataset of their rows."""
        from ._formats import lines, reading

        function = format.function
        parts = _check_hints(function, self.hints)
        said = lines.compression_said(function, self.open_args)
        is_hive = _is_hive(function, self.partitioning)
        found = chosen_files(
            function,
            self.paths,
            extensions_of(self.extensions),
            self.ignore_missing_paths,
            self.partition_filter,
            self.shuffle,
        )
        reader = reading.Reader(format, said, has_path=self.include_paths)
        definition = definition_of(reader, kind="read", name=f"Read{type(format).__name__}")

        # Smaller ones are not cut, so that nobody needs to look into them. The native module has the last word.
        total = sum(size for _, size in found)
        least = max(1, total // parts) if parts is not None else max(PART_BYTES, min(_MOST_BYTES, total // _SPLITS))

        def has_parts(path: str, size: int) -> bool:
            return size > least and lines.compression_of(path, said) is None and format.has_parts(path)

        plan = _native.plan().read_files(
            operation=f"{function}()",
            definition=definition.data,
            files=[(path, size, has_parts(path, size)) for path, size in found],
            schema=format.schema(),
            rows_per_file=format.rows_per_file,
            is_hive=is_hive,
            has_path=self.include_paths,
        )
        return _in_parts(plan, parts)


def extensions_of(extensions: Any) -> list[str] | None:
    """Endings of files for what the user wrote."""
    return [extensions] if isinstance(extensions, str) else None if extensions is None else list(extensions)


def chosen_files(
    function: str, paths: Any, extensions: list[str] | None, ignores_missing: bool, partition_filter: Any, shuffle: Any
) -> list[tuple[str, int]]:
    """The files that paths mean, with their sizes."""
    seed = _seed(function, shuffle)
    found: list[tuple[str, int]] = _native.plan().find_files(
        f"{function}()", _paths(function, paths), extensions, ignores_missing
    )
    if partition_filter is not None:
        if not callable(partition_filter):
            raise TypeError(
                f"{function}(partition_filter=...) takes a function from a list of paths to those that are wanted"
            )
        chosen: Any = partition_filter([path for path, _ in found])
        wanted = set(chosen)
        found = [file for file in found if file[0] in wanted]
        if not found:
            raise ValueError(f"{function}(): partition_filter leaves no file")
    if shuffle is not None and shuffle is not False:
        import random

        random.Random(seed).shuffle(found)
    return found


def without(function: str, paths: list[str], skipped: list[str]) -> list[str]:
    """The paths but for those that are, or lie in, one of `skipped`."""
    left_out = [os.path.abspath(path) for path in skipped]

    def stays(path: str) -> bool:
        whole = os.path.abspath(path.removeprefix("file://"))
        return not any(whole == out or whole.startswith(f"{out}{os.sep}") for out in left_out)

    left = [path for path in paths if stays(path)]
    if not left and paths:
        raise ValueError(f"{function}(): skip_paths leaves no file")
    return left


def _seed(function: str, shuffle: Any) -> int | None:
    if shuffle in (None, False, "files"):
        return None
    if not hasattr(shuffle, "seed"):
        raise ValueError(f"{function}(): shuffle must be None, 'files' or a FileShuffleConfig, not {shuffle!r}")
    return shuffle.seed
