"""Files that paths mean in a store: each a file, a folder, which is searched through, or a pattern. The same rules as for local
ones (`data/src/storage/locate.rs`)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

from .backend import Entry
from .store import Store

#: Names and lengths of files to names, first bytes and ends of what is read of them.
Foresees = Callable[[list[tuple[str, int]]], Iterable[tuple[str, int, int]]]

_WILD = re.compile(r"[*?\[]")
#: Of more paths each is looked at first.
_LIKELY_FOLDERS = 8
#: Of more files it takes longer to list them than to learn what their folder is.
_FORESEEN_FILES = 64


def found_files(
    store: Store,
    paths: Sequence[str],
    extensions: Sequence[str] | None,
    *,
    ignores_missing: bool,
    foresees: Foresees | None = None,
) -> list[tuple[str, int, int]]:
    """Names, lengths and versions of the files, in the order of the paths.

    ``foresees``: which bytes of files of these names and lengths this process reads next: asked for as soon as they are listed, if they are few.
    """
    plain = [path.rstrip("/") if not path.endswith("://") else path for path in paths]
    # What looks like a folder is listed before it is known that it is one: that is one answer less to wait for.
    likely = [path for path in plain if store.has_folders and _is_likely_folder(path)][:_LIKELY_FOLDERS]
    listings = {path: store.listing(path) for path in likely}
    looks = store.looking(plain)
    if foresees is not None and likely and likely == plain:
        _foresee(store, listings, extensions, foresees)
    found: list[tuple[str, int, int]] = []
    missing: FileNotFoundError | None = None
    for path, entry in zip(plain, looks(), strict=True):
        if entry is not None and entry.size is not None:
            found.append((path, entry.size, entry.version))
            continue
        if entry is not None:
            below = listings[path]() if path in listings else store.files_below(path)
            files = [file for file in below if _is_data(file.path[len(path) :], extensions)]
        elif _WILD.search(path) and store.has_folders:
            files = _matching(store, path, extensions)
        else:
            missing = missing or store.missing(path)
            if not ignores_missing:
                raise missing
            continue
        if not files:
            raise FileNotFoundError(f"read {path}: no file matches (looked for {_wanted(extensions)})")
        found.extend((file.path, file.size or 0, file.version) for file in sorted(files))
    if missing is not None and not found:
        raise missing
    return found


def _foresee(
    store: Store,
    listings: dict[str, Callable[[], list[Entry]]],
    extensions: Sequence[str] | None,
    foresees: Foresees,
) -> None:
    """Asks for what will be read of the files of folders, before it is known that these are folders."""
    try:
        listed = [
            (file.path, file.size)
            for path, listing in listings.items()
            for file in listing()
            if file.size and _is_data(file.path[len(path) :], extensions)
        ]
    except OSError:  # whoever needs the list will say it
        return
    if len(listed) <= _FORESEEN_FILES:
        store.foresee(foresees(sorted(listed)))


def _is_likely_folder(path: str) -> bool:
    """Whether a path is no pattern, and its last name has no ending.

    >>> [_is_likely_folder(path) for path in ("s3://b/in", "s3://b/in/a.csv", "s3://b/*", "s3://b/v1.2/day=1")]
    [True, False, False, True]
    """
    return not _WILD.search(path) and "." not in path.rpartition("/")[2]


def _matching(store: Store, pattern: str, extensions: Sequence[str] | None) -> list[Entry]:
    """Files that match a pattern, and data files in folders that do."""
    segments = pattern.split("/")
    first = next(index for index, segment in enumerate(segments) if _WILD.search(segment))
    base = "/".join(segments[:first])
    wild = segments[first:]
    hidden = any(segment.startswith(".") for segment in wild)
    matching: list[Entry] = []
    for file in store.files_below(base):
        parts = file.path[len(base) :].strip("/").split("/")
        if any(part.startswith(".") for part in parts) and not hidden:
            continue
        if _matches(parts, wild):
            matching.append(file)
            continue
        folders = range(1, len(parts))
        if any(_matches(parts[:end], wild) and _is_data("/".join(parts[end:]), extensions) for end in folders):
            matching.append(file)
    return matching


def _matches(parts: Sequence[str], wild: Sequence[str]) -> bool:
    """Whether each part matches its pattern; ``**`` is any number of folders.

    >>> _matches(["day=1", "a.csv"], ["**", "*.csv"]), _matches(["a.csv"], ["**", "*.csv"]), _matches(["a", "b"], ["*"])
    (True, True, False)
    """
    if not wild:
        return not parts
    if wild[0] == "**":
        return any(_matches(parts[skipped:], wild[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wild[0]) and _matches(parts[1:], wild[1:])


def _is_data(below: str, extensions: Sequence[str] | None) -> bool:
    """Whether a file is data, by its path below the folder: hidden ones are not.

    >>> _is_data("/a/b.PARQUET", ["parquet"]), _is_data("/_tmp/b.parquet", ["parquet"]), _is_data("b.txt", None)
    (True, False, True)
    """
    parts = below.strip("/").split("/")
    if any(part.startswith((".", "_")) for part in parts):
        return False
    name = parts[-1].lower()
    return extensions is None or any(name.endswith(f".{ending.lstrip('.').lower()}") for ending in extensions)


def _wanted(extensions: Sequence[str] | None) -> str:
    named = "files" if extensions is None else f"files ending in .{' or .'.join(extensions)}"
    return f"{named} whose names do not begin with '.' or '_'"
