"""Files of a folder that differ, and which files of it are read."""

import aktis.data
import pyarrow
import pytest
from pyarrow import parquet


def write(folder, *columns):
    """One file per column `x`."""
    for index, column in enumerate(columns):
        fields = [pyarrow.field("id", pyarrow.int64()), pyarrow.field("x", column.type, nullable=column.null_count > 0)]
        ids = pyarrow.array([index * 10 + row for row in range(len(column))])
        table = pyarrow.table([ids, column], schema=pyarrow.schema(fields))
        parquet.write_table(table, folder / f"{index}.parquet")
    return aktis.data.read_parquet(folder)


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        (pyarrow.array([1], pyarrow.int32()), pyarrow.array([2**40]), pyarrow.int64()),
        (pyarrow.array([1]), pyarrow.array([0.5]), pyarrow.float64()),
        (pyarrow.array(["a"]), pyarrow.array(["b"], pyarrow.large_string()), pyarrow.large_string()),
        (pyarrow.array(["a"]), pyarrow.array(["b"]).dictionary_encode(), pyarrow.string()),
        (
            pyarrow.array([1], pyarrow.timestamp("us")),
            pyarrow.array([2], pyarrow.timestamp("ns")),
            pyarrow.timestamp("ns"),
        ),
        (pyarrow.nulls(1), pyarrow.array(["a"]), pyarrow.string()),
        (pyarrow.array([1]), pyarrow.array([None], pyarrow.int64()), pyarrow.int64()),
        (pyarrow.array([[1]]), pyarrow.array([[0.5]]), pyarrow.list_(pyarrow.float64())),
        (pyarrow.array([{"a": 1, "b": 2}]), pyarrow.array([{"b": 3, "c": "x"}]), None),
    ],
)
def test_types_of_files_meet_where_both_have_room(one, other, kind, tmp_path):
    for columns in ((one, other), (other, one)):
        ds = write(tmp_path, *columns)
        assert kind is None or ds.schema().types[1] == kind
        wanted = [value for column in columns for value in column.to_pylist()]
        found = ds.to_arrow()
        assert found["x"].type == ds.schema().types[1]
        if kind is None:
            assert [value["b"] for value in found["x"].to_pylist()] == [value["b"] for value in wanted]
        else:
            assert found["x"].to_pylist() == wanted
        assert ds.filter(expr="id = 10").count() == 1
        assert ds.filter(expr="x IS NOT NULL").count() == len(found["x"].drop_null())


def test_column_that_only_some_files_have_is_null_in_the_others(tmp_path):
    parquet.write_table(pyarrow.table({"id": [1]}), tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"new": ["x"], "id": [2]}), tmp_path / "b.parquet")
    ds = aktis.data.read_parquet(tmp_path)
    assert ds.take_all() == [{"id": 1, "new": None}, {"id": 2, "new": "x"}]
    assert ds.select_columns(["new"]).take_all() == [{"new": None}, {"new": "x"}]
    assert ds.filter(expr="new = 'x'").take_all() == [{"id": 2, "new": "x"}]
    assert ds.filter(expr="new IS NULL").select_columns(["id"]).take_all() == [{"id": 1}]
    assert ds.filter(expr="id > 0").limit(1).take_all() == [{"id": 1, "new": None}]


def test_types_with_nothing_in_common_are_refused_with_both_files_named(tmp_path):
    with pytest.raises(ValueError, match="'x' is Int64 in .*0.parquet and Utf8 in .*1.parquet"):
        write(tmp_path, pyarrow.array([1]), pyarrow.array(["a"]))


def test_number_without_an_exact_place_is_refused_with_its_file_named(tmp_path):
    ds = write(tmp_path, pyarrow.array([2**53 + 1]), pyarrow.array([0.5]))
    with pytest.raises(ValueError, match="'x' is Float64 in the dataset and Int64 in .*0.parquet") as caught:
        ds.take_all()
    assert "damaged" not in str(caught.value)


