"""From expressions to those of the engine, and functions in Python out of them into steps of their own.

What is computed by a Python function is a column of a step before; only the rest is an expression of the engine:

    with_column("x", f(col("a") * 2) + 1)   becomes   t0 = a * 2;  t1 = f(t0) in Python;  x = t1 + 1;  without t0 and t1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from . import _batches, _batching, _functions, _trees
from ._declared import is_of_ray
from ._expr import Expr, tree_of
from ._overlapping import is_async

#: Operators of Python, as the engine has them. The others are functions.
_SYMBOLS = {"+": "+", "-": "-", "*": "*", "/": "/", "==": "=", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "&": "and",
            "|": "or"}  # fmt: skip
_DIVISIONS = {"//": "floor_divide", "%": "floor_modulo"}
_TESTS = {"~": "not", "-": "-", "is_null": "is null", "is_not_null": "is not null", "is_true": "is true"}
#: A batch that no partition fills: the function gets all rows of a partition at once.
WHOLE_PARTITION = 1 << 62
_PYTHON_TYPES = {int: "int64", float: "float64", str: "string", bool: "bool", bytes: "binary"}


class Steps:
    """A plan that grows by what an expression needs before it can be computed."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self._made: list[str] = []

    def expression(self, tree: _trees.Tree) -> Any:
        """The native expression over the columns that the plan has now."""
        return lowered(self._lifted(tree))

    def compute(self, columns: Mapping[str, _trees.Tree]) -> None:
        """Adds columns, or puts them in the place of those of their names."""
        lifted = {name: self._lifted(tree) for name, tree in columns.items()}
        self.plan = self.plan.with_columns([(name, lowered(tree)) for name, tree in lifted.items()])

    def finished(self) -> Any:
        """The plan without the columns that were only made on the way."""
        return self.plan.drop(self._made) if self._made else self.plan

    def new_name(self) -> str:
        """The name of a column that is made on the way: no user's has a character that is for private use."""
        self._made.append(f"{_batches.MADE_ON_THE_WAY}{len(self._made)}")
        return self._made[-1]

    def _lifted(self, tree: _trees.Tree) -> _trees.Tree:
        """The tree with columns in the place of functions in Python, which the plan has then."""
        if isinstance(tree, _trees.Call) and tree.function == "get_field":
            # The engine gives what lies under a dict that is null, which is anything; pyarrow gives null.
            operand, name = tree.args
            tree = _trees.Udf(StructField(name), (operand,))
        if isinstance(tree, _trees.Udf):
            return self._called(tree)
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if isinstance(value, _trees.Tree):
                changed[field.name] = self._lifted(value)
            elif field.name == "args":
                changed[field.name] = tuple(map(self._lifted, value))
        return dataclasses.replace(tree, **changed)

    def _called(self, udf: _trees.Udf) -> _trees.Tree:
        reads: list[str] = []
        args = [self._argument(arg, reads) for arg in udf.args]
        kwargs = {name: self._argument(arg, reads) for name, arg in udf.kwargs.items()}
        if not reads:
            raise TypeError(f"{_trees.text_of(udf)}: a function of an expression needs a column among its arguments")
        name = self.new_name()
        call = Called(udf.function, args, kwargs, name, type_of(udf.type) if udf.type is not None else None)
        self._map(udf, call, reads, name)
        return _trees.Column(name)

    def _map(self, udf: _trees.Udf, call: Called, reads: list[str], name: str) -> None:
        """Adds the column that a function makes of those that it reads."""
        shown, function, options = _function_of(udf, call)
        definition = _functions.definition_of(function, kind="batches", name=shown, batch_format="pyarrow", **options)
        self.plan = self.plan.map(
            definition=definition.data,
            captured=definition.captured,
            name=shown,
            compute=_functions.compute_of(function),
            reads=reads,
            keeps_all_except=[name],
            keeps_rows=True,
            batch_rows=getattr(udf.function, "rows_at_once", None),
        )

    def _argument(self, tree: _trees.Tree, reads: list[str]) -> Any:
        """What the function is called with: the name of a column, or a value."""
        if isinstance(tree, _trees.Literal):
            return Value(tree.value)
        lifted = self._lifted(tree)
        if isinstance(lifted, _trees.Column):
            name = lifted.name
        else:
            name = self.new_name()
            self.plan = self.plan.with_columns([(name, lowered(lifted))])
        if name not in reads:
            reads.append(name)
        return name


