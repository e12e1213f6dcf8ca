"""Batches of TensorFlow and JAX, which are stand-ins here with the signatures of the real ones."""

import importlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import aktis.data
import numpy
import pyarrow
import pytest
from aktis.data.collate_fn import ArrowBatchCollateFn

STAND_INS = pathlib.Path(__file__).parents[1] / "stand_ins"


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module in the place of the real one, which may be there."""
    known = {key: sys.modules.pop(key) for key in list(sys.modules) if key.partition(".")[0] == name}
    with monkeypatch.context() as patches:
        patches.syspath_prepend(str(STAND_INS))
        yield importlib.import_module(name)
    for key in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[key]
    sys.modules.update(known)


@pytest.fixture
def tf(monkeypatch):
    yield from stand_in("tensorflow", monkeypatch)


@pytest.fixture
def jax(monkeypatch):
    yield from stand_in("jax", monkeypatch)


def test_columns_become_tensors_of_tensorflow(tf):
    images = aktis.data.from_numpy(numpy.arange(24, dtype=numpy.uint8).reshape(4, 2, 3))
    batches = images.iter_tf_batches(batch_size=3)
    for _ in range(2):
        assert [(batch["data"].shape, batch["data"].dtype) for batch in batches] == [
            ((3, 2, 3), tf.uint8),
            ((1, 2, 3), tf.uint8),
        ]
    rows = [{"f": 0.5, "t": "a", "n": 7, "l": [1, 2]}, {"f": 1.5, "t": "é", "n": 8, "l": [3, 4]}]
    (batch,) = aktis.data.from_items(rows).iterator().iter_tf_batches(dtypes={"n": tf.float32})
    assert (batch["f"].dtype, batch["t"].dtype, batch["n"].dtype) == (tf.float64, tf.string, tf.float32)
    assert batch["t"].numpy().tolist() == [b"a", "é".encode()]
    assert batch["l"].numpy().tolist() == [[1, 2], [3, 4]]
    (batch,) = aktis.data.range(4).iter_tf_batches(
        dtypes=tf.int32, batch_size=3, drop_last=True, local_shuffle_buffer_size=4, local_shuffle_seed=1
    )
    assert batch["id"].dtype is tf.int32 and len(set(batch["id"].numpy())) == 3


def test_what_has_no_tensor_in_tensorflow_is_refused_by_its_column(tf):
    for values, why in (([[1], [1, 2]], "arrays of different shapes"), (["a", None], "null in some rows")):
        with pytest.raises(TypeError, match=f"iter_tf_batches.*the column 'x' has no tensor: its values are {why}"):
            list(aktis.data.from_items([{"x": value} for value in values]).iter_tf_batches())
    times = pyarrow.table({"x": pyarrow.array([1], pyarrow.timestamp("us"))})
    with pytest.raises(TypeError, match="column 'x' has no tensor: its values are times"):
        list(aktis.data.from_arrow(times).iter_tf_batches())
    with pytest.raises(TypeError, match="to_tf.*'x' of the type timestamp.* has no tensor"):
        aktis.data.from_arrow(times).to_tf("x", "x")


def test_pairs_for_tensorflow_have_the_types_of_their_columns(tf):
    ds = aktis.data.from_arrow(
        pyarrow.table({
            "image": aktis.data.from_numpy(numpy.zeros((3, 4, 2), numpy.uint8)).take_batch(3, batch_format="pyarrow")["data"],
            "words": [["a"], ["b", "c"], []],
            "even": pyarrow.array([[1.0, 2.0]] * 3, pyarrow.list_(pyarrow.float32(), 2)),
            "name": ["x", "y", "z"],
            "label": [0, 1, 0],
            "weight": [0.5, 1.0, 0.25],
            "when": pyarrow.array([1, 2, 3], pyarrow.timestamp("us")),
        })
    )  # fmt: skip
    pairs = ds.to_tf(["image", "words", "name", "even"], "label", additional_columns="weight", batch_size=2)
    features, label, weight = pairs.element_spec
    assert features["image"].shape == (None, 4, 2) and features["image"].dtype is tf.uint8
    assert isinstance(features["words"], tf.RaggedTensorSpec) and features["words"].dtype is tf.string
    assert features["even"].shape == (None, 2) and features["name"].dtype is tf.string
    assert (label.shape, label.dtype, label.name, weight.dtype) == ((None,), tf.int64, "label", tf.float64)
    assert pairs.options().experimental_distribute.auto_shard_policy is tf.data.experimental.AutoShardPolicy.OFF
    # Arrays of rows have no shape in their type, and one in each batch.
    loose = aktis.data.from_items([{"x": numpy.zeros((2, 3)), "y": 0}]).to_tf("x", "y")
    assert isinstance(loose.element_spec[0], tf.TensorSpec) and loose.element_spec[0].shape == (None, None, None)
    assert [features.shape for features, _ in loose] == [(1, 2, 3)]
    for _ in range(2):
        batches = list(pairs)
        assert [label.numpy().tolist() for _, label, _ in batches] == [[0, 1], [0]]
    assert batches[0][0]["words"].to_list() == [["a"], ["b", "c"]]
    (features, label), *_ = ds.map_batches(lambda batch: batch).to_tf(
        "weight", ["label"],
        feature_type_spec=tf.TensorSpec((None,), tf.float32), label_type_spec={"label": tf.TensorSpec((None,), tf.float64)},
    )  # fmt: skip
    assert (features.dtype, label["label"].dtype, features.numpy().tolist()) == (tf.float32, tf.float64, [0.5])


def test_mistakes_with_pairs_for_tensorflow_are_named(tf):
    ds = aktis.data.range(3)
    with pytest.raises(ValueError, match="to_tf.*there is no column 'x'; the columns are 'id'"):
        ds.to_tf("id", "x")
    with pytest.raises(TypeError, match="feature_columns"):
        ds.to_tf([], "id")
    with pytest.raises(ValueError, match="additional_type_spec goes with additional_columns"):
        ds.to_tf("id", "id", additional_type_spec=tf.TensorSpec((None,)))
    with pytest.raises(ValueError, match="label_type_spec.*a dict with a type for each"):
        ds.to_tf("id", ["id"], label_type_spec=tf.TensorSpec((None,)))


def test_elements_of_tensorflow_become_rows(tf):
    given = tf.data.Dataset.from_tensor_slices({"x": numpy.arange(3), "image": numpy.zeros((3, 2, 2))})
    rows = aktis.data.from_tf(given).take_all()
    assert [row["x"] for row in rows] == [0, 1, 2] and rows[0]["image"].shape == (2, 2)
    pairs = tf.data.Dataset.from_generator(lambda: iter([(1, 2)]))
    with pytest.raises(TypeError, match=r"from_tf.*the elements are tuples.*dataset\.map"):
        aktis.data.from_tf(pairs)
    with pytest.raises(TypeError, match="from_tf.*takes a tf.data.Dataset, not list"):
        aktis.data.from_tf([1])


def test_columns_become_arrays_of_jax_over_all_devices(jax):
    jax.DEVICES = 2
    batches = aktis.data.range(8).iter_jax_batches(batch_size=4, dtypes={"id": "float32"})
    for _ in range(2):
        assert [(batch["id"].shape, str(batch["id"].dtype)) for batch in batches] == [((4,), "float32")] * 2
    with pytest.raises(ValueError, match="multiple of the number of local devices, which is 2, not 3"):
        aktis.data.range(8).iter_jax_batches(batch_size=3)
    with pytest.raises(ValueError, match="a batch of 1 rows cannot be shared by the 2 devices.*drop_last"):
        list(aktis.data.range(5).iter_jax_batches(batch_size=4))
    large = aktis.data.range(4).map_batches(lambda batch: {"x": batch["id"] + 2**40})
    with pytest.raises(ValueError, match="'x' has numbers that do not fit into 32 bits.*jax_enable_x64"):
        list(large.iter_jax_batches())
    jax.config.jax_enable_x64 = True
    assert [batch["x"].local.tolist() for batch in large.iter_jax_batches()] == [[2**40 + i for i in range(4)]]
    with pytest.raises(TypeError, match="column 'x' has no array in JAX: its values are of the type str"):
        list(aktis.data.from_items([{"x": "text"}]).iter_jax_batches())


def test_last_batch_of_jax_is_filled_up_or_left_out(jax):
    ds = aktis.data.from_items([{"a": i, "b": [i, i]} for i in range(3)])
    _, last = ds.iter_jax_batches(batch_size=2, paddings={"a": -1, "b": 0})
    assert (last["a"].local.tolist(), last["b"].local.tolist()) == ([2, -1], [[2, 2], [0, 0]])
    assert len(list(ds.iter_jax_batches(batch_size=2, drop_last=True, prefetch_batches=2))) == 1
    with pytest.raises(ValueError, match="paddings has no value for the column 'b'"):
        list(ds.iter_jax_batches(batch_size=2, paddings={"a": -1}))


def test_collate_functions_make_arrays_for_jax(jax):
    class Sums(ArrowBatchCollateFn):
        def __call__(self, batch):
            return numpy.array(batch["id"].to_pylist()) * 2

    made = list(aktis.data.range(3).iter_jax_batches(batch_size=2, collate_fn=Sums(), dtypes="int8", paddings=7))
    assert [array.local.tolist() for array in made] == [[0, 2], [4, 7]] and str(made[0].dtype) == "int8"
    with pytest.raises(TypeError, match="collate_fn returns an array of numpy or a dict of them, not list"):
        list(aktis.data.range(3).iter_jax_batches(collate_fn=lambda batch: [1]))


def test_processes_of_jax_go_on_alike(jax):
    jax.PROCESSES = 2
    others = importlib.import_module("jax.experimental.multihost_utils").others
    ds = aktis.data.range(5)

    def run(*theirs, **more):
        others[:] = [[rows] for rows in theirs]
        return [
            batch["id"].local.tolist() for batch in ds.iter_jax_batches(batch_size=2, synchronize_batches=True, **more)
        ]

    # Rows of the other process, one call after another; an array is made of those of both.
    assert run([2], [2], [1], [0]) == [[0, 1], [2, 3], [4]]
    assert run([2], [0], drop_last=True) == [[0, 1]]
    assert run([2, 2], [2, 1], [0, 0], prefetch_batches=2, paddings=9) == [[0, 1], [2, 3], [4, 9], [9, 9]]
    others[:] = [[[2]]]
    assert next(iter(ds.iter_jax_batches(batch_size=2, synchronize_batches=True)))["id"].shape == (4,)
    with pytest.raises(ValueError, match=r"the processes have batches of \[1, 2\] rows"):
        run([2], [2], [2])
    with pytest.raises(ValueError, match=r"the first batches of the processes have \[2, 0\] rows"):
        run([0], paddings=9)


def test_libraries_that_are_not_there_are_named_with_their_command(monkeypatch):
    for name in ("tensorflow", "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    ds = aktis.data.range(1)
    with pytest.raises(ImportError, match=r"iter_tf_batches\(\) needs tensorflow: pip install tensorflow"):
        ds.iter_tf_batches()
    with pytest.raises(ImportError, match=r"to_tf\(\) needs tensorflow"):
        ds.to_tf("id", "id")
    with pytest.raises(ImportError, match=r"iter_jax_batches\(\) needs jax: pip install jax"):
        ds.iter_jax_batches()
