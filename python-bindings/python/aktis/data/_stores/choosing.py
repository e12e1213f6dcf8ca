"""Which store paths mean: by ``filesystem=``, or by what they begin with.

>>> scheme_of("s3://bucket/a"), scheme_of("/a"), scheme_of("a:b"), scheme_of("file:///a")
('s3', None, None, None)
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .backend import Files
from .requests import made
from .spec import MemoryFiles, SpecFiles
from .store import Store

if TYPE_CHECKING:
    # Not imported before somebody needs it: whoever reads local files does not wait for it.
    from pyarrow import fs

#: What pyarrow calls the schemes that it reaches.
_ARROW = {
    "s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfss", "hdfs": "hdfs",
    "viewfs": "viewfs",
}  # fmt: skip
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs"}
#: Google's own limit is a quarter of an hour.
_GCS_SECONDS = "retry_limit_seconds=60"


def scheme_of(path: str) -> str | None:
    """What a URL begins with; ``None``: it is a local path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    scheme = found[1].lower() if found else None
    return None if scheme in ("file", "local") else scheme


def chosen_store(
    function: str, paths: Sequence[str], filesystem: Any = None, connected: Callable[..., Any] | None = None
) -> tuple[Store | None, list[str]]:
    """The store that paths lie in, and their names there; ``None``: they are local.

    Args:
        connected: makes connections, for who has some already.
    """
    if filesystem is not None:
        return _given(function, paths, filesystem)
    schemes = {scheme_of(path) for path in paths}
    if not paths or schemes == {None}:
        return None, list(paths)
    if schemes <= {"http", "https"}:
        from .http import WebFiles  # not before: it takes longer to import than everything else here

        return Store(WebFiles(), ""), list(paths)
    if len(schemes) > 1:
        named = ", ".join(sorted("local" if scheme is None else f"{scheme}://" for scheme in schemes))
        raise ValueError(
            f"{function}(): the paths lie in several stores ({named}); read those of each, and use union()"
        )
    (scheme,) = schemes
    assert scheme is not None, "told apart above"
    if scheme in _ARROW:
        try:
            return _of_arrow(function, scheme, paths, connected or _connected)
        except NotImplementedError:  # this build of pyarrow has been made without it
            pass
    return _of_spec(function, scheme, paths)


def _of_arrow(
    function: str, scheme: str, paths: Sequence[str], connected: Callable[..., Any]
) -> tuple[Store, list[str]]:
    from .arrow import ArrowFiles

    parsed = [_parsed(path[len(scheme) + 3 :]) for path in paths]
    _, _, query = parsed[0]
    roots = {netloc: connected(function, scheme, netloc, query) for netloc, _, _ in parsed}
    filesystem, _ = roots[parsed[0][0]]
    inner: list[str] = []
    for path, (netloc, below, own_query) in zip(paths, parsed, strict=True):
        own, root = roots[netloc]
        if own_query != query or own != filesystem:
            raise ValueError(
                f"{function}(): {paths[0]} and {path} need other connections; read those of each, and use union()"
            )
        inner.append(f"{root.rstrip('/')}/{below}" if below else root)
    prefix = f"{scheme}://"
    return Store(ArrowFiles(filesystem), prefix), [prefix + path for path in inner]


def _parsed(rest: str) -> tuple[str, str, str]:
    """Host, path and query of what is behind ``://``; a question mark that no name and value follow is a pattern's.

    >>> _parsed("bucket/a/b?region=x&scheme=http"), _parsed("bucket/a?.csv")
    (('bucket', 'a/b', 'region=x&scheme=http'), ('bucket', 'a?.csv', ''))
    """
    found = re.search(r"\?([A-Za-z_]+=[^/*]*)$", rest)
    netloc, _, below = (rest[: found.start()] if found else rest).partition("/")
    return netloc, below, found[1] if found else ""


def _connected(function: str, scheme: str, netloc: str, query: str) -> tuple[fs.FileSystem, str]:
    """The filesystem, and where the host's files begin in it."""
    from pyarrow import fs

    if not netloc and scheme != "hdfs":
        raise ValueError(f"{function}(): after {scheme}:// comes the name of a bucket or container")
    user, _, bucket = netloc.rpartition("@")
    if _ARROW[scheme] == "s3" and user == "anonymous":
        options = {name: values[-1] for name, values in urllib.parse.parse_qs(query).items()}
        if "region" not in options and "endpoint_override" not in options:
            options["region"] = made(lambda: fs.resolve_s3_region(bucket), f"look for {scheme}://{bucket}")
        return fs.S3FileSystem(anonymous=True, **options), bucket
    if _ARROW[scheme] == "gs" and "retry_limit_seconds" not in query:
        query = f"{query}&{_GCS_SECONDS}" if query else _GCS_SECONDS
    url = f"{_ARROW[scheme]}://{netloc}/" + (f"?{query}" if query else "")
    return made(lambda: fs.FileSystem.from_uri(url), f"look for {scheme}://{bucket}")


def _of_spec(function: str, scheme: str, paths: Sequence[str]) -> tuple[Store | None, list[str]]:
    try:
        import fsspec  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports] - it need not be there
    except ImportError:
        package = _PACKAGES.get(_ARROW.get(scheme, scheme), "")
        raise ImportError(
            f"{function}({paths[0]!r}): {scheme}:// is reached through fsspec: pip install fsspec {package}".rstrip()
        ) from None
    try:
        filesystem, _ = made(lambda: fsspec.core.url_to_fs(paths[0]), f"open {scheme}://")
    except OSError as error:
        if isinstance(error.__cause__, (ImportError, ValueError)):
            raise type(error.__cause__)(f"{function}({paths[0]!r}): {error.__cause__}") from error
        raise
    return _given(function, paths, filesystem)


def _given(function: str, paths: Sequence[str], filesystem: Any) -> tuple[Store | None, list[str]]:
    from pyarrow import fs

    from .arrow import ArrowFiles

    if isinstance(filesystem, fs.PyFileSystem) and isinstance(filesystem.handler, fs.FSSpecHandler):
        filesystem = filesystem.handler.fs
    files: Files
    if isinstance(filesystem, fs.SubTreeFileSystem) and isinstance(filesystem.base_fs, fs.LocalFileSystem):
        # Workers stand elsewhere.
        filesystem = fs.SubTreeFileSystem(os.path.abspath(filesystem.base_path), filesystem.base_fs)
    if isinstance(filesystem, fs.LocalFileSystem):
        return None, list(paths)
    if isinstance(filesystem, fs.FileSystem):
        files = ArrowFiles(filesystem)
        inner = [path.partition("://")[2] if scheme_of(path) else path for path in paths]
    elif hasattr(filesystem, "cat_file") and hasattr(filesystem, "_strip_protocol"):
        if type(filesystem).__module__ == "fsspec.implementations.local":
            return None, [filesystem._strip_protocol(path) for path in paths]
        is_memory = type(filesystem).__module__ == "fsspec.implementations.memory"
        files = MemoryFiles(filesystem) if is_memory else SpecFiles(filesystem)
        inner = [filesystem._strip_protocol(path) for path in paths]
    else:
        raise TypeError(
            f"{function}(filesystem=...) takes a filesystem of pyarrow.fs or of fsspec, not {type(filesystem).__name__}"
        )
    schemes = {scheme_of(path) for path in paths if scheme_of(path)}
    has_scheme = len(schemes) == 1 and not any(scheme_of(path) for path in inner)
    prefix = f"{schemes.pop()}://" if has_scheme else ""
    return Store(files, prefix), [prefix + path for path in inner]
