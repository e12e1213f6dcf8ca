"""Columns of values in the types that they are declared to have, if nothing but digits of floats is lost by that."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


class MisfitError(Exception):
    """Why values do not go into the declared type."""

    def told(self, made: Any, wanted: Any) -> str:
        """In words, with both types."""
        reason = str(self)
        return reason if made == wanted else f"{made}, and not {wanted}" + (f": {reason}" if reason else "")


def fitted(column: pyarrow.Array, wanted: pyarrow.DataType, *, is_plain: bool) -> pyarrow.Array:
    """A column in another type, if that may be.

    Args:
        is_plain: its values had no type of their own.

    Raises:
        MisfitError: it may not.
    """
    made = column if column.type == wanted else _cast(column, wanted, is_plain=is_plain)
    check_not_null(made)
    if made is not column and _infinities(made) > _infinities(column):
        raise MisfitError("some values are too large for it")
    return made


def _cast(column: pyarrow.Array, wanted: pyarrow.DataType, *, is_plain: bool) -> pyarrow.Array:
    import pyarrow

    if not _fits(column.type, wanted, is_plain=is_plain):
        raise MisfitError
    try:
        return column.cast(wanted)
    except pyarrow.ArrowNotImplementedError:
        # Of what lies within what, older releases know less.
        return pyarrow.array(column.to_pylist(), wanted)
    except pyarrow.ArrowException as error:
        raise MisfitError(str(error)) from None


def is_not_guessed(kind: pyarrow.DataType) -> bool:
    """Whether no type that is guessed from Python's values leads to this one.

    >>> import pyarrow
    >>> is_not_guessed(pyarrow.list_(pyarrow.string())), is_not_guessed(pyarrow.map_(pyarrow.string(), pyarrow.int64()))
    (False, True)
    """
    from pyarrow import types

    if types.is_map(kind) or types.is_dictionary(kind) or _is_tensor(kind):
        return True
    if _is_one_of(_LISTS, kind):
        # Arrays of several dimensions are tensors.
        return _is_one_of(_LISTS, kind.value_type) or is_not_guessed(kind.value_type)
    return types.is_struct(kind) and any(is_not_guessed(kind.field(at).type) for at in range(kind.num_fields))


def made_of(values: Sequence[Any], wanted: pyarrow.DataType) -> pyarrow.Array:
    """Values without a type of their own in the declared one.

    >>> import pyarrow
    >>> made_of([{"a": 1}, None], pyarrow.map_(pyarrow.string(), pyarrow.int64())).to_pylist()
    [[('a', 1)], None]

    Raises:
        MisfitError: some do not fit.
    """
    import pyarrow

    plain = [_plain(value, wanted) for value in values]
    try:
        made = pyarrow.array(plain, wanted)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise MisfitError(str(error)) from None
    check_not_null(made)
    if (infinite := _infinities(made)) and infinite > _infinite(plain):
        raise MisfitError("some values are too large for it")
    return made


def _plain(value: Any, kind: Any) -> Any:
    """A value as pyarrow takes it for the type."""
    import pyarrow
    from pyarrow import types

    if value is None:
        return None
    if _is_tensor(kind):
        import numpy

        given = numpy.asarray(value)
        if list(given.shape) != list(kind.shape) or kind.permutation:
            raise MisfitError(f"the shape of a value is {list(given.shape)}")
        return _plain(given.ravel(), pyarrow.list_(kind.value_type))
    if types.is_dictionary(kind):
        return _plain(value, kind.value_type)
    if isinstance(value, Mapping):
        if types.is_map(kind):
            value = list(value.items())
        elif types.is_struct(kind):
            fields = {kind.field(at).name: kind.field(at).type for at in range(kind.num_fields)}
            if more := [name for name in value if name not in fields]:
                raise MisfitError(f"a value has {more[0]!r}, which is not declared")
            return {name: _plain(item, fields[name]) for name, item in value.items()}
    if types.is_map(kind) and isinstance(value, (list, tuple)):
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
            raise MisfitError("a value is neither a dict nor a list of pairs")
        return [(_plain(key, kind.key_type), _plain(item, kind.item_type)) for key, item in value]
    to_list = getattr(value, "tolist", None)
    if to_list is not None:
        is_made_of_floats = getattr(getattr(value, "dtype", None), "kind", None) == "f"
        value = to_list()
        if is_made_of_floats and types.is_floating(_innermost(kind)):
            # As they are in many rows: nothing to look at one by one.
            return value
    if _is_one_of(_LISTS, kind) and isinstance(value, (list, tuple)):
        return [_plain(item, kind.value_type) for item in value]
    for test, allowed in _OF_PYTHON.items():
        if getattr(types, test)(kind) and type(value) not in allowed:
            raise MisfitError(f"a value is {type(value).__name__}, and not {kind}")
    return value


def _innermost(kind: Any) -> Any:
    return _innermost(kind.value_type) if _is_one_of(_LISTS, kind) else kind


#: Types of Python's values that pyarrow would cut or read as something else if they were others.
_OF_PYTHON = {
    "is_integer": (int,), "is_floating": (int, float), "is_boolean": (bool,), "is_string": (str,), "is_large_string": (str,),
    "is_binary": (bytes,), "is_large_binary": (bytes,), "is_date": (datetime.date,),
}  # fmt: skip


def check_not_null(values: pyarrow.Array) -> None:
    """Whether there is no null within values where their type says so.

    Raises:
        MisfitError: there is one.
    """
    if not _declares_not_null(values.type):
        return
    for field, part in _parts(values):
        if part.null_count and not field.nullable:
            raise MisfitError(
                f"{part.null_count} values of {field.name!r} within it are null, which is declared not null"
            )
        check_not_null(part)


def _declares_not_null(kind: Any) -> bool:
    return any(not field.nullable or _declares_not_null(field.type) for field in _fields(kind))


def _infinities(values: pyarrow.Array) -> int:
    """How many floats within them are infinite."""
    import pyarrow
    from pyarrow import compute, types

    if isinstance(values, pyarrow.ExtensionArray):
        values = values.storage
    if types.is_floating(values.type):
        # Not every release knows it of the small ones.
        is_infinite = compute.call_function("is_inf", [values.cast("float64")])
        return int(compute.call_function("sum", [is_infinite]).as_py() or 0)
    return sum(_infinities(part) for _, part in _parts(values))


def _infinite(value: Any) -> int:
    """The same of Python's values."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return int(isinstance(value, float) and value in (float("inf"), -float("inf")))
    return sum(map(_infinite, value))


def _fields(kind: Any) -> list[Any]:
    """What lies within values of a type."""
    from pyarrow import types

    if types.is_map(kind):
        return [kind.item_field]
    if _is_one_of(_LISTS, kind):
        return [kind.value_field]
    return [kind.field(at) for at in range(kind.num_fields)] if types.is_struct(kind) else []


def _parts(values: Any) -> list[tuple[Any, Any]]:
    """The same with the values, without those of values that are null."""
    from pyarrow import types

    fields = _fields(values.type)
    if not fields:
        return []
    if types.is_map(values.type):
        return [(fields[0], values.items)]
    if types.is_struct(values.type):
        return list(zip(fields, values.drop_null().flatten(), strict=True))
    return [(fields[0], values.flatten())]


def _is_tensor(kind: Any) -> bool:
    import pyarrow

    return isinstance(kind, pyarrow.FixedShapeTensorType)


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
