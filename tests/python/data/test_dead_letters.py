"""Rows that were put aside: what is told of them, and where they lie."""

import collections
import os
from concurrent.futures import ThreadPoolExecutor

import aktis.data
import pytest
from aktis.data import ActorPoolStrategy
from aktis.data.datasource import FilenameProvider
from aktis.exceptions import TaskError

from .object_store import ObjectStore
from .poisoned import BAD, ROWS, Raises, check, dead_ids, ids_of, read, write_numbers


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return write_numbers(tmp_path_factory.mktemp("numbers"))


@pytest.fixture
def store():
    made = ObjectStore()
    yield made
    made.close()


def test_letter_tells_row_place_step_error_and_worker(numbers):
    def fails(batch):
        if 2500 in batch["id"]:
            raise KeyError("no such thing")
        return batch

    ds = read(numbers).map_batches(fails, batch_size=64, on_error="dead_letter")
    assert ds.count() == ROWS - 1
    (letter,) = ds.dead_letters().take_all()
    assert letter["row"] == {"id": 2500, "text": "row 2500"}
    place = letter["position"]
    assert place["file"].endswith("part-1.parquet")
    assert (place["row_group"], place["row"]) == (1, 0)
    assert letter["operator"] == "MapBatches(fails)"
    assert (letter["error"], letter["message"]) == ("KeyError", "'no such thing'")
    assert "raise KeyError" in letter["traceback"]
    # 64 rows, 32, 16, 8, 4, 2, 1.
    assert letter["attempts"] == 7
    assert letter["worker"].startswith("process ")
    assert letter["time"] is not None


def test_consumers_of_a_shared_run_get_what_it_put_aside(numbers):
    ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
    shards = ds.streaming_split(2)
    with pytest.raises(ValueError, match="has not run"):
        shards[0].dead_letters()
    with ThreadPoolExecutor(2) as threads:
        good = threads.map(lambda shard: list(shard.iter_rows()), shards)
    check(ids_of(row for rows in good for row in rows), dead_ids(shards[1].dead_letters()))


def test_dead_letters_need_a_run(numbers):
    with pytest.raises(ValueError, match="has not run"):
        read(numbers).dead_letters()


