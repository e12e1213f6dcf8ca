"""Where datasets end in tables whose own log says which files are theirs.

A package that is missing is named with the command that installs it; nothing else here needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _folders
from ._keywords import Keywords, Refused
from ._packages import needs

if TYPE_CHECKING:
    from typing import Literal

    import pyarrow

    from ._save_mode import SaveMode

_REFUSED = {
    "ray_remote_args": Refused("rows are written by the workers of the step before", (None, {})),
    "catalog": Refused("give the path of the table"),
    "table_id": Refused("give the path of the dataset"),
    "namespace_impl": Refused("give the path of the dataset"),
    "namespace_properties": Refused("give the path of the dataset"),
}


class WritingTables:
    """The methods of a dataset that write its rows into tables."""

    _plan: Any
    _keep_stats: Any
    schema: Callable[..., Any]

    def write_iceberg(
        self,
        table_identifier: str,
        catalog_kwargs: Mapping[str, Any] | None = None,
        catalog: Any = None,
        snapshot_properties: Mapping[str, str] | None = None,
        mode: Literal["append", "overwrite", "upsert"] | SaveMode = "append",
        overwrite_filter: Any = None,
        upsert_kwargs: Mapping[str, Any] | None = None,
        overwrite_kwargs: Mapping[str, Any] | None = None,
        ray_remote_args: None = None,
        concurrency: int | None = None,
    ) -> None:
        """Adds the rows to an Iceberg table, in one commit when all are written. Needs PyIceberg.

        Workers write data files of the table, as it is partitioned. A job that fails leaves the table as it was; files of workers that
        died, or whose commit may have been made, lie beside it. A commit that meets another one is made again a few times; one
        whose answer is lost is looked up by a property of the snapshot. Columns that the table does not have are added to it by the same
        commit; if only a function knows the columns, its first row is made to find out.

        Args:
            table_identifier: Namespace and name, ``"shop.orders"``; the table is there.
            catalog_kwargs: What ``pyiceberg.catalog.load_catalog`` is called with: ``name``, ``type``, ``uri`` and so on.
            catalog: A catalog of PyIceberg, instead.
            snapshot_properties: Put into the summary of the snapshot.
            mode: ``"append"`` adds rows, ``"overwrite"`` puts them in the place of others, ``"upsert"`` in the place of those with the
                same keys. A ``SaveMode`` may be given.
            overwrite_filter: With ``"overwrite"``: which rows go, as an expression of :mod:`aktis.data.expressions` or of PyIceberg, or
                its text; ``None``: all.
            upsert_kwargs: With ``"upsert"``: ``join_cols``, the keys (those of the table, if it has some), ``case_sensitive`` and
                ``branch``. Keys of all rows are held in this process for the commit.
            overwrite_kwargs: With ``"overwrite"``: ``case_sensitive`` and ``branch``.
            ray_remote_args: As for :meth:`write_datasink`.
            concurrency: Workers that write at once, at most.

        Raises:
            ImportError: PyIceberg is not installed.
            ValueError: an argument does not go with the mode or another one; keys are missing or come twice; the table was changed in between.
            TaskError: as for :meth:`take`; also if rows do not fit the table.
            pyiceberg.exceptions.CommitFailedException: others have changed the table again and again, or what the job replaces.

        Example:
            >>> import aktis.data
            >>> where = {"type": "sql", "uri": "sqlite:///c.db"}
            >>> aktis.data.range(10).write_iceberg("shop.numbers", catalog_kwargs=where)  # doctest: +SKIP
        """
        needs("write_iceberg", "pyiceberg.io.pyarrow", "pyiceberg[pyarrow]")
        from ._tables import committing, iceberg

        Keywords("write_iceberg", refused=_REFUSED).check({"ray_remote_args": ray_remote_args})
        wanted = _mode("write_iceberg", mode, ("append", "overwrite", "upsert"))
        for name, given, its in (
            ("overwrite_filter", overwrite_filter, "overwrite"),
            ("overwrite_kwargs", overwrite_kwargs, "overwrite"),
            ("upsert_kwargs", upsert_kwargs, "upsert"),
        ):
            if given is not None and not (isinstance(given, Mapping) and not given) and wanted != its:
                raise ValueError(f"write_iceberg({name}=...) is for mode={its!r}, and the mode is {wanted!r}")
        more = dict(upsert_kwargs or overwrite_kwargs or {})
        keys = more.pop("join_cols", None) if wanted == "upsert" else None
        is_sensitive, branch = more.pop("case_sensitive", True), more.pop("branch", None)
        used = ("case_sensitive", "branch", *(["join_cols"] if wanted == "upsert" else []))
        Keywords(f"write_iceberg({wanted}_kwargs=...)", used=used).check(more)
        table = iceberg.catalog_of("write_iceberg", catalog, catalog_kwargs).load_table(table_identifier)
        target = iceberg.IcebergTarget(table, snapshot_properties, branch)
        columns = self.schema().base_schema
        if wanted == "upsert":
            target.keys = list(keys or table.schema().identifier_field_names())
            missing = [name for name in target.keys if name not in columns.names]
            if missing or not target.keys:
                what = f"there is no column {missing[0]!r}" if target.keys else "the table has no identifier fields"
                raise ValueError(f"write_iceberg(mode='upsert'): {what}; give upsert_kwargs={{'join_cols': [...]}}")
            target.replaces = iceberg.upserting(target.keys, is_sensitive)
        elif wanted == "overwrite":
            where = iceberg.filter_of("write_iceberg(overwrite_filter=...)", overwrite_filter)
            target.replaces = iceberg.overwriting(where, is_sensitive)
        target.takes(columns)
        committing.write(self._plan, target, table_identifier, concurrency, self._keep_stats)

    def write_lance(
        self,
        path: str | os.PathLike[str],
        *,
        schema: pyarrow.Schema | None = None,
        mode: Literal["create", "append", "overwrite"] | SaveMode = "create",
        min_rows_per_file: int | None = None,
        max_rows_per_file: int = 64 * 1024 * 1024,
        data_storage_version: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        table_id: None = None,
        namespace_impl: None = None,
        namespace_properties: None = None,
        ray_remote_args: None = None,
        concurrency: int | None = None,
    ) -> None:
        """Writes a Lance dataset: fragments by workers, and one commit of them when all are written. Needs pylance.

        A job that fails leaves the dataset as it was; in a store, files of its fragments lie there until
        ``cleanup_old_versions(delete_unverified=True)``.

        Args:
            path: The dataset, here or elsewhere.
            schema: The columns of a new dataset, which rows are converted to; ``None``: those of the rows.
            mode: ``"create"`` makes a dataset where there is none, ``"append"`` adds rows to one, ``"overwrite"`` puts them in the place
                of what it has, as a new version. A ``SaveMode`` may be given.
            min_rows_per_file: Rows of several parts are put together; Ray's default is 1048576, here a part is a file.
            max_rows_per_file: Rows that a file has at most.
            data_storage_version: Of the files; ``None``: pylance's default.
            storage_options: What pylance reaches the files with.
            table_id: Ray's; refused, as the next two.
            namespace_impl: Ray's.
            namespace_properties: Ray's.
            ray_remote_args: As for :meth:`write_datasink`.
            concurrency: Workers that write at once, at most.

        Raises:
            ImportError: pylance is not installed.
            FileNotFoundError: there is no dataset to add to.
            ValueError: there is one, with ``"create"``; or an argument makes no sense.
            TaskError: as for :meth:`take`; also if rows do not fit the dataset.

        Example:
            >>> import aktis.data, tempfile
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_lance(f"{folder}/a.lance")  # doctest: +SKIP
            >>> aktis.data.read_lance(f"{folder}/a.lance").count()  # doctest: +SKIP
            10
        """
        needs("write_lance", "lance", "pylance")
        from ._tables import committing, lance

        Keywords("write_lance", refused=_REFUSED).check({
            "ray_remote_args": ray_remote_args, "table_id": table_id, "namespace_impl": namespace_impl,
            "namespace_properties": namespace_properties,
        })  # fmt: skip
        wanted = _mode("write_lance", mode, ("create", "append", "overwrite"))
        _folders.check_counts(
            "write_lance", {"min_rows_per_file": min_rows_per_file, "max_rows_per_file": max_rows_per_file}
        )
        text = os.fspath(path)
        place = lance.Place(text if "://" in text else os.path.abspath(text), None, storage_options)
        target = lance.LanceTarget(place, wanted, schema, max_rows_per_file, data_storage_version)
        if target.schema is None:
            target.schema = self.schema().base_schema
        committing.write(self._plan, target, text, concurrency, self._keep_stats, min_rows=min_rows_per_file)

    def write_delta(
        self,
        path: str | os.PathLike[str],
        *,
        catalog: None = None,
        mode: Literal["append", "overwrite"] | SaveMode = "append",
        partition_by: list[str] | None = None,
        storage_options: Mapping[str, str] | None = None,
        schema_mode: Literal["merge", "error"] = "merge",
        filesystem: Any = None,
        name: str | None = None,
        description: str | None = None,
        ray_remote_args: None = None,
        concurrency: int | None = None,
    ) -> None:
        """Adds the rows to a Delta table, in one commit when all are written; makes it if it is not there. Needs deltalake.

        A job that fails leaves the rows of the table as they were. New columns are a commit of their own, right before that of the rows:
        if only that fails, they stay, without values. If only a function knows the columns, its first row is made to find out.

        Args:
            path: The table's folder, here or elsewhere.
            catalog: Ray's; refused.
            mode: ``"append"`` adds rows, ``"overwrite"`` puts them and their columns in the place of what is there. A ``SaveMode`` may be
                given.
            partition_by: Columns that partition a new table; of one that is there, they must be its own.
            storage_options: What deltalake reaches the table's log with.
            schema_mode: What becomes of columns that the table does not have: ``"merge"`` adds them, ``"error"`` refuses.
            filesystem: One of ``pyarrow.fs`` or fsspec that workers write files with; ``None``: what the path begins with says. It does
                not tell deltalake where the log is: of a store, the path begins with its scheme, and ``storage_options`` say the rest.
            name: Of a new table.
            description: Of a new table.
            ray_remote_args: As for :meth:`write_datasink`.
            concurrency: Workers that write at once, at most.

        Raises:
            ImportError: deltalake is not installed.
            NotImplementedError: the table has constraints, generated columns or other names of columns than its files.
            ValueError: an argument makes no sense, or does not go with the table; columns of the table were changed in between.
            TaskError: as for :meth:`take`; also if rows do not fit the table.
            deltalake.exceptions.CommitFailedError: others have changed what the job changes.

        Example:
            >>> import aktis.data, tempfile
            >>> folder = tempfile.mkdtemp()
            >>> aktis.data.range(10).write_delta(folder)  # doctest: +SKIP
            >>> aktis.data.read_delta(folder).count()  # doctest: +SKIP
            10
        """
        needs("write_delta", "deltalake", "deltalake")
        from ._tables import committing, delta

        Keywords("write_delta", refused=_REFUSED).check({"ray_remote_args": ray_remote_args, "catalog": catalog})
        wanted = _mode("write_delta", mode, ("append", "overwrite"))
        if schema_mode not in ("merge", "error"):
            raise ValueError(f"write_delta(schema_mode={schema_mode!r}): it is 'merge' or 'error'")
        text = os.fspath(path)
        target = delta.DeltaTarget(
            delta.place_of(text, filesystem), self.schema().base_schema, wanted == "overwrite", partition_by,
            schema_mode == "merge", storage_options, filesystem, {"name": name, "description": description},
        )  # fmt: skip
        committing.write(self._plan, target, text, concurrency, self._keep_stats)


def _mode(function: str, mode: Any, modes: tuple[str, ...]) -> str:
    wanted = str(getattr(mode, "value", mode))
    if wanted not in modes:
        raise ValueError(f"{function}(mode={wanted!r}): it is one of {', '.join(map(repr, modes))}")
    return wanted
