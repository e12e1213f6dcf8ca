"""Delta tables are written: workers add files, and one commit names them."""

import datetime
import pathlib
import shutil

import aktis.data
import pyarrow
import pytest
from aktis.data.checkpoint import CheckpointConfig
from pyarrow import fs

from .object_store import KEY, ObjectStore

# Arguments are wrong on purpose.
# pyright: reportMissingImports=false, reportArgumentType=false
deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed: requirements-formats.txt")


def rows_of(path):
    return sorted(aktis.data.read_delta(str(path)).take_all(), key=lambda row: row["id"])


def files_of(path):
    return sorted(file.name for file in pathlib.Path(path).rglob("*.parquet"))


def test_table_is_made_added_to_with_new_columns_and_replaced(tmp_path):
    path = tmp_path / "table"
    aktis.data.range(1000, override_num_blocks=4).write_delta(path, name="numbers", description="all of them")
    table = deltalake.DeltaTable(str(path))
    assert (table.version(), table.metadata().name, table.metadata().description) == (0, "numbers", "all of them")
    assert sorted(pyarrow.table(table.to_pyarrow_table())["id"].to_pylist()) == list(range(1000))
    aktis.data.from_items([{"id": 5000, "word": "x"}]).write_delta(path)
    assert rows_of(path)[-2:] == [{"id": 999, "word": None}, {"id": 5000, "word": "x"}]
    with pytest.raises(ValueError, match="the table has no columns more"):
        aktis.data.from_items([{"id": 1, "more": 1}]).write_delta(path, schema_mode="error")
    aktis.data.from_items([{"id": 1, "other": 0.5}]).write_delta(path, mode="overwrite")
    assert rows_of(path) == [{"id": 1, "other": 0.5}]
    assert aktis.data.read_delta(str(path), version=0).count() == 1000


def test_partitions_have_values_of_every_kind(tmp_path):
    days = [datetime.date(2026, 11, 29), None]
    rows = [{"id": n, "day": days[n % 2], "word": ["a/b c=ä", "", None][n % 3], "is": n % 2 == 0} for n in range(60)]
    path = tmp_path / "table"
    aktis.data.from_items(rows).write_delta(path, partition_by=["day", "word", "is"])
    assert deltalake.DeltaTable(str(path)).metadata().partition_columns == ["day", "word", "is"]
    # The protocol takes text without letters for none.
    expected = [{**row, "word": row["word"] or None} for row in rows]
    theirs = pyarrow.table(deltalake.DeltaTable(str(path)).to_pyarrow_table()).select(["id", "day", "word", "is"])
    assert (
        sorted(({**row, "word": row["word"] or None} for row in theirs.to_pylist()), key=lambda row: row["id"])
        == expected
    )
    assert [{**row, "word": row["word"] or None} for row in rows_of(path)] == expected
    assert pathlib.Path(path, "day=2026-11-29").is_dir()
    day = aktis.data.read_delta(str(path), filter="day = DATE '2026-11-29' AND word = 'a/b c=ä'")
    assert sorted(row["id"] for row in day.take_all()) == list(range(0, 60, 6))
    with pytest.raises(ValueError, match="is partitioned by"):
        aktis.data.from_items(rows).write_delta(path, partition_by=["day"])
    with pytest.raises(ValueError, match="there is no column 'absent'"):
        aktis.data.from_items(rows).write_delta(tmp_path / "new", partition_by=["absent"])


