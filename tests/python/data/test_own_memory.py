"""Functions that compute into one buffer again and again: what they returned stays as it was."""

import aktis.data
import numpy as np
import pandas
import pytest
from aktis.data import ActorPoolStrategy
from aktis.data._own_memory import owned
from aktis.data.datatype import DataType
from aktis.data.expressions import col, udf

ROWS = 3000


class Buffer:
    """Results of batches or rows, each over the one before."""

    def __init__(self, shape=()):
        self.out = np.empty((64, *shape), dtype=np.int64)

    def batch(self, batch):
        ids = batch["id"]
        self.out[: len(ids)] = ids.reshape(-1, *([1] * (self.out.ndim - 1))) * 2
        return {"id": ids, "twice": self.out[: len(ids)]}

    def row(self, row):
        self.out[:3] = row["id"] * 2
        return {"id": row["id"], "twice": self.out[:3]}


class Returns(Buffer):
    def __call__(self, batch):
        return self.batch(batch)


class Yields(Buffer):
    def __call__(self, batch):
        for first in range(0, len(batch["id"]), 16):
            yield self.batch({"id": batch["id"][first : first + 16]})


class Frames(Buffer):
    """A frame of pandas over the memory of the buffer."""

    def __call__(self, batch):
        made = self.batch(batch)
        return pandas.DataFrame({"id": made["id"], "twice": pandas.Series(made["twice"], copy=False)}, copy=False)


class Mapped(Buffer):
    def __call__(self, row):
        return self.row(row)


class FlatMapped(Buffer):
    def __call__(self, row):
        for _ in range(2):
            yield self.row(row)


def check(rows, times=1):
    assert sorted(row["id"] for row in rows) == sorted(list(range(ROWS)) * times)
    assert all(np.all(np.asarray(row["twice"]) == row["id"] * 2) for row in rows)


@pytest.mark.parametrize("model", [Returns, Yields])
@pytest.mark.parametrize("shape", [(), (4,)])
def test_batches(model, shape):
    pool = ActorPoolStrategy(size=1)
    made = aktis.data.range(ROWS).map_batches(
        model, batch_size=64, compute=pool, fn_constructor_kwargs={"shape": shape}
    )
    check(made.take_all())


def test_frames():
    made = aktis.data.range(ROWS).map_batches(Frames, batch_size=64, compute=ActorPoolStrategy(size=1))
    check(made.take_all())


def test_rows():
    pool = ActorPoolStrategy(size=1)
    ds = aktis.data.range(ROWS)
    check(ds.map(Mapped, compute=pool).take_all())
    check(ds.flat_map(FlatMapped, compute=pool).take_all(), times=2)


def test_columns():
    # Several calls for each block.
    rows = 100 * ROWS
    buffer = np.empty(rows, dtype=np.int64)

    @udf(return_dtype=DataType.int64())
    def twice(ids):
        buffer[: len(ids)] = np.asarray(ids) * 2
        return buffer[: len(ids)]

    ds = aktis.data.range(rows)
    query = "select id, twice(id) as twice from ds"
    for made in (ds.with_column("twice", twice(col("id"))), aktis.data.sql(query, functions={"twice": twice}, ds=ds)):
        assert made.materialize().filter(expr="twice = 2 * id").count() == rows


def test_nothing_is_copied_that_was_made_for_the_call():
    def made():
        part = np.arange(10)
        return {
            "new": part * 2,
            "shaped": np.ones((4, 3)).reshape(12),
            "part": np.ones((2, 5))[:, :2],
            "list": [1, 2],
            "given": np.frombuffer(b"12345678"),
        }

    columns = made()
    assert owned(columns) is columns


@pytest.mark.parametrize(
    "part",
    [lambda held: held, lambda held: held[:3], lambda held: held[1:].reshape(3, 3)],
    ids=["all", "part", "shape"],
)
def test_what_others_hold_is_copied(part):
    held = np.arange(10)
    columns = {"held": part(held), "new": np.zeros(3)}
    copied = owned(columns)
    assert not np.shares_memory(copied["held"], held) and copied["new"] is columns["new"]
    assert np.array_equal(copied["held"], columns["held"])


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    columns = {"new": torch.ones(4), "array": torch.ones(4).numpy(), "kept": torch.ones(4) @ torch.ones(4, 2)}
    assert owned(columns) is columns
    held = torch.ones(4)
    parts = (lambda held: held, lambda held: held[:2], lambda held: held.numpy(), lambda held: held[:2].numpy())
    for part in parts:
        copied = owned({"held": part(held)})["held"]
        before = copied.tolist()
        held += 1
        assert copied.tolist() == before
