"""The level of the package's logger, set without importing ``logging`` before somebody logs.

That import is a quarter of what ``init`` takes, and most programs log nothing with it. Until then the level is only kept.
"""

from __future__ import annotations

import sys

# As type checkers know it: `typing` would be imported for nothing else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

#: What ``init`` was given while ``logging`` was not imported.
_kept: int | None = None


def keep(level: int) -> None:
    """The level of ``logging.getLogger("aktis")``, from now on or from when it is first used."""
    global _kept
    if "logging" not in sys.modules:
        _kept = level
        return
    import logging

    _kept = None
    logging.getLogger("aktis").setLevel(level)


def logger(name: str) -> Logger:
    """A logger of the package, at the level that was kept unless the user has set another one since.

    >>> logger("aktis.data").name
    'aktis.data'
    """
    global _kept
    import logging

    root = logging.getLogger("aktis")
    if _kept is not None and root.level == logging.NOTSET:
        root.setLevel(_kept)
    _kept = None
    return logging.getLogger(name)