def test_partitions_are_read_as_the_log_says_wherever_files_lie(tmp_path, monkeypatch):
    from aktis.data._tables import delta, delta_partitions

    # As with tables whose files have random prefixes, and as this package wrote them at first.
    monkeypatch.setattr(delta_partitions, "folder_of", lambda values: "")
    days = [datetime.date(2026, 11, 29), None]
    rows = [
        {"id": n, "day": days[n % 2], "lot": n % 3, "share": [0.5, None][n % 2], "word": "x", "region": "us"} for n in range(24)
    ]  # fmt: skip
    path = tmp_path / "region=eu" / "table"
    path.parent.mkdir()
    # One that the whole table lies in tells nothing.
    ds = aktis.data.from_items(rows)
    schema = ds.schema().base_schema
    target = delta.DeltaTarget(str(path), schema, False, ["day", "lot", "share"], True, None, None, {})
    target.commit([target.add(pyarrow.Table.from_pylist(rows, schema))])
    assert {file.parent for file in path.rglob("*.parquet")} == {path}
    assert rows_of(path) == rows
    assert aktis.data.read_delta(str(path)).schema().types == ds.schema().types
    some = aktis.data.read_delta(str(path), filter="day IS NULL AND lot = 1", columns=["id", "lot"])
    assert sorted(row["id"] for row in some.take_all()) == [n for n in range(24) if n % 2 and n % 3 == 1]


def test_partitions_of_deltalake_are_read(tmp_path):
    rows = pyarrow.table({
        "id": pyarrow.array(range(8), pyarrow.int64()),
        "day": pyarrow.array([datetime.date(2026, 11, 29), None] * 4),
        "time": pyarrow.array([datetime.datetime(2026, 11, 29, 1, 2, 3, 4), None] * 4, pyarrow.timestamp("us")),
        "share": pyarrow.array([0.5, 1e30, None, -2.0] * 2),
        "word": pyarrow.array(["a/b c=ä%", None, "x", "x"] * 2),
    })  # fmt: skip
    for names in (["day"], ["word", "day"], ["time"], ["share"]):
        path = tmp_path / "-".join(names)
        deltalake.write_deltalake(str(path), rows, partition_by=names)
        assert rows_of(path) == rows.to_pylist()
    some = aktis.data.read_delta(str(tmp_path / "day"), filter="day = DATE '2026-11-29'")
    assert sorted(row["id"] for row in some.take_all()) == [0, 2, 4, 6]


def test_tables_without_rows_have_columns(tmp_path):
    path = str(tmp_path / "table")
    ds = aktis.data.from_items([{"id": 1, "lot": 1}])
    ds.limit(0).write_delta(path, partition_by=["lot"])
    assert aktis.data.read_delta(path).columns() == ["id", "lot"]
    ds.write_delta(path)
    ds.limit(0).write_delta(path, mode="overwrite")
    assert rows_of(path) == []


def test_tables_in_a_store_are_written_and_read():
    store = ObjectStore()
    options = {
        "AWS_ENDPOINT_URL": f"http://{store.endpoint}", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "aws_conditional_put": "etag",
    }  # fmt: skip
    far = fs.S3FileSystem(
        access_key=KEY, secret_key="secret", endpoint_override=store.endpoint, scheme="http", region="us-east-1"
    )
    rows = [{"id": n, "word": ["a/b c=ä%?", "x", None][n % 3]} for n in range(9)]
    ds = aktis.data.from_items(rows)
    ds.write_delta("s3://bucket/table", partition_by=["word"], storage_options=options, filesystem=far)
    back = aktis.data.read_delta("s3://bucket/table", storage_options=options, filesystem=far)
    assert sorted(back.take_all(), key=lambda row: row["id"]) == rows
    theirs = pyarrow.table(deltalake.DeltaTable("s3://bucket/table", storage_options=options).to_pyarrow_table())
    assert sorted(theirs.to_pylist(), key=lambda row: row["id"]) == rows
    store.close()


def test_readers_pass_over_files_by_what_the_commit_tells(tmp_path):
    aktis.data.from_items(
        [{"id": n, "word": f"w{n}", "share": n / 2 if n else float("nan")} for n in range(10)]
    ).write_delta(tmp_path / "table")
    added = pyarrow.table(deltalake.DeltaTable(str(tmp_path / "table")).get_add_actions(flatten=True)).to_pylist()
    assert sum(one["num_records"] for one in added) == 10
    assert (min(one["min.id"] for one in added), max(one["max.id"] for one in added)) == (0, 9)


