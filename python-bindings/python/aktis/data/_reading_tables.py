"""Where datasets begin in tables whose own log says which files are theirs.

A package that is missing is named with the command that installs it; nothing else here needs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._keywords import Keywords, Refused
from ._packages import needs
from ._reading import _check_hints, from_arrow, read_parquet
from ._reading_sources import read_datasource

if TYPE_CHECKING:
    from typing import Unpack

    from ._expr import Expr
    from ._typed import ReadHints, SourceHints
    from .dataset import Dataset

#: What a table may ask of its readers that files alone do not tell.
_DELTA_UNKNOWN = frozenset({"deletionVectors", "columnMapping"})
_SCAN_KEYWORDS = Keywords(
    "read_iceberg(scan_kwargs=...)",
    used=("case_sensitive", "options", "limit"),
    refused={
        "row_filter": Refused("give it to read_iceberg() itself"),
        "selected_fields": Refused("give it to read_iceberg() itself"),
        "snapshot_id": Refused("give it to read_iceberg() itself"),
    },
)


def read_iceberg(
    *,
    table_identifier: str,
    row_filter: Any = None,
    selected_fields: Sequence[str] = ("*",),
    snapshot_id: int | None = None,
    scan_kwargs: Mapping[str, Any] | None = None,
    catalog_kwargs: Mapping[str, Any] | None = None,
    catalog: Any = None,
    **hints: Unpack[SourceHints],
) -> Dataset:
    """The rows of an Iceberg table. Needs PyIceberg, which says in this process which files are its.

    Tables of which nothing was deleted and renamed are read as files of :func:`read_parquet`, with what is pushed down there. Others,
    and those that are read with a ``row_filter``, are read by PyIceberg in workers: it leaves out rows of position deletes, and refuses
    equality deletes.

    Args:
        table_identifier: Namespace and name, ``"shop.orders"``.
        row_filter: Rows that are read: an expression of :mod:`aktis.data.expressions` or of PyIceberg, or its text. Files without such
            rows are passed over by the statistics of the table.
        selected_fields: The columns to read.
        snapshot_id: Of the table; ``None``: the newest one.
        scan_kwargs: More of ``pyiceberg.table.Table.scan``: ``case_sensitive``, ``options``, ``limit``.
        catalog_kwargs: What ``pyiceberg.catalog.load_catalog`` is called with: ``name``, ``type``, ``uri`` and so on.
        catalog: A catalog of PyIceberg, instead.
        hints: As for :func:`read_datasource`.

    Returns:
        A dataset with the columns of the table, of its types. Nothing but the table's metadata was read.

    Raises:
        ImportError: PyIceberg is not installed.
        TypeError: the catalog is none of PyIceberg.
        ValueError: ``catalog`` and ``catalog_kwargs`` are both given.
        pyiceberg.exceptions.NoSuchTableError: there is no such table.

    Example:
        >>> read_iceberg(
        ...     table_identifier="shop.orders", catalog_kwargs={"type": "sql", "uri": "sqlite:///c.db"}
        ... ).count()  # doctest: +SKIP
        120
    """
    needs("read_iceberg", "pyiceberg.io.pyarrow", "pyiceberg[pyarrow]")
    from ._tables import iceberg

    _check_hints("read_iceberg", hints)
    more = dict(scan_kwargs or {})
    _SCAN_KEYWORDS.check({name: value for name, value in more.items() if name not in _SCAN_KEYWORDS.used})
    limit = more.pop("limit", None)
    table = iceberg.catalog_of("read_iceberg", catalog, catalog_kwargs).load_table(table_identifier)
    scan = table.scan(
        row_filter=iceberg.filter_of("read_iceberg(row_filter=...)", row_filter),
        selected_fields=tuple(selected_fields),
        snapshot_id=snapshot_id,
        **more,
    )
    planned = iceberg.planned(table, scan)
    if not planned.tasks:
        dataset = from_arrow(planned.schema.empty_table(), **hints)
    elif planned.plain is None:
        dataset = read_datasource(planned.source, **hints)
    else:
        dataset = _as_the_table_says(
            read_parquet(
                planned.plain.paths,
                file_extensions=None,
                partitioning=None,
                merge_schema=True,
                filesystem=planned.plain.filesystem,
                **hints,
            ),
            planned.schema,
        )
    return dataset if limit is None else dataset.limit(limit)


def _as_the_table_says(dataset: Dataset, schema: Any) -> Dataset:
    """The columns of a table, in its order and of its types; those that no file has are null."""
    from . import expressions

    there = dataset.schema()
    types = dict(zip(there.names, there.types, strict=True))
    typed = {
        field.name: (expressions.col(field.name) if field.name in types else expressions.lit(None)).cast(field.type)
        for field in schema
        if types.get(field.name) != field.type
    }
    return (dataset.with_columns(typed) if typed else dataset).select_columns(schema.names)


def read_lance(
    uri: str | os.PathLike[str] | list[str | os.PathLike[str]],
    *,
    version: int | str | None = None,
    columns: list[str] | None = None,
    filter: str | None = None,
    storage_options: Mapping[str, str] | None = None,
    scanner_options: Mapping[str, Any] | None = None,
    **hints: Unpack[SourceHints],
) -> Dataset:
    """The rows of Lance datasets. Needs pylance, which workers read fragments with.

    Args:
        uri: A dataset, or a list of these, which are read in their order; here or elsewhere.
        version: Its number or tag; ``None``: the newest one.
        columns: The columns to read.
        filter: SQL of Lance: only rows for which it is true are read.
        storage_options: What pylance reaches the files with.
        scanner_options: More of ``lance.LanceDataset.scanner``: ``batch_size``, ``with_row_id``, and ``fragments`` of one dataset.
        hints: As for :func:`read_datasource`.

    Returns:
        A dataset with the columns of the files. Nothing but their metadata was read.

    Raises:
        ImportError: pylance is not installed.
        ValueError: there is no such dataset; or ``fragments`` of several.

    Example:
        >>> read_lance("images.lance", columns=["label"], filter="label = 2").count()  # doctest: +SKIP
        120
    """
    needs("read_lance", "lance", "pylance")
    from ._tables import lance

    _check_hints("read_lance", hints)
    uris = [os.fspath(one) for one in (uri if isinstance(uri, (list, tuple)) else [uri])]
    if not uris:
        raise ValueError("read_lance() needs at least one dataset")
    places = [lance.Place(one if "://" in one else os.path.abspath(one), version, storage_options) for one in uris]
    given = {"columns": columns, "filter": filter}
    scanner = {**(scanner_options or {}), **{name: value for name, value in given.items() if value is not None}}
    source = lance.LanceSource(places, scanner)
    return from_arrow(source.schema.empty_table(), **hints) if source.is_empty else read_datasource(source, **hints)


def read_delta(
    path: str | os.PathLike[str],
    version: int | None = None,
    *,
    columns: list[str] | None = None,
    filter: str | Expr | None = None,
    storage_options: Mapping[str, str] | None = None,
    **hints: Unpack[ReadHints],
) -> Dataset:
    """The rows of a Delta table. Needs deltalake, which says in this process which files are its; they are read as those of
    :func:`read_parquet`.

    Args:
        path: The table's folder, here or elsewhere.
        version: Of the table; ``None``: the newest one.
        columns: The columns to read.
        filter: As for :func:`read_parquet`; by columns that partition the table it passes over files.
        storage_options: What deltalake reaches the table's log with.
        hints: As for :func:`read_parquet`.

    Returns:
        A dataset with the columns of the table, of its types.

    Raises:
        ImportError: deltalake is not installed.
        NotImplementedError: the table has deletion vectors or other names of columns than its files.

    Example:
        >>> read_delta("table/", version=3).count()  # doctest: +SKIP
        120
    """
    from ._computed import filtered

    deltalake = needs("read_delta", "deltalake", "deltalake")
    table = deltalake.DeltaTable(path, version=version, storage_options=dict(storage_options or {}))
    protocol = table.protocol()
    unknown = _DELTA_UNKNOWN.intersection(protocol.reader_features or ())
    if unknown or (
        protocol.min_reader_version == 2
        and table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    ):
        raise NotImplementedError(
            f"read_delta({path!r}): the table uses {', '.join(sorted(unknown)) or 'columnMapping'}, which its files do not tell; give "
            "from_arrow() what deltalake's DeltaTable(path).to_pyarrow_table() gives"
        )
    schema = _arrow_schema(table)
    dataset = _files_of_delta(table, schema, hints)
    dataset = dataset.select_columns(schema.names)
    if filter is not None:
        dataset = dataset._then(filtered(dataset._plan, "read_delta(filter=...)", filter))
    return dataset if columns is None else dataset.select_columns(columns)


def _files_of_delta(table: Any, schema: Any, hints: Any) -> Dataset:
    """The rows of files, with the columns that only the log tells."""
    from ._tables import delta_partitions
    from .expressions import col, lit

    uris, actions = delta_partitions.files_of(table)
    if not uris:
        return from_arrow(schema.empty_table())
    partitions = [schema.field(name) for name in table.metadata().partition_columns]
    lots: list[tuple[dict[str, Any], list[str]]] = [({}, uris)]
    is_hive = False
    if partitions:
        values = delta_partitions.values_of(actions, partitions)
        is_hive = delta_partitions.folders_tell(uris, values)
        lots = lots if is_hive else delta_partitions.alike(uris, values)
    datasets = []
    for told, some in lots:
        lot = read_parquet(
            [*some], file_extensions=None, partitioning="hive" if is_hive else None, merge_schema=True, **hints
        )
        columns = {name: lit(value).cast(schema.field(name).type) for name, value in told.items()}
        datasets.append(lot.with_columns(columns) if columns else lot)
    dataset = datasets[0].union(*datasets[1:]) if len(datasets) > 1 else datasets[0]
    there = dataset.columns() or []
    typed = {field.name: lit(None).cast(field.type) for field in schema if field.name not in there}
    typed |= {field.name: col(field.name).cast(field.type) for field in partitions if is_hive}
    return dataset.with_columns(typed) if typed else dataset


def _arrow_schema(table: Any) -> Any:
    import pyarrow

    schema = table.schema()
    arrow = schema.to_arrow() if hasattr(schema, "to_arrow") else schema.to_pyarrow()
    return arrow if isinstance(arrow, pyarrow.Schema) else pyarrow.schema(arrow)
