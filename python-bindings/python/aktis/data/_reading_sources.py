"""Where datasets begin in databases, in datasets of other libraries, and in sources of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _native, _one_node
from ._chosen_files import PART_BYTES
from ._functions import definition_of
from ._reading import _check_hints
from .dataset import Dataset

if TYPE_CHECKING:
    from typing import Unpack

    from ._typed import SourceHints
    from .datasource import Datasource

#: Tasks that a source is asked for, if nothing was said: as many as Ray asks for.
_TASKS = 200


def read_datasource(datasource: Datasource, **hints: Unpack[SourceHints]) -> Dataset:
    """The rows of a source of one's own, see :mod:`aktis.data.datasource`.

    Args:
        datasource: Says which tasks read what. It is asked at once; the tasks run in workers, when rows are wanted.
        hints: ``override_num_blocks``: how many tasks to ask for. Other arguments of Ray are refused by name.

    Returns:
        A dataset of the rows of all tasks, in their order. A task whose worker dies is run again.

    Raises:
        TypeError: it is no Datasource, or a task cannot be sent to workers.
        NotImplementedError: it says that only this node can read, and there are others.

    Example:
        >>> from aktis.data import Datasource, ReadTask
        >>> class Two(Datasource):
        ...     def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        ...         return [ReadTask(lambda n=n: [{"n": [n]}]) for n in (1, 2)]
        >>> read_datasource(Two()).take_all()
        [{'n': 1}, {'n': 2}]
    """
    from ._formats import tasks
    from .datasource import Datasource, FileBasedDatasource, ReadTask

    if not getattr(datasource, "supports_distributed_reads", True):
        _one_node.check_is_here(
            f"{type(datasource).__name__}.supports_distributed_reads",
            "give from_items() or from_arrow() what only this process can read",
        )
    if isinstance(datasource, FileBasedDatasource):
        from ._chosen_files import Files
        from ._formats.own import Own

        return Files(*datasource._told, hints, datasource._filesystem).dataset(Own(datasource))
    parts = _check_hints("read_datasource", hints)
    if not isinstance(datasource, Datasource):
        raise TypeError(
            f"read_datasource() takes an aktis.data.Datasource, not {type(datasource).__name__}: derive from it, and give it a "
            "method get_read_tasks(self, parallelism, ...)"
        )
    name = f"Read{datasource.get_name()}"
    size = datasource.estimate_inmemory_data_size()
    wanted = parts or (_TASKS if size is None else max(1, min(_TASKS, size // PART_BYTES)))
    given = datasource.get_read_tasks(wanted)
    for task in given:
        if not isinstance(task, ReadTask):
            raise TypeError(f"{name}: get_read_tasks() returns a list of ReadTask, and not {type(task).__name__}")
    dumped = [(tasks.dumped(task, name), task.metadata.num_rows or 0) for task in given]
    definition = definition_of(tasks.Runner(name), kind="read", name=name)
    return Dataset(_native.plan().read_tasks(definition.data, dumped))


def read_sql(
    sql: str | Sequence[str],
    connection_factory: Callable[[], Any],
    *,
    sql_params: Any = None,
    shard_keys: Sequence[str] | None = None,
    shard_hash_fn: str = "MD5",
    partition_column: str | None = None,
    **hints: Unpack[SourceHints],
) -> Dataset:
    """The rows of a query to a database.

    Args:
        sql: The query; or several, each of which is a part.
        connection_factory: Called in workers: gives a connection of Python's DB API 2 (PEP 249).
        sql_params: Values for the query's place holders.
        shard_keys: Columns whose values, hashed, tell which of the parts a row belongs to; how many parts there are is said by
            ``override_num_blocks``. Without keys the rows come in one part.
        shard_hash_fn: The database's function that hashes them.
        partition_column: A column of numbers, dates or times, best one with an index: the rows come in parts by its values, evenly from the
            least to the greatest, for which the database is asked here. ``override_num_blocks`` says how many; without it, up to 16.
        hints: As for :func:`read_datasource`.

    Returns:
        A dataset with the columns of the query, whose types are those of Python's values.

    Raises:
        ValueError: the database cannot share the rows out, or rows are to be shared out in more than one way.

    Example:
        >>> import os, sqlite3, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.db")
        >>> with sqlite3.connect(path) as connection:
        ...     _ = connection.execute("CREATE TABLE words AS SELECT 1 AS id, 'one' AS word")
        >>> read_sql("SELECT * FROM words", lambda: sqlite3.connect(path)).take_all()
        [{'id': 1, 'word': 'one'}]
    """
    from ._formats.sql import SQL, Queries, Ranges

    if not callable(connection_factory):
        raise TypeError(
            "read_sql() takes a function that makes a connection, so that each worker has its own: lambda: connect(...)"
        )
    if (not isinstance(sql, str)) + bool(shard_keys) + (partition_column is not None) > 1:
        raise ValueError(
            "read_sql(): give several queries, or shard_keys, or a partition_column: rows are shared out in one way"
        )
    source: Datasource
    if not isinstance(sql, str):
        queries = list(sql)
        if not queries or not all(isinstance(query, str) for query in queries):
            raise TypeError(f"read_sql() takes a query or a list of queries, not {sql!r:.80}")
        source = Queries(queries, connection_factory, sql_params)
    elif partition_column is not None:
        parts = _check_hints("read_sql", hints)
        source = Ranges(sql, connection_factory, sql_params, partition_column, parts)
    else:
        source = SQL(sql, connection_factory, sql_params, shard_keys, shard_hash_fn)
    return read_datasource(source, **hints)


def from_torch(dataset: Any, **hints: Unpack[SourceHints]) -> Dataset:
    """The items of a ``torch.utils.data.Dataset`` in the column ``item``.

    Args:
        dataset: One with numbered items is read in parts; one that is iterated, in one.
        hints: As for :func:`read_datasource`.

    Returns:
        A dataset with a row per item.

    Raises:
        TypeError: it has no items.

    >>> from_torch([10, 20]).take_all()
    [{'item': 10}, {'item': 20}]
    """
    from ._formats.items import Items

    return read_datasource(Items(dataset), **hints)


def from_tf(dataset: Any) -> Dataset:
    """The elements of a ``tf.data.Dataset``, which this process iterates over here and now, and holds in memory.

    Large data is better read from its files, by :func:`aktis.data.read_tfrecords` for instance.

    Args:
        dataset: Of dicts, whose keys become columns; other elements are in the column ``item``.

    Returns:
        A dataset with a row per element. Tensors are arrays, text is bytes, as TensorFlow has it.

    Raises:
        TypeError: it is no dataset of TensorFlow, or its elements are tuples.

    Example:
        >>> import tensorflow as tf  # doctest: +SKIP
        >>> from_tf(tf.data.Dataset.from_tensor_slices({"x": [1, 2]})).take_all()  # doctest: +SKIP
        [{'x': 1}, {'x': 2}]
    """
    from ._reading import from_items

    if not callable(getattr(dataset, "as_numpy_iterator", None)):
        raise TypeError(f"from_tf() takes a tf.data.Dataset, not {type(dataset).__name__}")
    elements = list(dataset.as_numpy_iterator())
    if elements and isinstance(elements[0], tuple):
        raise TypeError(
            "from_tf(): the elements are tuples, whose parts have no names: give them some by dataset.map(lambda x, y: {'x': x, 'y': y})"
        )
    return from_items(elements)


def from_huggingface(dataset: Any, **hints: Unpack[SourceHints]) -> Dataset:
    """The rows of a dataset of Hugging Face's library ``datasets``.

    Args:
        dataset: A ``Dataset``, whose rows are taken as they lie in memory or in its files; or an ``IterableDataset``, which a worker
            iterates, in one part.
        hints: As for :func:`read_datasource`.

    Returns:
        A dataset with the same columns.

    Raises:
        TypeError: it is something else; of a ``DatasetDict``, give one of the splits.

    Example:
        >>> import datasets  # doctest: +SKIP
        >>> from_huggingface(datasets.Dataset.from_dict({"x": [1, 2]})).take_all()  # doctest: +SKIP
        [{'x': 1}, {'x': 2}]
    """
    if isinstance(dataset, Mapping):
        raise TypeError(
            f"from_huggingface() takes one split, dataset[{next(iter(dataset), 'train')!r}], and not all of them"
        )
    if not hasattr(dataset, "with_format"):
        raise TypeError(f"from_huggingface() takes a dataset of the library datasets, not {type(dataset).__name__}")
    if hasattr(dataset, "__len__"):
        from ._reading import from_arrow

        return from_arrow(dataset.with_format("arrow")[:], **hints)
    from ._formats.huggingface import Iterated

    return read_datasource(Iterated(dataset), **hints)
