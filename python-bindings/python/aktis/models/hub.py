"""Models by their names on a hub: https://huggingface.co, or what ``HF_ENDPOINT`` says.

``huggingface_hub`` asks the hub and keeps what comes in its cache; this module says which files a model needs, tries again where that helps, looks
whether what has come is what was meant, and says what to do where nothing came.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from . import hub_cache
from .hub_cache import HubError, HubFile

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: How often the hub is asked before what it says counts.
ATTEMPTS = 5
_FIRST_PAUSE_S = 0.25
_NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
#: What transformers and sentence-transformers write beside a model, and is read here.
_DESCRIPTIONS = re.compile(
    r"config\.json|tokenizer\.json|tokenizer_config\.json|sentence_bert_config\.json|config_sentence_transformers\.json|modules\.json"
    r"|preprocessor_config\.json|\d+_\w+/config\.json|\d+_Dense/model\.safetensors"
)


class Named(NamedTuple):
    """A repository, and what is meant of it.

    Attributes:
        repository: ``org/name``.
        revision: a branch, a tag or a commit; ``None``: ``main``.
    """

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


class Fetched(NamedTuple):
    """Files of a commit, in the cache of this machine.

    Attributes:
        repository: ``org/name``.
        commit: the commit.
        folder: where they are.
        files: they.
    """

    repository: str
    commit: str
    folder: Path
    files: tuple[HubFile, ...]


def named(model: str | os.PathLike[str], revision: str | None) -> Named | None:
    """What a user means who gives no folder or file that is there; ``None``: nothing on a hub.

    Args:
        model: as it was given.
        revision: as it was given.

    Raises:
        ValueError: there are two revisions, or there is one of a folder.

    >>> named("org/name@v1", None)
    Named(repository='org/name', revision='v1')
    >>> named("./models/minilm", None) is None
    True
    >>> named("org/name@v1", "main")
    Traceback (most recent call last):
    ...
    ValueError: revision='main' and the 'v1' of 'org/name@v1': give one of them
    """
    text = os.fspath(model)
    found = None if os.path.exists(text) else _NAME.fullmatch(text)
    if found is None:
        if revision is not None:
            raise ValueError(f"revision={revision!r} is for names on a hub, such as 'org/name', and not for {text!r}")
        return None
    if revision is not None and found["revision"] is not None:
        raise ValueError(f"revision={revision!r} and the {found['revision']!r} of {text!r}: give one of them")
    return Named(found["repository"], revision or found["revision"])


def described(names: Sequence[str]) -> list[str]:
    """Those of a repository's files that describe a model.

    >>> described(["README.md", "config.json", "1_Pooling/config.json", "pytorch_model.bin"])
    ['config.json', '1_Pooling/config.json']
    """
    return [name for name in names if _DESCRIPTIONS.fullmatch(name)]


def fetch(model: Named, needed: Callable[[Sequence[str]], list[str]]) -> Fetched:
    """Brings files of a repository into the cache of this machine, if they are not there.

    Args:
        model: the repository.
        needed: chooses among the names of its files. What these name in their turn comes as well: weights beside a graph, the files of an index.

    Raises:
        FileNotFoundError: the hub has no such repository or revision.
        PermissionError: it wants a token that may read it.
        ConnectionError: it does not answer, and the cache has not all that is needed.
        ImportError: ``huggingface_hub`` is not installed.
        HubError: what came is not what the hub has told.
    """
    hub = _library(model)
    with hub_cache.lock(model.repository):
        try:
            commit, names = _retried(model, lambda: _listed(hub, model))
        except ConnectionError as error:
            commit, names = _cached(model)
            if commit is None:
                raise
            logger.warning("%s: taking commit %s, which the cache has", error, commit)
        chosen = needed(names)
        folder = _bring(hub, model, commit, chosen)
        more = _named_within(folder, chosen, names)
        if more:
            _bring(hub, model, commit, more)
        files = tuple(hub_cache.described(folder, name) for name in (*chosen, *more))
    return Fetched(model.repository, commit, folder, files)


def bring_commit(repository: str, commit: str, files: Sequence[HubFile]) -> Path:
    """Brings files of a commit that is known. Whoever calls holds the lock."""
    model = Named(repository, commit)
    return _bring(_library(model), model, commit, [file.name for file in files])


def _library(model: Named) -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"{model.repository!r} is no folder here ({os.path.abspath(model.repository)}), and to fetch a model by its name on the hub takes "
            "a package: pip install huggingface_hub"
        ) from error
    return huggingface_hub


def _listed(hub: Any, model: Named) -> tuple[str, list[str]]:
    if _is_offline():
        raise hub.errors.OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    about = hub.HfApi(endpoint=_endpoint()).model_info(model.repository, revision=model.revision)
    return about.sha, sorted(file.rfilename for file in about.siblings or ())


def _cached(model: Named) -> tuple[Any, list[str]]:
    """The commit that the cache has, and its files."""
    revision = model.revision or "main"
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (hub_cache.repository_folder(model.repository) / "refs" / revision).read_text().strip()
        except OSError:
            return None, []
    folder = hub_cache.snapshot_folder(model.repository, commit)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return (commit, sorted(names)) if names else (None, [])


def _bring(hub: Any, model: Named, commit: str, names: Sequence[str]) -> Path:
    folder = hub_cache.snapshot_folder(model.repository, commit)
    if all((folder / name).is_file() for name in names) and _is_noted(model, commit):
        return folder
    return _retried(model, lambda: _downloaded(hub, model, commit, names))


def _is_noted(model: Named, commit: str) -> bool:
    """Whether the cache knows what the revision is, for times without the hub."""
    return model.revision == commit or _cached(model)[0] == commit


def _downloaded(hub: Any, model: Named, commit: str, names: Sequence[str]) -> Path:
    """Downloads what is missing, and looks at the content of what has come."""
    folder = hub_cache.snapshot_folder(model.repository, commit)
    blobs = folder.parent.parent / "blobs"
    before = {entry.name for entry in os.scandir(blobs)} if blobs.is_dir() else set()
    for name in names:
        hub.hf_hub_download(
            model.repository, name, revision=commit, cache_dir=hub_cache.cache_folder(), endpoint=_endpoint()
        )
    for name in names:
        file = hub_cache.described(folder, name)
        if file.blob not in before and not hub_cache.has_content(folder / name, file):
            hub_cache.forget(folder, file)
            raise HubError(
                f"what came as {name} of {model} is not the content that the hub names, {file.blob}: something between this machine and "
                f"{_endpoint()} changes or cuts files"
            )
    if model.revision != commit:
        noted = folder.parent.parent / "refs" / (model.revision or "main")
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.write_text(commit)
    return folder


def _named_within(folder: Path, chosen: Sequence[str], names: Sequence[str]) -> list[str]:
    """Files that others name, which lie beside them: those of an index, and those with a graph's weights."""
    found: list[str] = []
    for name in chosen:
        parent = name.rpartition("/")[0]
        beside = {other.rpartition("/")[2]: other for other in names if other.rpartition("/")[0] == parent}
        if name.endswith(".safetensors.index.json"):
            index = json.loads((folder / name).read_text(encoding="utf-8"))
            found += [beside[file] for file in sorted(set(index.get("weight_map", {}).values())) if file in beside]
        elif name.endswith(".onnx"):
            found += _in_graph(folder / name, {file: at for file, at in beside.items() if not file.endswith(".onnx")})
    return [name for name in dict.fromkeys(found) if name not in chosen]


