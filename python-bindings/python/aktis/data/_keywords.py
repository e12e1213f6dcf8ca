"""Keywords of Ray's functions that Aktis has no use for: refused by name, or harmless for a reason that is given here.

Nothing is accepted and ignored: what would change what happens is refused with the way out, what is misspelt is told with
the nearest name there is.

    >>> Keywords("f", harmless={"prefetch": "rows are made ahead anyway"}, refused={"color": Refused("paint it")}).check({})
    >>> Keywords("f", refused={"color": Refused("paint it")}).check({"color": "red"})
    Traceback (most recent call last):
    ...
    NotImplementedError: f(color=...) is not there yet: paint it
    >>> Keywords("f", refused={"color": Refused("paint it")}).check({"colour": "red"})
    Traceback (most recent call last):
    ...
    TypeError: f() got an unknown argument 'colour'; did you mean 'color'?
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

#: Methods that call functions of users, but for the one that takes all options.
_KIN = frozenset({"map", "flat_map", "filter", "add_column", "map_groups"})
_OF_BATCHES = "it is for map_batches(), whose function gets batches"
_OF_ROWS = "it is for map_batches(), map(), flat_map(), filter() and add_column()"
_OF_MADE_ROWS = "it is for map_batches(), map() and flat_map(), whose functions make rows"
#: What some of them take and others do not.
_OF_KIN = {
    **dict.fromkeys(
        ("batch_size", "token_budget", "tokens", "byte_budget", "window_rows", "zero_copy_batch", "udf_modifying_row_count", "passthrough_columns"),
        _OF_BATCHES,
    ),
    **dict.fromkeys(
        ("rate_limit", "on_error", "max_errors", "max_error_ratio", "timeout_s", "max_concurrency"), _OF_ROWS
    ),
    "output_schema": _OF_MADE_ROWS,
    "cache": "it is for functions that make one row of one row, in map_batches() and map()",
    "input_columns": "it is for map_batches(), map(), flat_map() and filter(); select_columns() before it does the same",
    "batch_format": "it is for map_batches(), add_column() and map_groups(), whose functions get batches",
}  # fmt: skip


class Refused(NamedTuple):
    """A keyword that would change what happens."""

    #: What to do instead.
    way_out: str
    #: Values that mean the same as leaving it out.
    accepted: tuple[Any, ...] = (None,)


class Keywords:
    """The keywords of a function that it does not use."""

    def __init__(
        self,
        function: str,
        *,
        used: Iterable[str] = (),
        harmless: Mapping[str, str] | None = None,
        refused: Mapping[str, Refused] | None = None,
    ) -> None:
        self.function = function
        self.used = tuple(used)
        self.harmless = dict(harmless or {})
        self.refused = dict(refused or {})

    def check(self, given: Mapping[str, Any]) -> None:
        """Raises for what is not harmless."""
        for name, value in given.items():
            if name in self.refused:
                refused = self.refused[name]
                if not any(value is fine or _equal(value, fine) for fine in refused.accepted):
                    raise NotImplementedError(f"{self.function}({name}=...) is not there yet: {refused.way_out}")
            elif name not in self.harmless:
                if self.function in _KIN and name in _OF_KIN:
                    raise TypeError(f"{self.function}() takes no {name}=: {_OF_KIN[name]}")
                raise TypeError(f"{self.function}() got an unknown argument {name!r}{self._nearest(name)}")

    def _nearest(self, name: str) -> str:
        known = [*self.used, *self.harmless, *self.refused]
        nearest = difflib.get_close_matches(name, known, n=1)
        if nearest:
            return f"; did you mean {nearest[0]!r}?"
        return f"; known are {', '.join(sorted(self.used))}" if self.used else ""


def _equal(value: Any, other: Any) -> bool:
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:  # noqa: BLE001 - it has no truth, so it is not one of the plain values
        return False


def refuse_reseeding(call: str, wanted: Any) -> None:
    """Runs of one dataset agree."""
    refused = Refused("make the dataset again with another seed, or without one", (False,))
    Keywords(call, refused={"reseed_after_execution": refused}).check({"reseed_after_execution": wanted})


def sql_of(call: str, expression: Any) -> str:
    """The text of an SQL expression that the user gave, by ``call``.

    >>> sql_of("filter(expr=...)", "id > 3")
    'id > 3'
    >>> sql_of("filter(expr=...)", [("id", ">", 3)])
    Traceback (most recent call last):
    ...
    TypeError: filter(expr=...) takes an expression, col('id') > 3, or SQL as text, for example "id > 3 and name = 'a'", not list
    """
    if isinstance(expression, str):
        return expression
    example = "\"id > 3 and name = 'a'\""
    raise TypeError(
        f"{call} takes an expression, col('id') > 3, or SQL as text, for example {example}, not {type(expression).__name__}"
    )


_NO_RETRY = (
    "a worker that dies is replaced and its input run again; DataContext.max_worker_deaths_per_input says how often"
)

#: What Ray gives to the tasks and actors of ``map_batches`` and its kin, and is not there.
FUNCTION_ARGS = {
    "accelerator_type": Refused("give the nodes a resource of that name, and ask for it with resources={...}"),
    "label_selector": Refused("ask for a resource that only these nodes have, with resources={...}", (None, {})),
    "fallback_strategy": Refused("ask for a resource that all these nodes have, with resources={...}", (None, [])),
    "runtime_env": Refused("set variables and packages where the nodes are started", (None, {})),
    "scheduling_strategy": Refused("ask for a resource of the nodes that you mean, with resources={...}", (None, "DEFAULT")),
    "ray_remote_args_fn": Refused("give the resources of all workers as arguments"),
    "max_calls": Refused("workers stay until their stage is over; free memory in the function", (None, 0)),
    "max_restarts": Refused(_NO_RETRY, (None, -1)),
    "max_task_retries": Refused(_NO_RETRY, (None, -1)),
}  # fmt: skip
#: The same where no function of the user runs, or no call of it is made again.
REMOTE_ARGS = {
    **FUNCTION_ARGS,
    "max_retries": Refused(_NO_RETRY, (None, -1)),
    "retry_exceptions": Refused(
        "functions of map_batches and its kin take it; requests to stores are made again where that can help",
        (None, False),
    ),
}

#: What runs no function needs no workers: columns are chosen and renamed where rows are read or passed on.
NO_WORKERS = "no function runs, so there are no workers of its own"
COLUMN_HINTS: dict[str, str] = dict.fromkeys(
    ("compute", "concurrency", "num_cpus", "num_gpus", "memory", "resources"), NO_WORKERS
)

#: Options of :func:`pyarrow.parquet.write_table` that Ray passes on.
PYARROW_WRITER = {
    name: Refused("leave it out, or write the tables of iter_batches(batch_format='pyarrow') with pyarrow")
    for name in (
        "version", "use_deprecated_int96_timestamps", "coerce_timestamps",
        "allow_truncated_timestamps", "flavor", "use_byte_stream_split",
        "column_encoding", "data_page_version", "use_compliant_nested_type", "encryption_properties",
        "write_batch_size", "dictionary_pagesize_limit", "store_schema", "write_page_index", "write_page_checksum",
        "store_decimal_as_integer",
    )
}  # fmt: skip
