"""map_batches and its kin."""

import os
import time

import aktis.data
import numpy
import pandas
import pyarrow
import pytest
from aktis.data import ActorPoolStrategy, TaskPoolStrategy
from waiting import until


class AddN:
    def __init__(self, n, *, scale=1):
        self.n = n
        self.scale = scale
        self.pid = os.getpid()

    def __call__(self, batch, offset=0):
        return {"id": batch["id"] * self.scale + self.n + offset, "pid": numpy.full(len(batch["id"]), self.pid)}


@pytest.mark.parametrize(
    ("batch_format", "kind"), [("default", dict), ("numpy", dict), ("pandas", pandas.DataFrame),
                               ("pyarrow", pyarrow.Table), (None, pyarrow.Table)]
)  # fmt: skip
def test_batches_come_in_the_format_that_was_asked_for(batch_format, kind):
    def check(batch):
        assert isinstance(batch, kind), type(batch)
        return batch

    ds = aktis.data.range(10).map_batches(check, batch_format=batch_format, batch_size=5)
    assert [row["id"] for row in ds.take_all()] == list(range(10))


def test_numpy_batches_are_views_unless_they_shall_be_writable():
    def is_view(batch):
        return {"view": [not batch["id"].flags.writeable and not batch["id"].flags.owndata]}

    assert aktis.data.range(10).map_batches(is_view).take(1) == [{"view": True}]

    def write(batch):
        batch["id"][:] = 7
        return batch

    ds = aktis.data.range(3).map_batches(write, zero_copy_batch=False)
    assert ds.take_all() == [{"id": 7}] * 3


def test_class_is_made_once_per_worker_with_its_arguments():
    ds = aktis.data.range(100).map_batches(
        AddN, fn_constructor_args=(10,), fn_constructor_kwargs={"scale": 2}, fn_kwargs={"offset": 1}, batch_size=10,
        compute=ActorPoolStrategy(size=2),
    )  # fmt: skip
    rows = ds.take_all()
    assert [row["id"] for row in rows] == [2 * i + 11 for i in range(100)]
    assert 1 <= len({row["pid"] for row in rows}) <= 2


def test_generators_and_async_functions_work():
    def twice(batch):
        yield batch
        yield {"id": -batch["id"]}

    assert aktis.data.range(2).map_batches(twice, batch_size=2).to_pandas()["id"].tolist() == [0, 1, 0, -1]

    async def add(batch):
        return {"id": batch["id"] + 1}

    assert aktis.data.range(2).map_batches(add).to_pandas()["id"].tolist() == [1, 2]


def test_rows_functions():
    ds = aktis.data.range(6)
    assert ds.map(lambda row: {"x": row["id"] ** 2}).take(3) == [{"x": 0}, {"x": 1}, {"x": 4}]
    assert ds.flat_map(lambda row: [{"x": row["id"]}] * (row["id"] % 3)).count() == 6
    assert ds.filter(lambda row: row["id"] > 3).take_all() == [{"id": 4}, {"id": 5}]
    assert ds.add_column("half", lambda frame: frame["id"] / 2).take(2) == [
        {"id": 0, "half": 0.0},
        {"id": 1, "half": 0.5},
    ]


def test_tensors_pass_from_function_to_function():
    def image(batch):
        return {"image": numpy.ones((len(batch["id"]), 4, 5, 3), dtype=numpy.uint8) * batch["id"][:, None, None, None]}

    def total(batch):
        assert batch["image"].shape[1:] == (4, 5, 3)
        return {"total": batch["image"].sum(axis=(1, 2, 3), dtype=numpy.int64)}

    compute = ActorPoolStrategy(size=1)

    class Total:
        def __call__(self, batch):
            return total(batch)

    ds = aktis.data.range(8).map_batches(image)
    assert ds.map_batches(total).to_pandas()["total"].tolist() == [60 * i for i in range(8)]
    assert ds.map_batches(Total, compute=compute).to_pandas()["total"].tolist() == [60 * i for i in range(8)]


def test_declared_columns_are_all_that_is_read(words):
    seen = aktis.data.read_parquet(words).map_batches(
        lambda batch: {"columns": [",".join(batch)] * len(batch["id"])}, input_columns=["id"], passthrough_columns=["word"]
    )  # fmt: skip
    filtered = seen.filter(expr="word = 'word 3'")
    rows = filtered.take_all()
    assert {row["columns"] for row in rows} == {"id"} and {row["word"] for row in rows} == {"word 3"}
    assert filtered.get_stats_summary()["bytes_read"] < 400_000
    assert "full_filters" in filtered.explain()


def test_columns_can_be_named_before_anybody_knows_them():
    ds = aktis.data.range(10).map_batches(lambda batch: {"a": batch["id"], "B": batch["id"] * 2})
    assert ds.filter(expr="B >= 16").take_all() == [{"a": 8, "B": 16}, {"a": 9, "B": 18}]
    assert ds.select_columns(["B"]).rename_columns({"B": "c"}).take(1) == [{"c": 0}]
    assert ds.drop_columns(["a"]).columns() == ["B"]
    assert ds.schema().names == ["a", "B"]


def test_gpu_functions_run_beside_cpu_functions():
    class OnGpu:
        def __init__(self):
            self.devices = os.environ["CUDA_VISIBLE_DEVICES"]

        def __call__(self, batch):
            return {"id": batch["id"], "devices": [self.devices] * len(batch["id"])}

    ds = (
        aktis.data.range(40)
        .map_batches(lambda batch: {"id": batch["id"] + 1})
        .map_batches(OnGpu, num_gpus=0.5, batch_size=8, compute=ActorPoolStrategy(min_size=1, max_size=2))
    )
    rows = ds.take_all()
    assert [row["id"] for row in rows] == list(range(1, 41))
    assert {row["devices"] for row in rows} == {"0"}
    assert len(ds.get_stats_summary()["stages"]) == 2


def test_stages_run_at_the_same_time(tmp_path):
    def slow(batch):
        if 39 in batch["id"]:
            until((tmp_path / "taken").exists, "the second stage has something")
        return {"id": batch["id"], "made": [time.time()] * len(batch["id"])}

    class Take:
        def __call__(self, batch):
            (tmp_path / "taken").touch()
            return {"made": batch["made"], "taken": [time.time()] * len(batch["made"])}

    ds = aktis.data.range(40).map_batches(slow, batch_size=2, compute=TaskPoolStrategy(size=1))
    frame = ds.map_batches(Take, compute=ActorPoolStrategy(size=1)).to_pandas()
    assert frame["taken"].min() < frame["made"].max()  # pyright: ignore[reportGeneralTypeIssues]


def test_wrong_arguments_are_refused_at_once():
    ds = aktis.data.range(3)
    wrong = [
        ({"batch_size": 0}, ValueError),
        ({"batch_format": "cudf?"}, ValueError),
        ({"num_gpus": 1}, ValueError),
        ({"compute": "many"}, ValueError),
        ({"compute": TaskPoolStrategy(), "concurrency": 2}, ValueError),
        ({"fn_constructor_args": (1,)}, ValueError),
        ({"nonsense": 1}, TypeError),
    ]
    for arguments, error in wrong:
        with pytest.raises(error):
            ds.map_batches(lambda batch: batch, **arguments)
    with pytest.raises(TypeError):
        ds.map_batches(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="ActorPoolStrategy"):
        ds.map_batches(AddN, compute=TaskPoolStrategy())
    with pytest.raises(TypeError, match="lock"):
        import threading

        lock = threading.Lock()
        ds.map_batches(lambda batch: lock and batch)
