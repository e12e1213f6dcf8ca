"""Lance datasets through pylance: its fragments are read and made by workers, and committed by the driver."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow

from aktis.data.datasource import BlockMetadata, Datasource, ReadTask

from .committing import OutcomeUnknown, Target

# It need not be there when checkers look.
lance: Any = importlib.import_module("lance")
_commit: Any = importlib.import_module("lance.commit")
_fragment: Any = importlib.import_module("lance.fragment")

#: Commits that are looked through for the one whose answer did not come.
_RECENT = 100
#: How pylance says that it has not made a commit because others were faster, where it has no class of errors for it.
_CONFLICT = re.compile(r"commit conflict|concurrent (writers|transaction)", re.IGNORECASE)


class Place(NamedTuple):
    """A version of a dataset. Travels to workers."""

    uri: str
    version: int | str | None
    storage_options: Mapping[str, str] | None

    def open(self) -> Any:
        """The dataset."""
        options = dict(self.storage_options) if self.storage_options else None
        return lance.dataset(self.uri, version=self.version, storage_options=options)

    def opened(self) -> Any:
        """The dataset, if it is there."""
        try:
            return self.open()
        except ValueError as error:
            # All that pylance says of what is not there; nothing is read wrongly if it means something else: the commit tells.
            if "not found" in str(error).lower():
                return None
            raise


class LanceSource(Datasource):
    """The rows of datasets, a task for each few fragments."""

    def __init__(self, places: list[Place], scanner: Mapping[str, Any]) -> None:
        scanner = dict(scanner)
        chosen = scanner.pop("fragments", None)
        if chosen is not None and len(places) > 1:
            raise ValueError(
                "read_lance(scanner_options={'fragments': ...}) is for one dataset: fragments of several have the same numbers"
            )
        self._scanner = scanner
        self._fragments: list[tuple[Place, Any]] = []
        for place in places:
            dataset = place.open()
            whole = place._replace(version=dataset.version)
            wanted = None if chosen is None else {fragment.fragment_id for fragment in chosen}
            self._fragments += [
                (whole, fragment)
                for fragment in dataset.get_fragments()
                if wanted is None or fragment.fragment_id in wanted
            ]
        #: The columns of the first dataset, as they are read.
        self.schema = places[0].open().scanner(**scanner).projected_schema

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read."""
        return not self._fragments

    def estimate_inmemory_data_size(self) -> int | None:
        sizes = [file.file_size_bytes or 0 for _, fragment in self._fragments for file in fragment.metadata.files]
        return sum(sizes) or None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        each = -(-len(self._fragments) // max(1, parallelism))
        tasks = []
        for first in range(0, len(self._fragments), each):
            some = self._fragments[first : first + each]
            lots: dict[Place, list[int]] = {}
            for place, fragment in some:
                lots.setdefault(place, []).append(fragment.fragment_id)
            rows = sum(fragment.metadata.physical_rows for _, fragment in some)
            read = _Reading(list(lots.items()), self._scanner)
            tasks.append(ReadTask(read.blocks, BlockMetadata(num_rows=rows), per_task_row_limit=per_task_row_limit))
        return tasks


class _Reading(NamedTuple):
    """Fragments of datasets, by their numbers. Travels to workers."""

    lots: list[tuple[Place, list[int]]]
    scanner: Mapping[str, Any]

    def blocks(self) -> Iterator[Any]:
        """Their rows."""
        for place, numbers in self.lots:
            dataset = place.open()
            fragments = [dataset.get_fragment(number) for number in numbers]
            yield from dataset.scanner(fragments=fragments, **self.scanner).to_batches()


class LanceTarget(Target):
    """A dataset that is made, added to or replaced."""

    function = "write_lance"

    def __init__(
        self, place: Place, mode: str, schema: pyarrow.Schema | None, max_rows_per_file: int, data_storage_version: str | None
    ) -> None:  # fmt: skip
        there = place.opened()
        if mode == "create" and there is not None:
            raise ValueError(
                f'write_lance({place.uri!r}): there is a dataset already; mode="append" adds rows to it, "overwrite" puts the new ones in '
                "their place"
            )
        if mode == "append" and there is None:
            raise FileNotFoundError(
                f'write_lance({place.uri!r}, mode="append"): there is no dataset; mode="create" makes one'
            )
        if mode == "append" and schema is not None:
            raise ValueError('write_lance(mode="append"): the dataset has a schema; leave schema= out')
        self._place = place
        self._mode = mode
        self._is_there = there is not None
        self._read_version = there.version if there is not None else 0
        #: The columns, when they are known.
        self.schema = there.schema if mode == "append" and there is not None else schema
        self._max_rows_per_file = max_rows_per_file
        self._version = data_storage_version
        self._number = str(uuid.uuid4())

    def add(self, rows: pyarrow.Table) -> list[str]:
        """Adds fragments."""
        if not rows.num_rows:
            return []
        assert self.schema is not None, "set before workers are started"
        options = dict(self._place.storage_options) if self._place.storage_options else None
        made = _fragment.write_fragments(
            _fitting(rows, self.schema), self._place.uri, schema=self.schema,
            mode=self._mode if self._is_there else "create", max_rows_per_file=self._max_rows_per_file,
            data_storage_version=self._version, storage_options=options,
        )  # fmt: skip
        return [json.dumps(fragment.to_json()) for fragment in made]

    def commit(self, receipts: list[list[str]]) -> None:
        """One version more."""
        fragments = [_fragment.FragmentMetadata.from_json(text) for texts in receipts for text in texts]
        options = dict(self._place.storage_options) if self._place.storage_options else None
        if self._mode == "append":
            if not fragments:
                return
            operation = lance.LanceOperation.Append(fragments)
        else:
            if self._mode == "create" and self._place.opened() is not None:
                raise ValueError(
                    f"write_lance({self._place.uri!r}): somebody has made a dataset there while this job ran"
                )
            operation = lance.LanceOperation.Overwrite(self.schema, fragments)
        transaction = lance.Transaction(self._read_version, operation, self._number)
        try:
            lance.LanceDataset.commit(self._place.uri, transaction, storage_options=options)
        except Exception as error:
            known = self._is_committed()
            if known:
                return
            if known is None or not (isinstance(error, _commit.CommitConflictError) or _CONFLICT.search(str(error))):
                raise OutcomeUnknown from error
            raise

    def how_to_tell(self) -> str:
        """By the transactions."""
        return f"a transaction with the number {self._number} among those of the dataset"

    def _is_committed(self) -> bool | None:
        """Whether a commit was made whose answer did not come; ``None``: the dataset cannot be reached."""
        with contextlib.suppress(Exception):
            there = self._place._replace(version=None).opened()
            return there is not None and any(
                one is not None and one.uuid == self._number for one in there.get_transactions(_RECENT)
            )
        return None

    def discard(self, receipts: list[list[str]]) -> None:
        """Removes the files of fragments that no version names, where they are local; others go with
        ``cleanup_old_versions(delete_unverified=True)``."""
        if "://" in self._place.uri:
            return
        for texts in receipts:
            for text in texts:
                for file in _fragment.FragmentMetadata.from_json(text).files:
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(self._place.uri, "data", file.path))


def _fitting(rows: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """The rows with the columns of a schema, in its order and of its types; those that they do not have are null."""
    if unknown := [name for name in rows.column_names if name not in schema.names]:
        raise ValueError(
            f"rows have columns that the dataset does not have: {', '.join(unknown)}; it has {', '.join(schema.names)}"
        )
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.column_names
        else pyarrow.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)
