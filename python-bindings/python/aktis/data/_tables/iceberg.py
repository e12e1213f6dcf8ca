"""Iceberg tables through PyIceberg: it says which files a table has, and makes the commit of those that workers have added."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow
from pyiceberg.catalog import Catalog, load_catalog  # pyright: ignore[reportMissingImports] - it need not be there
from pyiceberg.exceptions import (  # pyright: ignore[reportMissingImports]
    CommitFailedException,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression  # pyright: ignore[reportMissingImports]
from pyiceberg.io import pyarrow as files  # pyright: ignore[reportMissingImports]
from pyiceberg.schema import sanitize_column_names  # pyright: ignore[reportMissingImports]

from aktis.data import _trees
from aktis.data._expr import Expr, tree_of
from aktis.data.datasource import BlockMetadata, Datasource, ReadTask

from .committing import OutcomeUnknown, Target

#: In the summary of a snapshot: which job it is of. By it a job knows its own commit, whose answer it has not got.
_JOB = "aktis.job"
#: At a commit that others are faster than.
_ATTEMPTS = 5


def catalog_of(function: str, catalog: Any, catalog_kwargs: Mapping[str, Any] | None) -> Any:
    """The catalog that a user means."""
    if catalog_kwargs is not None and catalog is not None:
        raise ValueError(
            f"{function}(catalog=..., catalog_kwargs=...): give one of both, as each says which catalog it is"
        )
    if catalog_kwargs is not None:
        properties = dict(catalog_kwargs)
        return load_catalog(properties.pop("name", "default"), **properties)
    if catalog is None:
        return load_catalog()
    if isinstance(catalog, Catalog):
        return catalog
    raise TypeError(
        f"{function}(catalog=...) takes a catalog of PyIceberg, not {type(catalog).__name__}: give pyiceberg.catalog.load_catalog(...), or "
        "catalog_kwargs"
    )


# Expressions.

_COMPARISONS = {"==": "EqualTo", "!=": "NotEqualTo", "<": "LessThan", "<=": "LessThanOrEqual", ">": "GreaterThan", ">=": "GreaterThanOrEqual"}  # fmt: skip
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def filter_of(call: str, given: Any) -> Any:
    """An expression of Iceberg for what a user gave: one, its text, or one of :mod:`aktis.data.expressions`."""
    if given is None:
        return AlwaysTrue()
    if isinstance(given, (str, BooleanExpression)):
        return given
    if isinstance(given, Expr):
        return _lowered(call, tree_of(given))
    raise TypeError(f"{call} takes an expression, such as col('day') >= '2024-01-01', not {given!r}")


def _lowered(call: str, tree: _trees.Tree) -> Any:
    from pyiceberg import expressions as made  # pyright: ignore[reportMissingImports]

    match tree:
        case _trees.Binary("&" | "|" as symbol, left, right):
            both = made.And if symbol == "&" else made.Or
            return both(_lowered(call, left), _lowered(call, right))
        case _trees.Binary(symbol, _trees.Column(name), _trees.Literal(value)) if symbol in _COMPARISONS:
            return getattr(made, _COMPARISONS[symbol])(name, value)
        case _trees.Binary(symbol, _trees.Literal(value), _trees.Column(name)) if symbol in _COMPARISONS:
            return getattr(made, _COMPARISONS[_TURNED.get(symbol, symbol)])(name, value)
        case _trees.Unary("~", operand):
            return made.Not(_lowered(call, operand))
        case _trees.Unary("is_null", _trees.Column(name)):
            return made.IsNull(name)
        case _trees.Unary("is_not_null", _trees.Column(name)):
            return made.NotNull(name)
        case _trees.IsIn(_trees.Column(name), values) if None not in values:
            return made.In(name, set(values))
    raise ValueError(
        f"{call}: Iceberg has no words for {_trees.text_of(tree)}; it compares columns with values, by ==, <, is_in(), is_null() and their "
        "like, and joins these by &, | and ~"
    )


# Reading.


class Planned(NamedTuple):
    """What a scan of a table reads."""

    tasks: list[Any]
    #: The columns, as Arrow has them.
    schema: pyarrow.Schema
    #: Where the files lie, if rows are all that is in them; else a source that reads them with PyIceberg.
    plain: PlainFiles | None
    source: Datasource


class PlainFiles(NamedTuple):
    """Files whose names of columns are the table's, of whose rows all count."""

    paths: list[str | os.PathLike[str]]
    filesystem: Any


