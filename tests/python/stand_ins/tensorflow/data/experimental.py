"""How rows are shared out to processes."""

import enum


class AutoShardPolicy(enum.Enum):
    OFF = -1
    AUTO = 0
