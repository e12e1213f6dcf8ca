"""Where datasets begin."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _batches, _native, _one_schema, _partitioning, _wrong_outputs
from ._computed import filtered
from ._expr import Expr
from ._keywords import REMOTE_ARGS, Keywords, Refused
from .dataset import Dataset

if TYPE_CHECKING:
    from typing import Literal, Unpack

    import numpy
    import pandas
    import pyarrow

    from ._chosen_files import FileShuffleConfig
    from ._partitioning import Partitioning
    from ._typed import ArrowStream, ReadHints, SourceHints


#: What Parquet files are called.
_DEFAULT_EXTENSIONS: Any = ("parquet", "pq", "parq")
#: So much of a file's end is read for its footer: `storage/footer.rs`.
_FOOTER_BYTES = 64 << 10


def read_parquet(
    paths: str | os.PathLike[str] | list[str | os.PathLike[str]],
    *,
    columns: list[str] | None = None,
    filter: str | Expr | None = None,
    file_extensions: list[str] | None = _DEFAULT_EXTENSIONS,
    partitioning: Literal["hive"] | Partitioning | None = "hive",
    include_paths: bool = False,
    ignore_missing_paths: bool = False,
    skip_paths: str | list[str] | None = None,
    shuffle: Literal["files"] | FileShuffleConfig | None = None,
    partition_filter: Callable[[list[str]], Any] | None = None,
    merge_schema: bool | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of Parquet files.

    Files may differ in their columns: the dataset has those of all files, by name, each of a type that all values fit
    into, and null where a file has none. Of many files elsewhere only some are looked at for that first; see ``merge_schema``.

    Args:
        paths: A file, a folder (which is searched through), a pattern with ``*``, ``?`` or ``**``, or a list of these; here or
            elsewhere (``s3://``, ``gs://``, ``abfs://``, ``https://``, ...: see `docs/data/reading.md`).
        columns: The columns to read; others are never touched.
        filter: An expression, as for :meth:`Dataset.filter`: row groups and pages without matching rows are not read.
        file_extensions: Endings of the files of a folder that are read, in small letters or capitals; ``None``: all files.
        partitioning: ``"hive"``: folders like ``day=2024-01-01`` add a column of text; ``None``: they do not; a
            ``datasource.Partitioning`` says more.
        include_paths: Adds the column ``path``, also to chosen ones; a filter by it passes over files.
        ignore_missing_paths: Passes over paths that are not there, as long as there is another.
        skip_paths: A file or folder, or a list of these, that is left out, whether it is there or not.
        shuffle: ``"files"``: reads the files in an order by chance; a ``FileShuffleConfig(seed=...)``: in the same one every time.
        partition_filter: Gets all paths and returns those that are read.
        merge_schema: ``True``: the columns are those of all files, whose footers are read here. ``False``: those of 32 files; others may
            lack some of them, and one that has more, or values that do not fit, is an error of the run that names it. ``None``: all
            of up to 20 000 local files, or of up to 64 elsewhere; of more 32, if these have the same columns.
        hints: ``filesystem``: one of ``pyarrow.fs`` or fsspec that the paths lie in. ``override_num_blocks``: how many parts to
            read in. Other arguments of Ray are refused by name.

    Returns:
        A dataset. Nothing but names and footers has been read.

    Raises:
        FileNotFoundError: there is no such file, or no file in the folder; the message says what was looked for.
        OSError: a file is not Parquet, or cannot be read.
        ValueError: columns of one name have no type in common; both files are named.

    Example:
        >>> import os, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> from_items([{"id": i, "word": w} for i, w in enumerate(["a", "b", "c"])]).write_parquet(folder)
        >>> read_parquet(folder, columns=["word"], filter="id > 0").take_all()
        [{'word': 'b'}, {'word': 'c'}]
    """
    parts = _check_hints("read_parquet", hints)
    from ._chosen_files import chosen_files, extensions_of, without
    from ._stores.choosing import chosen_store

    texts = _paths("read_parquet", paths)
    extensions = extensions_of(file_extensions)
    filesystem = hints.get("filesystem")
    store, names = chosen_store("read_parquet", texts, filesystem)
    is_hive = _partitioning.is_hive("read_parquet", partitioning)
    files: list[tuple[str, int, int]] = []
    has_path = include_paths or _partitioning.needs_path_column(partitioning)
    if merge_schema not in (None, True, False):
        raise TypeError(f"read_parquet(): merge_schema must be True, False or None, not {merge_schema!r}")
    looks = partition_filter is not None or shuffle or skip_paths or _partitioning.needs_paths(partitioning)
    looks = looks or merge_schema is False
    if store is not None or looks:
        skipped = _paths("read_parquet", skip_paths or [])
        texts = without("read_parquet", texts, skipped)
        store, chosen = chosen_files(
            "read_parquet", texts, extensions, ignore_missing_paths, partition_filter, shuffle, filesystem=filesystem,
            foresees=None if skip_paths else _footers,
        )  # fmt: skip
        names = without("read_parquet", [path for path, *_ in chosen], skipped)
        left = set(names)
        files = [file for file in chosen if file[0] in left]
    if store is None and merge_schema is not False:
        plan = _native.plan().read_parquet(names, extensions, is_hive, has_path, ignore_missing_paths, merge_schema)
    else:
        definition = b"" if store is None else store.dumped("read_parquet")
        plan = _native.plan().read_parquet_in(definition, files, is_hive, has_path, merge_schema)
        if store is not None:
            store.forget_foreseen()
    dataset = _in_parts(plan, parts)
    dataset = _partitioning.applied("read_parquet", dataset, partitioning, names, include_paths=include_paths)
    if filter is not None:
        dataset = dataset._then(filtered(dataset._plan, "read_parquet(filter=...)", filter))
    if columns is None:
        return dataset
    # It was asked for by another argument.
    return dataset.select_columns([*columns, *(["path"] if include_paths and "path" not in columns else [])])


