"""Whether this worker is to meet faults on purpose, see :func:`aktis.testing.chaos`: a file in the folder of the session says so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aktis import _aktis

if TYPE_CHECKING:
    from ._worker import LoadedFunction

#: As `aktis.testing._chaos.faults` writes it, which is imported only where it is there.
_FILE = "chaos.json"


def look() -> Any:
    """The faults; ``None``: as nearly always, there are none. From now on requests to stores of this process meet them."""
    from aktis._session import session

    if not session.is_worker:
        return None
    folder = str(_aktis.context()["session_dir"])
    if os.path.exists(os.path.join(folder, _FILE)):
        from aktis.testing._chaos.faults import of_session

        faults = of_session(folder)
    else:
        faults = None
    _stores_meet(faults)
    return faults


def _stores_meet(faults: Any) -> None:
    import sys

    requests: Any = sys.modules.get("aktis.data._stores.requests")
    if requests is None and faults is not None:
        from ._stores import requests
    if requests is not None:
        requests.around = None if faults is None else faults.request


def around(loaded: LoadedFunction) -> Any:
    """The function as this worker calls it."""
    faults = look()
    if faults is None:
        return loaded
    from aktis.testing._chaos.in_workers import FaultyFunction

    return FaultyFunction(loaded, faults)
