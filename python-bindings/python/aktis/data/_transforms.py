"""What is to be done with rows: functions, columns, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _batches, _batching, _caching, _declared, _failing, _functions, _rate_limits, _retrying, _worker_kinds
from ._choosing import Choosing
from ._computed import Computed, computed, filtered
from ._expr import Expr
from ._keywords import FUNCTION_ARGS, REMOTE_ARGS, Keywords

#: Of a function over rows; those of a function over batches besides.
_ROW_OPTIONS: tuple[str, ...] = (
    "compute", "fn_args", "fn_kwargs", "fn_constructor_args", "fn_constructor_kwargs", "num_cpus", "num_gpus", "memory",
    "concurrency", "resources", "input_columns", "max_concurrency", "rate_limit", *_failing.OPTIONS, *_retrying.OPTIONS,
)  # fmt: skip
#: Options that say where a function runs, and what it gets.
_WORKERS = tuple(
    option for option in _ROW_OPTIONS if option not in (*_failing.OPTIONS, *_retrying.OPTIONS, "rate_limit")
)
#: Of functions that make rows.
_MAP_OPTIONS = (*_ROW_OPTIONS, "output_schema", "cache")
_BATCH_OPTIONS = (
    *_MAP_OPTIONS, *_batching.OPTIONS, "batch_format", "zero_copy_batch", "udf_modifying_row_count", "passthrough_columns",
)  # fmt: skip

if TYPE_CHECKING:
    import os
    from typing import Literal, Unpack

    from ._compute import ActorPoolStrategy, TaskPoolStrategy
    from ._rate_limits import RateLimit
    from ._typed import (
        BatchFormat,
        BatchFunction,
        Compute,
        FunctionArgs,
        ManyRowsFunction,
        MapOptions,
        NativeModel,
        OnError,
        OutputSchema,
        RetryExceptions,
        RowFunction,
        RowOptions,
    )  # fmt: skip
    from .dataset import Dataset


#: What the user called, by the name in messages.
_CALLED = {"Map": "map", "FlatMap": "flat_map", "Filter": "filter"}


class Transforms(Computed, Choosing):
    """The methods of a dataset that describe more work. None of them runs anything."""

    _plan: Any

    def _then(self, plan: Any) -> Dataset:
        """The dataset of a plan that begins with this one's."""
        # Not at the top: that module is made of this one.
        from .dataset import Dataset

        return Dataset(plan)

    def map_batches(
        self,
        fn: BatchFunction | NativeModel,
        *,
        batch_size: int | Literal["auto", "default"] | None = None,
        compute: Compute = None,
        batch_format: BatchFormat | None = "default",
        zero_copy_batch: bool = True,
        fn_args: Iterable[Any] | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        fn_constructor_args: Iterable[Any] | None = None,
        fn_constructor_kwargs: Mapping[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, int] | tuple[int, int, int] | None = None,
        udf_modifying_row_count: bool = True,
        resources: Mapping[str, float] | None = None,
        input_columns: list[str] | None = None,
        passthrough_columns: list[str] | None = None,
        max_concurrency: int | None = None,
        output_schema: OutputSchema | None = None,
        rate_limit: float | RateLimit | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_error: OnError | None = None,
        max_errors: int | None = None,
        max_error_ratio: float | None = None,
        timeout_s: float | None = None,
        token_budget: int | None = None,
        tokens: str | Callable[[Any], Any] | None = None,
        byte_budget: int | None = None,
        window_rows: int | None = None,
        retry_exceptions: RetryExceptions | None = None,
        max_retries: int | None = None,
        **remote_args: Unpack[FunctionArgs],
    ) -> Dataset:
        """Runs a function over batches of rows.

        Args:
            fn: A function from a batch to a batch, or a generator of batches; a class with ``__call__``, which is
                constructed once per worker; or a native model such as :class:`aktis.models.TextEmbedder`.
            batch_size: Rows per call; ``None``: as many as there are at hand. ``"auto"``: as many as pay and fit into memory, which is
                found while the job runs: batches grow until that makes rows no cheaper; a call that runs out of memory is made again
                with halves, and batches stay smaller. :meth:`stats` tells what was chosen. Something is needed with ``num_gpus``.
            compute: :class:`ActorPoolStrategy` or :class:`TaskPoolStrategy`. By default a class gets one actor, and more
                where there is room, and a function as many workers as there are CPUs. A list of :class:`ActorPoolStrategy`, each with its
                resources and ``batch_size``, is workers of several kinds, which take from the same rows, each as fast as it is: what comes
                out for a row must not depend on its batch.
            batch_format: ``"default"`` and ``"numpy"``: dict of numpy arrays; ``"pandas"``; ``"pyarrow"``.
            zero_copy_batch: Batches may be read-only views of shared memory; ``False``: numpy arrays can be written to.
            fn_args: More arguments for each call.
            fn_kwargs: More keyword arguments for each call.
            fn_constructor_args: Arguments of the class.
            fn_constructor_kwargs: Keyword arguments of the class.
            num_cpus: CPUs of each worker; by default 1, and 0 with ``num_gpus``.
            num_gpus: GPUs of each worker; may be a fraction.
            memory: Bytes of memory of each worker. One that holds more for itself alone is ended, and its batch is tried in smaller pieces.
            concurrency: Deprecated: number of workers, or ``(min, max)`` or ``(min, max, initial)`` for a class.
            udf_modifying_row_count: ``False`` promises one row out for one row in; then ``limit`` is applied before.
            resources: More resources of each worker.
            input_columns: The columns that the function gets. Others are not even read, unless they pass by.
            passthrough_columns: Columns that pass by the function and appear next to what it returns, which must then
                have one row for one row. Filters on them are applied before the function.
            max_concurrency: Calls of an async function or class that overlap in one worker, by default 4; the same as
                ``ActorPoolStrategy(max_concurrent_calls_per_actor=...)``.
            output_schema: The columns that the function returns: a ``pyarrow.Schema``, or a dict from column to type, such as
                ``{"id": int, "score": "float32", "tags": list[str]}``. They are then known without running anything, also where no row
                comes out; and a call that returns others has failed.
            rate_limit: How many calls may begin per second in all workers together, for functions that call services: a number, or a
                :class:`RateLimit`, which has limits per key and counts rows, too. What calls wait is none of their ``timeout_s``.
            cache: A folder where the result of each row is kept, by all that the function gets of the row and by what the function is: it is
                called with rows that are not there, in this and in later runs. For functions that give one row for one row.
            on_error: What becomes of rows that the function fails for: by an exception, by what it returns, by ending its process,
                by taking too long. ``"raise"``: the job fails. ``"skip"``: they are left out. ``"dead_letter"``: they are left out
                and put aside, in ``<output>/_dead_letters`` or for :meth:`dead_letters`. Such a batch is called again in halves
                until the rows are known, so a call must not change anything that it cannot change twice; what a call gives is
                handed on when it has ended. By default what ``DataContext.on_error`` says, which is ``"raise"``.
            max_errors: How many rows may fail; one more fails the job.
            max_error_ratio: Which share of the rows that come may fail. The job fails when it is known that more will have: at the
                end, or before, by the number of all rows of the source. Where that is not known, from 1000 rows on.
            timeout_s: Seconds that a call may take. One that takes longer has failed: its process is ended, and another begins.
            token_budget: Most tokens of a batch, padding included: its rows times the longest of them. One row is a batch however
                long it is.
            tokens: How many tokens a row has: the name of a column of numbers, lists or texts (their length in characters), or a
                function from a batch, as ``fn`` gets it, to a number for each row.
            byte_budget: Most bytes of a batch, of the columns that the function gets.
            window_rows: So many rows are sorted by their tokens and cut into batches of similar length; what comes out is in order
                again, so there must be one row for each.
            retry_exceptions: Calls that raise one of these are made again, ``True``: whatever they raise; after a pause that grows and
                is different each time. By default none. What finds no memory, and a ``RowError``, is not tried again.
            max_retries: How often, with ``retry_exceptions``; by default 3. Then the call has failed.
            remote_args: Other arguments of Ray: refused by name, unless they are the defaults.

        Returns:
            A dataset of what the function returns.

        Raises:
            TypeError, ValueError: as for :meth:`map`. What the function raises is raised when the dataset runs.

        Example:
            >>> import aktis.data
            >>> ds = aktis.data.range(6)
            >>> ds.map_batches(lambda batch: {"sum": [batch["id"].sum()]}, batch_size=3).take_all()
            [{'sum': 3}, {'sum': 12}]
            >>> class AddN:
            ...     def __init__(self, n):
            ...         self.n = n
            ...     def __call__(self, batch):
            ...         return {"id": batch["id"] + self.n}
            >>> ds.map_batches(AddN, fn_constructor_args=(10,)).take(2)
            [{'id': 10}, {'id': 11}]
        """
        Keywords("map_batches", used=_BATCH_OPTIONS, refused=FUNCTION_ARGS).check(remote_args)
        failures: dict[str, Any] | None = _failing.of_step(
            "map_batches()",
            on_error=on_error,
            max_errors=max_errors,
            max_error_ratio=max_error_ratio,
            timeout_s=timeout_s,
        )
        if getattr(fn, "ends_with_job", False) is True:
            failures = None
        retry = _retrying.policy("map_batches()", retry_exceptions=retry_exceptions, max_retries=max_retries)
        placed = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory, "resources": resources}
        kinds = _worker_kinds.kinds_of(
            "map_batches()", compute, placed=placed, batch_size=batch_size, constructor_kwargs=fn_constructor_kwargs
        )
        compute_spec, *others = (
            _functions.compute_of(fn, compute=kind.strategy, concurrency=concurrency, is_of_kind=True, **kind.placed)
            for kind in kinds
        )
        if _functions.is_model(fn):
            if output_schema is not None or rate_limit is not None:
                raise ValueError(
                    "map_batches(): output_schema= and rate_limit= are for functions: the columns of a model of Aktis are known, and it calls "
                    "no service"
                )
            _functions.refuse_for_models({
                "token_budget": token_budget, "tokens": tokens, "byte_budget": byte_budget, "window_rows": window_rows,
                "retry_exceptions": retry, "fn_args": fn_args, "fn_kwargs": fn_kwargs, "fn_constructor_args": fn_constructor_args,
                "fn_constructor_kwargs": fn_constructor_kwargs, "input_columns": input_columns,
                "passthrough_columns": passthrough_columns, "max_concurrency": max_concurrency,
                # Models of texts make batches of their own, whatever it says; it is for functions that are exchanged for one.
                "batch_size": batch_size if hasattr(fn, "batch_size") and batch_size != "default" else None,
            }, fn)  # fmt: skip
            if compute is None and concurrency is None and not num_gpus:
                # One actor computes with all processors of its machine.
                compute_spec["max_workers"] = 1
            model = _functions.found(fn)
            spec, *specs = (
                _functions.model_spec(
                    _worker_kinds.of_model("map_batches()", model, kind), own, kind.placed["num_cpus"]
                )
                for kind, own in zip(kinds, (compute_spec, *others), strict=True)
            )
            compute_spec["others"] = [
                _functions.other_workers(own, batch_rows=None, model=spec_of_kind)
                for own, spec_of_kind in zip(others, specs, strict=True)
            ]
            kept = None
            if cache is not None:
                kept = _caching.of_model("map_batches()", cache, (spec, *specs), self._plan.model_files(spec))
            return self._then(self._plan.model(spec, compute_spec, failures, kept))
        batchings = [
            _batching.of_step(
                batch_size=kind.batch_size, num_gpus=kind.placed["num_gpus"], token_budget=token_budget, tokens=tokens,
                byte_budget=byte_budget, window_rows=window_rows,
            )
            for kind in kinds
        ]  # fmt: skip
        batching = batchings[0]
        schema = _declared.schema_of("map_batches()", output_schema)
        sizes = [each.rows for each in batchings]
        most_rows = None if None in sizes else max(rows for rows in sizes if rows is not None)
        limit = _rate_limits.limit_of("map_batches()", rate_limit, kind="batches", batch_size=most_rows)
        name = _functions.apply_kind(fn, "MapBatches")
        definitions = [
            _functions.definition_of(
                fn, kind="batches", name=name, batch_format=_batches.check_format(batch_format),
                zero_copy=zero_copy_batch, args=fn_args, kwargs=fn_kwargs, constructor_args=fn_constructor_args,
                constructor_kwargs=kind.constructor_kwargs, calls=_functions.calls_of(kind.strategy, max_concurrency),
                output_schema=schema, limit=limit, retry=retry, tokens=batching.counter,
            )
            for kind in kinds
        ]  # fmt: skip
        definition = definitions[0]
        compute_spec["others"] = [
            _functions.other_workers(own, batch_rows=each.rows, definition=other)
            for own, each, other in zip(others, batchings[1:], definitions[1:], strict=True)
        ]
        windows = (each.window_rows(own.rows) for each, own in zip(definitions, batchings, strict=True))
        keeps_rows = bool(passthrough_columns) or not udf_modifying_row_count or batching.is_sorted
        kept = _caching.of_function(
            "map_batches()", cache, *(one.data for one in definitions), is_one_for_one=keeps_rows
        )
        return self._then(
            self._plan.map(
                definition=definition.data,
                captured=definition.captured,
                name=name,
                compute=compute_spec,
                batch_rows=batching.rows,
                window_rows=max(*windows, batching.input_rows),
                reads=input_columns,
                keeps=passthrough_columns,
                keeps_rows=keeps_rows,
                batching=batching.plan,
                produces=schema,
                failures=failures,
                cache=kept,
            )
        )

    def map(self, fn: RowFunction, **options: Unpack[MapOptions]) -> Dataset:
        """Runs a function over rows: a dict in, a dict out. Takes the options of :meth:`map_batches` but the batches'.

        Args:
            fn: a function from a dict to a dict, or a class whose ``__call__`` is one.
            options: as in :meth:`map_batches`.

        Returns:
            A dataset with one row for each row. Its columns are known once it has run, or by ``output_schema``.

        Raises:
            TypeError: an option has the wrong type, or is not known.
            ValueError: an option of Ray that is not there, with what to do instead.

        >>> import aktis.data
        >>> aktis.data.range(2).map(lambda row: {"id": row["id"], "even": row["id"] % 2 == 0}).take_all()
        [{'id': 0, 'even': True}, {'id': 1, 'even': False}]
        """
        return self._map_rows(fn, "Map", "rows", {**options}, keeps_rows=True)

    def flat_map(self, fn: ManyRowsFunction, **options: Unpack[MapOptions]) -> Dataset:
        """Runs a function from a row to any number of rows.

        Args:
            fn: a function from a dict to a list (or any iterable) of dicts, or a class whose ``__call__`` is one.
            options: as in :meth:`map_batches`.

        Returns:
            A dataset with all of these rows, in order.

        Raises:
            TypeError, ValueError: as for :meth:`map`.

        >>> import aktis.data
        >>> aktis.data.range(3).flat_map(lambda row: [{"n": row["id"]}] * row["id"]).take_all()
        [{'n': 1}, {'n': 2}, {'n': 2}]
        """
        return self._map_rows(fn, "FlatMap", "flat_rows", {**options})

    def filter(
        self,
        fn: Callable[..., Any] | str | Expr | None = None,
        expr: str | Expr | None = None,
        **options: Unpack[RowOptions],
    ) -> Dataset:
        """Keeps the rows for which an expression or a function is true.

        Prefer ``expr``: it runs without Python, before anything that does not change its columns, and down in the reader,
        which skips what cannot match.

        Args:
            fn: a function from a dict to a truth value, or a class whose ``__call__`` is one.
            expr: an expression of :mod:`aktis.data.expressions` or of pyarrow over the columns, or SQL text: names with dots as they are,
                text in single quotes, or in double quotes beside a column.
            options: as in :meth:`map_batches`; only with a function.

        Returns:
            A dataset with the rows for which it is true; null is not true.

        Raises:
            ValueError: the expression cannot be read, or names a column that is not there; or neither, or both, are given.
            TypeError: the expression is none.

        >>> import aktis.data
        >>> aktis.data.range(10).filter(expr="id > 6 and id <> 8").take_all()
        [{'id': 7}, {'id': 9}]
        >>> aktis.data.range(10).filter(lambda row: row["id"] % 5 == 0).take_all()
        [{'id': 0}, {'id': 5}]
        >>> aktis.data.range(10).filter("id > 8").take_all()
        [{'id': 9}]
        """
        if expr is None and fn is not None and (isinstance(fn, Expr) or not callable(fn)):
            fn, expr = None, fn
        if (fn is None) == (expr is None):
            raise ValueError("filter() needs either a function or expr=...")
        if expr is not None:
            if any(options.get(name) is not None for name in (*_failing.OPTIONS, "rate_limit")):
                raise ValueError("filter(): an expression calls no function, so on_error= and its kin say nothing")
            harmless = dict.fromkeys(_WORKERS, "an expression runs where rows are read, without workers of its own")
            Keywords("filter", harmless=harmless, refused=REMOTE_ARGS).check(options)
            return self._then(filtered(self._plan, "filter(expr=...)", expr))
        return self._map_rows(fn, "Filter", "mask", {**options}, is_mask=True)

    def _map_rows(
        self,
        fn: Any,
        prefix: str,
        kind: str,
        options: dict[str, Any],
        *,
        is_mask: bool = False,
        keeps_rows: bool = False,
    ) -> Dataset:
        calls = {
            name: options.pop(f"fn_{name}", None)
            for name in ("args", "kwargs", "constructor_args", "constructor_kwargs")
        }
        reads = options.pop("input_columns", None)
        schema = None if is_mask else _declared.schema_of(f"{_CALLED[prefix]}()", options.pop("output_schema", None))
        compute, concurrency = options.pop("compute", None), options.pop("concurrency", None)
        placed = {name: options.pop(name, None) for name in _worker_kinds.RESOURCES}
        kinds = _worker_kinds.kinds_of(
            f"{_CALLED[prefix]}()",
            compute,
            placed=placed,
            constructor_kwargs=calls.pop("constructor_kwargs"),
            has_batches=False,
        )
        failures = _failing.taken(f"{_CALLED[prefix]}()", options)
        limit = _rate_limits.limit_of(f"{_CALLED[prefix]}()", options.pop("rate_limit", None), kind=kind, batch_size=1)
        cache = None if is_mask else options.pop("cache", None)
        retry = _retrying.taken(f"{_CALLED[prefix]}()", options)
        at_once = options.pop("max_concurrency", None)
        Keywords(_CALLED[prefix], used=_ROW_OPTIONS if is_mask else _MAP_OPTIONS, refused=FUNCTION_ARGS).check(options)
        compute_spec, *others = (
            _functions.compute_of(fn, compute=one.strategy, concurrency=concurrency, is_of_kind=True, **one.placed)
            for one in kinds
        )
        name = _functions.apply_kind(fn, prefix)
        definitions = [
            _functions.definition_of(
                fn, kind=kind, name=name, calls=_functions.calls_of(one.strategy, at_once), output_schema=schema, limit=limit,
                retry=retry, constructor_kwargs=one.constructor_kwargs, **calls,
            )
            for one in kinds
        ]  # fmt: skip
        definition = definitions[0]
        batch_rows = None if limit is None else _rate_limits.rows_at_once(limit)
        compute_spec["others"] = [
            _functions.other_workers(own, batch_rows=batch_rows, definition=other)
            for own, other in zip(others, definitions[1:], strict=True)
        ]
        return self._then(
            self._plan.map(
                definition=definition.data,
                captured=definition.captured,
                name=name,
                compute=compute_spec,
                batch_rows=batch_rows,
                window_rows=max(each.window_rows(1) for each in definitions),
                reads=reads,
                keeps_rows=keeps_rows,
                is_mask=is_mask,
                produces=schema,
                failures=failures,
                cache=_caching.of_function(
                    f"{_CALLED[prefix]}()", cache, *(one.data for one in definitions), is_one_for_one=keeps_rows
                ),
            )
        )

    def add_column(
        self,
        col: str,
        fn: Callable[[Any], Any] | Expr,
        *,
        batch_format: BatchFormat = "pandas",
        compute: ActorPoolStrategy | TaskPoolStrategy | Literal["tasks", "actors"] | None = None,
        concurrency: int | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        max_concurrency: int | None = None,
        rate_limit: float | RateLimit | None = None,
        on_error: OnError | None = None,
        max_errors: int | None = None,
        max_error_ratio: float | None = None,
        timeout_s: float | None = None,
        retry_exceptions: RetryExceptions | None = None,
        max_retries: int | None = None,
        **remote_args: Unpack[FunctionArgs],
    ) -> Dataset:
        """Adds or replaces a column by what a function makes of each batch, or by an expression.

        Args:
            col: the column's name; one that is there is replaced.
            fn: a function from a batch to a value per row: an array, a series, or one value for all of them; or an expression, as in
                :meth:`with_column`.
            batch_format: of the batch that it gets, as in :meth:`map_batches`.
            compute: as in :meth:`map_batches`.
            concurrency, num_cpus, num_gpus, memory, resources, max_concurrency: as in :meth:`map_batches`.
            rate_limit, on_error, max_errors, max_error_ratio, timeout_s: as in :meth:`map_batches`; only with a function.
            retry_exceptions, max_retries: the same.
            remote_args: as in :meth:`map_batches`.

        Returns:
            A dataset with one column more.

        Raises:
            TypeError, ValueError: as for :meth:`map`.

        >>> import aktis.data
        >>> aktis.data.range(2).add_column("double", lambda df: df["id"] * 2).take_all()
        [{'id': 0, 'double': 0}, {'id': 1, 'double': 2}]
        """
        used = (*_ROW_OPTIONS, "batch_format")
        Keywords("add_column", used=used, refused=FUNCTION_ARGS).check(remote_args)
        failures = _failing.of_step(
            "add_column()",
            on_error=on_error,
            max_errors=max_errors,
            max_error_ratio=max_error_ratio,
            timeout_s=timeout_s,
        )
        retry = _retrying.policy("add_column()", retry_exceptions=retry_exceptions, max_retries=max_retries)
        if isinstance(fn, Expr):
            if any(value is not None for value in (*failures.values(), rate_limit, retry)):
                raise ValueError(
                    f"add_column({col!r}): an expression calls no function, so on_error= and its kin say nothing"
                )
            return self._then(computed(self._plan, "add_column()", {col: fn}))
        if not callable(fn):
            raise TypeError(
                f"add_column({col!r}) takes a function of a batch, not {type(fn).__name__}: for the same value in each row, "
                f"lambda batch: {fn!r:.40}"
            )
        compute_spec = _functions.compute_of(
            fn, compute=compute, concurrency=concurrency, num_cpus=num_cpus, num_gpus=num_gpus, memory=memory,
            resources=resources,
        )  # fmt: skip
        name = f"{col}={_functions.name_of(fn)}"
        definition = _functions.definition_of(
            fn, kind="column", name=name, batch_format=_batches.check_format(batch_format),
            calls=_functions.calls_of(compute, max_concurrency), retry=retry,
            limit=_rate_limits.limit_of("add_column()", rate_limit, kind="column", batch_size=None),
        )  # fmt: skip
        return self._then(
            self._plan.map(
                definition=definition.data,
                captured=definition.captured,
                name=f"AddColumn({col})",
                compute=compute_spec,
                window_rows=definition.window_rows(None),
                keeps_all_except=[col],
                keeps_rows=True,
                failures=failures,
            )
        )