def planned(table: Any, scan: Any) -> Planned:
    """Which files are read, and by whom."""
    tasks = sorted(scan.plan_files(), key=lambda task: task.file.file_path)
    schema = files.schema_to_pyarrow(scan.projection(), include_field_ids=False)
    schema = _small(schema)
    plain = None
    is_whole = isinstance(scan.row_filter, AlwaysTrue) and not any(task.delete_files for task in tasks)
    if tasks and is_whole and _names_tell(table.metadata) and all(_is_parquet(task.file) for task in tasks):
        plain = _plain_files(table.io, [task.file.file_path for task in tasks])
    return Planned(tasks, schema, plain, _Scan(table, scan, tasks))


def _is_parquet(file: Any) -> bool:
    return getattr(file.file_format, "value", file.file_format) == "PARQUET" and file.key_metadata is None


def _names_tell(metadata: Any) -> bool:
    """Whether the columns of files can be known by their names: none was ever renamed, and no name was used twice; all are names that
    Avro takes, since files have others for those that it does not; and no file came from elsewhere."""
    if "schema.name-mapping.default" in metadata.properties:
        return False
    name_of: dict[int, str] = {}
    id_of: dict[str, int] = {}
    for schema in metadata.schemas:
        if sanitize_column_names(schema) != schema:
            return False
        for number in schema.field_ids:
            name = schema.find_column_name(number)
            if name_of.setdefault(number, name) != name or id_of.setdefault(name, number) != number:
                return False
            field = schema.find_field(number)
            if getattr(field, "initial_default", None) is not None:
                return False
    return True


def _plain_files(io: Any, paths: list[Any]) -> PlainFiles | None:
    """The files with the filesystem that the table's own settings make; ``None``: only PyIceberg reaches them."""
    from urllib.parse import urlparse

    places = {(urlparse(path).scheme, urlparse(path).netloc) for path in paths}
    if len(places) > 1 or not isinstance(io, files.PyArrowFileIO):
        return None
    ((scheme, netloc),) = places
    if scheme in ("", "file"):
        return PlainFiles([path.removeprefix("file://") for path in paths], None)
    return PlainFiles(paths, io.fs_by_scheme(scheme, netloc))


