"""The columns that a function is declared to return (``output_schema=``), and what it returns held against them.

>>> schema_of("map()", {"id": int, "tags": list[str], "box": {"x": "float32"}})
id: int64
tags: list<item: string>
  child 0, item: string
box: struct<x: float>
  child 0, x: float

What has no type of its own - values in lists and in rows, None, no rows at all - is stored in the type that is declared, if that loses nothing
but digits of floats. Arrays, data frames and tables have types, and these must be the ones that are declared, but for what holds
the same values in another layout (large text, lists of a fixed size).
"""

from __future__ import annotations

import datetime
import difflib
import types as python_types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

_PYTHON_TYPES: dict[Any, str] = {
    int: "int64", float: "float64", str: "string", bool: "bool", bytes: "binary", datetime.date: "date32",
    datetime.time: "time64[us]", datetime.datetime: "timestamp[us]", datetime.timedelta: "duration[us]",
}  # fmt: skip
#: What users write for types that have parameters.
_EXAMPLES = "pyarrow.float32(), 'float32', float, numpy.float32, list[str], {'x': float}"


def schema_of(call: str, wanted: Any) -> pyarrow.Schema | None:
    """The schema that a user declared to ``call``.

    >>> schema_of("map()", {"id": "int46"})
    Traceback (most recent call last):
    ...
    TypeError: map(output_schema=...): 'int46' is no type, for the column 'id'; types are pyarrow.float32(), 'float32', float, \
numpy.float32, list[str], {'x': float}
    """
    if wanted is None:
        return None
    import pyarrow

    schema = getattr(wanted, "base_schema", wanted)
    if isinstance(schema, Mapping):
        fields = [pyarrow.field(_name(call, name), _type_of(call, kind, name)) for name, kind in schema.items()]
        schema = pyarrow.schema(fields)
    if not isinstance(schema, pyarrow.Schema):
        raise TypeError(
            f"{call.removesuffix('()')}(output_schema=...) takes a pyarrow.Schema, or a dict from column to type, such as "
            f"{{'id': int, 'score': 'float32'}}, not {type(wanted).__name__}"
        )
    twice = [name for at, name in enumerate(schema.names) if name in schema.names[:at]]
    if twice or not schema.names:
        problem = f"two columns have the name {twice[0]!r}" if twice else "a function must return at least one column"
        raise ValueError(f"{call.removesuffix('()')}(output_schema=...): {problem}")
    return schema