class GroupSteps(Steps):
    """The same over the rows of each group: a function in Python is called with those of one."""

    def __init__(self, plan: Any, keys: list[str], workers: Mapping[str, Any]) -> None:
        super().__init__(plan)
        self._keys = keys
        #: What the workers of functions need, and how many there are.
        self._workers = workers

    def _map(self, udf: _trees.Udf, call: Called, reads: list[str], name: str) -> None:
        if isinstance(call.function, StructField):
            super()._map(udf, call, reads, name)
            return
        if is_async(udf.function):
            raise TypeError(
                f"groupby().with_column(): {_trees.text_of(udf)} is async: call it by with_column() of the dataset, and "
                "give groupby().with_column() a plain function"
            )
        shown, function, options = _function_of(udf, call)
        function = AppendingClass if function is CalledClass else Appending(call)
        definition = _functions.definition_of(
            function, kind="groups", name=shown, batch_format="pyarrow", keys=self._keys, **options
        )
        # Each time: a function before it may run in other workers, and no group is whole in what they hand on.
        self.plan = self.plan.cluster(self._keys).map(
            definition=definition.data,
            captured=definition.captured,
            name=shown,
            compute=_functions.compute_of(function, **self._workers),
            batch_rows=WHOLE_PARTITION,
            batching=_batching.of_groups(self._keys),
        )


def has_functions(tree: _trees.Tree) -> bool:
    """Whether a function in Python is part of it."""
    if isinstance(tree, _trees.Udf):
        return True
    parts = (part for value in tree.parts() for part in (value if isinstance(value, tuple) else (value,)))
    return any(has_functions(part) for part in parts if isinstance(part, _trees.Tree))


def _function_of(udf: _trees.Udf, call: Called) -> tuple[str, Any, dict[str, Any]]:
    """Its name for messages, what workers call, and what they make it of."""
    shown = getattr(udf.function, "__name__", None) or type(udf.function).__name__
    asks_async = is_async(udf.function)
    if udf.constructor is None:
        of_function = AsyncCalled(call.function, call.args, call.kwargs, call.name, call.type) if asks_async else call
        return f"Udf({shown})", of_function, {}
    of_class = AsyncCalledClass if asks_async else CalledClass
    return f"Udf({shown})", of_class, {"constructor_args": (call, *udf.constructor)}


class Value:
    """An argument that is the same for all rows."""

    def __init__(self, value: Any) -> None:
        self.value = value


class StructField:
    """What dicts of fixed names have under one of them."""

    def __init__(self, name: _trees.Tree) -> None:
        self.__name__ = f"struct_field({_trees.text_of(name)})"
        self.name = name.value if isinstance(name, _trees.Literal) else None

    def __call__(self, array: Any) -> Any:
        import pyarrow.compute

        # Its functions are made when it is imported: no checker sees them.
        compute: Any = pyarrow.compute
        return compute.struct_field(array, self.name)


class Called:
    """A function over arrays as one over batches."""

    def __init__(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], name: str, type: Any) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.name = name
        self.type = type

    def __call__(self, batch: Any) -> Any:
        return self.made(self.begun(batch))

    def begun(self, batch: Any) -> Any:
        """What the function gives of a batch."""

        def argument(wanted: Any) -> Any:
            return wanted.value if isinstance(wanted, Value) else _array(batch.column(wanted))

        named = {name: argument(arg) for name, arg in self.kwargs.items()}
        return self.function(*map(argument, self.args), **named)

    def made(self, given: Any) -> Any:
        """The column of what it gave."""
        import pyarrow

        from . import _own_memory

        # Held by nothing else, as far as the function has not kept it.
        result = _own_memory.owned({"": given})[""]
        if not isinstance(result, (pyarrow.Array, pyarrow.ChunkedArray)):
            result = pyarrow.array(result, type=self.type)
        elif self.type is not None and result.type != self.type:
            result = result.cast(self.type)
        return pyarrow.table({self.name: result})


class AsyncCalled(Called):
    """The same of an async function, or of one that yields: what it yields last is what counts."""

    async def __call__(self, batch: Any) -> Any:
        begun = self.begun(batch)
        if hasattr(begun, "__aiter__"):
            last = None
            async for last in begun:
                pass
            return self.made(last)
        return self.made(await begun)