def _small(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Text and lists of the usual size, as files have them."""
    return pyarrow.schema([field.with_type(_small_type(field.type)) for field in schema])


def _small_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    types = pyarrow.types
    if types.is_large_string(kind):
        return pyarrow.string()
    if types.is_large_binary(kind):
        return pyarrow.binary()
    if types.is_list(kind) or types.is_large_list(kind):
        return pyarrow.list_(kind.value_field.with_type(_small_type(kind.value_type)))
    if types.is_map(kind):
        return pyarrow.map_(_small_type(kind.key_type), kind.item_field.with_type(_small_type(kind.item_type)))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_small_type(field.type)) for field in kind])
    return kind


class _Scan(Datasource):
    """The rows of a table as PyIceberg reads them: with deletes, columns that have changed, and filters."""

    def __init__(self, table: Any, scan: Any, tasks: list[Any]) -> None:
        self._table, self._scan, self._tasks = table, scan, tasks

    def get_name(self) -> str:
        return "Iceberg"

    def estimate_inmemory_data_size(self) -> int | None:
        return sum(task.file.file_size_in_bytes for task in self._tasks)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        read = _Reading(
            self._table.metadata, self._table.io, self._scan.projection(), self._scan.row_filter, self._scan.case_sensitive
        )  # fmt: skip
        return [
            ReadTask(
                functools.partial(read.blocks, some),
                BlockMetadata(num_rows=sum(task.file.record_count for task in some)),
                per_task_row_limit=per_task_row_limit,
            )
            for some in _shared_out(self._tasks, parallelism)
        ]


def _shared_out(tasks: list[Any], parallelism: int) -> Iterator[list[Any]]:
    """The files in their order, in about so many lots of the same size."""
    total = sum(task.file.file_size_in_bytes for task in tasks)
    lot: list[Any] = []
    size = 0
    for task in tasks:
        lot.append(task)
        size += task.file.file_size_in_bytes
        if size * parallelism >= total:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


class _Reading(NamedTuple):
    """How files of a table are read. Travels to workers."""

    metadata: Any
    io: Any
    projection: Any
    row_filter: Any
    case_sensitive: bool

    def blocks(self, tasks: list[Any]) -> Iterator[Any]:
        """The rows of files."""
        schema = _small(files.schema_to_pyarrow(self.projection, include_field_ids=False))
        scan = files.ArrowScan(self.metadata, self.io, self.projection, self.row_filter, self.case_sensitive)
        for task in tasks:
            for batch in scan.to_record_batches([task]):
                yield pyarrow.Table.from_batches([batch]).cast(schema)


# Writing.


class Added(NamedTuple):
    """What a worker has added of an input."""

    data_files: list[Any]
    #: The values of the columns that tell which rows these take the place of.
    keys: pyarrow.Table | None


class IcebergTarget(Target):
    """A table, with what shall become of the rows that it has."""

    function = "write_iceberg"

    def __init__(self, table: Any, properties: Mapping[str, str] | None, branch: str | None) -> None:
        self._table = table
        self._io = table.io
        self._properties = dict(properties or {})
        self._branch = branch or "main"
        self._job = uuid.uuid4()
        #: What goes, in a transaction; before the rows come.
        self.replaces: Callable[[Any, list[Added], dict[str, Any]], None] | None = None
        #: By the values of which columns rows take the place of others.
        self.keys: list[str] = []
        self._new_columns: pyarrow.Schema | None = None
        self._metadata = table.metadata

    def __getstate__(self) -> dict[str, Any]:
        # Workers know no catalog.
        return {"_metadata": self._metadata, "_io": self._io, "_job": self._job, "keys": self.keys}

    def takes(self, schema: pyarrow.Schema) -> None:
        """Makes room for columns that the table does not have: it gets them with the rows."""
        known = self._metadata.schema()
        missing = [name for name in schema.names if name not in known.column_names]
        # What the table says must be there stays so, whatever rows say.
        fields = [
            field.with_nullable(not known.find_field(field.name).required) if field.name not in missing else field
            for field in schema
        ]
        self._new_columns = pyarrow.schema(fields)
        transaction = self._table.transaction()
        self._widen(transaction)
        self._metadata = transaction.table_metadata

    def _widen(self, transaction: Any) -> None:
        with transaction.update_schema() as update:
            update.union_by_name(self._new_columns)

    def add(self, rows: pyarrow.Table) -> Added:
        """Adds data files."""
        schema = self._metadata.schema()
        if unknown := [name for name in rows.column_names if name not in schema.column_names]:
            raise ValueError(
                f"rows have columns that the first ones do not have: {', '.join(unknown)}; give all rows the same columns"
            )
        fields = [field.with_nullable(not schema.find_field(field.name).required) for field in rows.schema]
        rows = rows.cast(pyarrow.schema(fields))
        rows = _with_missing(rows, schema)
        keys = rows.select(self.keys) if self.keys else None
        if not rows.num_rows:
            return Added([], keys)
        added = files._dataframe_to_data_files(self._metadata, rows, self._io, write_uuid=uuid.uuid4())
        return Added(list(added), keys)

    def commit(self, receipts: list[Added]) -> None:
        """One commit, which the catalog makes or refuses; it is tried again where others were faster, which not every PyIceberg does."""
        for attempt in itertools.count(1):
            transaction = self._filled(receipts)
            try:
                transaction.commit_transaction()
                return
            except ValidationException:
                raise
            except Exception as error:
                known = self._is_committed()
                if known:
                    return
                if known is None or not isinstance(error, CommitFailedException):
                    raise OutcomeUnknown from error
                if attempt == _ATTEMPTS:
                    raise
            time.sleep(random.uniform(0.5, 1) * 0.05 * 2**attempt)

    def _filled(self, receipts: list[Added]) -> Any:
        """A transaction of all that changes, for the table as it is now."""
        properties = {**self._properties, _JOB: str(self._job)}
        given = {"snapshot_properties": properties, "branch": self._branch}
        table = self._table.catalog.load_table(self._table.name())
        transaction = table.transaction()
        self._widen(transaction)
        if transaction.table_metadata.schema().as_struct() != self._metadata.schema().as_struct():
            raise ValueError("write_iceberg(): the columns of the table were changed while this job ran; run it again")
        if transaction.table_metadata.default_spec_id != self._metadata.default_spec_id:
            raise ValueError("write_iceberg(): the table was partitioned anew while this job ran; run it again")
        if self.replaces is not None:
            with warnings.catch_warnings():
                # There may be nothing that goes.
                warnings.filterwarnings("ignore", message="Delete operation did not match any records")
                self.replaces(transaction, receipts, given)
        with transaction.update_snapshot(**given).fast_append() as append:
            for added in receipts:
                for file in added.data_files:
                    append.append_data_file(file)
        return transaction

    def how_to_tell(self) -> str:
        """By the snapshots."""
        return f"a snapshot of the table with {_JOB}={self._job} in its summary"

    def _is_committed(self) -> bool | None:
        """Whether a commit was made whose answer did not come; ``None``: the table cannot be reached."""
        with contextlib.suppress(Exception):
            table = self._table.catalog.load_table(self._table.name())
            return any(str(self._job) == _property(snapshot, _JOB) for snapshot in table.snapshots())
        return None

    def discard(self, receipts: list[Added]) -> None:
        """Removes data files that no snapshot names."""
        for added in receipts:
            for file in added.data_files:
                # One that cannot be removed does not keep the others.
                with contextlib.suppress(Exception):
                    self._io.delete(file.file_path)


def _with_missing(rows: pyarrow.Table, schema: Any) -> pyarrow.Table:
    """The rows with all columns of a table: PyIceberg looks for those that partition it."""
    for field in files.schema_to_pyarrow(schema, include_field_ids=False):
        if field.name in rows.column_names:
            continue
        if not field.nullable:
            raise ValueError(f"rows have no column {field.name!r}, which the table requires")
        rows = rows.append_column(field, pyarrow.nulls(rows.num_rows, field.type))
    return rows


def _property(snapshot: Any, name: str) -> str | None:
    return snapshot.summary.additional_properties.get(name) if snapshot.summary is not None else None


def overwriting(where: Any, case_sensitive: bool) -> Callable[[Any, list[Added], dict[str, Any]], None]:
    """Rows that match go."""

    def replace(transaction: Any, receipts: list[Added], given: dict[str, Any]) -> None:
        transaction.delete(where, case_sensitive=case_sensitive, **given)

    return replace


def upserting(keys: list[str], case_sensitive: bool) -> Callable[[Any, list[Added], dict[str, Any]], None]:
    """Rows with the keys of those that come go."""
    from pyiceberg.table import upsert_util  # pyright: ignore[reportMissingImports]

    def replace(transaction: Any, receipts: list[Added], given: dict[str, Any]) -> None:
        there = [added.keys for added in receipts if added.keys is not None and added.keys.num_rows]
        if not there:
            return
        come = pyarrow.concat_tables(there)
        for name in keys:
            if come.column(name).null_count:
                raise ValueError(
                    f"write_iceberg(mode='upsert'): rows have no {name!r}, which is null, so none can be found by it"
                )
        if upsert_util.has_duplicate_rows(come, keys):
            raise ValueError(
                f"write_iceberg(mode='upsert'): several rows have the same {', '.join(keys)}; leave one of each, by groupby()"
            )
        where = upsert_util.create_match_filter(come, keys)
        transaction.delete(where, case_sensitive=case_sensitive, **given)

    return replace
