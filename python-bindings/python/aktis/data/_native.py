"""The native module, loaded when it is first needed, in a session that is started if there is none."""

from __future__ import annotations

from typing import Any


def plan() -> Any:
    """The native ``Plan`` class."""
    from aktis import _aktis

    return _aktis.data.Plan


def ensure_session() -> None:
    """Starts a session on this machine if there is none, as Ray does."""
    import aktis

    if not aktis.is_initialized():
        aktis.init()
