"""Batches and rows one after another: in their order, by chance, as torch is not there."""

import builtins
import time

import aktis
import aktis.data
import pytest
from aktis.data import _batches
from waiting import DEADLINE_S


def ids(batches):
    return [i for batch in batches for i in batch["id"].tolist()]


@pytest.mark.parametrize(("held", "size"), [(1, 1), (100, 7), (300, 32), (5000, 256), (10, 64)])
def test_rows_drawn_by_chance_are_all_rows_once(held, size):
    ds = aktis.data.range(1000, override_num_blocks=5)
    batches = ds.iter_batches(batch_size=size, local_shuffle_buffer_size=held, local_shuffle_seed=3)
    first = ids(batches)
    assert sorted(first) == list(range(1000))
    assert first == ids(batches)
    assert (first != list(range(1000))) == (held > 1)
    sizes = [len(batch["id"]) for batch in batches]
    assert set(sizes[:-1]) <= {size} and sizes[-1] <= size
    other = ds.iter_batches(batch_size=size, local_shuffle_buffer_size=held, local_shuffle_seed=4)
    assert held == 1 or ids(other) != first


def test_rows_are_drawn_from_those_that_are_held():
    ds = aktis.data.range(10_000, override_num_blocks=10)
    found = ids(ds.iter_batches(batch_size=10, local_shuffle_buffer_size=100, local_shuffle_seed=1))
    # Nothing comes before it was there: at most 1.5 times what is held, and a batch.
    assert all(row - place < 200 for place, row in enumerate(found))
    assert max(place - row for place, row in enumerate(found)) > 20


def test_last_batch_may_be_left_out_also_where_rows_are_drawn():
    ds = aktis.data.range(10)
    for held in (None, 5):
        batches = ds.iter_batches(batch_size=4, drop_last=True, local_shuffle_buffer_size=held)
        assert [len(batch["id"]) for batch in batches] == [4, 4]


def test_columns_that_come_later_are_null_in_rows_that_are_held():
    ds = aktis.data.range(40, override_num_blocks=4).map(lambda row: {"id": row["id"], f"c{row['id'] // 30}": 1.0})
    batches = ds.iter_batches(batch_size=4, local_shuffle_buffer_size=8, local_shuffle_seed=1, batch_format="pyarrow")
    rows = [row for table in batches for row in table.to_pylist()]
    assert sorted(row["id"] for row in rows) == list(range(40))
    assert all((row["c0"] is None) == (row["id"] >= 30) for row in rows)


def test_options_of_iteration_are_checked():
    ds = aktis.data.range(10)
    for wrong in (
        {"local_shuffle_buffer_size": 0},
        {"local_shuffle_buffer_size": 5, "batch_size": None},
        {"local_shuffle_seed": 3},
        {"local_shuffle_seed": "x", "local_shuffle_buffer_size": 300},
        {"prefetch_batches": -1},
        {"batch_size": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ds.iter_batches(**wrong)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(TypeError, match="did you mean 'local_shuffle_seed'"):
        ds.iter_batches(local_shufle_seed=3)  # pyright: ignore[reportCallIssue]


def test_first_rows_come_while_the_rest_of_their_input_is_made(tmp_path):
    seen = tmp_path / "seen"

    def gate(batch):
        deadline = time.monotonic() + DEADLINE_S
        while batch["id"][0] >= 20 and not seen.exists():
            assert time.monotonic() < deadline, "nobody has seen the first rows"
            time.sleep(0.005)
        return batch

    rows = aktis.data.range(4000).map_batches(gate, batch_size=4).iter_rows()
    found = []
    for row in rows:
        seen.touch()
        found.append(row["id"])
    assert found == list(range(4000))


def test_iterator_of_a_dataset_is_given_to_tasks_and_iterated_over_again():
    @aktis.remote(num_cpus=0)
    def total(iterator):
        return [sum(row["id"] for row in iterator.iter_rows()), sum(ids(iterator.iter_batches(batch_size=3)))]

    iterator = aktis.data.range(10).map(lambda row: row).iterator()
    assert isinstance(iterator, aktis.data.DataIterator)
    assert aktis.get(total.remote(iterator)) == [45, 45]
    assert iterator.schema().names == ["id"]
    assert iterator.materialize().count() == 10
    assert "rows" in iterator.stats()


def test_who_needs_torch_is_told_that_it_is_not_there(monkeypatch):
    find = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError("no torch")
        return find(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(ImportError, match=r"needs torch, .*iter_batches\(\) gives numpy arrays"):
        aktis.data.range(3).iter_torch_batches()


def test_more_rows_than_the_limit_are_refused():
    ds = aktis.data.range(10)
    assert len(ds.to_pandas(limit=10)) == 10
    for call in (ds.to_pandas, ds.take_all):
        with pytest.raises(ValueError, match="more than 9 rows"):
            call(limit=9)


def test_first_row_is_not_made_together_with_all_rows_of_its_block(monkeypatch):
    made, rows_of = [], _batches.rows_of
    monkeypatch.setattr(_batches, "rows_of", lambda batch: made.append(batch.num_rows) or rows_of(batch))
    rows = iter(aktis.data.range(100_000).iter_rows())
    assert next(rows) == {"id": 0}
    assert sum(made) < 1000
    assert [row["id"] for row in rows] == list(range(1, 100_000))
