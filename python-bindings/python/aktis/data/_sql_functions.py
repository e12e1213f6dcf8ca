"""Functions that a query in SQL calls: what users say of them, and the steps that their calls become."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import (
    _batches,
    _batching,
    _caching,
    _declared,
    _failing,
    _functions,
    _overlapping,
    _rate_limits,
    _retrying,
    _worker_kinds,
)
from ._fingerprints import Described
from ._sql_calls import AsyncCall, AsyncClassCall, Call, ClassCall, TokenCounts, Value

if TYPE_CHECKING:
    import os
    from typing import Literal

    from ._rate_limits import RateLimit
    from ._typed import BatchFormat, Compute, NativeModel, OnError, RetryExceptions

#: What a step of a native model can be told.
_OF_MODELS = ("compute", "concurrency", "num_cpus", "num_gpus", "memory", "resources", "cache", *_failing.OPTIONS)
_CALL = "SqlFunction()"
#: Types of columns that models of texts read.
_TEXTS = ("string", "large_string", "string_view", "null")


class SqlFunction:
    """A function, class or native model that queries call, and where it runs: for ``functions=`` of :func:`aktis.data.sql`.

    It gets the columns of its arguments, as many rows as a batch has, and returns an array with a value for each row. Arguments that are
    the same for all rows, such as numbers in the query, come as Python's values. Nulls come as nulls.

    Args:
        fn: A function of arrays; a class with such a ``__call__``, which is constructed once per worker; or a native model such as
            :class:`aktis.models.TextEmbedder`, whose columns the arguments take the places of, in their order.
        return_dtype: The type that is returned, which results are brought to: of pyarrow, its name, or a type of Python such as ``float`` or
            ``list[str]``. That of a native model is known: its column, or a struct if it adds several.
        batch_format: What arrays it gets: ``"pyarrow"``, ``"numpy"`` or ``"pandas"``.
        batch_size: Rows per call, or ``"auto"``, as in :meth:`Dataset.map_batches`. Something is needed with ``num_gpus``.
        token_budget: Most tokens of a call, all rows counted as long as the longest.
        tokens: A function of the same arguments that tells how many tokens each row has.
        byte_budget: Most bytes of the arguments of a call.
        window_rows: So many rows are sorted by their tokens, and called with rows of similar length.
        fn_kwargs: Keyword arguments for each call.
        fn_constructor_args: Arguments of the class.
        fn_constructor_kwargs: Keyword arguments of the class.
        compute: As in :meth:`Dataset.map_batches`, as are the others. A list of strategies is workers of several kinds.
        concurrency: Number of workers, or ``(min, max)`` for a class.
        num_cpus: CPUs of each worker; by default 1, and 0 with ``num_gpus``.
        num_gpus: GPUs of each worker; may be a fraction.
        memory: Bytes of memory of each worker.
        resources: More resources of each worker.
        max_concurrency: Calls of an async function or class that overlap in one worker.
        rate_limit: How many calls may begin per second in all workers together.
        cache: A folder where the result of each row is kept.
        on_error: What becomes of rows that the function fails for: ``"raise"``, ``"skip"`` or ``"dead_letter"``.
        max_errors: How many rows may fail.
        max_error_ratio: Which share of the rows may fail.
        timeout_s: Seconds that a call may take.
        retry_exceptions: Calls that raise one of these are made again.
        max_retries: How often.

    Raises:
        TypeError: ``fn`` is no function, or ``return_dtype`` no type.
        ValueError: ``return_dtype`` is missing, or an option does not fit.

    Example:
        >>> import aktis.data, pyarrow.compute
        >>> docs = aktis.data.from_items([{"text": "a ray"}, {"text": "of light"}])
        >>> length = aktis.data.SqlFunction(pyarrow.compute.utf8_length, "int32")
        >>> aktis.data.sql("select text, length_of(text) as n from docs", functions={"length_of": length}, docs=docs).take_all()
        [{'text': 'a ray', 'n': 5}, {'text': 'of light', 'n': 8}]
    """

    def __init__(
        self,
        fn: Callable[..., Any] | NativeModel,
        return_dtype: Any = None,
        *,
        batch_format: BatchFormat | None = "pyarrow",
        batch_size: int | Literal["auto", "default"] | None = None,
        token_budget: int | None = None,
        tokens: Callable[..., Any] | None = None,
        byte_budget: int | None = None,
        window_rows: int | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        compute: Compute = None,
        concurrency: int | tuple[int, int] | tuple[int, int, int] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        max_concurrency: int | None = None,
        rate_limit: float | RateLimit | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_error: OnError | None = None,
        max_errors: int | None = None,
        max_error_ratio: float | None = None,
        timeout_s: float | None = None,
        retry_exceptions: RetryExceptions | None = None,
        max_retries: int | None = None,
    ) -> None:
        options = {name: value for name, value in locals().items() if name not in ("self", "fn", "return_dtype")}
        options["batch_format"] = _batches.check_format(batch_format)
        self._fn = fn
        self._options = options
        self._kinds = _worker_kinds.kinds_of(
            _CALL, compute, placed={name: options[name] for name in _worker_kinds.RESOURCES}, batch_size=batch_size,
            constructor_kwargs=fn_constructor_kwargs,
        )  # fmt: skip
        self._computes = [
            _functions.compute_of(fn, compute=kind.strategy, concurrency=concurrency, is_of_kind=True, **kind.placed)
            for kind in self._kinds
        ]
        self._failures = _failing.of_step(
            _CALL, on_error=on_error, max_errors=max_errors, max_error_ratio=max_error_ratio, timeout_s=timeout_s
        )
        self._is_model = _functions.is_model(fn)
        if self._is_model:
            _refuse_for_models(fn, return_dtype, options)
            for kind in self._kinds:
                _worker_kinds.of_model(_CALL, fn, kind)
            return
        for kind in self._kinds:
            _check_constructed(fn, fn_constructor_args, kind.constructor_kwargs)
        if return_dtype is None:
            shown = _functions.name_of(fn)
            raise ValueError(
                f"{_CALL}: a query must know what {shown} returns before it runs: SqlFunction({shown}, return_dtype='float32'), say"
            )
        self._type = _declared.type_of("SqlFunction(return_dtype=...)", return_dtype)
        if isinstance(tokens, str):
            raise TypeError(
                f"{_CALL}: tokens is a function of the arguments, not the name of a column: pass the column in the query, "
                "f(text, n), and give tokens=lambda text, n: n"
            )
        self._batchings = [
            _batching.of_step(
                batch_size=kind.batch_size, num_gpus=kind.placed["num_gpus"], token_budget=token_budget, tokens=tokens,
                byte_budget=byte_budget, window_rows=window_rows, call="SqlFunction",
            )
            for kind in self._kinds
        ]  # fmt: skip
        sizes = [batching.rows for batching in self._batchings]
        most_rows = None if None in sizes else max(rows for rows in sizes if rows is not None)
        self._limit = _rate_limits.limit_of(_CALL, rate_limit, kind="batches", batch_size=most_rows)
        self._retry = _retrying.policy(_CALL, retry_exceptions=retry_exceptions, max_retries=max_retries)
        self._calls = [_functions.calls_of(kind.strategy, max_concurrency) for kind in self._kinds]

    def __repr__(self) -> str:
        return f"SqlFunction({self._fn!r})" if self._is_model else f"SqlFunction({_functions.name_of(self._fn)})"

    def _native(self, name: str) -> tuple[str, Any, bool, Steps]:
        """As the native planner takes it."""
        import pyarrow

        if not self._is_model:
            return name, pyarrow.schema([("value", self._type)]), True, Steps(FunctionCalls(self, name))
        calls = ModelCalls(self, name)
        return name, pyarrow.schema([("value", calls.kind)]), False, Steps(calls)


def function_of(name: str, given: Any) -> SqlFunction:
    """The function of a query that a user gave as ``functions={name: given}``."""
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w*", name):
        raise ValueError(f"sql(): {name!r} cannot be the name of a function: letters, digits and _ make names")
    if isinstance(given, SqlFunction):
        return given
    if _functions.is_model(given):
        return SqlFunction(given)
    declared = getattr(given, "of_expressions", None)
    if declared is None:
        if not callable(given):
            raise TypeError(f"sql(): {name} is a function, a class or a model, not {type(given).__name__}")
        raise ValueError(
            f"sql(): a query must know what {name}() returns before it runs: functions={{{name!r}: "
            f"SqlFunction({_functions.name_of(given)}, return_dtype=...)}}"
        )
    function, kind, constructor = declared
    if kind is None:
        raise ValueError(f"sql(): a query must know what {name}() returns before it runs: @udf(return_dtype=...)")
    args, kwargs = constructor or (None, None)
    return SqlFunction(function, kind, fn_constructor_args=args, fn_constructor_kwargs=kwargs)


class Steps:
    """Makes steps of the calls of a function. What it has made travels with the plan, so that nobody needs the function again."""

    def __init__(self, calls: FunctionCalls | ModelCalls | None, made: dict[str, Any] | None = None) -> None:
        self._calls = calls
        #: By the columns.
        self._made = {} if made is None else made

    def __call__(self, plan: Any, arguments: Sequence[Any], column: str) -> tuple[Any, list[str]]:
        if column not in self._made:
            assert self._calls is not None, "a plan that is made again has the calls that it had"
            self._made[column] = self._calls.step(plan, arguments, column)
        method, args, kwargs, columns = self._made[column]
        return getattr(plan, method)(*args, **kwargs), columns

    def definitions(self) -> list[Described]:
        """The functions, in the order of the calls."""
        found = []
        for _, _, kwargs, _ in self._made.values():
            others = kwargs["compute"]["others"] if kwargs else ()
            found += [kwargs.get("definition"), *(other["definition"] for other in others)]
        return [definition for definition in found if isinstance(definition, Described)]

    def models(self) -> list[str]:
        """What describes the native models."""
        return [args[0] for method, args, _, _ in self._made.values() if method == "model"]

    def __reduce__(self) -> Any:
        return Steps, (None, self._made)


class FunctionCalls:
    """Of a function or a class of Python."""

    def __init__(self, declared: SqlFunction, name: str) -> None:
        self._declared = declared
        self._name = name

    def step(self, plan: Any, arguments: Sequence[Any], column: str) -> Any:
        """The method of the plan, its arguments, and the columns that it makes."""
        import pyarrow

        declared = self._declared
        options, batchings = declared._options, declared._batchings
        given = [arg if isinstance(arg, str) else Value(arg.column(0)[0].as_py()) for arg in arguments]
        self._check(given, dict(options["fn_kwargs"] or {}))
        definitions = [self._definition(number, given, column) for number in range(len(declared._kinds))]
        compute, *others = declared._computes
        workers = [
            _functions.other_workers(own, batch_rows=batching.rows, definition=definition)
            for own, batching, definition in zip(others, batchings[1:], definitions[1:], strict=True)
        ]
        windows = (each.window_rows(own.rows) for each, own in zip(definitions, batchings, strict=True))
        definition, batching = definitions[0], batchings[0]
        return "map", (), {
            "definition": definition.data,
            "captured": definition.captured,
            "name": f"SqlFunction({self._name})",
            "compute": {**compute, "others": workers},
            "batch_rows": batching.rows,
            "window_rows": max(*windows, batching.input_rows),
            "reads": list(dict.fromkeys(arg for arg in given if isinstance(arg, str))),
            "keeps_all_except": [column],
            "keeps_rows": True,
            "batching": batching.plan,
            "produces": pyarrow.schema([(column, declared._type)]),
            "failures": declared._failures,
            "cache": _caching.of_function(
                _CALL, options["cache"], *(one.data for one in definitions), is_one_for_one=True
            ),
        }, [column]  # fmt: skip

    def _definition(self, number: int, given: Sequence[str | Value], column: str) -> _functions.Definition:
        """What workers of the kind of this number call with batches."""
        declared = self._declared
        function, constructor = self._called(number, given, column)
        counter = declared._batchings[number].counter
        return _functions.definition_of(
            function, kind="batches", name=f"SqlFunction({self._name})", batch_format=declared._options["batch_format"],
            constructor_args=constructor, calls=declared._calls[number], limit=declared._limit, retry=declared._retry,
            tokens=None if counter is None else TokenCounts(counter, given),
        )  # fmt: skip

    def _called(self, number: int, given: Sequence[str | Value], column: str) -> tuple[Any, tuple[Any, ...]]:
        """The function; if that is a class, with the arguments of its constructor."""
        fn: Any = self._declared._fn
        options = self._declared._options
        is_async = _overlapping.is_async(fn)
        call = (AsyncCall if is_async else Call)(
            fn, given, dict(options["fn_kwargs"] or {}), column, self._declared._type
        )
        if not inspect.isclass(fn):
            return call, ()
        args = tuple(options["fn_constructor_args"] or ())
        made_of = (fn, args, dict(self._declared._kinds[number].constructor_kwargs or {}))
        return (AsyncClassCall if is_async else ClassCall), (*made_of, call)

    def _check(self, given: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises if the function cannot be called with so many arguments."""
        fn = self._declared._fn
        signature = _signature(fn.__call__ if inspect.isclass(fn) else fn)
        args = (None, *given) if inspect.isclass(fn) else given
        try:
            if signature is not None:
                signature.bind(*args, **kwargs)
        except TypeError as error:
            count = f"{len(given)} argument{'s' if len(given) > 1 else ''}"
            raise TypeError(
                f"sql(): {self._name}() is called with {count}, and {_functions.name_of(fn)}{signature} takes others: {error}"
            ) from None


