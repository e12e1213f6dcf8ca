"""What to do when no node has what a task, an actor or a dataset needs.

The runtime knows what is missing; what to write in Python is told here.

>>> _wanted('no node of the cluster can run it: needs {"GPU": 1}, but the largest node has {"GPU": 0}')
('GPU', '1')
>>> _wanted("MapBatches(f): each worker needs 0.25 GPU, but no node has more than 0")
('GPU', '0.25')
"""

from __future__ import annotations

import math
import re

from .._session import session

_ARGUMENTS = {"CPU": "num_cpus", "GPU": "num_gpus"}


def of_shortage(message: str) -> str:
    """A sentence to append to the message of what is missing; nothing if that is not understood."""
    wanted = _wanted(message)
    if wanted is None:
        return ""
    name, quantity = wanted
    if name == "memory":
        return ". Ask for less: memory= is what the function needs at most, in bytes"
    whole = math.ceil(float(quantity))
    argument = f"{_ARGUMENTS[name]}={whole}" if name in _ARGUMENTS else f"resources={{{name!r}: {whole}}}"
    if session.local() is not None:
        return f". aktis.testing.local({argument}) counts that many; or ask for less"
    if not _is_laptop():
        flag = f"--num-{name.lower()}s {whole}" if name in _ARGUMENTS else f"--resources '{{\"{name}\": {whole}}}'"
        return f". Start a node that has it, aktis start --address HOST:PORT {flag}, or ask for less"
    purpose = ", for code that runs on the CPU too" if name == "GPU" else ""
    return f". aktis.init({argument}) counts that many, whatever is there{purpose}; or ask for less"


def _wanted(message: str) -> tuple[str, str] | None:
    """The first resource that is missing, and how much of it is needed."""
    needs, _, has = message.partition(", but ")
    listed = re.findall(r'"([^"]+)": ([0-9.]+)', needs)
    largest = dict(re.findall(r'"([^"]+)": ([0-9.]+)', has))
    for name, quantity in listed:
        if float(quantity) > float(largest.get(name, 0)):
            return name, quantity
    told = re.search(r"needs ([0-9.]+) ([^ ,]+)$", needs)
    return (told.group(2), told.group(1)) if told else None


def _is_laptop() -> bool:
    """Whether the session was begun by ``init`` without an address."""
    try:
        return str(session.runtime.context()["gcs_address"]).startswith("unix:")
    except Exception:  # noqa: BLE001 - the session may have ended meanwhile
        return True
