"""Writing Parquet."""

import aktis.data
import pyarrow
import pytest
from pyarrow import parquet
from waiting import until


def test_written_rows_are_read_by_pyarrow(words, tmp_path):
    target = tmp_path / "deep" / "out"
    aktis.data.read_parquet(words).map_batches(
        lambda table: table.append_column("length", [[len(d) for d in table["data"].to_pylist()]]), batch_format="pyarrow"
    ).write_parquet(target)  # fmt: skip
    table = parquet.read_table(target).sort_by("id")
    assert table["id"].to_pylist() == list(range(2000))
    assert set(table["length"].to_pylist()) == {1000}
    assert table["data"][5].as_py() == bytes([5]) * 1000
    assert all(path.suffix == ".parquet" and path.name[0] not in "._" for path in target.iterdir())


def test_modes_treat_a_used_folder_as_in_ray(tmp_path):
    ds = aktis.data.range(5)
    for mode, rows in [("append", 5), ("append", 10), ("ignore", 10), ("overwrite", 5)]:
        ds.write_parquet(tmp_path / "out", mode=mode)
        assert aktis.data.read_parquet(tmp_path / "out").count() == rows
    with pytest.raises(ValueError, match="has files already"):
        ds.write_parquet(tmp_path / "out", mode="error")
    with pytest.raises(ValueError, match="mode"):
        ds.write_parquet(tmp_path / "out", mode="sometimes")


def test_compression_and_row_groups_are_used(tmp_path):
    aktis.data.range(100).write_parquet(tmp_path, compression="zstd", row_group_size=10)
    files = [parquet.ParquetFile(path) for path in tmp_path.iterdir()]
    assert {file.metadata.row_group(0).column(0).compression for file in files} == {"ZSTD"}
    assert max(file.metadata.row_group(i).num_rows for file in files for i in range(file.num_row_groups)) <= 10


def test_failed_job_leaves_no_half_written_file(tmp_path):
    def fail_late(batch):
        if 90 in batch["id"]:
            raise RuntimeError("late")
        return batch

    with pytest.raises(RuntimeError, match="late"):
        aktis.data.range(100).map_batches(fail_late, batch_size=5).write_parquet(tmp_path)

    def all_are_whole():
        try:
            return all(parquet.read_table(path) is not None for path in tmp_path.iterdir())
        except (pyarrow.ArrowInvalid, FileNotFoundError):  # of a worker that is still writing, or has just been renamed
            return False

    until(all_are_whole, "every file, hidden ones included, is whole")


def test_limit_is_kept_through_a_write(tmp_path):
    aktis.data.range(1000).filter(lambda row: row["id"] % 2 == 0).limit(7).write_parquet(tmp_path)
    assert sorted(parquet.read_table(tmp_path)["id"].to_pylist()) == [0, 2, 4, 6, 8, 10, 12]


def test_nulls_of_the_first_batches_take_the_type_of_later_ones(tmp_path):
    def label(batch):
        for i in batch["id"]:
            yield {"id": [i], "label": ["late" if i > 5 else None], "number": [1 if i > 2 else 0.5]}

    aktis.data.range(10).map_batches(label, batch_size=10).write_parquet(tmp_path)
    table = parquet.read_table(tmp_path).sort_by("id")
    assert table["label"].to_pylist() == [None] * 6 + ["late"] * 4
    assert table["number"].to_pylist() == [0.5] * 3 + [1.0] * 7
