"""Datasets that are not read on have their CPUs for nobody."""

import aktis
import aktis.data
import numpy
import pytest

#: Far more than a dataset keeps ready for its consumer.
ROWS = 1_600


@pytest.fixture
def cpu(request):
    """A session of one CPU, and of memory for a few blocks of as many datasets as the test says."""
    aktis.shutdown()
    aktis.init(num_cpus=1, object_store_memory=request.param * (100 << 20), log_to_driver=False)
    yield
    aktis.shutdown()


def large(batch):
    return {"id": batch["id"], "large": numpy.zeros((len(batch["id"]), 20_000))}


@pytest.mark.parametrize("cpu", [1], indirect=True)
def test_iterator_that_is_not_read_on_leaves_its_cpu_to_others_and_goes_on_later(cpu):
    batches = iter(aktis.data.range(ROWS).map_batches(large, batch_size=50).iter_batches(batch_size=100))
    ids = [*next(batches)["id"]]
    other = aktis.data.range(10).map_batches(lambda batch: {"id": batch["id"] + 1})
    assert sorted(row["id"] for row in other.take_all()) == [*range(1, 11)]

    @aktis.remote
    def task():
        return "done"

    assert aktis.get(task.remote()) == "done"
    for batch in batches:
        ids.extend(batch["id"])
    assert sorted(ids) == [*range(ROWS)]


@pytest.mark.parametrize("cpu", [1], indirect=True)
def test_iterators_that_are_not_read_on_leave_room_for_others_in_the_store(cpu):
    paused = [
        iter(aktis.data.range(ROWS).map_batches(large, batch_size=10).iter_batches(batch_size=10)) for _ in range(3)
    ]
    read = [len(next(batches)["id"]) for batches in paused]
    assert aktis.data.range(10).map_batches(lambda batch: batch).count() == 10
    # They go on beside each other, and the last one has the store for itself again.
    for before, batches in zip(read, paused, strict=True):
        assert before + sum(len(batch["id"]) for batch in batches) == ROWS
