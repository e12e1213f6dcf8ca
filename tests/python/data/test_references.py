"""Functions of datasets that use actors and objects of the session."""

import copy

import aktis
import aktis.data
import numpy


@aktis.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0

    def add(self, rows):
        self.count += rows
        return self.count


def test_function_may_call_an_actor_that_it_was_given():
    counter = Counter.remote()

    def count(batch, counter):
        aktis.get(counter.add.remote(len(batch["id"])))
        return batch

    ds = aktis.data.range(100)
    assert ds.map_batches(count, batch_size=10, fn_kwargs={"counter": counter}).count() == 100
    assert ds.map_batches(count, batch_size=10, fn_args=(counter,)).count() == 100
    assert aktis.get(counter.add.remote(0)) == 200


def test_closure_bound_method_and_constructor_may_hold_handles():
    counter = Counter.remote()
    add = counter.add

    class Model:
        def __init__(self, counter):
            self.counter = counter

        def __call__(self, batch):
            aktis.get(self.counter.add.remote(len(batch["id"])))
            return batch

    def is_counted(row):
        return aktis.get(add.remote(1)) > 0

    def passed(row):
        aktis.get(counter.add.remote(1))
        return row

    ds = aktis.data.range(10).filter(is_counted).map(passed)
    assert ds.map_batches(Model, fn_constructor_args=(counter,), concurrency=1).count() == 10
    assert aktis.get(add.remote(0)) == 30


def test_weights_that_were_put_once_live_as_long_as_the_dataset():
    def scaled(batch, weights):
        return {"id": batch["id"] * aktis.get(weights)[batch["id"]]}

    ds = aktis.data.range(5).map_batches(scaled, fn_kwargs={"weights": aktis.put(numpy.arange(5))})
    for _ in range(2):
        assert [row["id"] for row in ds.take_all()] == [0, 1, 4, 9, 16]


def test_two_functions_of_one_stage_have_their_own_references():
    one, two = aktis.put(1), aktis.put(2)

    def add(batch, amount):
        return {"id": batch["id"] + aktis.get(amount)}

    ds = aktis.data.range(1).map_batches(add, fn_args=(one,)).map_batches(add, fn_args=(two,))
    assert ds.take_all() == [{"id": 3}]


def test_dataset_can_be_given_to_a_task_or_be_copied(words):
    counter = Counter.remote()

    def count(batch):
        aktis.get(counter.add.remote(len(batch["id"])))
        return {"id": batch["id"]}

    @aktis.remote(num_cpus=0)
    def sum_of(ds):
        return sum(row["id"] for row in ds.take_all())

    ds = aktis.data.read_parquet(words).filter(expr="id < 10").map_batches(count).limit(5)
    assert aktis.get(sum_of.remote(ds)) == 10
    assert copy.deepcopy(ds).count() == 5
    assert aktis.get(sum_of.remote(aktis.data.from_items([{"id": 3}]))) == 3
    assert aktis.get(counter.add.remote(0)) >= 10
