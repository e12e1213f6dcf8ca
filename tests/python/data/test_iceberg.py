"""Iceberg tables, with a catalog in SQLite: read by our reader where files tell all, else by PyIceberg; written by one commit."""

# Packages need not be there, and arguments are wrong on purpose.
# pyright: reportMissingImports=false, reportArgumentType=false

import os
import pathlib

import aktis.data
import pyarrow
import pytest
from aktis.data import expressions
from aktis.data.expressions import col

from .object_store import KEY, ObjectStore

pyiceberg = pytest.importorskip("pyiceberg.catalog", reason="PyIceberg is not installed: requirements-formats.txt")
pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed: requirements-formats.txt")
from pyiceberg import exceptions, types
from pyiceberg.table import Transaction


@pytest.fixture
def where(tmp_path):
    """What a catalog is loaded with."""
    return {"name": "test", "type": "sql", "uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/files"}


@pytest.fixture
def catalog(where):
    made = pyiceberg.load_catalog(**where)
    made.create_namespace("shop")
    return made


def test_tables_in_a_store_are_written_and_read_with_the_settings_of_the_catalog(tmp_path):
    store = ObjectStore()
    settings = {
        "s3.endpoint": f"http://{store.endpoint}", "s3.access-key-id": KEY, "s3.secret-access-key": "secret",
        "s3.region": "us-east-1", "warehouse": "s3://bucket/files",
    }  # fmt: skip
    catalog = pyiceberg.load_catalog("far", type="sql", uri=f"sqlite:///{tmp_path}/c.db", **settings)
    catalog.create_namespace("shop")
    catalog.create_table("shop.numbers", pyarrow.schema([("id", pyarrow.int64())]))
    aktis.data.range(100).write_iceberg("shop.numbers", catalog=catalog)
    ds = aktis.data.read_iceberg(table_identifier="shop.numbers", catalog=catalog)
    assert ds.count() == 100 and ds.input_files()[0].startswith("s3://bucket/files/")
    some = aktis.data.read_iceberg(table_identifier="shop.numbers", catalog=catalog, row_filter="id > 97")
    assert some.take_all() == [{"id": 98}, {"id": 99}]
    store.close()


@pytest.fixture
def orders(catalog):
    """A table of two files."""
    rows = pyarrow.table(
        {"id": [1, 2, 3], "item": ["lamp", "desk", None], "day": pyarrow.array([1, 1, 2], pyarrow.int32())}
    )
    table = catalog.create_table("shop.orders", rows.schema)
    table.append(rows)
    table.append(pyarrow.table({"id": [4], "item": ["bed"], "day": pyarrow.array([2], pyarrow.int32())}))
    return table


def rows_of(table):
    return sorted(table.refresh().scan().to_arrow().to_pylist(), key=lambda row: row["id"])


def data_files(tmp_path):
    return sorted(pathlib.Path(tmp_path, "files").rglob("*.parquet"))


