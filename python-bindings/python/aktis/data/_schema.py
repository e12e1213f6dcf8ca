"""Columns of a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


class Schema:
    """Names and types of the columns.

    >>> import aktis.data
    >>> aktis.data.range(3).schema()
    Column  Type
    ------  ----
    id      int64
    """

    def __init__(self, base_schema: pyarrow.Schema) -> None:
        self.base_schema = base_schema

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.base_schema.names)

    @property
    def types(self) -> list[pyarrow.DataType]:
        """The Arrow types of the columns, in order."""
        return list(self.base_schema.types)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.base_schema.equals(other.base_schema)

    __hash__ = None  # type: ignore[assignment]

    def _repr_html_(self) -> str:
        from ._notebook import schema_html

        return schema_html(self.base_schema)

    def __repr__(self) -> str:
        names = ["Column", "------", *self.names]
        types = ["Type", "----", *map(str, self.types)]
        width = max(map(len, names))
        return "\n".join(f"{name:<{width}}  {kind}" for name, kind in zip(names, types, strict=True))