def _name(call: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{call.removesuffix('()')}(output_schema=...): names of columns are strings, not {name!r}")
    return name


def _type_of(call: str, wanted: Any, column: str) -> pyarrow.DataType:
    import pyarrow

    if isinstance(wanted, pyarrow.DataType):
        return wanted
    if isinstance(wanted, Mapping):
        return pyarrow.struct([(_name(call, name), _type_of(call, kind, column)) for name, kind in wanted.items()])
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is list and len(arguments) == 1:
        return pyarrow.list_(_type_of(call, arguments[0], column))
    if origin in (python_types.UnionType, typing.Union):
        # Any value may be null.
        rest = [kind for kind in arguments if kind is not type(None)]
        if len(rest) == 1:
            return _type_of(call, rest[0], column)
    try:
        if isinstance(wanted, str) or wanted in _PYTHON_TYPES:
            return pyarrow.type_for_alias(_PYTHON_TYPES.get(wanted, wanted))
        import numpy

        return pyarrow.from_numpy_dtype(numpy.dtype(wanted))
    except (TypeError, ValueError, pyarrow.ArrowException):
        shown = wanted.__name__ if isinstance(wanted, type) else repr(wanted)
        raise TypeError(
            f"{call.removesuffix('()')}(output_schema=...): {shown} is no type, for the column {column!r}; types are {_EXAMPLES}"
        ) from None


class Declared:
    """The declared columns of a function, in its worker."""

    def __init__(self, schema: pyarrow.Schema, function: str) -> None:
        self._schema = schema
        self._function = function

    def batch(self, made: pyarrow.RecordBatch, is_plain: Callable[[str], bool]) -> pyarrow.RecordBatch:
        """The record batch of an output, with the declared columns.

        Args:
            is_plain: whether the values of a column had no type of their own.

        Raises:
            ValueError: it has other columns; all that is different is told.
        """
        import pyarrow

        if made.num_rows == 0:
            return pyarrow.RecordBatch.from_pylist([], schema=self._schema)
        wrong: dict[str, str] = {}
        columns = []
        for field in self._schema:
            at = made.schema.get_field_index(field.name)
            if at < 0:
                continue
            try:
                columns.append(fitted(made.column(at), field.type, is_plain=is_plain(field.name)))
                if columns[-1].null_count and not field.nullable:
                    raise _MisfitError(f"{columns[-1].null_count} of its values are null, and it is declared not null")
            except _MisfitError as misfit:
                wrong[field.name] = misfit.told(made.column(at).type, field.type)
        self._check(made.schema.names, wrong, dict(zip(made.schema.names, made.schema.types, strict=True)))
        return pyarrow.RecordBatch.from_arrays(columns, schema=self._schema)

    def rows(self, rows: Iterable[Mapping[str, Any]], made: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        """The same of rows, of which ``made`` was made.

        Raises:
            ValueError: one of them has other keys. Which rows came with it makes no difference.
        """
        names = set(self._schema.names)
        for row in rows:
            if row.keys() != names:
                self._check(list(row), {}, {})
        return self.batch(made, lambda _: True)

    def _check(self, names: list[str], wrong: Mapping[str, str], types: Mapping[str, Any]) -> None:
        lines, fixes = [], []
        missing = [name for name in self._schema.names if name not in names]
        extra = [name for name in names if name not in self._schema.names]
        for name in missing:
            near = difflib.get_close_matches(name, extra, n=1)
            guess = f"; is it {near[0]!r}, which is not declared?" if near else ""
            lines.append(f"  missing: {name!r} ({self._schema.field(name).type}){guess}")
        lines += [f"  extra: {name!r}" + (f" ({types[name]})" if name in types else "") for name in extra]
        lines += [f"  other type: {name!r}: {text}" for name, text in wrong.items()]
        if not lines:
            return
        if missing:
            fixes.append("return the columns that are missing (None for rows without a value)")
        if extra:
            fixes.append("leave out those that are extra")
        if wrong:
            fixes.append("convert the others, as by column.astype(...)")
        raise ValueError(
            f"{self._function} returned other columns than its output_schema declares:\n"
            + "\n".join(lines)
            + f"\nEither {', '.join(fixes)}; or declare what it returns"
        )


def has_no_type(values: Any) -> bool:
    """Whether values of a column are Python's, so that their type is a guess."""
    return isinstance(values, (list, tuple)) or getattr(values, "dtype", None) == object


class _MisfitError(Exception):
    """Why values do not go into the declared type."""

    def told(self, made: Any, wanted: Any) -> str:
        """In words, with both types."""
        reason = str(self)
        return reason if made == wanted else f"{made}, and not {wanted}" + (f": {reason}" if reason else "")


def fitted(column: pyarrow.Array, wanted: pyarrow.DataType, *, is_plain: bool) -> pyarrow.Array:
    """A column in another type, if that may be: see the module."""
    import pyarrow

    if column.type == wanted:
        return column
    if not _fits(column.type, wanted, is_plain=is_plain):
        raise _MisfitError
    try:
        return column.cast(wanted)
    except pyarrow.ArrowNotImplementedError:
        # Of what lies within what, older releases know less.
        return pyarrow.array(column.to_pylist(), wanted)
    except pyarrow.ArrowException as error:
        raise _MisfitError(str(error)) from None


def _fits(kind: Any, wanted: Any, *, is_plain: bool) -> bool:
    """Whether values may go from one type to another: always the same values in another layout, numbers only if they had no type."""
    from pyarrow import types

    if kind == wanted or types.is_null(kind):
        return True
    if _is_one_of(_LISTS, kind, wanted):
        return _fits(kind.value_type, wanted.value_type, is_plain=is_plain)
    if types.is_struct(kind) and types.is_struct(wanted):
        given, fields = (
            {one.field(at).name: one.field(at).type for at in range(one.num_fields)} for one in (kind, wanted)
        )
        names_fit = given.keys() <= fields.keys() if is_plain else list(given) == list(fields)
        return names_fit and all(_fits(part, fields[name], is_plain=is_plain) for name, part in given.items())
    if any(_is_one_of(layouts, kind, wanted) for layouts in (_TEXTS, _BYTES)):
        return True
    is_widened = types.is_integer(kind) and (types.is_floating(wanted) or types.is_decimal(wanted))
    alike = (types.is_integer, types.is_floating, types.is_decimal, types.is_date, types.is_time, types.is_duration)
    has_same_zone = types.is_timestamp(kind) and types.is_timestamp(wanted) and (kind.tz is None) == (wanted.tz is None)
    return is_plain and (is_widened or has_same_zone or any(test(kind) and test(wanted) for test in alike))


#: Layouts of the same values, by the tests of ``pyarrow.types``.
_LISTS = ("is_list", "is_large_list", "is_fixed_size_list")
_TEXTS = ("is_string", "is_large_string")
_BYTES = ("is_binary", "is_large_binary", "is_fixed_size_binary")


def _is_one_of(layouts: tuple[str, ...], *kinds: Any) -> bool:
    from pyarrow import types

    return all(any(getattr(types, layout)(kind) for layout in layouts) for kind in kinds)
