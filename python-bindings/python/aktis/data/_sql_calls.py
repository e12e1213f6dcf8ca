"""What runs in a worker for a function that a query in SQL calls: arrays in, an array out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ._declared import has_no_type
from ._failing import RowError


class Value(NamedTuple):
    """An argument that is the same for all rows."""

    value: Any


class Call:
    """A function over arrays as one over batches.

    >>> import pyarrow
    >>> double = Call(lambda numbers, by: [n * by for n in numbers.to_pylist()], ["n", Value(2)], {}, "out", pyarrow.int64())
    >>> double(pyarrow.table({"n": [1, 2]})).to_pydict()
    {'out': [2, 4]}
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[str | Value],
        kwargs: Mapping[str, Any],
        column: str,
        kind: Any,
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.kwargs = kwargs
        self.column = column
        self.kind = kind

    def __call__(self, batch: Any) -> Any:
        from . import _own_memory

        return self._made(_own_memory.owned({"": self.function(*_given(self.arguments, batch), **self.kwargs)})[""])

    def _made(self, result: Any) -> Any:
        import pyarrow

        return pyarrow.table({self.column: column_of(result, self.kind)})


class AsyncCall(Call):
    """The same of an async function."""

    async def __call__(self, batch: Any) -> Any:
        return self._made(await self.function(*_given(self.arguments, batch), **self.kwargs))


class ClassCall(Call):
    """The same of a class, of which one object is made per worker."""

    def __init__(self, made_of: type, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: Call) -> None:
        super().__init__(made_of(*args, **kwargs), call.arguments, call.kwargs, call.column, call.kind)


class AsyncClassCall(ClassCall):
    """The same of a class whose calls are async."""

    async def __call__(self, batch: Any) -> Any:
        return self._made(await self.function(*_given(self.arguments, batch), **self.kwargs))


class TokenCounts:
    """A function that tells of the same arguments how many tokens each row has, as one of a batch."""

    def __init__(self, function: Callable[..., Any], arguments: Sequence[str | Value]) -> None:
        self.function = function
        self.arguments = arguments

    def __call__(self, batch: Any) -> Any:
        return self.function(*_given(self.arguments, batch))


def _given(arguments: Sequence[str | Value], batch: Any) -> list[Any]:
    return [arg.value if isinstance(arg, Value) else _array(batch[arg]) for arg in arguments]


def column_of(result: Any, kind: Any) -> Any:
    """What a function returned, as an array of the type that it is declared to return.

    >>> import pyarrow
    >>> column_of([1, None], pyarrow.float32()).to_pylist()
    [1.0, None]
    >>> column_of("ray", pyarrow.string())
    Traceback (most recent call last):
    ...
    ValueError: it returned str, and must return an array (of pyarrow, numpy or pandas, or a list) with a value for each row
    """
    import pyarrow

    from . import _fitting, _from_python

    if isinstance(result, RowError):
        raise result
    is_array = isinstance(result, (pyarrow.Array, pyarrow.ChunkedArray))
    if not is_array and (isinstance(result, (str, bytes, Mapping)) or not hasattr(result, "__len__")):
        told = "None: did you forget 'return'? It" if result is None else f"{type(result).__name__}, and"
        raise ValueError(
            f"it returned {told} must return an array (of pyarrow, numpy or pandas, or a list) with a value for each row"
        )
    try:
        if is_array:
            column = _array(result)
        elif has_no_type(result):
            return _fitting.made_of(result, kind)
        else:
            column = _from_python.to_column(result)
        return column if column.type == kind else _cast(column, kind)
    except (pyarrow.ArrowException, _fitting.MisfitError) as error:
        raise ValueError(
            f"it returned values that do not become {kind}, which it is declared to return: {error}"
        ) from None


def _cast(column: Any, kind: Any) -> Any:
    import pyarrow

    try:
        return column.cast(kind)
    except pyarrow.ArrowNotImplementedError:
        # Of what lies within what, older releases know less.
        return pyarrow.array(column.to_pylist(), kind)


def _array(column: Any) -> Any:
    """A column of a table as one array; others as they are."""
    import pyarrow

    whole = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    return pyarrow.concat_arrays(whole.chunks) if isinstance(whole, pyarrow.ChunkedArray) else whole