def test_job_that_fails_leaves_the_table_as_it_was_and_no_files(tmp_path):
    path = tmp_path / "table"
    aktis.data.range(3).write_delta(path)
    before = files_of(path)

    def fails(batch):
        if batch["id"][0] >= 900:
            # One worker does it all: what it has added is there by now.
            raise RuntimeError("no more" if len(files_of(path)) > len(before) else "nothing yet")
        return {"id": batch["id"], "more": batch["id"]}

    ds = aktis.data.range(1000, override_num_blocks=10).map_batches(fails, batch_size=100, concurrency=1)
    with pytest.raises(RuntimeError, match="no more"):
        ds.write_delta(path)
    assert files_of(path) == before
    assert deltalake.DeltaTable(str(path)).version() == 0


def test_what_was_added_of_earlier_files_goes_where_a_later_one_cannot_be_added(tmp_path):
    from aktis.data._tables import committing

    class Full(committing.Target):
        function = "write_full"
        discarded: list = []  # noqa: RUF012

        def add(self, rows):
            if rows["id"][0].as_py() == 1:
                raise OSError(28, "no space left")
            return "first"

        def discard(self, receipts):
            self.discarded.extend(receipts)

    for n in range(2):
        with pyarrow.ipc.new_file(str(tmp_path / f"{n}"), pyarrow.schema([("id", pyarrow.int64())])) as file:
            file.write_table(pyarrow.table({"id": [n]}))
    with pytest.raises(OSError, match="no space left"):
        committing._Adding(Full(), "nobody").upload([(str(tmp_path / f"{n}"), f"a{n}") for n in range(2)])
    assert Full.discarded == ["first"]


def test_commit_whose_answer_is_lost_is_found_and_not_made_again(tmp_path, monkeypatch):
    path = tmp_path / "table"
    aktis.data.range(3).write_delta(path)
    whole = deltalake.DeltaTable.create_write_transaction

    def loses(*args, **kwargs):
        whole(*args, **kwargs)
        raise OSError("the answer is lost")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", loses)
    aktis.data.from_items([{"id": 9}]).write_delta(path)
    monkeypatch.undo()
    assert [row["id"] for row in rows_of(path)] == [0, 1, 2, 9]