def _footers(files: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """What the native module reads first of Parquet files."""
    return [(path, max(0, size - _FOOTER_BYTES), size) for path, size in files]


def range(n: int, **hints: Unpack[SourceHints]) -> Dataset:
    """The numbers from 0 to ``n - 1`` in the column ``id``.

    Args:
        n: how many.
        hints: ``override_num_blocks``: how many parts to read in. Other arguments of Ray are refused by name.

    Returns:
        A dataset of one column of ``int64``.

    Raises:
        ValueError: ``n`` is not a whole number of at least 0.

    >>> range(4).take_all()
    [{'id': 0}, {'id': 1}, {'id': 2}, {'id': 3}]
    """
    parts = _check_hints("range", hints)
    if not isinstance(n, int) or n < 0:
        raise ValueError(f"range() needs a whole number of at least 0, not {n!r}")
    return _in_parts(_native.plan().range(n), parts)


def from_items(items: Iterable[Any], **hints: Unpack[SourceHints]) -> Dataset:
    """Python objects: dicts become rows, anything else goes into the column ``item``.

    Args:
        items: dicts from column to value, or values.
        hints: as for :func:`range`.

    Returns:
        A dataset with a row per item. A key that some dicts lack is null there.

    Raises:
        TypeError: ``items`` are not a list or another iterable; or a dict or text, whose parts are hardly meant.
        ValueError: a column has values of types that do not go together; both rows are named.

    >>> from_items([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]).take_all()
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    >>> from_items([10, 20]).take_all()
    [{'item': 10}, {'item': 20}]
    """
    parts = _check_hints("from_items", hints)
    items = _list_of(items)
    if not items:
        return from_arrow(_batches.columns_to_arrow({}, "from_items()"))
    rows = items if all(isinstance(item, Mapping) for item in items) else [{"item": item} for item in items]
    return _from_batches([_batches.rows_to_arrow(rows, "from_items()")], "from_items()", parts)


def from_arrow(
    tables: pyarrow.Table
    | pyarrow.RecordBatch
    | ArrowStream
    | Sequence[pyarrow.Table | pyarrow.RecordBatch | ArrowStream],
    **hints: Unpack[SourceHints],
) -> Dataset:
    """Arrow tables, without a copy until they are used.

    Args:
        tables: tables or record batches, frames of polars, relations of DuckDB, and what else has Arrow's ``__arrow_c_stream__``; their columns go together by name.
        hints: as for :func:`range`.

    Returns:
        A dataset of their rows, in order.

    Raises:
        TypeError: something is no table.
        ValueError: there is none, or two have a column of types that do not go together.

    >>> import pyarrow
    >>> from_arrow(pyarrow.table({"x": [1, 2]})).count()
    2
    """
    parts = _check_hints("from_arrow", hints)
    import pyarrow

    if not isinstance(tables, (list, tuple)):
        tables = [tables]
    if not tables:
        raise ValueError("from_arrow() needs at least one table")
    batches: list[Any] = []
    for table in tables:
        if isinstance(table, pyarrow.RecordBatch):
            batches.append(table)
        elif isinstance(table, pyarrow.Table):
            batches.extend(table.to_batches() or [_batches._one_batch(table)])  # pyright: ignore[reportAttributeAccessIssue]
        elif _batches.is_frame(table):
            whole = _batches.table_of(table)
            batches.extend(whole.to_batches() or [_batches._one_batch(whole)])
        else:
            kind = type(table).__name__
            hint = "; from_pandas() takes frames of pandas" if kind == "DataFrame" else ""
            raise TypeError(f"from_arrow() takes pyarrow tables, and frames of polars and their like, not {kind}{hint}")
    return _from_batches(batches, "from_arrow()", parts)


def from_pandas(dfs: pandas.DataFrame | list[pandas.DataFrame], **hints: Unpack[SourceHints]) -> Dataset:
    """Pandas data frames; the index is left out.

    Args:
        dfs: a data frame or a list of them.
        hints: as for :func:`range`.

    Returns:
        A dataset of their rows, in order.

    Raises:
        ValueError: as for :func:`from_arrow`.

    >>> import pandas
    >>> from_pandas(pandas.DataFrame({"x": [1, 2]})).columns()
    ['x']
    """
    parts = _check_hints("from_pandas", hints)
    dfs = dfs if isinstance(dfs, (list, tuple)) else [dfs]
    return _from_batches([_batches.to_arrow(df, "from_pandas()") for df in dfs], "from_pandas()", parts)


def from_numpy(
    ndarrays: numpy.ndarray[Any, Any] | list[numpy.ndarray[Any, Any]], **hints: Unpack[SourceHints]
) -> Dataset:
    """Numpy arrays in the column ``data``, one row per first index.

    Args:
        ndarrays: an array of any number of dimensions, or a list of them.
        hints: as for :func:`range`.

    Returns:
        A dataset with the column ``data``: numbers, lists of a fixed size (two dimensions), or tensors (more).

    Raises:
        ValueError: the arrays have types or shapes that do not go together.

    >>> import numpy
    >>> from_numpy(numpy.zeros((2, 3))).take_batch()["data"].shape
    (2, 3)
    """
    parts = _check_hints("from_numpy", hints)
    arrays = ndarrays if isinstance(ndarrays, (list, tuple)) else [ndarrays]
    batches = [_batches.columns_to_arrow({"data": array}, "from_numpy()") for array in arrays]
    return _from_batches(batches, "from_numpy()", parts)


def _list_of(items: Any) -> list[Any]:
    if isinstance(items, Mapping):
        raise TypeError(
            "from_items() takes a list of rows, not a dict: give [row] for one row; columns of many are for "
            "from_pandas(pandas.DataFrame(columns)) or from_arrow(pyarrow.table(columns))"
        )
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise TypeError(
            f"from_items() takes a list of rows or values, not {type(items).__name__}: give [{items!r:.40}]"
        )
    return list(items)


def _paths(function: str, paths: Any) -> list[str]:
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    if not isinstance(paths, Iterable):
        raise TypeError(f"{function}() takes a path or a list of paths, not {type(paths).__name__}")
    given = list(paths)
    for path in given:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"{function}() takes a list of paths: one of them is {path!r:.40} of type {type(path).__name__}"
            )
    return [os.fspath(path) for path in given]