def _in_graph(graph: Path, beside: dict[str, str]) -> list[str]:
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return [name for base, name in beside.items() if content.find(base.encode()) >= 0]


def _retried(model: Named, ask: Callable[[], T]) -> T:
    """What the hub says, which is asked again where that may help."""
    from aktis.data._retrying import pause_after

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        except Exception as error:
            told = _told(model, error)
            if told is None:
                raise
            is_last = attempt == ATTEMPTS or not isinstance(told, (ConnectionError, HubError)) or _is_offline()
            if is_last:
                raise told from error
            logger.info("%s: trying again", told)
        time.sleep(pause_after(attempt, _FIRST_PAUSE_S))
    raise AssertionError("the last attempt has returned or raised")


def _told(model: Named, error: Exception) -> Exception | None:
    """What a user reads of an error of the library; ``None``: nothing is known of it."""
    from huggingface_hub import errors

    folder = f"or give the folder of the model ({os.path.abspath(model.repository)} is none)"
    if isinstance(error, HubError):
        return error
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(
            f"{model} is gated: ask for access on {_endpoint()}/{model.repository}, and set HF_TOKEN to a token of yours, or run `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"{model.repository} has no revision {model.revision!r} on {_endpoint()}: it is a branch, a tag or a commit"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no model {model.repository} on {_endpoint()}, or it is private: look at its name, set HF_TOKEN if it is private, {folder}"
        )
    if isinstance(error, errors.OfflineModeIsEnabled) or _is_offline():
        return ConnectionError(
            f"HF_HUB_OFFLINE is set, and {hub_cache.cache_folder()} has not all files of {model}: fetch it once without that "
            f"(`hf download {model.repository}`), {folder}"
        )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return PermissionError(
            f"{_endpoint()} refuses {model} with status {status}: set HF_TOKEN to a token that may read it, or run `hf auth login`"
        )
    if (
        isinstance(error, errors.HfHubHTTPError)
        and status is not None
        and status < 500
        and status not in (408, 425, 429)
    ):
        return None
    is_of_network = isinstance(
        error, (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError)
    )
    if is_of_network or type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests") or _is_cut(error):
        cause = error.__cause__ or error
        return ConnectionError(
            f"{_endpoint()} does not give {model} ({type(cause).__name__}: {cause}): look at the network and at HF_ENDPOINT, put its files "
            f"into {hub_cache.cache_folder()}, {folder}"
        )
    return None


def _is_cut(error: Exception) -> bool:
    return isinstance(error, OSError) and "Consistency check failed" in str(error)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _is_offline() -> bool:
    from huggingface_hub import constants

    asked = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return bool(constants.HF_HUB_OFFLINE) or any(value in ("1", "ON", "YES", "TRUE") for value in asked)