class CalledClass:
    """The same of a class, of which one is made per worker."""

    def __init__(self, call: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        made = call.function(*args, **kwargs)
        self._call = Called(made, call.args, call.kwargs, call.name, call.type)

    def __call__(self, batch: Any) -> Any:
        return self._call(batch)


class AsyncCalledClass(CalledClass):
    """The same of a class whose calls are async."""

    async def __call__(self, batch: Any) -> Any:
        call = self._call
        return await AsyncCalled(call.function, call.args, call.kwargs, call.name, call.type)(batch)


class Appending:
    """A function over arrays as one from a group to the group with one column more."""

    def __init__(self, call: Called) -> None:
        self._call = call

    def __call__(self, group: Any) -> Any:
        made = self._call(group)
        if made.num_rows != group.num_rows:
            shown = getattr(self._call.function, "__name__", None) or type(self._call.function).__name__
            raise ValueError(
                f"with_column(): {shown}() got a group of {group.num_rows} rows and returned {made.num_rows} values; return one "
                "for each row, or use map_groups(), whose functions return as many rows as they like"
            )
        return group.append_column(self._call.name, made.column(self._call.name))


class AppendingClass:
    """The same of a class, of which one is made per worker."""

    def __init__(self, call: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        made = call.function(*args, **kwargs)
        self._appending = Appending(Called(made, call.args, call.kwargs, call.name, call.type))

    def __call__(self, group: Any) -> Any:
        return self._appending(group)


def _array(column: Any) -> Any:
    import pyarrow

    whole = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    return pyarrow.concat_arrays(whole.chunks) if isinstance(whole, pyarrow.ChunkedArray) else whole


def expression_of(call: str, value: Any) -> _trees.Tree:
    """The tree of what a user gave to ``call``."""
    if not isinstance(value, Expr):
        raise TypeError(f"{call} takes an expression, such as col('a') + 1, not {value!r}; lit() makes one of a value")
    return tree_of(value)


def type_of(wanted: Any) -> Any:
    """A type of pyarrow for what a user wrote.

    >>> type_of("int8"), type_of(float)
    (DataType(int8), DataType(double))
    """
    import pyarrow

    if isinstance(wanted, pyarrow.DataType):
        return wanted
    if is_of_ray(wanted):
        return wanted.to_arrow_dtype()
    name = _PYTHON_TYPES.get(wanted, wanted) if isinstance(wanted, type) else wanted
    try:
        return pyarrow.type_for_alias(name)
    except (TypeError, ValueError):
        raise TypeError(
            f"{wanted!r} is no type: give one of pyarrow, such as pyarrow.int64(), its name, or int, float, str or bool"
        ) from None


def lowered(tree: _trees.Tree) -> Any:
    """The native expression."""
    from aktis import _aktis

    native = _aktis.data.Expression
    match tree:
        case _trees.Column(name):
            return native.column(name)
        case _trees.Literal(value):
            return native.literal(_batch([value]))
        case _trees.Binary(symbol, left, right):
            if symbol in _DIVISIONS:
                return native.call(_DIVISIONS[symbol], [lowered(left), lowered(right)])
            return native.binary(_SYMBOLS[symbol], lowered(left), lowered(right))
        case _trees.Unary(symbol, operand):
            return native.unary(_TESTS[symbol], lowered(operand))
        case _trees.Call(function, args):
            return native.call(function, [lowered(arg) for arg in args])
        case _trees.Cast(operand, wanted, is_try):
            import pyarrow

            return native.cast(lowered(operand), pyarrow.schema([("", type_of(wanted))]), is_try)
        case _trees.IsIn(operand, values):
            return _is_in(native, lowered(operand), values)
        case _trees.Like(operand, pattern, ignores_case):
            return native.like(lowered(operand), native.literal(_batch([pattern])), ignores_case)
        case _trees.Alias(operand, _):
            return lowered(operand)
        case _trees.Star():
            raise TypeError("star() stands for all columns: it is for select_columns(), and nothing is computed of it")
        case _trees.Unnest():
            raise TypeError(
                "unnest() stands for several columns: give it to with_columns() as it is; nothing is computed of it"
            )
    raise TypeError(f"no part of an expression: {tree!r}")


def _is_in(native: Any, operand: Any, values: Sequence[Any]) -> Any:
    """Never null: null is in the list, or it is not."""
    known = [value for value in values if value is not None]
    if not known:
        found = native.literal(_batch([False]))
    else:
        found = native.unary("is true", native.in_list(operand, _batch(known)))
    if len(known) < len(values):
        return native.binary("or", found, native.unary("is null", operand))
    return found


def _batch(values: list[Any]) -> Any:
    """The values as a record batch of one column."""
    import pyarrow

    try:
        if values and all(isinstance(value, pyarrow.Scalar) for value in values):
            array = pyarrow.array(values, type=values[0].type)
        else:
            array = pyarrow.array([value.tolist() if type(value).__module__ == "numpy" else value for value in values])
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"{values if len(values) > 1 else values[0]!r} cannot be a value of a column: {error}"
        ) from None
    return pyarrow.RecordBatch.from_arrays([array], names=["value"])