class TestReading:
    def test_rows_come_by_version_with_columns_and_limits(self, orders, where):
        ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog_kwargs=where)
        assert sorted(ds.take_all(), key=lambda row: row["id"]) == rows_of(orders)
        assert ds.schema().types == [pyarrow.int64(), pyarrow.string(), pyarrow.int32()]
        first = orders.snapshots()[0].snapshot_id
        old = aktis.data.read_iceberg(table_identifier="shop.orders", catalog_kwargs=where, snapshot_id=first)
        assert old.count() == 3
        one = aktis.data.read_iceberg(
            table_identifier="shop.orders", catalog_kwargs=where, selected_fields=("item",), scan_kwargs={"limit": 1}
        )
        assert one.columns() == ["item"] and one.count() == 1

    def test_plain_tables_are_read_by_the_native_reader(self, orders, catalog):
        ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog)
        assert len(ds.input_files()) == 2
        assert ds.filter(expr=col("id") > 3).take_all() == [{"id": 4, "item": "bed", "day": 2}]

    def test_filter_passes_over_files_and_rows(self, orders, catalog):
        for row_filter in (
            "id >= 3 and item is not null",
            (col("id") >= 3) & col("item").is_not_null(),
            ~((expressions.lit(3) > col("id")) | col("item").is_null()),
            col("item").is_in(["bed"]),
        ):
            ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog, row_filter=row_filter)
            assert ds.take_all() == [{"id": 4, "item": "bed", "day": 2}]
        with pytest.raises(ValueError, match=r"row_filter=\.\.\.\): Iceberg has no words for"):
            aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog, row_filter=col("id") + 1 > 3)

    def test_columns_that_were_renamed_widened_added_and_dropped_are_as_the_table_says(self, orders, catalog):
        with orders.update_schema() as update:
            update.rename_column("item", "name")
            update.update_column("day", types.LongType())
        with orders.update_schema() as update:
            update.add_column("item", types.DoubleType())
        orders.append(pyarrow.table({"id": [5], "name": ["sofa"], "day": [3], "item": [0.5]}))
        ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog)
        assert ds.schema().names == ["id", "name", "day", "item"]
        assert sorted(ds.take_all(), key=lambda row: row["id"]) == rows_of(orders)

    def test_columns_that_no_old_file_has_are_null_there(self, orders, catalog):
        with orders.update_schema() as update:
            update.update_column("day", types.LongType())
            update.add_column("note", types.StringType())
        ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog)
        assert ds.schema().types == [pyarrow.int64(), pyarrow.string(), pyarrow.int64(), pyarrow.string()]
        assert sorted(ds.take_all(), key=lambda row: row["id"]) == rows_of(orders)
        assert len(ds.input_files()) == 2, "read by the native reader"

    def test_columns_whose_names_avro_does_not_take_are_read(self, catalog):
        # Files call them by other names.
        rows = [
            {"id": 1, "unit price": 2.5, "user-id": "x", "2024": 7},
            {"id": 2, "unit price": None, "user-id": "y", "2024": 8},
        ]
        arrow = pyarrow.Table.from_pylist(rows)
        catalog.create_table("shop.theirs", arrow.schema).append(arrow)
        catalog.create_table("shop.ours", arrow.schema)
        aktis.data.from_items(rows).write_iceberg("shop.ours", catalog=catalog)
        for name in ("shop.theirs", "shop.ours"):
            ds = aktis.data.read_iceberg(table_identifier=name, catalog=catalog)
            assert sorted(ds.take_all(), key=lambda row: row["id"]) == rows
            assert rows_of(catalog.load_table(name)) == rows
        inner = pyarrow.table({"id": [1], "pair": [{"left side": 1, "right": 2}]})
        catalog.create_table("shop.nested", inner.schema).append(inner)
        ds = aktis.data.read_iceberg(table_identifier="shop.nested", catalog=catalog)
        assert ds.take_all() == inner.to_pylist()

    def test_rows_that_position_deletes_name_are_left_out(self, orders, catalog):
        # As Spark and Trino leave them: PyIceberg itself writes files anew.
        path = data_files(orders.location().removeprefix("file://").rpartition("/files")[0])
        target = next(task.file for task in orders.scan().plan_files() if task.file.record_count == 3)
        assert target.file_path.removeprefix("file://") in map(str, path)
        delete_rows(orders, target.file_path, [0, 2])
        ds = aktis.data.read_iceberg(table_identifier="shop.orders", catalog=catalog)
        assert sorted(row["id"] for row in ds.take_all()) == [2, 4]

    def test_tables_without_rows_have_columns(self, catalog):
        catalog.create_table("shop.none", pyarrow.schema([("id", pyarrow.int64())]))
        ds = aktis.data.read_iceberg(table_identifier="shop.none", catalog=catalog)
        assert ds.take_all() == [] and ds.columns() == ["id"]
        with pytest.raises(exceptions.NoSuchTableError):
            aktis.data.read_iceberg(table_identifier="shop.absent", catalog=catalog)
        with pytest.raises(TypeError, match="takes a catalog of PyIceberg, not dict"):
            aktis.data.read_iceberg(table_identifier="shop.none", catalog={})


