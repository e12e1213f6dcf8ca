"""What the folders of files tell, as ``partitioning=`` of what reads files says it."""

from __future__ import annotations

import builtins
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dataset import Dataset


class PartitionStyle(enum.Enum):
    """How folders are named."""

    HIVE = "hive"
    DIRECTORY = "dir"


@dataclass(frozen=True)
class Partitioning:
    """Columns that the names of folders tell, and of which types.

    Attributes:
        style: ``"hive"``: folders like ``day=2024-01-01``. Ray's ``"dir"``, folders that are values only, is refused by name.
        base_dir: Ray's; only ``None``.
        field_names: Ray's; only ``None``: the folders name the columns.
        filesystem: Ray's; only ``None``: what reads takes ``filesystem=``.
        field_types: What columns are made of the text: ``int``, ``float``, ``str``, ``bool`` or a type of pyarrow.

    >>> Partitioning("hive", field_types={"year": int}).field_types
    {'year': <class 'int'>}
    """

    style: PartitionStyle | str = PartitionStyle.HIVE
    base_dir: str | None = None
    field_names: Sequence[str] | None = None
    field_types: Mapping[str, Any] | None = None
    filesystem: None = None


def is_hive(function: str, partitioning: Any) -> bool:
    """Whether the names of folders tell columns; ``partitioning`` may be an object of Ray's shape."""
    if partitioning is None:
        return False
    style = getattr(partitioning, "style", partitioning)
    style = getattr(style, "value", style)
    more = [name for name in ("base_dir", "field_names", "filesystem") if getattr(partitioning, name, None)]
    if style != "hive" or more:
        raise NotImplementedError(
            f"{function}(partitioning={partitioning!r}) is not there yet: give 'hive', for folders like day=2024-01-01, "
            "Partitioning('hive', field_types={...}), or None"
        )
    _types(function, partitioning)
    return True


def with_types(function: str, dataset: Dataset, partitioning: Any) -> Dataset:
    """The dataset whose columns that folders tell have the types that were asked for."""
    from .expressions import col

    types = _types(function, partitioning)
    return dataset.with_columns({name: col(name).cast(kind) for name, kind in types.items()}) if types else dataset


def _types(function: str, partitioning: Any) -> dict[str, Any]:
    import pyarrow

    known: dict[Any, Any] = {
        builtins.int: pyarrow.int64(), builtins.float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_(),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, kind in (getattr(partitioning, "field_types", None) or {}).items():
        arrow = kind if isinstance(kind, pyarrow.DataType) else known.get(kind)
        if arrow is None:
            raise ValueError(
                f"{function}(): field_types has {kind!r} for {name!r}; give int, float, str, bool or a type of pyarrow"
            )
        found[name] = arrow
    return found
