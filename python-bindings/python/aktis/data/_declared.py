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
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._fitting import MisfitError, fitted, is_not_guessed, made_of

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


def type_of(option: str, wanted: Any) -> pyarrow.DataType:
    """The type that a user wrote for ``option``.

    >>> type_of("f(return_dtype=...)", list[str])
    ListType(list<item: string>)
    >>> type_of("f(return_dtype=...)", "flaot")
    Traceback (most recent call last):
    ...
    TypeError: f(return_dtype=...): 'flaot' is no type; types are pyarrow.float32(), 'float32', float, numpy.float32, list[str], {'x': float}
    """
    try:
        return _type_of("", wanted, "")
    except TypeError:
        raise TypeError(f"{option}: {wanted!r} is no type; types are {_EXAMPLES}") from None


def python_type_of(kind: type) -> str | None:
    """The name of the type that values of a class of Python are stored in, if there is one."""
    return _PYTHON_TYPES.get(kind)


def is_of_ray(wanted: Any) -> bool:
    """Whether it is a :class:`aktis.data.datatype.DataType`; its module is loaded by those who have one."""
    return callable(getattr(wanted, "to_arrow_dtype", None)) and not isinstance(wanted, type)


def _name(call: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{call.removesuffix('()')}(output_schema=...): names of columns are strings, not {name!r}")
    return name


def _type_of(call: str, wanted: Any, column: str) -> pyarrow.DataType:
    import pyarrow

    if isinstance(wanted, pyarrow.DataType):
        return wanted
    if is_of_ray(wanted):
        return wanted.to_arrow_dtype()
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
        if wanted is None:
            raise TypeError("numpy takes it for float64")
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

    def batch(self, made: pyarrow.RecordBatch, plain: Callable[[str], Sequence[Any] | None]) -> pyarrow.RecordBatch:
        """The record batch of an output, with the declared columns.

        Args:
            plain: the values of a column, if they had no type of their own, or None.

        Raises:
            ValueError: it has other columns; all that is different is told.
        """
        import pyarrow

        if made.num_rows == 0:
            # Types say nothing then, and what has no columns either is how nothing is said.
            self._check(made.schema.names or self._schema.names, {}, {})
            return pyarrow.RecordBatch.from_pylist([], schema=self._schema)
        wrong: dict[str, str] = {}
        columns = []
        for field in self._schema:
            at = made.schema.get_field_index(field.name)
            if at < 0:
                continue
            values, guess = plain(field.name), made.column(at).type
            try:
                if values is not None and is_not_guessed(field.type):
                    # Nothing was guessed.
                    guess = field.type
                    columns.append(made_of(values, field.type))
                else:
                    columns.append(fitted(made.column(at), field.type, is_plain=values is not None))
                if columns[-1].null_count and not field.nullable:
                    raise MisfitError(f"{columns[-1].null_count} of its values are null, and it is declared not null")
            except MisfitError as misfit:
                wrong[field.name] = misfit.told(guess, field.type)
        self._check(made.schema.names, wrong, dict(zip(made.schema.names, made.schema.types, strict=True)))
        return pyarrow.RecordBatch.from_arrays(columns, schema=self._schema)

    def rows(
        self, rows: Sequence[Mapping[str, Any]], make: Callable[[Sequence[Any]], pyarrow.RecordBatch]
    ) -> pyarrow.RecordBatch:
        """The same of rows. ``make`` makes a record batch of some, with types as they are guessed.

        Raises:
            ValueError: one of them has other keys. Which rows came with it makes no difference.
        """
        names = set(self._schema.names)
        own = {field.name for field in self._schema if is_not_guessed(field.type)}

        def guessed(row: Any) -> Any:
            # A guess could fail where the declared type does not.
            return {**row, **dict.fromkeys(own & row.keys())} if isinstance(row, Mapping) else row

        made = make([guessed(row) for row in rows] if own else rows)
        for row in rows:
            if row.keys() != names:
                self._check(list(row), {}, {})
        return self.batch(made, lambda name: [row[name] for row in rows])

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