def test_ctrl_c_during_a_commit_leaves_the_files_that_it_has_named(tmp_path, monkeypatch):
    path = tmp_path / "table"
    aktis.data.range(3).write_delta(path)
    whole = deltalake.DeltaTable.create_write_transaction

    def interrupted(*args, **kwargs):
        whole(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        aktis.data.from_items([{"id": 9}]).write_delta(path)
    assert "a commit with aktis.job=" in caught.value.__notes__[-1]
    monkeypatch.undo()
    assert [row["id"] for row in rows_of(path)] == [0, 1, 2, 9]


def test_commit_that_others_are_faster_than_removes_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "table"
    aktis.data.range(3).write_delta(path)
    whole, before = deltalake.DeltaTable.create_write_transaction, files_of(path)

    def slow(table, *args, **kwargs):
        deltalake.DeltaTable(str(path)).alter.set_table_properties({"delta.logRetentionDuration": "interval 9 days"})
        whole(table, *args, **kwargs)

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", slow)
    with pytest.raises(deltalake.exceptions.CommitFailedError, match="changed"):
        aktis.data.from_items([{"id": 9}]).write_delta(path)
    assert files_of(path) == before


def test_files_stay_where_nobody_knows_whether_the_commit_was_made(tmp_path, monkeypatch):
    path = tmp_path / "table"
    aktis.data.range(3).write_delta(path)
    before = files_of(path)

    def lost(*args, **kwargs):
        # A request that comes late is committed after it was looked for.
        raise deltalake.exceptions.DeltaError("the store does not answer")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", lost)
    with pytest.raises(deltalake.exceptions.DeltaError, match="does not answer") as caught:
        aktis.data.from_items([{"id": 9}]).write_delta(path)
    assert "nobody can tell whether the commit was made" in caught.value.__notes__[-1]
    assert len(files_of(path)) == len(before) + 1


def test_checkpoints_that_are_asked_for_are_not_kept_and_it_is_said(tmp_path, monkeypatch):
    context = aktis.data.DataContext.get_current()
    monkeypatch.setattr(context, "checkpoint_config", CheckpointConfig(id_column="id"))
    with pytest.warns(UserWarning, match=r"write_delta\(\): DataContext.checkpoint_config is set, but .* begin anew"):
        aktis.data.range(1).write_delta(tmp_path / "table")


def test_files_go_through_the_filesystem_that_is_given(tmp_path, monkeypatch):
    here = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    aktis.data.range(10, override_num_blocks=2).write_delta("table", filesystem=here)
    assert [row["id"] for row in rows_of(tmp_path / "table")] == list(range(10))
    monkeypatch.chdir(tmp_path)
    aktis.data.range(10).write_delta("table", filesystem=fs.LocalFileSystem())
    assert len(rows_of(tmp_path / "table")) == 20


def test_filesystem_of_a_store_needs_a_path_that_tells_deltalake_where_the_log_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    far = fs.S3FileSystem(access_key="a", secret_key="b", endpoint_override="localhost:1", region="us-east-1")
    with pytest.raises(ValueError, match=r"would put it into a folder here; give a path .* 's3://bucket/table'"):
        aktis.data.range(1).write_delta("bucket/table", filesystem=far)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_table_that_others_change_meanwhile_is_not_written_into(tmp_path, mode, monkeypatch):
    from aktis.data._tables import delta

    path = tmp_path / "table"
    rows = aktis.data.from_items([{"id": 2, "lot": 1}])
    rows.write_delta(path)
    whole = delta.DeltaTarget.commit

    def write(change):
        def commit(self, receipts):
            change()
            whole(self, receipts)

        monkeypatch.setattr(delta.DeltaTarget, "commit", commit)
        rows.write_delta(path, mode=mode)

    def widens():
        deltalake.write_deltalake(
            str(path), pyarrow.table({"id": [5], "lot": [5], "new": [1]}), mode="append", schema_mode="merge"
        )

    def replaces():
        shutil.rmtree(path)
        deltalake.write_deltalake(str(path), pyarrow.table({"id": [7], "lot": [5]}))

    for change, says in ((widens, "the columns of the table were changed"), (replaces, "another table in its place")):
        with pytest.raises(ValueError, match=f"{says} while this job ran; run it again"):
            write(change)
        expected = sorted(file.removeprefix("file://") for file in deltalake.DeltaTable(str(path)).file_uris())
        assert sorted(map(str, path.rglob("*.parquet"))) == expected, "what was added is gone"
    # Not all releases of deltalake can do that.
    now = delta._identity(deltalake.DeltaTable(str(path)))
    assert now is not None
    assert delta._difference(now, now) is None
    assert delta._difference(now, now._replace(partition_by=["lot"])) == "the table was partitioned anew"


def test_columns_without_a_type_take_that_of_the_table_or_are_refused(tmp_path):
    nothing = aktis.data.from_items([{"id": 2, "word": None}])
    with pytest.raises(ValueError, match="the column 'word' has nothing in it that tells its type"):
        nothing.write_delta(tmp_path / "table")
    aktis.data.from_items([{"id": 1, "word": "x"}]).write_delta(tmp_path / "table")
    nothing.write_delta(tmp_path / "table")
    assert rows_of(tmp_path / "table") == [{"id": 1, "word": "x"}, {"id": 2, "word": None}]


def test_tables_that_ask_for_more_of_a_writer_are_refused(tmp_path):
    path = str(tmp_path / "table")
    deltalake.write_deltalake(path, pyarrow.table({"id": [1]}))
    deltalake.DeltaTable(path).alter.add_constraint({"positive": "id > 0"})
    with pytest.raises(NotImplementedError, match=r"delta\.constraints\.positive"):
        aktis.data.range(1).write_delta(path)
    with pytest.raises(ValueError, match="it is 'merge' or 'error'"):
        aktis.data.range(1).write_delta(path, schema_mode="other")
    with pytest.raises(ValueError, match="it is one of 'append', 'overwrite'"):
        aktis.data.range(1).write_delta(path, mode="upsert")
