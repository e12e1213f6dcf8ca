"""Lance datasets: fragments are read and made by workers, and become visible by one commit."""

# Packages need not be there, and arguments are wrong on purpose.
# pyright: reportMissingImports=false, reportArgumentType=false

import pathlib

import aktis.data
import numpy
import pyarrow
import pytest

lance = pytest.importorskip("lance", reason="pylance is not installed: requirements-formats.txt")


@pytest.fixture
def numbers(tmp_path):
    """A dataset of four fragments and two versions."""
    path = str(tmp_path / "numbers.lance")
    lance.write_dataset(
        pyarrow.table({"id": range(100), "word": [f"w{n}" for n in range(100)]}), path, max_rows_per_file=40
    )
    lance.write_dataset(
        pyarrow.table({"id": range(100, 110), "word": [None] * 10}, schema=lance.dataset(path).schema),
        path,
        mode="append",
    )
    return path


def files_of(path):
    return sorted(file.name for file in pathlib.Path(path, "data").iterdir())


class TestReading:
    def test_rows_come_in_order_by_version_and_tag(self, numbers):
        assert [row["id"] for row in aktis.data.read_lance(numbers).take_all()] == list(range(110))
        assert aktis.data.read_lance(numbers, version=1).count() == 100
        lance.dataset(numbers).tags.create("first", 1)
        assert aktis.data.read_lance(numbers, version="first").count() == 100
        lance.dataset(numbers).delete("id < 50")
        assert aktis.data.read_lance(numbers).count() == 60

    def test_columns_filter_and_options_of_the_scanner_are_pushed_down(self, numbers):
        ds = aktis.data.read_lance(numbers, columns=["id"], filter="id >= 95 AND word IS NOT NULL")
        assert ds.take_all() == [{"id": n} for n in range(95, 100)]
        fragments = lance.dataset(numbers).get_fragments()[1:2]
        some = aktis.data.read_lance(numbers, scanner_options={"fragments": fragments, "batch_size": 7})
        assert [row["id"] for row in some.take_all()] == list(range(40, 80))
        with pytest.raises(ValueError, match="is for one dataset"):
            aktis.data.read_lance([numbers, numbers], scanner_options={"fragments": fragments})

    def test_several_datasets_are_read_one_after_another(self, numbers, tmp_path):
        more = str(tmp_path / "more.lance")
        lance.write_dataset(pyarrow.table({"id": [1000], "word": ["x"]}), more)
        ds = aktis.data.read_lance([numbers, more], override_num_blocks=2)
        assert [row["id"] for row in ds.take_all()] == [*range(110), 1000]

    def test_datasets_without_rows_have_columns_and_missing_ones_are_named(self, tmp_path):
        path = str(tmp_path / "none.lance")
        lance.write_dataset(pyarrow.table({"id": pyarrow.array([], pyarrow.int64())}), path)
        ds = aktis.data.read_lance(path)
        assert ds.take_all() == [] and ds.columns() == ["id"]
        with pytest.raises(ValueError, match="absent"):
            aktis.data.read_lance(tmp_path / "absent.lance")