class TestFiles:
    @pytest.mark.parametrize("sink", ["parquet", "csv", "json", "orc"])
    def test_dead_rows_lie_beside_the_output(self, numbers, tmp_path, sink):
        out = tmp_path / "out"
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        getattr(ds, f"write_{sink}")(out)
        good = ids_of(getattr(aktis.data, f"read_{sink}")(out).take_all())
        check(good, dead_ids(aktis.data.read_dead_letters(out)))
        check(good, dead_ids(ds.dead_letters()))
        assert not [name for name in os.listdir(out) if name.startswith(".")]

    def test_functions_before_a_pool_of_actors_put_rows_aside_too(self, numbers, tmp_path):
        class Second:
            def __call__(self, batch):
                if 100 in batch["id"]:
                    raise TypeError("hundred")
                return batch

        ds = read(numbers).map_batches(Raises, compute=ActorPoolStrategy(size=1), batch_size=64, on_error="dead_letter")
        ds = ds.map_batches(Second, compute=ActorPoolStrategy(size=1), batch_size=50, on_error="dead_letter")
        ds.write_parquet(tmp_path / "out")
        letters = aktis.data.read_dead_letters(tmp_path / "out")
        check(ids_of(aktis.data.read_parquet(tmp_path / "out").take_all()), dead_ids(letters), [*BAD, 100])
        only = aktis.data.read_dead_letters(tmp_path / "out", operator="MapBatches(Second)").take_all()
        assert [row["row"]["id"] for row in only] == [100]

    def test_dead_rows_go_where_the_user_says(self, numbers, tmp_path):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        ds.write_parquet(tmp_path / "out", dead_letters=tmp_path / "dead")
        check(
            ids_of(aktis.data.read_parquet(tmp_path / "out").take_all()),
            dead_ids(aktis.data.read_dead_letters(tmp_path / "dead")),
        )
        assert not (tmp_path / "out" / "_dead_letters").exists()
        assert aktis.data.read_dead_letters(tmp_path / "out").take_all() == []

    def test_a_folder_for_dead_rows_in_the_way_of_the_rows_is_refused(self, numbers, tmp_path):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        with pytest.raises(ValueError, match="whoever reads its rows would read dead ones"):
            ds.write_parquet(tmp_path / "out", dead_letters=tmp_path / "out" / ".")
        with pytest.raises(ValueError, match="replaces all that is in it"):
            ds.write_parquet(tmp_path / "out", mode="overwrite", dead_letters=tmp_path / "out" / "dead")

    def test_a_folder_for_dead_rows_needs_a_step_that_puts_them_aside(self, numbers, tmp_path):
        with pytest.raises(ValueError, match=r'on_error="dead_letter"'):
            read(numbers).write_parquet(tmp_path / "out", dead_letters=tmp_path / "dead")
        assert not (tmp_path / "dead").exists()

    def test_overwriting_replaces_the_dead_rows_with_the_rest(self, numbers, tmp_path):
        def fails(batch):
            if 17 in batch["id"]:
                raise ValueError("no")
            return batch

        ds = read(numbers).map_batches(fails, batch_size=10, on_error="dead_letter")
        for _ in range(2):
            ds.write_parquet(tmp_path / "out", mode="overwrite")
        assert dead_ids(aktis.data.read_dead_letters(tmp_path / "out")) == {17: 1}
        ds.write_parquet(tmp_path / "out", mode="append")
        assert dead_ids(aktis.data.read_dead_letters(tmp_path / "out")) == {17: 2}

    @pytest.mark.parametrize("how", ["url", "filesystem"])
    def test_dead_rows_go_into_a_store_with_the_output(self, numbers, store, how):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        path, options = (store.url("out"), {}) if how == "url" else ("bucket/out", {"filesystem": store.filesystem()})
        ds.write_parquet(path, **options)
        letters = aktis.data.read_dead_letters(path, **options)
        check(ids_of(aktis.data.read_parquet(path, **options).take_all()), dead_ids(letters))
        only = aktis.data.read_dead_letters(path, operator="MapBatches(Raises)", **options)
        assert only.count() == len(BAD)
        assert aktis.data.read_dead_letters(path, operator="another", **options).count() == 0
        assert not [key for key in store.files if key.startswith("out/.") and not key.endswith("/")]
        with pytest.raises(FileNotFoundError, match="no such folder"):
            aktis.data.read_dead_letters(store.url("nowhere"))

    @pytest.mark.parametrize("where", ["here", "store"])
    def test_names_of_users_are_not_those_of_dead_rows(self, numbers, store, tmp_path, where):
        class Named(FilenameProvider):
            def get_filename_for_task(self, write_uuid, task_index):
                return f"named-{write_uuid}-{task_index:03}.parquet"

        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        out = str(tmp_path / "out") if where == "here" else store.url("out")
        ds.write_parquet(out, filename_provider=Named(file_format="parquet"))
        good = aktis.data.read_parquet(out, include_paths=True).take_all()
        check(ids_of(good), dead_ids(aktis.data.read_dead_letters(out)))
        assert {row["path"].rpartition("/")[2].partition("-")[0] for row in good} == {"named"}

    def test_stores_that_dead_rows_do_not_go_into_are_refused(self, numbers, store, tmp_path):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        with pytest.raises(NotImplementedError, match=r"dead_letters=.*/out/_dead_letters, with the files"):
            ds.write_parquet(store.url("out"), dead_letters=tmp_path / "dead")
        with pytest.raises(NotImplementedError, match=r"dead_letters='s3://bucket/dead'.*copy them after"):
            ds.write_parquet(tmp_path / "out", dead_letters="s3://bucket/dead")
        assert not list(tmp_path.iterdir())
        assert not [key for key in store.files if not key.endswith("/")]

    def test_dead_rows_do_not_get_into_a_table(self, numbers, tmp_path):
        pytest.importorskip("lance", reason="pylance is not installed: requirements-formats.txt")
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        ds.write_lance(str(tmp_path / "out.lance"))
        check(ids_of(aktis.data.read_lance(str(tmp_path / "out.lance")).take_all()), dead_ids(ds.dead_letters()))

    def test_dead_rows_can_be_tried_again(self, numbers, tmp_path):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter")
        ds.write_parquet(tmp_path / "out")
        again = aktis.data.read_dead_letters(tmp_path / "out").map(lambda letter: letter["row"])
        assert ids_of(again.take_all()) == collections.Counter(BAD)
        assert again.columns() == ["id", "text"]

    def test_nothing_is_put_aside_where_nothing_failed(self, numbers, tmp_path):
        read(numbers).map_batches(lambda batch: batch, on_error="dead_letter").write_parquet(tmp_path / "out")
        letters = aktis.data.read_dead_letters(tmp_path / "out")
        assert (letters.count(), letters.columns()[:2]) == (0, ["row", "position"])
        with pytest.raises(FileNotFoundError, match="no such folder"):
            aktis.data.read_dead_letters(tmp_path / "nowhere")

    def test_failed_job_leaves_no_files_and_tells_its_dead_rows(self, numbers, tmp_path):
        ds = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter", max_errors=3)
        with pytest.raises(TaskError, match="max_errors=3"):
            ds.write_parquet(tmp_path / "out")
        # What is done is hidden, for the same job to go on with.
        left = list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
        assert all(path.name.startswith((".unfinished-", "_aktis")) for path in left)
        assert len(dead_ids(ds.dead_letters())) > 3

    def test_sink_of_ones_own_gets_all_good_rows(self, numbers):
        class Sink(aktis.data.Datasink):
            def write(self, blocks, ctx):
                return [i for block in blocks for i in block.column("id").to_pylist()]

            def on_write_complete(self, write_result):
                self.ids = [i for written in write_result.write_returns for i in written]

        ds, sink = read(numbers).map_batches(Raises(), batch_size=64, on_error="dead_letter"), Sink()
        ds.write_datasink(sink)
        check(collections.Counter(sink.ids), dead_ids(ds.dead_letters()))
