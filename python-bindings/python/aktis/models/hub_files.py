"""Files of a model that has a name on a hub, on the node that loads it: from its cache, from a node that has them, or from the hub.

::

    folder_here ── are they here? ──────────────────────────────► their folder
         │  one process of the node at a time
         ├── another node has them: pieces, as results of tasks on it, each file looked at when it is whole
         └── what is still missing: the hub
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from . import hub, hub_cache
from .hub_cache import HubFile

logger = logging.getLogger(__name__)

#: Bytes of a piece, and pieces that are on their way.
PIECE_BYTES, PIECES_AHEAD = 8 << 20, 4
#: Seconds that a node has to say whether it has the files, and to give a piece.
ANSWER_S, PIECE_S = 20.0, 60.0
#: Nodes that are asked at once.
ASKED_AT_ONCE = 8


class HubModel(NamedTuple):
    """What the driver has found.

    Attributes:
        repository: ``org/name``.
        commit: the commit.
        files: those that the model needs.
        folder: where they are on the driver's node.
        node: that node; ``None``: it had no session yet.
    """

    repository: str
    commit: str
    files: tuple[HubFile, ...]
    folder: Path
    node: str | None

    @classmethod
    def of(cls, fetched: hub.Fetched) -> HubModel:
        """What this process has fetched."""
        return cls(fetched.repository, fetched.commit, fetched.files, fetched.folder, _own_node())

    @classmethod
    def from_json(cls, text: str) -> HubModel:
        """As workers get it."""
        parts = json.loads(text)
        parts["files"] = tuple(HubFile(**file) for file in parts["files"])
        parts["folder"] = Path(parts["folder"])
        return cls(**parts)

    def as_dict(self) -> dict[str, Any]:
        """What can be written as JSON."""
        files = [file._asdict() for file in self.files]
        return {**self._asdict(), "files": files, "folder": str(self.folder)}

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit}"


def folder_here(text: str) -> str:
    """The folder of this node with the files of a model; they are fetched if need be.

    Args:
        text: a :class:`HubModel` as JSON.
    """
    model = HubModel.from_json(text)
    found = _found(model)
    if found is not None:
        return str(found)
    with hub_cache.lock(model.repository):
        found = _found(model)
        if found is not None:
            return str(found)
        folder = hub_cache.snapshot_folder(model.repository, model.commit)
        _from_nodes(model, text, folder)
        missing = hub_cache.missing_of(folder, model.files)
        if missing:
            logger.warning(
                "no other node gives %s of %s: asking the hub", ", ".join(each.name for each in missing), model
            )
            hub.bring_commit(model.repository, model.commit, missing)
    return str(folder)


def _found(model: HubModel) -> Path | None:
    """Where this node has all files, without asking anybody."""
    own = _own_node()
    places = [hub_cache.snapshot_folder(model.repository, model.commit)]
    if model.node is None or own is None or model.node == own:
        places.insert(0, model.folder)
    return next((place for place in places if hub_cache.has_all(place, model.files)), None)


def _own_node() -> str | None:
    import aktis

    return aktis.get_runtime_context().get_node_id() if aktis.is_initialized() else None


def _from_nodes(model: HubModel, text: str, folder: Path) -> None:
    """Copies what is missing from nodes that have it; one that fails leaves the rest to the next."""
    own = _own_node()
    if own is None:
        return
    import aktis

    others = [node["NodeID"] for node in aktis.nodes() if node["Alive"] and node["NodeID"] != own]
    random.shuffle(others)
    first = [node for node in others if node == model.node]
    others = [node for node in others if node != model.node]
    groups = [first, *(others[at : at + ASKED_AT_ONCE] for at in range(0, len(others), ASKED_AT_ONCE))]
    for node, there in (having for group in groups for having in _having(group, text)):
        try:
            for file in hub_cache.missing_of(folder, model.files):
                copy(file, folder, partial(_ask_piece, node, there, file.name))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, another one may have them
            logger.warning("node %s does not give the rest of %s: %s", node, model, error)


def _having(nodes: Sequence[str], text: str) -> Iterator[tuple[str, str]]:
    """Those of some nodes that have the files, and where."""
    import aktis

    asked = {_tasks().folder.options(**_on(node)).remote(text): node for node in nodes}
    waiting = list(asked)
    while waiting:
        answered, waiting = aktis.wait(waiting, num_returns=1, timeout=ANSWER_S)
        if not answered:
            logger.warning("no answer from nodes %s in %.0f s", ", ".join(asked[each] for each in waiting), ANSWER_S)
            return
        try:
            there = aktis.get(answered[0])
        except Exception as error:  # noqa: BLE001 - a node that is gone has nothing
            logger.warning("node %s does not answer: %s", asked[answered[0]], error)
            continue
        if there is not None:
            yield asked[answered[0]], there


def copy(file: HubFile, folder: Path, ask: Callable[[int, int], Callable[[], bytes]]) -> None:
    """Brings a file, a few pieces at a time. What an earlier call has left of it is gone on with.

    Args:
        file: it.
        folder: the snapshot that it becomes a part of.
        ask: asks for bytes from an offset, and returns what waits for them.

    Raises:
        HubError: what came is something else.
    """
    blob = hub_cache.blob_path(folder, file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if not (blob.is_file() and blob.stat().st_size == file.size_bytes):
        unfinished = blob.with_name(f"{blob.name}.of-node.incomplete")
        with unfinished.open("ab") as out:
            if out.tell() > file.size_bytes:
                out.truncate(0)
            offsets = iter(range(out.seek(0, os.SEEK_END), file.size_bytes, PIECE_BYTES))
            pieces = deque(_asked(file, offset, ask) for offset in islice(offsets, PIECES_AHEAD))
            while pieces:
                out.write(pieces.popleft()())
                pieces.extend(_asked(file, offset, ask) for offset in islice(offsets, 1))
        if not hub_cache.has_content(unfinished, file):
            unfinished.unlink()
            raise hub_cache.HubError(f"what came as {file.name} is not the content that the hub names, {file.blob}")
        unfinished.replace(blob)
    hub_cache.link(folder, file)


def _asked(file: HubFile, offset: int, ask: Callable[[int, int], Callable[[], bytes]]) -> Callable[[], bytes]:
    return ask(offset, min(PIECE_BYTES, file.size_bytes - offset))


def _ask_piece(node: str, folder: str, name: str, offset: int, length: int) -> Callable[[], bytes]:
    import aktis

    reference = _tasks().piece.options(**_on(node)).remote(folder, name, offset, length)
    return lambda: aktis.get(reference, timeout=PIECE_S)


def _on(node: str) -> dict[str, Any]:
    from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


class _Tasks(NamedTuple):
    folder: Any
    piece: Any


@cache
def _tasks() -> _Tasks:
    """What is asked of other nodes. They do not wait for processors, which those who ask may hold all of."""
    import aktis

    make = aktis.remote(num_cpus=0, max_retries=0)
    return _Tasks(make(_folder_of), make(_piece_of))


def _folder_of(text: str) -> str | None:
    found = _found(HubModel.from_json(text))
    return None if found is None else str(found)


def _piece_of(folder: str, name: str, offset: int, length: int) -> bytes:
    with open(os.path.join(folder, name), "rb") as file:
        file.seek(offset)
        piece = file.read(length)
    if len(piece) != length:
        raise EOFError(f"{name} ends within the piece at {offset}")
    return piece