def test_folders_of_hive_are_columns(tmp_path):
    for day, count in (("2024-01-01", 1), ("2024-01-02", 2), ("__HIVE_DEFAULT_PARTITION__", 3)):
        folder = tmp_path / f"day={day}" / "city=S%C3%A3o"
        folder.mkdir(parents=True)
        parquet.write_table(pyarrow.table({"x": [count]}), folder / "a.parquet")
    ds = aktis.data.read_parquet(tmp_path)
    rows = sorted(ds.take_all(), key=lambda row: row["x"])
    assert [row["day"] for row in rows] == ["2024-01-01", "2024-01-02", None] and rows[0]["city"] == "São"
    assert ds.filter(expr="day = '2024-01-02'").select_columns(["x"]).take_all() == [{"x": 2}]
    assert ds.filter(expr="day = '2024-01-02' and x > 5").count() == 0
    assert ds.select_columns(["day"]).filter(expr="day IS NULL").count() == 1
    assert ds.count() == 3 and ds.limit(2).count() == 2
    plain = aktis.data.read_parquet(tmp_path, partitioning=None)
    assert plain.schema().names == ["x"] and plain.count() == 3
    with pytest.raises(ValueError, match="folders that are values only need names"):
        aktis.data.read_parquet(tmp_path, partitioning="dir")  # pyright: ignore[reportArgumentType]
    (tmp_path / "day=theirs").mkdir()
    parquet.write_table(pyarrow.table({"day": ["mine"]}), tmp_path / "day=theirs" / "b.parquet")
    assert "mine" in {row["day"] for row in aktis.data.read_parquet(tmp_path).take_all()}


def test_files_are_chosen_by_their_endings(tmp_path):
    for name in ("A.PARQUET", "b.pq", "c", "_SUCCESS", ".hidden.parquet"):
        parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / name)
    assert aktis.data.read_parquet(tmp_path).count() == 2
    assert aktis.data.read_parquet(tmp_path, file_extensions=["parquet"]).count() == 1
    assert aktis.data.read_parquet(tmp_path, file_extensions=None).count() == 3
    with pytest.raises(FileNotFoundError, match="files ending in .csv"):
        aktis.data.read_parquet(tmp_path, file_extensions=["csv"])


def test_paths_may_go_up_and_begin_at_home(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("HOME", str(tmp_path))
    aktis.data.range(3).write_parquet("../data")
    assert aktis.data.read_parquet("../data").count() == 3
    assert len(aktis.data.read_parquet("../data/*.parquet").take_all()) == 3
    aktis.data.range(4).write_parquet("~/more")
    assert aktis.data.read_parquet("~/more").count() == 4 and (tmp_path / "more").is_dir()
    for wrong in ("../nowhere", "~/nowhere", "../nowhere/*.parquet"):
        with pytest.raises(FileNotFoundError):
            aktis.data.read_parquet(wrong)


def test_local_files_of_which_some_are_looked_at_are_counted_by_their_footers_and_read_in_order(tmp_path):
    write(tmp_path, *(pyarrow.array([number, None]) for number in range(80)))
    empty = pyarrow.table({"id": pyarrow.array([], "int64"), "x": pyarrow.array([], "int64")})
    parquet.write_table(empty, tmp_path / "40.parquet")
    parquet.write_table(empty.drop_columns("x").append_column("x", pyarrow.array([], "int32")), tmp_path / "41.parquet")
    few = aktis.data.read_parquet(tmp_path, merge_schema=False)
    assert few.count() == few.select_columns(["id"]).count() == 156
    assert few.get_stats_summary() == {}
    assert few.filter(expr="x > 70").count() == 9
    wanted = sorted((tmp_path / f"{number}.parquet" for number in range(80) if number not in (40, 41)), key=str)
    ids = [number for path in wanted for number in parquet.read_table(path)["id"].to_pylist()]
    assert [row["id"] for row in few.take_all()] == ids


def test_a_file_that_nobody_looked_at_and_is_broken_fails_behind_the_rows_before_it(tmp_path):
    write(tmp_path, *(pyarrow.array([number]) for number in range(80)))
    few = aktis.data.read_parquet(tmp_path, merge_schema=False, override_num_blocks=1)
    broken = sorted(tmp_path.iterdir(), key=str)[15]
    broken.write_bytes(b"PAR1 it is not")
    assert len(few.take(3)) == 3
    with pytest.raises(ValueError, match=rf"{broken.name}: .*(damaged|not Parquet)"):
        few.take_all()
