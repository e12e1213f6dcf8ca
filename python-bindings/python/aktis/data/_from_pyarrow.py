"""From expressions of pyarrow to ours.

pyarrow has no way to look into an expression, but can write it down: as an Arrow stream whose metadata tells the tree, one part after
the other, and whose columns are its values.

>>> import pyarrow.compute
>>> expression_of((pyarrow.compute.field("a") > 1) & pyarrow.compute.field("b").isin(["x"]))
((col('a') > 1) & col('b').is_in(['x']))
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from typing import Any

from . import _trees
from ._expr import Expr

_BINARY = {
    "add": "+", "add_checked": "+", "subtract": "-", "subtract_checked": "-", "multiply": "*", "multiply_checked": "*", "divide": "/",
    "divide_checked": "/", "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
    "and_kleene": "&", "or_kleene": "|", "and": "&", "or": "|",
}  # fmt: skip
_UNARY = {"invert": "~", "negate": "-", "negate_checked": "-", "is_valid": "is_not_null", "is_null": "is_null"}
_CALLS = {
    "abs": "abs",
    "abs_checked": "abs",
    "utf8_upper": "upper",
    "utf8_lower": "lower",
    "utf8_length": "character_length",
}


def is_pyarrow(value: Any) -> bool:
    """Whether it is an expression of pyarrow."""
    return type(value).__name__ == "Expression" and type(value).__module__.startswith("pyarrow")


def expression_of(expression: Any) -> Expr:
    """The expression of ours that means the same.

    Raises:
        NotImplementedError: it holds a function that is not known here.
    """
    import pyarrow

    _, (written,) = expression.__reduce__()
    with pyarrow.ipc.open_file(written) as file:
        values = file.get_batch(0) if file.num_record_batches else None
        parts = _metadata(file.schema)
    return Expr(_Reader(iter(parts), values, str(expression)).tree())


class _Reader:
    """Reads a tree, part by part."""

    def __init__(self, parts: Iterator[tuple[str, str]], values: Any, text: str) -> None:
        self._parts = parts
        self._values = values
        self._text = text

    def tree(self) -> _trees.Tree:
        key, value = next(self._parts)
        return self._tree_of(key, value)

    def _tree_of(self, key: str, value: str) -> _trees.Tree:
        if key == "literal":
            return _trees.Literal(self._values.column(int(value))[0])
        if key == "field_ref":
            return _trees.Column(value)
        if key == "nested_field_ref":
            tree = self.tree()
            for _ in range(int(value) - 1):
                _, name = next(self._parts)
                tree = _trees.Call("get_field", (tree, _trees.Literal(name)))
            return tree
        if key == "call":
            return self._call(value)
        raise self._unknown(key)

    def _call(self, function: str) -> _trees.Tree:
        args: list[_trees.Tree] = []
        options: dict[str, Any] = {}
        while (part := next(self._parts))[0] != "end":
            if part[0] == "options":
                options = dict(self._values.column(int(part[1]))[0])
            else:
                args.append(self._tree_of(*part))
        match args:
            case [left, right] if function in _BINARY:
                return _trees.Binary(_BINARY[function], left, right)
            case [operand] if function == "is_in":
                return _trees.IsIn(operand, options["value_set"].as_py())
            case [operand] if function in _UNARY and not (
                options.get("nan_is_null") and options["nan_is_null"].as_py()
            ):
                return _trees.Unary(_UNARY[function], operand)
            case [operand] if function in _CALLS:
                return _trees.Call(_CALLS[function], (operand,))
            case [operand] if function == "cast" and "to_type" in options:
                return _trees.Cast(operand, options["to_type"].type)
        raise self._unknown(function)

    def _unknown(self, function: str) -> NotImplementedError:
        return NotImplementedError(
            f"filter(expr={self._text}): the function {function!r} of pyarrow is not known to the engine; write it with "
            "aktis.data.expressions, or in SQL"
        )


def _metadata(schema: Any) -> list[tuple[str, str]]:
    """The metadata of a schema in order, with all of its keys, of which pyarrow's dict keeps one each.

    They are read where the C data interface has them (https://arrow.apache.org/docs/format/CDataInterface.html): behind the format and
    the name, a number of pairs, and each key and value behind its length.
    """
    exported = (ctypes.c_void_p * 9)()
    address = ctypes.addressof(exported)
    schema._export_to_c(address)
    try:
        return _pairs(exported[2] or 0)
    finally:
        # Whoever takes a schema in releases it.
        type(schema)._import_from_c(address)


def _pairs(address: int) -> list[tuple[str, str]]:
    if not address:
        return []

    def number() -> int:
        nonlocal address
        (value,) = struct.unpack("=i", ctypes.string_at(address, 4))
        address += 4
        return int(value)

    def text() -> str:
        nonlocal address
        length = number()
        value = ctypes.string_at(address, length)
        address += length
        return value.decode()

    return [(text(), text()) for _ in range(number())]