class ModelCalls:
    """Of a native model."""

    def __init__(self, declared: SqlFunction, name: str) -> None:
        import pyarrow

        self._declared = declared
        self._name = name
        self._model: Any = _functions.found(declared._fn)
        self._reads, added = self._model._columns()
        self._adds: list[str] = added.names
        self.kind = added.types[0] if len(added) == 1 else pyarrow.struct(list(added))

    def step(self, plan: Any, arguments: Sequence[str], column: str) -> Any:
        """The method of the plan, its arguments, and the columns that it makes."""
        declared = self._declared
        options = declared._options
        if len(arguments) != len(self._reads):
            wanted = f"{len(self._reads)} argument{'s' if len(self._reads) > 1 else ''} ({', '.join(self._reads)})"
            raise TypeError(f"sql(): {self._name}() takes {wanted}, and is called with {len(arguments)}")
        self._check(plan.schema(), arguments)
        columns = [column] if len(self._adds) == 1 else [f"{column} {name}" for name in self._adds]
        names = dict(zip((*self._reads, *self._adds), (*arguments, *columns), strict=True))
        model: Any = self._model._over(names)
        compute, *others = (dict(own) for own in declared._computes)
        if all(options[name] is None for name in ("compute", "concurrency")) and not options["num_gpus"]:
            # One actor computes with all processors of its machine.
            compute["max_workers"] = 1
        spec, *specs = (
            _functions.model_spec(_worker_kinds.of_model(_CALL, model, kind), own, kind.placed["num_cpus"])
            for kind, own in zip(declared._kinds, (compute, *others), strict=True)
        )
        compute["others"] = [
            _functions.other_workers(own, batch_rows=None, model=spec_of_kind)
            for own, spec_of_kind in zip(others, specs, strict=True)
        ]
        kept = None
        if options["cache"] is not None:
            kept = _caching.of_model(_CALL, options["cache"], (spec, *specs), plan.model_files(spec))
        return "model", (spec, compute, declared._failures, kept), {}, columns

    def _check(self, schema: Any, arguments: Sequence[str]) -> None:
        """Raises where a model of texts gets something else."""
        from aktis.models.text_model import TextModel

        if not isinstance(self._declared._fn, TextModel):
            return
        for place, argument in enumerate(arguments):
            kind = schema.field(argument).type
            if str(kind) not in _TEXTS:
                raise TypeError(
                    f"sql(): {self._name}() takes text, and argument {place + 1} is {kind}: cast(... as varchar) makes text of it"
                )


