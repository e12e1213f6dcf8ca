"""Results that are kept in files (``cache=``): for which functions that makes sense, and what they are found by."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ._fingerprints import Described, fingerprint

#: Parts of a definition that change no result.
_NO_MATTER = ("is_async", "max_concurrent_calls", "calls_ahead", "name", "retry", "tokens")
#: Settings of a native model that change no result; its files are looked at wherever they lie.
_NO_MATTER_OF_MODELS = (
    "replicas", "sharing", "intra_threads", "window_rows", "token_budget", "onnxruntime_path", "candle_path", "model_dir",
    "path", "batch_size", "byte_budget",
)  # fmt: skip
#: Where a description says what it is on a hub.
HUB = "hub"


def folder_of(call: str, cache: Any) -> str | None:
    """The folder that a user gave to ``call``, as an absolute path."""
    if cache is None:
        return None
    if not isinstance(cache, (str, os.PathLike)):
        raise TypeError(f"{call.removesuffix('()')}(cache=...) takes the path of a folder, not {cache!r}")
    path = os.fspath(cache)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not path:
        raise ValueError(
            f"{call.removesuffix('()')}(cache=''): it is the path of a folder, and '.' is the one that this process is in"
        )
    if "://" in path:
        raise ValueError(
            f"{call.removesuffix('()')}(cache={path!r}): results are kept in folders that workers reach as files: give a local path, or one of a "
            "file system that all nodes share"
        )
    return os.path.abspath(os.path.expanduser(path))


def of_function(call: str, cache: Any, *definitions: Described, is_one_for_one: bool) -> tuple[str, str] | None:
    """Where results of a function are kept, and its sign; None: they are not kept.

    ``definitions``: as workers of each kind make it. Any of them may have made a result that is kept, so all of them count.
    """
    folder = folder_of(call, cache)
    if folder is None:
        return None
    if not is_one_for_one:
        way_out = (
            "use map()"
            if call == "flat_map()"
            else ("say so with udf_modifying_row_count=False or passthrough_columns=[...], or use map()")
        )
        raise ValueError(
            f"{call.removesuffix('()')}(cache=...) keeps the result of each row, so the function must give one row for one row: {way_out}"
        )
    parts = (
        {name: part for name, part in definition.parts.items() if name not in _NO_MATTER} for definition in definitions
    )
    # A result of another function would be taken without a word.
    return folder, _sign_of_all([fingerprint(of_kind, is_exact=True) for of_kind in parts])


def of_model(
    call: str, cache: Any, specs: Sequence[str], files: Sequence[str | os.PathLike[str]]
) -> tuple[str, str] | None:
    """The same of a native model, by what describes it to workers of each kind, and by its files: folders stand for all in them."""
    folder = folder_of(call, cache)
    if folder is None:
        return None
    looked_at = content_of_model(specs[0], files)
    return folder, _sign_of_all([fingerprint([settings_of_model(spec), *looked_at]) for spec in specs])


def settings_of_model(spec: str) -> Any:
    """What of a native model's description changes its results, but for where it is."""
    return _without_speed({kind: part for kind, part in json.loads(spec).items() if kind != HUB})


def content_of_model(spec: str, files: Sequence[str | os.PathLike[str]]) -> list[Any]:
    """What its files are: what a hub calls their content, or their lengths and times."""
    found = json.loads(spec).get(HUB)
    if found is not None:
        return [[(file["name"], file["blob"]) for file in found["files"]]]
    return [_file_or_folder(path) for path in files]


def _sign_of_all(signs: Sequence[str]) -> str:
    """The sign of what workers of several kinds make, in whatever order these are given; kinds that make the same are one."""
    different = sorted(set(signs))
    return different[0] if len(different) == 1 else fingerprint(different)


def _without_speed(described: Any) -> Any:
    if isinstance(described, Mapping):
        rest = {name: part for name, part in described.items() if name not in _NO_MATTER_OF_MODELS}
        # Names of a graph's inputs are no settings.
        return {name: part if name == "inputs" else _without_speed(part) for name, part in rest.items()}
    return described


def _file_or_folder(path: str | os.PathLike[str]) -> list[tuple[str, int, int]]:
    if os.path.isdir(path):
        return _files_of(path)
    about = os.stat(path)
    return [(os.path.basename(path), about.st_size, about.st_mtime_ns)]


def _files_of(folder: str | os.PathLike[str]) -> list[tuple[str, int, int]]:
    """The files of a model: their names, lengths and times of change."""
    found = []
    for parent, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            about = os.stat(os.path.join(parent, name))
            found.append((os.path.relpath(os.path.join(parent, name), folder), about.st_size, about.st_mtime_ns))
    return found
