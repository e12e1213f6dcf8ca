"""What notebooks show of datasets: columns, rows and statistics. Showing a dataset never runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from aktis._messages.html import line, table, text, titled

from . import _pictures

#: Longer values are cut.
_MOST_CHARACTERS = 200
_MOST_NUMBERS = 6
_DIM = "opacity:0.75"


def dataset_html(kind: str, schema: Any, rows: int | None) -> str:
    """A dataset by its columns (a ``pyarrow.Schema``, None: unknown) and the number of its rows, where that is known."""
    if schema is None:
        said = "Its columns are known once it has run; schema() runs its first row."
        return titled(kind, line(said))
    count = "" if rows is None else line(f"{rows:,} rows")
    return titled(kind, count, schema_html(schema), line("show() runs it and shows its first rows."))


def schema_html(schema: Any) -> str:
    """Columns and their types."""
    return table(["Column", "Type"], [(text(field.name), f"<code>{text(type_text(field))}</code>") for field in schema])


def type_text(field: Any) -> str:
    """The type of a column as people call it.

    >>> import pyarrow
    >>> type_text(pyarrow.field("x", pyarrow.fixed_shape_tensor(pyarrow.uint8(), (2, 3))))
    'tensor of uint8, shape (2, 3)'
    """
    from ._tensors import tensor_of

    tensor = tensor_of(field.type, field.metadata)
    if tensor is None:
        return str(field.type)
    shape = f"shape {tensor.shape}" if tensor.shape is not None else f"{tensor.ndim} dimensions"
    return f"tensor of {tensor.value_type}, {shape}"


def rows_html(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table, with pictures of what can be looked at."""
    if not rows:
        return line("no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(names, [[cell(row.get(name)) for name in names] for row in rows])


def cell(value: Any) -> str:
    """A value as HTML.

    >>> cell("<b>"), cell([1, 2]), cell(b"ab")
    ('&lt;b&gt;', '[1, 2]', 'b&#x27;ab&#x27;')
    """
    import numpy

    if value is None:
        return f'<span style="{_DIM}">None</span>'
    if isinstance(value, str):
        return text(_cut(value))
    if isinstance(value, numpy.ndarray):
        return _array_cell(value)
    encoded = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(encoded, bytes):
        kind = _pictures.kind_of(encoded)
        if kind is not None:
            return _picture(_pictures.of_bytes(encoded), f"{kind}, {len(encoded):,} bytes")
    if isinstance(value, bytes):
        return text(repr(value) if len(value) <= _MOST_CHARACTERS else f"{value[:20]!r}... ({len(value):,} bytes)")
    return text(_cut(repr(value)))


def _array_cell(array: Any) -> str:
    described = f"{array.dtype} {array.shape}"
    picture = _pictures.of_array(array)
    if picture is not None:
        return _picture(picture, described)
    if array.dtype == object:
        return text(_cut(repr(array.tolist())))
    few = ", ".join(
        f"{number:.4g}" if array.dtype.kind == "f" else str(number) for number in array.flat[:_MOST_NUMBERS]
    )
    more = ", ..." if array.size > _MOST_NUMBERS else ""
    return f'{text(few + more)}<div style="{_DIM}">{text(described)}</div>'


def _picture(uri: str | None, described: str) -> str:
    image = (
        ""
        if uri is None
        else f'<img src="{text(uri)}" style="max-width:{_pictures.SIDE}px;max-height:{_pictures.SIDE}px">'
    )
    return f'{image}<div style="{_DIM}">{text(described)}</div>'


def _cut(said: str) -> str:
    return said if len(said) <= _MOST_CHARACTERS else said[:_MOST_CHARACTERS] + "..."


def display_html(shown: str, plain: str) -> None:
    """Shows something in the notebook that this runs in."""
    from IPython.display import display

    display({"text/html": shown, "text/plain": plain}, raw=True)


class Stats(str):
    """What a run did, as text: in a notebook it is a table, and at a prompt it can be read as well."""

    __slots__ = ("summary",)

    summary: Mapping[str, Any]

    def __new__(cls, said: str, summary: Mapping[str, Any]) -> Self:
        stats = super().__new__(cls, said)
        stats.summary = summary
        return stats

    def __repr__(self) -> str:
        return str(self) or "no run yet"

    def __reduce__(self) -> Any:
        return Stats, (str(self), self.summary)

    def _repr_html_(self) -> str:
        if not self:
            return titled("Statistics", line("no run yet"))
        heads = ["Stage", "Operator", "Rows in", "Rows out", "Bytes out", "Batches", "Wall", "CPU"]
        rows = [
            [text(value) for value in _operator_row(index if first else "", operator)]
            for index, stage in enumerate(self.summary["stages"])
            for first, operator in zip([True] + [False] * len(stage["operators"]), stage["operators"], strict=False)
        ]
        said = (*self._kinds(), self.splitlines()[-1], *self._deaths())
        return titled("Statistics", table(heads, rows), *map(line, said))

    def _kinds(self) -> Iterator[str]:
        """Of stages whose workers are of several kinds: what those of each have done, or why they wait."""
        for stage in self.summary["stages"]:
            for kind in stage.get("kinds", ()):
                done = f"{kind['rows']:,} rows in {kind['batches']:,} batches"
                yield f"{kind['worker']}: {kind['waits'] or done}"

    def _deaths(self) -> list[str]:
        return [said.strip() for said in self.splitlines() if said.endswith("workers died and were replaced")]


def _operator_row(stage: int | str, operator: Mapping[str, Any]) -> Sequence[object]:
    return (
        stage, operator["name"], f"{operator['rows_in']:,}", f"{operator['rows_out']:,}", f"{operator['bytes_out']:,}",
        f"{operator['batches_out']:,}", _seconds(operator["wall_s"]), _seconds(operator["cpu_s"]),
    )  # fmt: skip


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"