def delete_rows(table, path, positions):
    """Adds a file of position deletes, of version 2."""
    from pyarrow import parquet
    from pyiceberg.manifest import (
        DataFile,
        DataFileContent,
        FileFormat,
        ManifestContent,
        ManifestEntry,
        ManifestEntryStatus,
        write_manifest,
        write_manifest_list,
    )
    from pyiceberg.table.snapshots import Operation, Snapshot, Summary
    from pyiceberg.table.update import (
        AddSnapshotUpdate,
        SetSnapshotRefUpdate,
    )
    from pyiceberg.typedef import Record

    folder = table.location().removeprefix("file://")
    deletes = f"{folder}/data/deletes.parquet"
    schema = pyarrow.schema([
        pyarrow.field("file_path", pyarrow.string(), metadata={"PARQUET:field_id": "2147483546"}),
        pyarrow.field("pos", pyarrow.int64(), metadata={"PARQUET:field_id": "2147483545"}),
    ])  # fmt: skip
    parquet.write_table(pyarrow.table({"file_path": [path] * len(positions), "pos": positions}, schema=schema), deletes)
    file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES, file_path=f"file://{deletes}", file_format=FileFormat.PARQUET,
        partition=Record(), record_count=len(positions), file_size_in_bytes=os.path.getsize(deletes), column_sizes={},
        value_counts={}, null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={}, spec_id=0,
        equality_ids=None, sort_order_id=None, key_metadata=None,
    )  # fmt: skip
    number, parent, sequence = 77, table.current_snapshot(), table.metadata.last_sequence_number + 1
    manifest = f"file://{folder}/metadata/deletes-m0.avro"
    entry = ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=number, data_file=file)
    with write_manifest(2, table.spec(), table.schema(), table.io.new_output(manifest), number, "null") as writer:
        writer.content = lambda: ManifestContent.DELETES
        writer.add_entry(entry)
    written = writer.to_manifest_file()
    listed = f"file://{folder}/metadata/snap-77.avro"
    with write_manifest_list(2, table.io.new_output(listed), number, parent.snapshot_id, sequence, "null") as writer:
        writer.add_manifests([*parent.manifests(table.io), written])
    snapshot = Snapshot(
        snapshot_id=number, parent_snapshot_id=parent.snapshot_id, sequence_number=sequence, timestamp_ms=parent.timestamp_ms + 1,
        manifest_list=listed, summary=Summary(Operation.DELETE), schema_id=table.metadata.current_schema_id,
    )  # fmt: skip
    with table.transaction() as transaction:
        transaction._apply((
            AddSnapshotUpdate(snapshot=snapshot),
            SetSnapshotRefUpdate(snapshot_id=number, parent_snapshot_id=parent.snapshot_id, ref_name="main", type="branch"),
        ))  # fmt: skip


