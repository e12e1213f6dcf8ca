"""The cache of files of a hub of models, as ``huggingface_hub`` lays it out, so that files that are there already are used.

::

    models--org--name/
      refs/main                     the commit that a revision was
      snapshots/<commit>/<file>     a link to
      blobs/<what its content is>   SHA-256 in 64 digits, or that of a git blob in 40
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

logger = logging.getLogger(__name__)

#: Bytes that are hashed at a time.
_CHUNK_BYTES = 1 << 20
#: Seconds without a byte more after which nobody waits for a process that fetches.
STALLED_S = 300.0
#: Seconds of waiting before it is told for whom, and between looks.
_TELL_AFTER_S, _LOOK_EVERY_S = 10.0, 0.1


class HubFile(NamedTuple):
    """A file of a commit.

    Attributes:
        name: its path in the repository.
        size_bytes: its length.
        blob: what its content is called in the cache.
    """

    name: str
    size_bytes: int
    blob: str


class HubError(RuntimeError):
    """Files of a hub are not what they should be, or did not come; the message says what to do."""


def cache_folder() -> Path:
    """Where the cache is: what ``HF_HUB_CACHE`` or ``HF_HOME`` says.

    >>> import os
    >>> os.environ["HF_HUB_CACHE"] = "/data/hub"
    >>> cache_folder()
    PosixPath('/data/hub')
    >>> del os.environ["HF_HUB_CACHE"]
    """
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if value := os.environ.get(variable):
            return Path(os.path.expandvars(value)).expanduser() / below
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "huggingface" / "hub"


def repository_folder(repository: str) -> Path:
    """What the cache has of a repository.

    >>> repository_folder("org/name").name
    'models--org--name'
    """
    return cache_folder() / ("models--" + repository.replace("/", "--"))


def snapshot_folder(repository: str, commit: str) -> Path:
    """What it has of a commit."""
    return repository_folder(repository) / "snapshots" / commit


def has_all(folder: Path, files: Sequence[HubFile]) -> bool:
    """Whether a folder has these files, each as long as it should be."""
    return not missing_of(folder, files)


def missing_of(folder: Path, files: Sequence[HubFile]) -> list[HubFile]:
    """Those of them that it has not."""
    return [file for file in files if not _is_there(folder / file.name, file)]


def _is_there(path: Path, file: HubFile) -> bool:
    try:
        return path.stat().st_size == file.size_bytes
    except OSError:
        return False


def described(folder: Path, name: str) -> HubFile:
    """A file of a snapshot, by its link; one that is a file of its own, where there can be no links, is hashed."""
    path = folder / name
    blob = os.path.basename(os.readlink(path)) if path.is_symlink() else _digest(path, hashlib.sha256())
    return HubFile(name, path.stat().st_size, blob)


def has_content(path: Path, file: HubFile) -> bool:
    """Whether the file has the content that its name in the cache says; names of other kinds say nothing but its length."""
    if not _is_there(path, file):
        return False
    if len(file.blob) == 64:
        return _digest(path, hashlib.sha256()) == file.blob
    if len(file.blob) == 40:
        return _digest(path, hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)) == file.blob
    return True


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def forget(folder: Path, file: HubFile) -> None:
    """Takes a file out of the cache, whose content is wrong."""
    blob = blob_path(folder, file)
    blob.unlink(missing_ok=True)
    (folder / file.name).unlink(missing_ok=True)


def blob_path(folder: Path, file: HubFile) -> Path:
    """Where the content of a snapshot's file lies.

    >>> blob_path(Path("/hub/models--a--b/snapshots/1f"), HubFile("config.json", 3, "c0ffee"))
    PosixPath('/hub/models--a--b/blobs/c0ffee')
    >>> blob_path(Path("/hub/models--a--b/snapshots/1f"), HubFile("../config.json", 3, "c0ffee"))
    Traceback (most recent call last):
    ...
    aktis.models.hub_cache.HubError: a file of a hub is called '../config.json', with the content 'c0ffee': no file of a repository is
    """
    path = PurePosixPath(file.name)
    if path.is_absolute() or ".." in path.parts or not path.parts or file.blob != os.path.basename(file.blob):
        raise HubError(
            f"a file of a hub is called {file.name!r}, with the content {file.blob!r}: no file of a repository is"
        )
    return folder.parent.parent / "blobs" / file.blob


def link(folder: Path, file: HubFile) -> None:
    """Makes the name of a file whose content is there."""
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.unlink(missing_ok=True)
    made.symlink_to(os.path.relpath(blob_path(folder, file), path.parent))
    made.replace(path)


@contextlib.contextmanager
def lock(repository: str) -> Iterator[None]:
    """Alone with what the cache has of a repository, among the processes of this node that use Aktis.

    Raises:
        HubError: another process is, and has fetched nothing for :data:`STALLED_S` seconds.
    """
    folder = repository_folder(repository)
    path = cache_folder() / ".locks" / folder.name / "aktis.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        _wait_for(file.fileno(), repository, folder, path)
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _wait_for(descriptor: int, repository: str, folder: Path, path: Path) -> None:
    begin = moved = time.monotonic()
    fetched, is_told = -1, False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        now, before = time.monotonic(), fetched
        fetched = _bytes_in(folder / "blobs")
        if fetched != before:
            moved = now
        holder = path.read_text() or "?"
        if now - moved > STALLED_S:
            raise HubError(
                f"process {holder} of this node fetches {repository} into {folder}, and no byte has come for {STALLED_S:.0f} s: "
                "end it, or give the folder of the model in the place of its name"
            )
        if not is_told and now - begin > _TELL_AFTER_S:
            is_told = True
            logger.warning("waiting for process %s of this node, which fetches %s", holder, repository)
        time.sleep(_LOOK_EVERY_S)


def _bytes_in(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total