class TestWriting:
    def test_dataset_is_made_added_to_and_replaced(self, tmp_path):
        path = tmp_path / "a.lance"
        ds = aktis.data.range(1000).map_batches(
            lambda batch: {"id": batch["id"], "vector": numpy.ones((len(batch["id"]), 4))}
        )
        ds.write_lance(path)
        written = lance.dataset(str(path))
        assert sorted(written.to_table()["id"].to_pylist()) == list(range(1000)) and written.version == 1
        assert pyarrow.types.is_fixed_size_list(written.schema.field("vector").type)
        aktis.data.from_items([{"id": 5000}]).write_lance(path, mode="append")
        written = lance.dataset(str(path))
        assert (written.version, written.count_rows()) == (2, 1001)
        assert written.to_table(filter="id = 5000").to_pylist() == [{"id": 5000, "vector": None}]
        aktis.data.from_items([{"other": "x"}]).write_lance(path, mode="overwrite")
        assert lance.dataset(str(path)).to_table().to_pylist() == [{"other": "x"}]
        assert lance.dataset(str(path), version=2).count_rows() == 1001
        assert aktis.data.read_lance(path).take_all() == [{"other": "x"}]

    def test_schema_says_types_and_counts_say_files(self, tmp_path):
        path = str(tmp_path / "a.lance")
        schema = pyarrow.schema([("id", pyarrow.int16()), ("note", pyarrow.string())])
        aktis.data.range(1000, override_num_blocks=8).write_lance(path, schema=schema, min_rows_per_file=500)
        written = lance.dataset(path)
        assert written.schema.equals(schema)
        assert len(written.get_fragments()) <= 2
        aktis.data.range(100).write_lance(path, mode="overwrite", max_rows_per_file=30)
        assert max(fragment.count_rows() for fragment in lance.dataset(path).get_fragments()) <= 30

    def test_modes_that_do_not_fit_what_is_there_are_refused(self, numbers, tmp_path):
        ds = aktis.data.range(3)
        with pytest.raises(ValueError, match="there is a dataset already"):
            ds.write_lance(numbers)
        with pytest.raises(FileNotFoundError, match="there is no dataset"):
            ds.write_lance(tmp_path / "absent.lance", mode="append")
        with pytest.raises(ValueError, match="it is one of 'create', 'append', 'overwrite'"):
            ds.write_lance(numbers, mode="ignore")
        with pytest.raises(NotImplementedError, match="give the path of the dataset"):
            ds.write_lance(numbers, mode="append", table_id=["a"])
        with pytest.raises(aktis.exceptions.TaskError, match="columns that the dataset does not have: more"):
            aktis.data.from_items([{"id": 1, "more": 2}]).write_lance(numbers, mode="append")

    def test_job_that_fails_leaves_the_dataset_as_it_was_and_no_files(self, numbers):
        before = files_of(numbers)

        def fails(batch):
            if batch["id"][0] >= 900:
                # One worker does it all: what it has added is there by now.
                raise RuntimeError("no more" if len(files_of(numbers)) > len(before) else "nothing yet")
            return batch

        ds = aktis.data.range(1000, override_num_blocks=10).map_batches(fails, batch_size=100, concurrency=1)
        with pytest.raises(RuntimeError, match="no more"):
            ds.write_lance(numbers, mode="append")
        assert lance.dataset(numbers).version == 2
        assert files_of(numbers) == before

    def test_commit_whose_answer_is_lost_is_found_and_not_made_again(self, numbers, monkeypatch):
        whole = lance.LanceDataset.commit

        def loses(*args, **kwargs):
            whole(*args, **kwargs)
            raise OSError("the answer is lost")

        monkeypatch.setattr(lance.LanceDataset, "commit", loses)
        aktis.data.range(3).write_lance(numbers, mode="append")
        monkeypatch.undo()
        assert lance.dataset(numbers).count_rows() == 113

    def test_ctrl_c_during_a_commit_leaves_the_files_that_it_has_named(self, numbers, monkeypatch):
        whole = lance.LanceDataset.commit

        def interrupted(*args, **kwargs):
            whole(*args, **kwargs)
            raise KeyboardInterrupt

        monkeypatch.setattr(lance.LanceDataset, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            aktis.data.range(3).write_lance(numbers, mode="append")
        assert "a transaction with the number" in caught.value.__notes__[-1]
        monkeypatch.undo()
        assert len(lance.dataset(numbers).to_table()) == 113

    def test_commit_that_others_are_faster_than_removes_what_was_written(self, numbers, monkeypatch):
        before, whole = files_of(numbers), lance.LanceDataset.commit

        def slow(*args, **kwargs):
            monkeypatch.undo()
            lance.write_dataset(pyarrow.table({"other": [1]}), numbers, mode="overwrite")
            whole(*args, **kwargs)

        monkeypatch.setattr(lance.LanceDataset, "commit", slow)
        with pytest.raises(OSError, match="concurrent transaction"):
            aktis.data.range(3).write_lance(numbers, mode="append")
        assert len(files_of(numbers)) == len(before) + 1, "theirs"

    def test_files_stay_where_nobody_knows_whether_the_commit_was_made(self, numbers, monkeypatch):
        before = files_of(numbers)

        def lost(*args, **kwargs):
            raise OSError("the store does not answer")

        monkeypatch.setattr(lance.LanceDataset, "commit", lost)
        with pytest.raises(OSError, match="does not answer") as caught:
            aktis.data.range(3).write_lance(numbers, mode="append")
        assert "nobody can tell whether the commit was made" in caught.value.__notes__[-1]
        assert len(files_of(numbers)) == len(before) + 1
