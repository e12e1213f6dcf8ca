"""Rows that are kept from the first run, and datasets that are mixed."""

import pickle
import threading

import aktis
import aktis.data
import pytest
from aktis.data import MixStoppingCondition


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.rows = 0

    def add(self, rows):
        self.rows += rows
        return self.rows


def counted(rows=10):
    """A dataset, and what tells how many rows it has made so far."""
    counter = Counter.remote()

    def count(batch):
        aktis.get(counter.add.remote(len(batch["id"])))
        return batch

    ds = aktis.data.range(rows, override_num_blocks=2).map_batches(count)
    return ds, lambda: aktis.get(counter.add.remote(0))


def test_later_runs_read_what_the_first_has_made():
    ds, made = counted()
    assert ds.cache() is ds
    assert made() == 0
    further = ds.filter(expr="id > 6")
    assert further.count() == 3
    assert made() == 10
    assert [row["id"] for row in ds.take_all()] == list(range(10))
    assert ds.union(further).count() == 13
    assert ds.sum("id") == 45 and ds.count() == 10 and ds.limit(2).count() == 2
    assert sum(len(batch["id"]) for batch in ds.iter_batches()) == 10
    assert made() == 10


def test_rows_are_made_again_when_they_were_forgotten():
    ds, made = counted()
    further = ds.cache().map(lambda row: row)
    assert further.count() == 10 and made() == 10
    assert ds.unpersist() is ds
    assert further.count() == 10 and made() == 20
    assert ds.take_all() and ds.take_all() and made() == 40
    assert ds.persist().count() == 10 and ds.count() == 10 and made() == 50


def test_threads_that_begin_together_make_rows_once():
    ds, made = counted()
    ds.cache()
    threads = [threading.Thread(target=ds.take_all) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made() == 10


def test_tasks_read_the_rows_that_were_there_when_they_got_the_dataset():
    @aktis.remote(num_cpus=0)
    def total(ds):
        return ds.sum("id")

    ds, made = counted()
    ds.cache()
    further = ds.filter(expr="id > 6")
    assert further.count() == 3 and made() == 10
    assert aktis.get([total.remote(ds), total.remote(further)]) == [45, 24]
    assert pickle.loads(pickle.dumps(further)).count() == 3
    assert made() == 10


def test_a_run_that_fails_keeps_nothing():
    ds = aktis.data.range(4).map(lambda row: {"id": 1 // row["id"]}).cache()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            ds.take_all()
    assert "id: int64" in repr(aktis.data.range(3).cache())


def test_what_keeping_cannot_do_is_refused():
    with pytest.raises(NotImplementedError, match=r"persist\(spill=False\) is not there yet: .*object_store_memory"):
        aktis.data.range(3).persist(spill=False)
    whole = aktis.data.range(3).materialize()
    assert whole.cache() is whole and whole.unpersist() is whole


def of(first, rows):
    ds = aktis.data.range(rows, override_num_blocks=rows)
    return ds.map_batches(lambda batch: {"x": batch["id"] + first})


def test_mixed_rows_come_by_weight_and_none_is_lost():
    mixed = of(0, 8).mix(of(100, 4), weights=[2, 1])
    rows = [row["x"] for row in mixed.take_all()]
    assert sorted(rows) == [*range(8), *range(100, 104)]
    for end in range(3, 13, 3):
        assert sum(x >= 100 for x in rows[:end]) == end // 3
    assert [x for x in rows if x < 100] == list(range(8))
    assert mixed.columns() == ["x"] and mixed.count() == 12


def test_mixing_ends_with_the_shortest_or_goes_on_without_it():
    one, other = of(0, 3), of(100, 6)
    assert [row["x"] for row in one.mix(other).take_all()] == [0, 100, 1, 101, 2, 102, 103, 104, 105]
    shortest = one.mix(other, stopping_condition=MixStoppingCondition.STOP_ON_SHORTEST)
    assert [row["x"] for row in shortest.take_all()] == [0, 100, 1, 101, 2]


def test_datasets_of_few_blocks_and_other_columns_are_mixed_as_well():
    words = aktis.data.from_items([{"x": i, "w": "a"} for i in range(5000)])
    mixed = aktis.data.range(5000).rename_columns({"id": "x"}).mix(words).materialize()
    rows = mixed.take_all()
    assert len(rows) == 10_000
    assert 1000 < sum(row["w"] is None for row in rows[:4096]) < 3000


def test_wrong_weights_are_refused():
    ds = aktis.data.range(3)
    with pytest.raises(ValueError, match="1 weights for 2 datasets"):
        ds.mix(ds, weights=[1])
    for wrong in ([0.0, 1.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="greater than 0"):
            ds.mix(ds, weights=wrong)
    with pytest.raises(ValueError, match="stop_on_none"):
        ds.mix(ds, stopping_condition="stop_on_none")  # pyright: ignore[reportArgumentType]