def _signature(called: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(called)
    except (TypeError, ValueError):  # as of some native functions
        return None


def _check_constructed(fn: Any, args: Any, kwargs: Any) -> None:
    """Raises if it is nothing that is called, or its constructor takes other arguments."""
    if not callable(fn):
        raise TypeError(f"{_CALL}: it takes a function, a class or a model of Aktis, not {type(fn).__name__}")
    shown = _functions.name_of(fn)
    if not inspect.isclass(fn):
        if args or kwargs:
            raise ValueError(f"{_CALL}: fn_constructor_args are for classes, and {shown} is a function")
        return
    if "__call__" not in dir(fn):
        raise TypeError(f"{_CALL}: the class {shown} has no __call__(self, array)")
    if isinstance(args, (str, bytes)):
        raise TypeError(f"{_CALL}: fn_constructor_args is a tuple of arguments, not {args!r}: give ({args!r},)")
    signature = _signature(fn)
    try:
        if signature is not None:
            signature.bind(*(args or ()), **(kwargs or {}))
    except TypeError as error:
        raise TypeError(
            f"{_CALL}: {shown}{signature} is made with what fn_constructor_args= and fn_constructor_kwargs= give: {error}"
        ) from None


def _refuse_for_models(model: Any, return_dtype: Any, options: Mapping[str, Any]) -> None:
    shown = type(model).__name__
    if return_dtype is not None:
        raise ValueError(f"{_CALL}: what {shown} returns is known from its files: leave return_dtype= out")
    if not hasattr(model, "_over"):
        raise TypeError(f"{_CALL}: {shown} is no model of Aktis")
    for name, value in options.items():
        is_default = value is None or (name == "batch_format" and value == "pyarrow")
        if name not in _OF_MODELS and not is_default:
            raise ValueError(
                f"{_CALL[:-2]}({name}=...) is for functions, and {shown} is a model of Aktis: what it is given, it is made with"
            )
