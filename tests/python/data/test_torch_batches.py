"""Batches as tensors; these tests need torch, which the environment of the others does not have."""

import aktis.data
import numpy
import pytest
from aktis.data.collate_fn import ArrowBatchCollateFn, NumpyBatchCollateFn, PandasBatchCollateFn

torch = pytest.importorskip("torch")


def test_columns_become_tensors_of_their_types_and_shapes():
    images = aktis.data.from_numpy(numpy.arange(24, dtype=numpy.uint8).reshape(4, 2, 3))
    batches = images.iter_torch_batches(batch_size=3)
    for _ in range(2):
        assert [tuple(batch["data"].shape) for batch in batches] == [(3, 2, 3), (1, 2, 3)]
    rows = [{"f": 0.5, "b": True, "n": 7, "l": [1, 2]}, {"f": 1.5, "b": False, "n": 8, "l": [3, 4]}]
    (batch,) = aktis.data.from_items(rows).iterator().iter_torch_batches()
    assert (batch["f"].dtype, batch["b"].dtype, batch["n"].dtype) == (torch.float64, torch.bool, torch.int64)
    assert batch["l"].tolist() == [[1, 2], [3, 4]]


def test_tensors_may_be_written_to():
    ds = aktis.data.range(4).materialize()
    for batch in ds.iter_torch_batches():
        batch["id"] += 1
    assert ds.take(1) == [{"id": 0}]


def test_types_can_be_chosen_for_all_or_by_column():
    ds = aktis.data.from_items([{"a": 1, "b": 2}])
    (batch,) = ds.iter_torch_batches(dtypes=torch.float32)
    assert {column.dtype for column in batch.values()} == {torch.float32}
    (batch,) = ds.iter_torch_batches(dtypes={"a": torch.int32})
    assert (batch["a"].dtype, batch["b"].dtype) == (torch.int32, torch.int64)


def test_collate_functions_get_what_they_ask_for():
    def halved(batch):
        return [torch.as_tensor(batch["id"] // 2), "kept"]

    class OfArrow(ArrowBatchCollateFn):
        def __call__(self, batch):
            return {"rows": torch.tensor(batch.num_rows)}

    class OfPandas(PandasBatchCollateFn):
        def __call__(self, batch):
            return torch.tensor(batch["id"].max())

    class OfNumpy(NumpyBatchCollateFn):
        def __call__(self, batch):
            return (torch.as_tensor(batch["id"].copy()),)

    ds = aktis.data.range(4)
    ((half, kept),) = ds.iter_torch_batches(collate_fn=halved)
    assert (half.tolist(), kept) == ([0, 0, 1, 1], "kept")
    assert [batch["rows"].item() for batch in ds.iter_torch_batches(collate_fn=OfArrow(), batch_size=3)] == [3, 1]
    assert [batch.item() for batch in ds.iter_torch_batches(collate_fn=OfPandas())] == [3]
    ((ids,),) = ds.iter_torch_batches(collate_fn=OfNumpy(), local_shuffle_buffer_size=4, local_shuffle_seed=1)
    assert sorted(ids.tolist()) == [0, 1, 2, 3]


def test_tensors_are_placed_on_the_device():
    (batch,) = aktis.data.range(4).iter_torch_batches(device="meta")
    assert batch["id"].device.type == "meta"
    (tensor,) = aktis.data.range(4).iter_torch_batches(
        device=torch.device("meta"), collate_fn=lambda b: torch.as_tensor(b["id"] + 0)
    )
    assert tensor.device.type == "meta"


def test_what_has_no_tensor_is_refused_with_the_way_out():
    for value in ("text", [1, 2], None):
        ds = aktis.data.from_items([{"x": value}, {"x": [1] if isinstance(value, list) else value}])
        with pytest.raises(TypeError, match="column 'x' has no tensor: its values are .*give a collate_fn"):
            list(ds.iter_torch_batches())
    with pytest.raises(ValueError, match="either dtypes or collate_fn"):
        aktis.data.range(3).iter_torch_batches(dtypes=torch.int8, collate_fn=len)
    with pytest.raises(TypeError, match="collate_fn is a function"):
        aktis.data.range(3).iter_torch_batches(collate_fn=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="batch_size"):
        aktis.data.range(3).iter_torch_batches(batch_size=0)
