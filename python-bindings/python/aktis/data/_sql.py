"""Datasets by SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _native, _recursion
from ._sql_functions import SqlFunction, function_of
from .dataset import Dataset

if TYPE_CHECKING:
    from ._typed import NativeModel


def sql(
    query: str,
    *,
    functions: Mapping[str, SqlFunction | NativeModel | Callable[..., Any]] | None = None,
    **datasets: Dataset,
) -> Dataset:
    """The rows that a query selects from datasets.

    Names are those of the columns as they are, capitals included; functions are those of DataFusion. Joins of all kinds, ``GROUP BY``,
    ``HAVING``, ``DISTINCT``, ``ORDER BY``, ``LIMIT``, ``OFFSET``, ``UNION``, ``EXCEPT``, ``INTERSECT``, windows (``OVER``), ``PIVOT``,
    ``UNPIVOT``, ``UNNEST``, ``VALUES``, subqueries and ``WITH`` are run by as many workers as there are; ``WITH RECURSIVE`` runs its step
    in rounds, each of which is a job. A clause that cannot be run is refused by its name when this is called.

    Args:
        query: ``SELECT ... FROM ...`` over the names of the keyword arguments.
        functions: what the query may call besides, by name: a :class:`SqlFunction`, a function of
            :func:`aktis.data.expressions.udf` with a ``return_dtype``, or a native model such as :class:`aktis.models.TextEmbedder`.
            Each call is a step with workers of its own, and gets the rows that are left when conditions that call nothing have been looked at.
        datasets: the datasets. Their columns must be known: those of files are looked up in the first one; behind a function in
            Python call ``ds.schema()`` before, or give ``ds.materialize()``. Rows that have other columns later fail the run.

    Returns:
        A dataset. Nothing runs until rows are taken.

    Raises:
        TypeError: something that is no dataset was given, or a function is called with other arguments than it takes.
        ValueError: the query cannot be read, names what is not there, or asks for what cannot be run yet; or nobody has said what a
            function returns.

    >>> import aktis.data
    >>> docs = aktis.data.from_items([{"text": "a ray", "size": 5}, {"text": "of light", "size": 8}])
    >>> aktis.data.sql("select upper(text) as text from docs where size > 5", docs=docs).take_all()
    [{'text': 'OF LIGHT'}]
    >>> labels = aktis.data.from_items([{"text": "a ray", "label": "x"}, {"text": "of light", "label": "x"}])
    >>> query = "select label, sum(size) as total from docs join labels using (text) group by label"
    >>> aktis.data.sql(query, docs=docs, labels=labels).take_all()
    [{'label': 'x', 'total': 13}]
    >>> shout = aktis.data.SqlFunction(lambda texts: [text.upper() + "!" for text in texts.to_pylist()], str)
    >>> aktis.data.sql("select shout(text) as text from docs where size > 5", functions={"shout": shout}, docs=docs).take_all()
    [{'text': 'OF LIGHT!'}]
    """
    if isinstance(functions, Dataset) or not isinstance(functions or {}, Mapping):
        raise TypeError(
            f"sql(): functions is a dict of what the query may call, and no {type(functions).__name__}; a dataset needs another name"
        )
    called = {name: function_of(name, given) for name, given in (functions or {}).items()}
    for name, dataset in datasets.items():
        if not isinstance(dataset, Dataset):
            raise TypeError(
                f"sql(): {name} is a {type(dataset).__name__} and no dataset; from_pandas(), from_arrow() and from_items() make one of "
                "frames, tables and rows, and values stand in the query"
            )
    tables = [(name, _with_columns(name, dataset)) for name, dataset in datasets.items()]
    own = [function._native(name) for name, function in called.items()]
    query, tables = _recursion.given(query, tables, own)
    return Dataset(_native.plan().sql(query, tables, own))


def _with_columns(name: str, dataset: Dataset) -> Any:
    """The plan of a dataset, which tells its columns if reading is all that has to be done to know them."""
    plan = dataset._plan
    if plan.schema() is not None:
        return plan
    has_functions = plan.has_functions()
    columns = dataset.schema(fetch_if_missing=not has_functions)
    if columns is None and not has_functions:
        raise ValueError(
            f"sql(): there are no rows in '{name}', and its files tell no column: leave it out, or write a header"
        )
    return plan if columns is None else plan.declared(columns.base_schema)