class TestWriting:
    def test_rows_are_added_by_one_commit_with_the_properties_that_were_given(self, orders, where):
        ds = aktis.data.from_items([{"id": 10 + n, "item": f"i{n}", "day": n} for n in range(100)])
        ds.write_iceberg("shop.orders", where, snapshot_properties={"by": "night"})
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, *range(10, 110)]
        assert len(orders.snapshots()) == 3
        assert orders.current_snapshot().summary.additional_properties["by"] == "night"
        back = aktis.data.read_iceberg(table_identifier="shop.orders", catalog_kwargs=where)
        assert sorted(back.take_all(), key=lambda row: row["id"]) == rows_of(orders)

    def test_overwrite_takes_the_place_of_all_or_of_what_matches(self, orders, catalog):
        ds = aktis.data.from_items([{"id": 9, "item": "new", "day": 2}])
        ds.write_iceberg("shop.orders", catalog=catalog, mode="overwrite", overwrite_filter=col("day") == 2)
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 9]
        ds.write_iceberg("shop.orders", catalog=catalog, mode="overwrite")
        assert [row["id"] for row in rows_of(orders)] == [9]
        ds.limit(0).write_iceberg("shop.orders", catalog=catalog, mode="overwrite")
        assert rows_of(orders) == []

    def test_upsert_replaces_rows_with_the_same_keys_and_adds_others(self, orders, catalog):
        ds = aktis.data.from_items([{"id": 2, "item": "table", "day": 9}, {"id": 7, "item": "rug", "day": 9}])
        ds.write_iceberg("shop.orders", catalog=catalog, mode="upsert", upsert_kwargs={"join_cols": ["id"]})
        assert [(row["id"], row["item"]) for row in rows_of(orders)] == [
            (1, "lamp"), (2, "table"), (3, None), (4, "bed"), (7, "rug"),
        ]  # fmt: skip
        before = rows_of(orders)
        twice = aktis.data.from_items([{"id": 2, "item": "a", "day": 1}] * 2)
        with pytest.raises(ValueError, match="several rows have the same id"):
            twice.write_iceberg("shop.orders", catalog=catalog, mode="upsert", upsert_kwargs={"join_cols": ["id"]})
        with pytest.raises(ValueError, match="the table has no identifier fields"):
            ds.write_iceberg("shop.orders", catalog=catalog, mode="upsert")
        assert rows_of(orders) == before

    def test_columns_that_the_table_does_not_have_come_with_the_rows(self, orders, catalog):
        ds = aktis.data.range(2).map_batches(lambda batch: {"id": batch["id"] + 20, "note": batch["id"] * 0.5})
        ds.write_iceberg("shop.orders", catalog=catalog)
        assert orders.refresh().schema().column_names == ["id", "item", "day", "note"]
        assert rows_of(orders)[-1] == {"id": 21, "item": None, "day": None, "note": 0.5}

    def test_partitions_of_the_table_are_kept(self, catalog, tmp_path):
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.schema import Schema
        from pyiceberg.transforms import IdentityTransform

        schema = Schema(
            types.NestedField(1, "id", types.LongType(), required=True), types.NestedField(2, "lot", types.LongType())
        )
        spec = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=IdentityTransform(), name="lot"))
        table = catalog.create_table("shop.lots", schema, partition_spec=spec)
        numbers = aktis.data.range(1000).map_batches(lambda batch: {"id": batch["id"], "lot": batch["id"] % 4})
        numbers.write_iceberg("shop.lots", catalog=catalog)
        assert [row["id"] for row in rows_of(table)] == list(range(1000))
        one = aktis.data.read_iceberg(table_identifier="shop.lots", catalog=catalog, row_filter=col("lot") == 3)
        assert sorted(row["id"] for row in one.take_all()) == list(range(3, 1000, 4))
        assert {path.parent.name for path in data_files(tmp_path)} == {f"lot={n}" for n in range(4)}
        with pytest.raises(aktis.exceptions.TaskError, match="null"):
            aktis.data.from_items([{"id": 1, "lot": 1}, {"id": None, "lot": 1}]).write_iceberg(
                "shop.lots", catalog=catalog
            )

    def test_columns_that_the_rows_do_not_have_are_null_also_if_they_partition_the_table(self, catalog):
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.schema import Schema
        from pyiceberg.transforms import IdentityTransform

        schema = Schema(
            types.NestedField(1, "id", types.LongType(), required=True), types.NestedField(2, "lot", types.LongType()),
            types.NestedField(3, "code", types.UUIDType()), types.NestedField(4, "price", types.DecimalType(9, 2)),
            types.NestedField(5, "tags", types.ListType(6, types.StringType())),
        )  # fmt: skip
        spec = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=IdentityTransform(), name="lot"))
        table = catalog.create_table("shop.lots", schema, partition_spec=spec)
        aktis.data.range(2).write_iceberg("shop.lots", catalog=catalog)
        assert [(row["id"], row["lot"], row["code"], row["price"], row["tags"]) for row in rows_of(table)] == [
            (0, None, None, None, None), (1, None, None, None, None),
        ]  # fmt: skip
        with pytest.raises(aktis.exceptions.TaskError, match="rows have no column 'id', which the table requires"):
            aktis.data.from_items([{"lot": 1}]).write_iceberg("shop.lots", catalog=catalog)

    def test_job_that_fails_leaves_the_table_as_it_was_and_no_files(self, orders, catalog, tmp_path):
        before, files = rows_of(orders), data_files(tmp_path)

        def fails(batch):
            if batch["id"][0] >= 900:
                # One worker does it all: what it has added is there by now.
                raise RuntimeError("no more" if len(data_files(tmp_path)) > len(files) else "nothing yet")
            return {"id": batch["id"], "note": batch["id"]}

        ds = aktis.data.range(1000, override_num_blocks=10).map_batches(fails, batch_size=100, concurrency=1)
        with pytest.raises(RuntimeError, match="no more"):
            ds.write_iceberg("shop.orders", catalog=catalog)
        assert rows_of(orders) == before
        assert data_files(tmp_path) == files
        assert orders.refresh().schema().column_names == ["id", "item", "day"]

    def test_rows_of_a_worker_that_dies_are_there_once(self, orders, catalog, tmp_path):
        marker = tmp_path / "killed"

        def dies(batch):
            import os
            import signal

            if 500 in batch["id"] and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return {"id": batch["id"] + 100}

        ds = aktis.data.range(1000, override_num_blocks=10).map_batches(dies, batch_size=50)
        ds.write_iceberg("shop.orders", catalog=catalog)
        assert marker.exists()
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, *range(100, 1100)]

    def test_commit_whose_answer_is_lost_is_found_and_not_made_again(self, orders, catalog, monkeypatch):
        whole = Transaction.commit_transaction

        def loses(self):
            whole(self)
            raise ConnectionResetError("the answer is lost")

        monkeypatch.setattr(Transaction, "commit_transaction", loses)
        aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        monkeypatch.undo()
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, 5]

    def test_files_stay_where_nobody_knows_whether_the_commit_was_made(self, orders, catalog, monkeypatch, tmp_path):
        files = len(data_files(tmp_path))

        def loses(self):
            raise ConnectionResetError("the question is lost")

        monkeypatch.setattr(Transaction, "commit_transaction", loses)
        with pytest.raises(ConnectionResetError, match="the question is lost") as caught:
            aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        assert "nobody can tell whether the commit was made" in caught.value.__notes__[0]
        assert len(data_files(tmp_path)) == files + 1

    def test_ctrl_c_during_a_commit_leaves_the_files_that_it_has_named(self, orders, catalog, monkeypatch):
        whole = Transaction.commit_transaction

        def interrupted(self):
            whole(self)
            raise KeyboardInterrupt

        monkeypatch.setattr(Transaction, "commit_transaction", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        assert "a snapshot of the table with aktis.job=" in caught.value.__notes__[-1]
        monkeypatch.undo()
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, 5]

    def test_refusal_of_a_commit_that_was_made_is_not_believed(self, orders, catalog, monkeypatch):
        whole = Transaction.commit_transaction

        def made_twice(self):
            # As where the first answer is lost on the way, and the second try of the catalog's client meets the first.
            whole(self)
            raise exceptions.CommitFailedException("somebody was faster")

        monkeypatch.setattr(Transaction, "commit_transaction", made_twice)
        aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        monkeypatch.undo()
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, 5]

    def test_commit_that_meets_another_one_is_made_again(self, orders, catalog, monkeypatch):
        whole, failed = Transaction.commit_transaction, []

        def meets(self):
            if not failed:
                failed.append(True)
                orders.refresh().append(pyarrow.table({"id": [70], "item": ["x"]}))
                raise exceptions.CommitFailedException("somebody was faster")
            return whole(self)

        def append(self):
            return whole(self) if failed else meets(self)

        monkeypatch.setattr(Transaction, "commit_transaction", append)
        aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        assert failed
        assert [row["id"] for row in rows_of(orders)] == [1, 2, 3, 4, 5, 70]

    def test_file_that_cannot_be_removed_does_not_keep_the_others(self, orders, catalog, monkeypatch, tmp_path):
        from pyiceberg.io.pyarrow import PyArrowFileIO

        files, whole, refused = data_files(tmp_path), PyArrowFileIO.delete, []

        def removes(self, path):
            if not refused and str(path).endswith(".parquet"):
                refused.append(path)
                raise PermissionError("not this one")
            whole(self, path)

        def refuses(self):
            raise exceptions.ValidationException("no")

        monkeypatch.setattr(PyArrowFileIO, "delete", removes)
        monkeypatch.setattr(Transaction, "commit_transaction", refuses)
        ds = aktis.data.range(4, override_num_blocks=4).map_batches(lambda batch: batch, batch_size=1)
        with pytest.raises(exceptions.ValidationException):
            ds.write_iceberg("shop.orders", catalog=catalog)
        assert refused and len(data_files(tmp_path)) == len(files) + 1

    def test_commit_that_is_refused_removes_what_was_written(self, orders, catalog, monkeypatch, tmp_path):
        files = data_files(tmp_path)

        def refuses(self):
            raise exceptions.CommitFailedException("somebody was faster")

        monkeypatch.setattr(Transaction, "commit_transaction", refuses)
        with pytest.raises(exceptions.CommitFailedException):
            aktis.data.from_items([{"id": 5}]).write_iceberg("shop.orders", catalog=catalog)
        assert data_files(tmp_path) == files

    def test_arguments_that_do_not_go_together_are_refused(self, orders, catalog, where):
        ds = aktis.data.from_items([{"id": 5}])
        with pytest.raises(ValueError, match=r"write_iceberg\(catalog=..., catalog_kwargs=...\): give one of both"):
            ds.write_iceberg("shop.orders", where, catalog=catalog)
        with pytest.raises(ValueError, match=r"read_iceberg\(catalog=..., catalog_kwargs=...\): give one of both"):
            aktis.data.read_iceberg(table_identifier="shop.orders", catalog_kwargs=where, catalog=catalog)
        with pytest.raises(TypeError, match=r"overwrite_kwargs=...\)\(\) got an unknown argument 'join_cols'"):
            ds.write_iceberg("shop.orders", catalog=catalog, mode="overwrite", overwrite_kwargs={"join_cols": ["id"]})
        with pytest.raises(ValueError, match="it is one of 'append', 'overwrite', 'upsert'"):
            ds.write_iceberg("shop.orders", catalog=catalog, mode="error")
        with pytest.raises(
            ValueError, match=r"overwrite_filter=\.\.\.\) is for mode='overwrite', and the mode is 'append'"
        ):
            ds.write_iceberg("shop.orders", catalog=catalog, overwrite_filter="id = 1")
        with pytest.raises(TypeError, match="unknown argument 'join_col'; did you mean 'join_cols'"):
            ds.write_iceberg("shop.orders", catalog=catalog, mode="upsert", upsert_kwargs={"join_col": ["id"]})
