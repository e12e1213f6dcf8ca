"""Ray Data's settings of checkpoints, for scripts that have them.

Jobs that write files go on where they were left without any setting, see ``docs/data/resume.md``: progress is kept by where rows came from,
beside the output. So there is no column of ids to name, nothing to load, and no place of its own to give.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._keywords import Keywords, Refused

__all__ = ["CheckpointConfig"]

_POSITIONS = "progress is kept by where rows came from, not by their ids"
_KEYWORDS = Keywords(
    "CheckpointConfig",
    used=("id_column", "checkpoint_path", "write_num_threads"),
    refused={
        "delete_checkpoint_on_success": Refused(
            "what is kept of a job goes when the job is done; a second run follows mode=", (True, None)
        ),
        "override_filesystem": Refused("progress lies beside the output"),
        "override_backend": Refused("progress lies beside the output"),
        "checkpoint_path_partition_filter": Refused(_POSITIONS),
        "checkpoint_filter_cls": Refused(_POSITIONS),
        "checkpoint_manager_cls": Refused(_POSITIONS),
    },
)


@dataclasses.dataclass(init=False)
class CheckpointConfig:
    """Asks for jobs that go on where they were left: those that cannot say so before they begin. Where rows of different inputs meet, what all
    functions make is kept, not that of classes, models and functions on GPUs alone (``docs/data/resume.md``).

    >>> import aktis.data
    >>> context = aktis.data.DataContext.get_current()
    >>> context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path="/shared/progress")
    >>> context.checkpoint_config = None
    >>> CheckpointConfig("id", delete_checkpoint_on_success=False)
    Traceback (most recent call last):
    ...
    NotImplementedError: CheckpointConfig(delete_checkpoint_on_success=...) is not there yet: what is kept of a job goes when the job is \
done; a second run follows mode=
    """

    id_column: str | None
    checkpoint_path: str | None

    def __init__(
        self,
        id_column: str | None = None,
        checkpoint_path: str | None = None,
        *,
        write_num_threads: int = 3,
        **options: Any,
    ) -> None:
        """
        Args:
            id_column: Ray's column of ids; it need not be there, because positions tell rows apart.
            checkpoint_path: Ray's place of progress, which lies beside the output instead.
            write_num_threads: Ray's; progress is written by one thread, in groups.
            options: Others of Ray, refused by name unless they are the defaults.
        """
        _KEYWORDS.check(options)
        self.id_column, self.checkpoint_path = id_column, checkpoint_path

    @classmethod
    def of(cls, given: CheckpointConfig | Mapping[str, Any]) -> CheckpointConfig:
        """What ``DataContext.checkpoint_config`` was set to.

        Args:
            given: A configuration, or a dict of its arguments.

        Returns:
            The configuration.

        >>> CheckpointConfig.of({"id_column": "id"}).id_column
        'id'
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Mapping):
            return cls(**given)
        raise TypeError(
            f"DataContext.checkpoint_config is a CheckpointConfig, a dict of its arguments, or None, not {type(given).__name__}"
        )


if not TYPE_CHECKING:  # checkers are to report what there is not

    def __getattr__(name: str) -> object:
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
