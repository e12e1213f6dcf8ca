"""Datasets of torch; these tests need torch, which the environment of the others does not have."""

import aktis.data
import numpy
import pytest

torch = pytest.importorskip("torch")

ROWS = [{"a": n, "b": n + 0.5, "name": f"row {n}", "label": n % 2} for n in range(5)]


@pytest.fixture(scope="module")
def ds():
    return aktis.data.from_items(ROWS)


def test_pairs_are_features_side_by_side_and_labels_again_and_again(ds):
    pairs = ds.to_torch(label_column="label", feature_columns=["a", "b"], batch_size=2)
    assert isinstance(pairs, torch.utils.data.IterableDataset)
    for _ in range(2):
        batches = list(pairs)
        assert [tuple(features.shape) for features, _ in batches] == [(2, 2), (2, 2), (1, 2)]
        assert torch.cat([features for features, _ in batches]).tolist() == [[row["a"], row["b"]] for row in ROWS]
        assert torch.cat([label for _, label in batches]).tolist() == [[row["label"]] for row in ROWS]


def test_features_are_several_tensors_by_place_or_name_each_of_its_type(ds):
    (features, label) = next(iter(ds.to_torch(
        label_column="label", feature_columns=[["a"], ["b", "a"]], feature_column_dtypes=[torch.int32, torch.float32], batch_size=5,
        label_column_dtype=torch.float32, unsqueeze_label_tensor=False,
    )))  # fmt: skip
    assert [(tuple(tensor.shape), tensor.dtype) for tensor in features] == [
        ((5, 1), torch.int32),
        ((5, 2), torch.float32),
    ]
    assert (tuple(label.shape), label.dtype) == ((5,), torch.float32)
    named = ds.to_torch(feature_columns={"x": ["b"], "y": ["a"]}, feature_column_dtypes={"x": None, "y": torch.float64})
    features, label = next(iter(named))
    assert {key: (tensor.tolist(), tensor.dtype) for key, tensor in features.items()} == {
        "x": ([[0.5]], torch.float64), "y": ([[0.0]], torch.float64),
    }  # fmt: skip
    assert label is None


def test_all_other_columns_are_features_and_columns_of_tensors_stay_as_they_are():
    images = aktis.data.from_numpy(numpy.zeros((3, 2, 4), numpy.uint8))
    ((features, _),) = images.to_torch(batch_size=3, unsqueeze_feature_tensors=False)
    assert tuple(features.shape) == (3, 2, 4)
    ((features, label),) = aktis.data.from_items([{"y": 1, "x": 2, "z": 3}]).iterator().to_torch(label_column="y")
    assert (features.tolist(), label.tolist()) == ([[2, 3]], [[1]])


def test_a_loader_without_workers_gives_the_pairs_and_one_with_workers_is_refused(ds):
    pairs = ds.to_torch(feature_columns=["a"], batch_size=3)
    loaded = torch.utils.data.DataLoader(pairs, batch_size=None)
    assert [features.shape[0] for features, _ in loaded] == [3, 2]
    with pytest.raises(RuntimeError, match="each worker of a DataLoader would read all rows"):
        list(torch.utils.data.DataLoader(pairs, batch_size=None, num_workers=1))


def test_what_does_not_go_together_says_so(ds):
    with pytest.raises(ValueError, match=r"there is no column 'c'; the columns are 'a', 'b'"):
        next(iter(ds.to_torch(feature_columns=["c"])))
    with pytest.raises(
        TypeError, match=r"to_torch\(\): the column 'name' has no tensor: .*name others in feature_columns"
    ):
        next(iter(ds.to_torch(label_column="label")))
    with pytest.raises(ValueError, match="has the keys .*'z'.*, and feature_columns .*'x'"):
        ds.to_torch(feature_columns={"x": ["a"]}, feature_column_dtypes={"z": torch.int8})
    with pytest.raises(TypeError, match="feature_columns is a list of columns"):
        ds.to_torch(feature_columns="a")
    mixed = aktis.data.from_items([{"a": 1, "v": [1, 2]}])
    with pytest.raises(ValueError, match=r"'a' \(1,\), 'v' \(1, 2\); give feature_columns as a list of lists"):
        next(iter(mixed.to_torch()))
