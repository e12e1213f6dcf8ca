"""Rows that are arrays: from function to function, into files and back, and of others."""

import json

import aktis.data
import numpy
import pandas
import pyarrow
import pytest
from aktis.data import ActorPoolStrategy
from pyarrow import parquet


def image(row):
    return numpy.full((row + 1, 4, 3), row, dtype=numpy.uint8)


def images(batch):
    made = numpy.empty(len(batch["id"]), dtype=object)
    made[:] = [image(int(row)) for row in batch["id"]]
    return {"id": batch["id"], "image": made}


def same_images(ids, arrays):
    return all(
        array.dtype == numpy.uint8 and numpy.array_equal(array, image(row))
        for row, array in zip(ids, arrays, strict=True)
    )


class Pass:
    def __call__(self, batch):
        return batch


@pytest.mark.parametrize("batch_format", ["numpy", "pandas"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_images_of_different_sizes_pass_from_function_to_function_and_to_a_file(batch_format, batch_size, tmp_path):
    def check(batch):
        assert same_images(batch["id"], batch["image"]), batch["image"]
        return {"id": batch["id"], "image": batch["image"]}

    ds = aktis.data.range(8).map_batches(images, batch_size=batch_size)
    ds = ds.map_batches(Pass, batch_size=3, batch_format=batch_format, compute=ActorPoolStrategy(size=1))
    ds = ds.map_batches(check, batch_size=batch_size, batch_format=batch_format)
    ds.write_parquet(tmp_path)
    kinds = {str(parquet.read_schema(path).field("image")) for path in tmp_path.glob("*.parquet")}
    assert len(kinds) == 1
    rows = aktis.data.read_parquet(tmp_path).take_all()
    assert len(rows) == 8 and same_images([row["id"] for row in rows], [row["image"] for row in rows])


def test_rows_get_and_give_arrays():
    ds = aktis.data.range(4).map(lambda row: {"id": row["id"], "image": image(row["id"])})
    shapes = ds.map(lambda row: {"shape": list(row["image"].shape), "kind": str(row["image"].dtype)}).take_all()
    assert shapes == [{"shape": [row + 1, 4, 3], "kind": "uint8"} for row in range(4)]
    alike = aktis.data.range(4).map(lambda row: {"image": image(1)}).take_batch(4)["image"]
    assert alike.shape == (4, 2, 4, 3), "rows of one shape are one array"


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bool", "int64"])
def test_tensors_of_one_shape_are_of_the_canonical_type_and_keep_shape_and_type(dtype, tmp_path):
    tensors = numpy.arange(24).reshape(4, 2, 3).astype(dtype)
    ds = aktis.data.from_numpy(tensors)
    ds.map_batches(lambda batch: batch, batch_size=1).write_parquet(tmp_path)
    field = parquet.read_schema(next(tmp_path.glob("*.parquet"))).field("data")
    assert isinstance(field.type, pyarrow.FixedShapeTensorType) and field.type.shape == [2, 3]
    read = aktis.data.read_parquet(tmp_path)
    batch = read.take_batch(4)["data"]
    assert batch.dtype == dtype and numpy.array_equal(batch, tensors)
    frames = [
        read.take_batch(4, batch_format="pandas"),
        read.to_pandas(),
        next(iter(read.iter_batches(batch_format="pandas"))),
    ]
    for frame in frames:
        assert [row.shape for row in frame["data"]] == [(2, 3)] * 4 and frame["data"][0].dtype == dtype
    back = read.map_batches(lambda frame: frame, batch_format="pandas").take_batch(4)["data"]
    assert numpy.array_equal(back, tensors)


def test_tensors_without_values_keep_their_rows():
    def boxes(batch):
        return {"boxes": numpy.zeros((len(batch["id"]), int(batch["id"][0]) % 2, 4), numpy.float32)}

    ds = aktis.data.range(4).map_batches(boxes, batch_size=1)
    assert [row["boxes"].shape for row in ds.take_all()] == [(0, 4), (1, 4), (0, 4), (1, 4)]
    assert [len(batch["boxes"]) for batch in ds.iter_batches(batch_size=2)] == [2, 2]


@pytest.mark.parametrize(
    ("name", "metadata", "kind"),
    [
        ("ray.data.arrow_tensor", json.dumps([2, 3]).encode(), pyarrow.list_),
        ("ray.data.arrow_tensor_v2", json.dumps([2, 3]).encode(), pyarrow.large_list),
    ],
)
def test_tensors_that_ray_has_written_keep_shape_and_type(name, metadata, kind, tmp_path):
    values = numpy.arange(12, dtype=numpy.uint8)
    field = pyarrow.field("x", kind(pyarrow.uint8()), metadata={
        "ARROW:extension:name": name, "ARROW:extension:metadata": metadata,
    })  # fmt: skip
    column = pyarrow.array([values[:6], values[6:]], field.type)
    parquet.write_table(pyarrow.table([column], schema=pyarrow.schema([field])), tmp_path / "a.parquet")
    ds = aktis.data.read_parquet(tmp_path)
    assert numpy.array_equal(ds.take_batch(2)["x"], values.reshape(2, 2, 3))
    assert ds.take(1)[0]["x"].shape == (2, 3)


def test_tensors_of_different_shapes_that_ray_has_written_are_arrays(tmp_path):
    kind = pyarrow.struct([("data", pyarrow.large_list(pyarrow.float32())), ("shape", pyarrow.list_(pyarrow.int64()))])
    metadata = {"ARROW:extension:name": "ray.data.arrow_variable_shaped_tensor", "ARROW:extension:metadata": "2"}
    column = pyarrow.array([{"data": [1, 2], "shape": [1, 2]}, {"data": [1, 2, 3], "shape": [3, 1]}], kind)
    schema = pyarrow.schema([pyarrow.field("x", kind, metadata=metadata)])
    parquet.write_table(pyarrow.table([column], schema=schema), tmp_path / "a.parquet")
    batch = aktis.data.read_parquet(tmp_path).take_batch(2)["x"]
    assert [row.shape for row in batch] == [(1, 2), (3, 1)] and batch[0].dtype == numpy.float32


def test_frames_of_arrays_come_in(tmp_path):
    frame = pandas.DataFrame({"image": [image(0), image(1), None]})
    rows = aktis.data.from_pandas(frame).take_all()
    assert same_images([0, 1], [row["image"] for row in rows[:2]]) and rows[2]["image"] is None