def _from_batches(batches: list[Any], function: str, parts: int | None = None) -> Dataset:
    for batch in batches:
        _wrong_outputs.check_names(batch.schema.names, function)
    names = [f"in part {index}" for index in builtins.range(len(batches))]
    schema = _one_schema.unified([batch.schema for batch in batches], function, names)
    places = zip(batches, names, strict=True)
    batches = [_one_schema.conformed(batch, schema, function, ("as a whole", name)) for batch, name in places]
    return _in_parts(_native.plan().from_batches(schema.remove_metadata(), batches), parts)


def _in_parts(plan: Any, parts: int | None) -> Dataset:
    """A dataset whose source is read in so many parts, if the user said so."""
    return Dataset(plan if parts is None else plan.with_parts(parts))


_REFUSED = {
    **REMOTE_ARGS,
    "resources": Refused("reading runs in the workers of the next step: give it resources", (None, {})),
    "tensor_column_schema": Refused("reshape the column in map_batches()"),
    "include_row_hash": Refused(
        "make a column of what tells rows apart in map_batches(); include_paths=True gives the file", (None, False)
    ),
    "catalog": Refused("give the paths of the table's files"),
    "memory_pool": Refused("leave it out: workers have one each"),
    "arrow_parquet_args": Refused("read with pyarrow, and use from_arrow()", (None, {})),
    "ray_remote_args": Refused("reading runs in the workers of the next step: give it resources", (None, {})),
    "num_cpus": Refused("reading runs in the workers of the next step: give it resources", (None, 1)),
    "num_gpus": Refused("reading runs in the workers of the next step: give it resources", (None, 0)),
    "memory": Refused("reading runs in the workers of the next step: give it resources"),
    "concurrency": Refused("reading runs in the workers of the next step: limit these with compute=..."),
    "compute": Refused("reading runs in the workers of the next step: give it compute=..."),
}
#: Of single functions of Ray's. The types do not have them: some are parameters of the others.
_REFUSED_BY_SOME = {
    "tf_schema": Refused("columns have the types that records hold; cast them with with_column()"),
    "filerename": Refused("rename columns with rename_columns()"),
    "verbose_open": Refused("input_files() says what is read", (None, False)),
    "fps": Refused("leave frames out with filter(); include_timestamps=True gives their times"),
    "arrow_open_stream_args": Refused("files are read as they are", (None, {})),
    "include_paths": Refused("input_files() says what is read", (None, False)),
    "shuffle": Refused("shuffle the rows with random_shuffle()"),
    "local_read": Refused("give a list of its items to from_items(), which reads them here", (None, False)),
    "resize": Refused("make frames smaller in map_batches()"),
}


