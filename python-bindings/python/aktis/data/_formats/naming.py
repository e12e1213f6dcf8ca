"""Names that a :class:`~aktis.data.datasource.FilenameProvider` gives to the files of a job, when they become visible."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

#: How a task that has several files tells them apart: as Ray does.
Style = Literal["parquet", "file", "row"]
Names = Callable[[list[tuple[int, int, str]]], list[str]]


def namer(function: str, provider: Any, write_uuid: str, style: Style, *, adds_files: bool) -> Names | None:
    """Gives names to files, each given by the number of its task, its own number there and the name that it would have;
    ``None``: without a provider."""
    if provider is None:
        return None
    if not callable(getattr(provider, "get_filename_for_task", None)):
        raise TypeError(
            f"{function}(filename_provider=...) takes an aktis.data.datasource.FilenameProvider, not {type(provider).__name__}: derive "
            "from it, and give it a method get_filename_for_task(self, write_uuid, task_index)"
        )

    def names(files: list[tuple[int, int, str]]) -> list[str]:
        files_of = Counter(task for task, _, _ in files)
        given = {task: _given(function, provider, write_uuid, task) for task in files_of}
        if adds_files:
            _check_uuid(function, given.values(), write_uuid)
        return [_name(given[task], style, number, name, is_alone=files_of[task] == 1) for task, number, name in files]

    return names


def _given(function: str, provider: Any, write_uuid: str, task: int) -> str:
    name = provider.get_filename_for_task(write_uuid, task)
    if not isinstance(name, str) or not name or os.sep in name or name.startswith((".", "_")):
        raise ValueError(
            f"{function}(filename_provider=...): {name!r} is no name of a file that readers find: text without {os.sep!r}, that does "
            "not begin with '.' or '_'"
        )
    return name


def _check_uuid(function: str, names: Any, write_uuid: str) -> None:
    for name in names:
        if write_uuid not in name:
            raise ValueError(
                f"{function}(filename_provider=...): {name!r} does not have the write_uuid {write_uuid!r} in it, so that a second job "
                'would replace the files of the first; put it in, or say mode="overwrite"'
            )


def _name(given: str, style: Style, number: int, default: str, *, is_alone: bool) -> str:
    base, ending = os.path.splitext(given)
    if style == "row":
        return f"{base}_{0:06}_{number:06}{ending}"
    if style == "parquet":
        if "{i}" in given:
            return given.replace("{i}", str(number)) + ("" if "parquet" in given else ".parquet")
        return f"{base}-{number}{ending}" if "parquet" in given else f"{given}-{number}.parquet"
    # The end of a name may tell a reader how it is compressed.
    ending = ending or os.path.splitext(default)[1]
    return f"{base}{ending}" if is_alone else f"{base}_{number:06}{ending}"
