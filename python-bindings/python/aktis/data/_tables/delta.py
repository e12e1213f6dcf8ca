"""Delta tables through deltalake: workers write Parquet files into their folder, and deltalake makes the commit that names them."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import math
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy
import pyarrow
from pyarrow import fs, parquet, types

from aktis.data._stores.choosing import chosen_store

from . import delta_partitions
from .committing import OutcomeUnknown, Target

# It need not be there when checkers look.
deltalake: Any = importlib.import_module("deltalake")
_transaction: Any = importlib.import_module("deltalake.transaction")
# Its functions are made when it is imported.
_compute: Any = importlib.import_module("pyarrow.compute")
_exceptions: Any = importlib.import_module("deltalake.exceptions")

_JOB = "aktis.job"
#: Commits that are looked through for the one whose answer did not come.
_RECENT = 100
#: Longer texts are no bounds.
_MOST_LETTERS = 32


class Added(NamedTuple):
    """A file of a table that no commit names yet."""

    name: str
    size: int
    partition: dict[str, str | None]
    stats: str


def place_of(path: str, filesystem: Any) -> str:
    """Where deltalake looks for the table that a path means: it knows no filesystem."""
    if "://" in path:
        return path
    store, _ = chosen_store("write_delta", [path], filesystem)
    if store is None:
        return os.path.abspath(path)
    if isinstance(filesystem, fs.SubTreeFileSystem) and isinstance(filesystem.base_fs, fs.LocalFileSystem):
        return os.path.abspath(os.path.join(filesystem.base_path, path))
    raise ValueError(
        f"write_delta({path!r}, filesystem=...): deltalake, which writes the table's log, does not know the filesystem and would put it into a "
        f"folder here; give a path that says where the table is, such as 's3://{path}', and what deltalake reaches it with as storage_options="
    )


class DeltaTarget(Target):
    """A table that is made, added to or replaced."""

    function = "write_delta"

    def __init__(
        self, path: str, schema: pyarrow.Schema, overwrites: bool, partition_by: list[str] | None, merges: bool,
        storage_options: Mapping[str, str] | None, filesystem: Any, named: Mapping[str, str | None],
    ) -> None:  # fmt: skip
        self._path, self._overwrites, self._named = path, overwrites, dict(named)
        self._options = dict(storage_options or {})
        is_here = "://" not in path
        self._store, (self._folder,) = chosen_store("write_delta", [path], None if is_here else filesystem)
        self._job = uuid.uuid4().hex
        there = self._table()
        self._found = _identity(there)
        given = deltalake.Schema.from_arrow(
            _as_delta_has_it(schema, _arrow(there.schema()).names if there is not None and not overwrites else [])
        )
        self._partition_by = list(partition_by or [])
        self._new: list[Any] = []
        if there is None:
            self._schema = _arrow(given)
        else:
            _check_can_be_written(path, there, overwrites)
            known = there.metadata().partition_columns
            if partition_by is not None and self._partition_by != known:
                raise ValueError(
                    f"write_delta({path!r}): the table is partitioned by {known}, and not by {self._partition_by}"
                )
            self._partition_by = known
            self._schema = _arrow(given) if overwrites else self._widened(there, given, merges=merges)
        if missing := [name for name in self._partition_by if name not in self._schema.names]:
            raise ValueError(f"write_delta(partition_by=...): there is no column {missing[0]!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_new"}

    def _table(self) -> Any:
        try:
            return deltalake.DeltaTable(self._path, storage_options=self._options)
        except _exceptions.TableNotFoundError:
            return None

    def _widened(self, table: Any, given: Any, *, merges: bool) -> pyarrow.Schema:
        known = {field.name for field in table.schema().fields}
        self._new = [field for field in given.fields if field.name not in known]
        if self._new and not merges:
            names = ", ".join(field.name for field in self._new)
            raise ValueError(f"write_delta(schema_mode='error'): the table has no columns {names}")
        return pyarrow.schema([*_arrow(table.schema()), *_arrow(deltalake.Schema(self._new))])

    def add(self, rows: pyarrow.Table) -> list[Added]:
        """Adds files, one for each partition."""
        if unknown := [name for name in rows.column_names if name not in self._schema.names]:
            raise ValueError(
                f"rows have columns that the first ones do not have: {', '.join(unknown)}; give all rows the same columns"
            )
        whole = pyarrow.Table.from_arrays(
            [
                rows.column(field.name).cast(field.type)
                if field.name in rows.column_names
                else pyarrow.nulls(len(rows), field.type)
                for field in self._schema
            ],
            schema=self._schema,
        )
        return [self._written(values, part) for values, part in self._parts(whole)]

    def _parts(self, rows: pyarrow.Table) -> Iterator[tuple[dict[str, str | None], pyarrow.Table]]:
        if not rows.num_rows:
            return
        if not self._partition_by:
            yield {}, rows
            return
        numbered = rows.append_column("\ue000", pyarrow.array(numpy.arange(len(rows))))
        groups = numbered.group_by(self._partition_by).aggregate([("\ue000", "list")])
        data = rows.drop_columns(self._partition_by)
        numbers = groups.column("\ue000_list")
        for index, group in enumerate(groups.select(self._partition_by).to_pylist()):
            yield {name: _text(value) for name, value in group.items()}, data.take(numbers[index].values)

    def _written(self, values: dict[str, str | None], rows: pyarrow.Table) -> Added:
        file = f"part-{self._job}-{uuid.uuid4().hex}.parquet"
        folder = delta_partitions.folder_of(values)
        name = f"{folder}/{file}" if folder else file
        if self._store is None:
            path = os.path.join(self._folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            parquet.write_table(rows, path)
            size = os.path.getsize(path)
        else:
            with tempfile.TemporaryDirectory(prefix="aktis-upload-") as own:
                path = os.path.join(own, file)
                parquet.write_table(rows, path)
                size = os.path.getsize(path)
                self._store.upload([(path, f"{self._folder.rstrip('/')}/{name}")])
        return Added(name, size, values, json.dumps(_stats(rows)))

    def commit(self, receipts: list[list[Added]]) -> None:
        """One version more; two, if the table gets columns."""
        now = int(time.time() * 1000)
        actions = [
            _transaction.AddAction(added.name, added.size, added.partition, now, True, added.stats)
            for of_input in receipts
            for added in of_input
        ]
        schema = deltalake.Schema.from_arrow(self._schema)
        properties = deltalake.CommitProperties(custom_metadata={_JOB: self._job})
        table = self._table()
        if changed := _difference(self._found, _identity(table)):
            raise ValueError(f"write_delta({self._path!r}): {changed} while this job ran; run it again")
        if self._new and table is not None:
            # No file is named by this commit.
            table.alter.add_columns(self._new)
            table = self._table()
        try:
            if table is None:
                _transaction.create_table_with_add_actions(
                    self._path, schema, actions, mode="error", partition_by=self._partition_by, storage_options=self._options,
                    commit_properties=properties, **self._named,
                )  # fmt: skip
                return
            if actions or self._overwrites:
                mode = "overwrite" if self._overwrites else "append"
                table.create_write_transaction(
                    actions, mode, schema if self._overwrites else table.schema(), self._partition_by,
                    commit_properties=properties,
                )  # fmt: skip
        except Exception as error:
            known = self._is_committed()
            if known:
                return
            if known is None or not _is_refusal(error):
                raise OutcomeUnknown from error
            raise

    def how_to_tell(self) -> str:
        """By the history."""
        return f"a commit with {_JOB}={self._job} in the history of the table"

    def _is_committed(self) -> bool | None:
        """Whether a commit was made whose answer did not come; ``None``: the table cannot be reached."""
        with contextlib.suppress(Exception):
            table = self._table()
            return table is not None and any(commit.get(_JOB) == self._job for commit in table.history(_RECENT))
        return None

    def discard(self, receipts: list[list[Added]]) -> None:
        """Removes files that no commit names."""
        names = [f"{self._folder.rstrip('/')}/{added.name}" for of_input in receipts for added in of_input]
        if self._store is not None:
            self._store._remove(names)
            return
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name)


class _Identity(NamedTuple):
    """What the files of a job are made for."""

    number: str
    partition_by: list[str]
    schema: str


def _identity(table: Any) -> _Identity | None:
    if table is None:
        return None
    metadata = table.metadata()
    return _Identity(str(metadata.id), list(metadata.partition_columns), table.schema().to_json())


def _difference(found: _Identity | None, now: _Identity | None) -> str | None:
    """What has been changed, as a user would say it."""
    if found is None or now is None:
        return None if found is now else "somebody has made or removed the table"
    if found.number != now.number:
        return "somebody has put another table in its place"
    if found.partition_by != now.partition_by:
        return "the table was partitioned anew"
    return "the columns of the table were changed" if found.schema != now.schema else None


def _is_refusal(error: Exception) -> bool:
    """Whether deltalake says that it has not made a commit: others were faster. It calls a store that does not answer the same."""
    return isinstance(error, _exceptions.CommitFailedError) and not re.search(
        r"object.?store|log.?stor", str(error), re.IGNORECASE
    )


def _check_can_be_written(path: str, table: Any, overwrites: bool) -> None:
    """What only a writer that looks into rows may write is refused."""
    configuration = table.metadata().configuration
    asks = [name for name in configuration if name.startswith("delta.constraints.")]
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        asks.append("delta.columnMapping.mode")
    if overwrites and configuration.get("delta.appendOnly") == "true":
        asks.append("delta.appendOnly")
    asks += [
        f"{name} of {field.name!r}"
        for field in table.schema().fields
        for name in (field.metadata or {})
        if name in ("delta.invariants", "delta.generationExpression", "delta.identity.start")
    ]
    if asks:
        raise NotImplementedError(
            f"write_delta({path!r}): the table has {', '.join(asks)}, which is not there yet: write the rows with deltalake.write_deltalake() "
            "from iter_batches(batch_format='pyarrow')"
        )


def _arrow(schema: Any) -> pyarrow.Schema:
    """As pyarrow has it, and as Parquet files have it."""
    arrow = schema.to_arrow() if hasattr(schema, "to_arrow") else schema.to_pyarrow()
    return arrow if isinstance(arrow, pyarrow.Schema) else pyarrow.schema(arrow)


def _as_delta_has_it(schema: pyarrow.Schema, known: list[str]) -> pyarrow.Schema:
    """The columns of rows; those of which only the table, whose columns are `known`, can tell the type are left out."""
    fields = []
    for field in schema:
        if types.is_null(field.type):
            if field.name not in known:
                raise ValueError(
                    f"write_delta(): the column {field.name!r} has nothing in it that tells its type; cast it, or leave it out"
                )
        elif types.is_timestamp(field.type):
            fields.append(field.with_type(pyarrow.timestamp("us", field.type.tz)))
        else:
            fields.append(field)
    return pyarrow.schema(fields)


def _text(value: Any) -> str | None:
    """A value of a partition, as the protocol of Delta writes it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        plain = value if value.tzinfo is None else value.astimezone(datetime.UTC)
        return plain.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def _stats(rows: pyarrow.Table) -> dict[str, Any]:
    """What readers pass over files by: bounds of numbers, dates and short texts."""
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    for name in rows.column_names:
        column = rows.column(name)
        kind = column.type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_string(kind) or types.is_date32(kind)):
            continue
        bounds = _compute.min_max(column).as_py()
        values = [bounds["min"], bounds["max"]]
        if all(_is_bound(value) for value in values):
            least[name], most[name] = (value.isoformat() if types.is_date32(kind) else value for value in values)
    nulls = {
        name: rows.column(name).null_count for name in rows.column_names if not types.is_nested(rows.column(name).type)
    }
    return {"numRecords": rows.num_rows, "minValues": least, "maxValues": most, "nullCount": nulls}


def _is_bound(value: Any) -> bool:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return False
    return not isinstance(value, str) or len(value) <= _MOST_LETTERS
