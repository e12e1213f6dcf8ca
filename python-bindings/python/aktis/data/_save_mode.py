"""What becomes of what is there, where something is written, as Ray's enumeration."""

from __future__ import annotations

import enum


class SaveMode(str, enum.Enum):
    """What ``mode=`` of methods that write may be, besides the same words as text.

    >>> SaveMode.OVERWRITE.value, SaveMode("append") is SaveMode.APPEND
    ('overwrite', True)
    """

    #: Makes what is not there; fails if it is there.
    CREATE = "create"
    #: Adds to what is there.
    APPEND = "append"
    #: Takes the place of what is there.
    OVERWRITE = "overwrite"
    #: Writes nothing if something is there.
    IGNORE = "ignore"
    #: Fails if something is there.
    ERROR = "error"
    #: Takes the place of rows with the same keys; tables of Iceberg have it.
    UPSERT = "upsert"


def mode_in_words(mode: SaveMode | str) -> str:
    """The mode as text; files that are to be created must not be there.

    >>> mode_in_words(SaveMode.CREATE), mode_in_words("append")
    ('error', 'append')
    """
    wanted = str(getattr(mode, "value", mode))
    return "error" if wanted == "create" else wanted