def _check_hints(function: str, hints: Mapping[str, Any]) -> int | None:
    """Raises for what a source does not know. Returns the number of parts that it shall be read in."""
    hints = dict(hints)
    parts = hints.pop("override_num_blocks", None)
    # The older name, whose default is -1.
    parallelism = hints.pop("parallelism", None)
    if parts is None and parallelism not in (None, -1):
        parts = parallelism
    is_read = function.startswith("read_")
    refused = _REFUSED | _REFUSED_BY_SOME if is_read else {name: _REFUSED[name] for name in _RESOURCES}
    used = ["override_num_blocks", "parallelism"]
    if is_read and function not in _WITHOUT_FILESYSTEM:
        hints.pop("filesystem", None)
        used.append("filesystem")
    _refuse_of_others(function, [name for name in hints if name not in refused], used)
    Keywords(function, used=used, refused=refused).check(hints)
    if parts is not None and (not isinstance(parts, int) or isinstance(parts, bool) or parts < 1):
        raise ValueError(f"{function}(): override_num_blocks must be a whole number of at least 1, not {parts!r}")
    return parts


def _refuse_of_others(function: str, unknown: list[str], used: list[str]) -> None:
    """Raises for what pandas, Spark and pyarrow call what is said otherwise here. Adds to ``used`` what the function takes itself."""
    if not unknown:
        return
    way_out = _OF_OTHERS.get(function, {}).get(unknown[0])
    if way_out is not None:
        raise TypeError(f"{function}() takes no {unknown[0]}=: {way_out}")
    import inspect

    import aktis.data

    parameters = inspect.signature(getattr(aktis.data, function)).parameters.values()
    used.extend(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)


_DELIMITER = "say parse_options=pyarrow.csv.ParseOptions(delimiter=';')"
_NAMES = "say read_options=pyarrow.csv.ReadOptions(column_names=[...], skip_rows=1), without skip_rows where no line has names"
_TYPES = "say convert_options=pyarrow.csv.ConvertOptions(column_types={'name': pyarrow.string()})"
_ENCODING = "say read_options=pyarrow.csv.ReadOptions(encoding='latin-1')"
_COLUMNS = "use select_columns() behind it"
#: What users of pandas, Spark and pyarrow write.
_OF_OTHERS = {
    "read_csv": {
        "delimiter": _DELIMITER, "sep": _DELIMITER, "header": _NAMES, "names": _NAMES, "column_names": _NAMES, "dtype": _TYPES, "schema": _TYPES,
        "column_types": _TYPES, "encoding": _ENCODING, "columns": _COLUMNS, "usecols": _COLUMNS,
        "quotechar": "say parse_options=pyarrow.csv.ParseOptions(quote_char=...)",
        "na_values": "say convert_options=pyarrow.csv.ConvertOptions(null_values=[...])",
    },
    "read_json": {"lines": "leave it out: lines and lists are told apart by what is there", "columns": _COLUMNS},
    "read_parquet": {
        "schema": "the files tell the columns; select_columns() chooses, and with_column(name, col(name).cast(type)) makes another type",
        "filters": "say filter=col('a') == 1, or filter(expr=\"a = 1\") behind it, which is pushed into the reader as well",
        "use_threads": "leave it out: files and row groups are read by all workers at once",
        "batch_size": "give map_batches() and iter_batches() a batch_size",
        "dataset_kwargs": "say partitioning= and filesystem= here",
        "_block_udf": "use map_batches(f, batch_format='pyarrow')",
    },
}  # fmt: skip
#: What reads by other means than files of ours.
_WITHOUT_FILESYSTEM = frozenset({"read_datasource", "read_iceberg", "read_lance", "read_sql"})
_RESOURCES = frozenset({"num_cpus", "num_gpus", "memory", "concurrency", "ray_remote_args", "compute"})
