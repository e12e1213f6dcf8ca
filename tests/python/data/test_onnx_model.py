"""Any ONNX graph in a dataset, against what onnxruntime's own package makes of the same file."""

import itertools
import json
import re

import aktis.data
import aktis.models
import numpy
import onnxruntime
import pytest
from aktis.data import _functions

from . import onnx_files
from .onnx_files import node, port, weight

RANDOM = numpy.random.default_rng(5)
#: Rows of which several batches are made, the last one smaller.
ROWS = 70


def reference(path, **columns):
    """What onnxruntime makes of whole columns, by outputs."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return {name: numpy.asarray(values) for name, values in zip(names, session.run(None, columns), strict=True)}


def onnx(path, **options):
    return aktis.models.OnnxModel(path, **{"batch_size": 16, "replicas": 2, **options})


def columns_of(ds):
    """All rows by their ids."""
    rows = sorted(ds.take_all(), key=lambda row: row["id"])
    return {name: [row[name] for row in rows] for name in rows[0]}


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert numpy.asarray(one).dtype == other.dtype or not isinstance(one, numpy.ndarray)
        assert numpy.asarray(one).shape == other.shape
        numpy.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def failing(ds):
    with pytest.raises(Exception) as failure:
        ds.take_all()
    return str(failure.value)


@pytest.fixture
def several(tmp_path):
    """Inputs and outputs of several types and shapes, and weights."""
    weights = [weight("w", RANDOM.normal(size=(3, 2)).astype("float32")), weight("zero", numpy.array(0, "int64"))]
    return onnx_files.write(
        tmp_path / "several.onnx",
        [
            node("MatMul", ["x", "w"], ["xw"]),
            node("Add", ["xw", "price"], ["score"]),
            node("Greater", ["count", "zero"], ["is_some"]),
            node("Cast", ["pixels"], ["bright"], to=1),
            node("Neg", ["count"], ["minus"]),
        ],
        [
            port("x", "float32", ["N", 3]),
            port("price", "float32", ["N", 1]),
            port("count", "int64", ["N"]),
            port("pixels", "uint8", ["N", 2, 4]),
        ],
        [
            port("score", "float32", ["N", 2]),
            port("is_some", "bool", ["N"]),
            port("bright", "float32", ["N", 2, 4]),
            port("minus", "int64", ["N"]),
        ],
        weights,
    )


def several_columns():
    return {
        "x": RANDOM.normal(size=(ROWS, 3)).astype("float32"),
        "price": RANDOM.normal(size=(ROWS, 1)).astype("float32"),
        "count": RANDOM.integers(-5, 5, ROWS),
        "pixels": RANDOM.integers(0, 255, (ROWS, 2, 4)).astype("uint8"),
    }


def dataset(columns):
    """Rows in three blocks, with an id."""
    count = len(next(iter(columns.values())))
    ends = [0, count // 3, count // 2, count]
    parts = [
        {"id": numpy.arange(begin, end), **{name: column[begin:end] for name, column in columns.items()}}
        for begin, end in itertools.pairwise(ends)
    ]
    return aktis.data.from_items([{"part": number} for number in range(3)], override_num_blocks=3).map_batches(
        lambda batch: parts[int(batch["part"][0])], batch_size=1
    )


def test_columns_of_several_types_and_shapes_become_what_onnxruntime_makes_of_them(several):
    columns = several_columns()
    ds = dataset(columns).map_batches(onnx(several))
    found, expected = columns_of(ds), reference(several, **columns)
    assert list(found) == ["id", *columns, "score", "is_some", "bright", "minus"]
    for name, values in expected.items():
        same(found[name], values)
    schema = dict(zip(ds.schema().names, map(str, ds.schema().types), strict=True))
    assert (
        "[2]" in schema["score"]
        and "bool" in schema["is_some"]
        and "[2, 4]" in schema["bright"].replace(",", ", ").replace(",  ", ", ")
    )


def test_inputs_and_outputs_have_the_names_of_columns_that_one_gives_them(several):
    columns = several_columns()
    expected = reference(several, **columns)
    renamed = {"x": "a", "price": "b", "count": "c", "pixels": "d"}
    ds = dataset({renamed[name]: column for name, column in columns.items()} | {"price": numpy.arange(ROWS)})
    found = columns_of(ds.map_batches(onnx(several, inputs=renamed, outputs={"minus": "less"})))
    assert list(found) == ["id", *renamed.values(), "price", "less"]
    same(found["less"], expected["minus"])
    ds = ds.map_batches(onnx(several, inputs=renamed, outputs=["score", "minus"])).select_columns(["id", "score"])
    same(columns_of(ds)["score"], expected["score"])


def test_numbers_of_every_type_go_through_as_they_are(tmp_path):
    names = [name for name in onnx_files.TYPES if name != "string"]
    path = onnx_files.write(
        tmp_path / "types.onnx",
        [node("Identity", [name], [f"{name}_out"]) for name in names],
        [port(name, name, [None, 2]) for name in names],
        [port(f"{name}_out", name, [None, 2]) for name in names],
    )
    columns = {name: RANDOM.integers(0, 2, (ROWS, 2)).astype(name) for name in names}
    found, expected = columns_of(dataset(columns).map_batches(onnx(path))), reference(path, **columns)
    for name, values in expected.items():
        same(found[name], values)
        assert found[name][0].dtype == values.dtype


def test_rows_of_different_shapes_are_not_padded_to_each_other(tmp_path):
    path = onnx_files.write(
        tmp_path / "ragged.onnx",
        [
            node("ReduceSum", ["words", "axis"], ["sum"], keepdims=0),
            node("Relu", ["words"], ["positive"]),
            node("Softmax", ["states"], ["shares"], axis=1),
        ],
        [port("words", "float32", ["batch", "length"]), port("states", "float32", ["batch", "steps", 2])],
        [
            port("sum", "float32", ["batch"]),
            port("positive", "float32", ["batch", "length"]),
            port("shares", "float32", ["batch", "steps", 2]),
        ],
        [weight("axis", numpy.array([1]))],
    )
    lengths = [(row * 7) % 5 for row in range(ROWS)]
    rows = [
        {
            "id": row,
            "words": RANDOM.normal(size=length).astype("float32"),
            "states": RANDOM.normal(size=(length % 3 + 1, 2)).astype("float32"),
        }
        for row, length in enumerate(lengths)
    ]
    found = columns_of(aktis.data.from_items(rows).map_batches(onnx(path)))
    for row in rows:
        alone = reference(path, words=row["words"][None], states=row["states"][None])
        for name, values in alone.items():
            numpy.testing.assert_allclose(found[name][row["id"]], values[0], rtol=1e-5)


def test_row_without_an_input_is_without_outputs(several):
    columns = several_columns()
    rows = [{"id": row, **{name: column[row] for name, column in columns.items()}} for row in range(ROWS)]
    for row in (0, 3, 4, ROWS - 1):
        rows[row]["x"] = None
    rows[5]["count"] = None
    # Arrays one by one may differ in shape, as far as anybody knows; numbers may be missing.
    found, expected = columns_of(aktis.data.from_items(rows).map_batches(onnx(several))), reference(several, **columns)
    for row in range(ROWS):
        if row in (0, 3, 4, 5, ROWS - 1):
            assert [found[name][row] for name in expected] == [None] * 4
        else:
            same(
                [found[name][row] for name in ("score", "bright")],
                [expected[name][row] for name in ("score", "bright")],
            )


@pytest.mark.parametrize("fixed", [1, 8])
def test_graph_with_a_fixed_first_axis_gets_so_many_rows(tmp_path, fixed):
    path = onnx_files.write(
        tmp_path / "fixed.onnx",
        [node("Add", ["x", "x"], ["y"])],
        [port("x", "float32", [fixed, 3])],
        [port("y", "float32", [fixed, 3])],
    )
    x = RANDOM.normal(size=(ROWS, 3)).astype("float32")
    same(columns_of(dataset({"x": x}).map_batches(onnx(path)))["y"], x + x)


def test_types_that_lose_nothing_are_taken_and_others_are_told(several):
    columns = several_columns()
    ds = dataset(columns | {"count": columns["count"].astype("int8"), "price": columns["price"][:, 0]})
    same(columns_of(ds.map_batches(onnx(several)))["minus"], -columns["count"])
    for name, column, said in [
        (
            "x",
            columns["x"].astype("float64"),
            "float32 of shape [rows, 3], from the column `x`: it has float64 of shape [3]; cast",
        ),
        ("x", columns["x"][:, :2], "from the column `x`: it has float32 of shape [2]"),
        ("x", columns["pixels"].astype("float32"), "it has float32 of shape [2, 4]"),
        (
            "count",
            columns["count"].astype(str),
            "takes int64 of shape [rows], from the column `count`: it has the type string",
        ),
        ("count", columns["count"].astype("uint64"), "it has one uint64 per row; cast"),
        ("pixels", columns["count"].astype("uint8"), "it has one uint8 per row"),
    ]:
        told = failing(dataset(columns | {name: column}).map_batches(onnx(several)))
        assert "OnnxModel: feed the input `" + name in told and said in told, told


def test_wrong_names_and_columns_are_told_when_the_dataset_is_made(several):
    ds = aktis.data.from_items([{"x": 1.0, "price": 1.0, "count": 1}])
    for options, said in [
        ({}, "'pixels'"),
        ({"inputs": {"y": "x"}}, "no input `y`; its inputs are `x`, `price`, `count`, `pixels`"),
        ({"outputs": ["result"]}, "no output `result`; its outputs are `score`, `is_some`, `bright`, `minus`"),
        ({"outputs": {"score": "a", "minus": "a"}}, "two of its outputs"),
        ({"outputs": {"score": "x"}}, "`score` and an input are both the column `x`"),
        ({"inputs": {"pixels": "image"}}, "'image'"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            ds.map_batches(onnx(several, **options))
    for options, error, said in [
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number"),
        ({"byte_budget": -1}, ValueError, "byte_budget must be"),
        ({"inputs": ["x"]}, TypeError, "inputs must be a mapping"),
        ({"outputs": "score"}, TypeError, r"give \['score'\]"),
    ]:
        with pytest.raises(error, match=said):
            onnx(several, **options)
    with pytest.raises(ValueError, match="batch_size=...* give it there, OnnxModel"):
        ds.map_batches(onnx(several), batch_size=8)
    with pytest.raises(ValueError, match="none of auto, cpu, cuda"):
        ds.map_batches(onnx(several, device="gpu"))


def test_graphs_that_do_not_map_rows_to_rows_are_told(tmp_path):
    def made(inputs, outputs):
        path = onnx_files.write(
            tmp_path / "m.onnx", [node("Identity", ["x"], ["y"])], [port("x", *inputs)], [port("y", *outputs)]
        )
        with pytest.raises(ValueError, match=r"OnnxModel: .*m\.onnx") as failure:
            aktis.data.from_items([{"x": 1.0}]).map_batches(onnx(path))
        return str(failure.value)

    floats = "float32"
    assert "along axis 1, and must be along the first" in made((floats, [8, "batch"]), (floats, ["batch"]))
    assert "is a single value" in made((floats, ["N"]), (floats, []))
    assert "first axis of its output `y` is fixed at 1" in made((floats, ["N", 2]), (floats, [1, 2]))
    assert "a tensor of strings" in made(("string", ["N"]), ("string", ["N"]))
    assert "no shape of its output `y`" in made((floats, ["N"]), (floats, None))
    assert "as long as the batch" in made((floats, ["N", 2]), (floats, ["N", "N"]))


def test_graph_whose_answer_is_not_what_its_file_says_is_told(tmp_path):
    path = onnx_files.write(
        tmp_path / "turned.onnx",
        [node("Transpose", ["x"], ["y"], perm=[1, 0])],
        [port("x", "float32", [None, 3])],
        [port("y", "float32", [None, None])],
    )
    told = failing(dataset({"x": numpy.ones((8, 3), "float32")}).map_batches(onnx(path), on_error="skip"))
    assert "output `y`" in told and "first axis must be that of the rows" in told


def test_missing_damaged_and_incomplete_files_are_told(tmp_path):
    ds = aktis.data.from_items([{"id": 0, "x": 2.0}])

    def told(path):
        with pytest.raises(ValueError, match="OnnxModel: ") as failure:
            ds.map_batches(onnx(path))
        return str(failure.value)

    assert "there is nothing" in told(tmp_path / "typo.onnx")
    assert "a folder without model.onnx" in told(tmp_path)
    text = tmp_path / "text.onnx"
    text.write_text('{"model": 1}')
    assert "it is no ONNX file, or is damaged" in told(text)
    w = numpy.array([3.0], "float64")
    path = onnx_files.write(
        tmp_path / "model.onnx",
        [node("Mul", ["x", "w"], ["y"])],
        [port("x", "float64", ["N"])],
        [port("y", "float64", ["N"])],
        [weight("w", w, file="weights.bin")],
    )
    assert "its weights lie in" in told(path) and "weights.bin" in told(tmp_path)
    (tmp_path / "weights.bin").write_bytes(w.tobytes())
    # The folder does for its model.onnx.
    assert ds.map_batches(onnx(tmp_path)).take_all() == [{"id": 0, "x": 2.0, "y": 6.0}]
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "it ends in the middle" in told(path)
    # Only ONNX Runtime knows what nodes mean; a worker says what it says.
    unknown = onnx_files.write(
        tmp_path / "unknown.onnx",
        [node("Muul", ["x"], ["y"])],
        [port("x", "float64", ["N"])],
        [port("y", "float64", ["N"])],
    )
    said = failing(ds.map_batches(onnx(unknown)))
    assert "load the ONNX graph" in said and "unknown.onnx` on cpu" in said and "Muul" in said


def test_process_without_onnxruntime_says_what_to_install(tmp_path, monkeypatch, several):
    monkeypatch.setenv("ORT_DYLIB_PATH", str(tmp_path / "libonnxruntime.so"))
    said = failing(dataset(several_columns()).map_batches(onnx(several)))
    assert "OnnxModel: find the ONNX Runtime library" in said and "pip install onnxruntime" in said


def test_rows_that_the_graph_fails_for_are_put_aside(tmp_path):
    path = onnx_files.write(
        tmp_path / "look.onnx",
        [node("Gather", ["table", "key"], ["found"])],
        [port("key", "int64", ["N"])],
        [port("found", "float32", ["N"])],
        [weight("table", numpy.arange(10, dtype="float32"))],
    )
    ds = aktis.data.from_items([{"id": row, "key": 99 if row == 5 else row} for row in range(10)])
    ds = ds.map_batches(onnx(path), on_error="dead_letter")
    found = columns_of(ds)
    assert found["id"] == found["found"] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    (dead,) = ds.dead_letters().take_all()
    assert dead["row"]["id"] == 5 and "run the graph on 1 rows (`key` [1])" in dead["message"]


def test_sizes_of_batches_change_no_result(several):
    columns = several_columns()
    expected = reference(several, **columns)["score"]
    for options in ({"batch_size": "auto"}, {"byte_budget": 200}, {"batch_size": 1, "replicas": 1, "intra_threads": 2}):
        ds = dataset(columns).map_batches(onnx(several, **options))
        same(columns_of(ds)["score"], expected)


def test_results_are_kept_by_the_file_and_not_by_sizes(tmp_path, several):
    columns = several_columns()

    def counts(**options):
        ds = dataset(columns).map_batches(onnx(several, **options), cache=tmp_path / "kept")
        expected = reference(several, **columns)["score"]
        same(columns_of(ds)["score"], expected)
        (stage,) = [stage for stage in ds._stats.stats()["stages"] if "OnnxModel" in str(stage)]
        (step,) = [step for step in stage["operators"] if "OnnxModel" in step["name"]]
        return step["cache_hits"], step["cache_misses"]

    assert counts() == (0, ROWS)
    assert counts(batch_size=8, replicas=1) == (ROWS, 0)
    several.write_bytes(several.read_bytes() + b"")
    assert counts() == (0, ROWS), "the file was written anew"


def test_actors_of_a_pool_take_their_part_of_the_processors():
    def told(**options):
        model = aktis.models.OnnxModel("m.onnx")
        compute = _functions.compute_of(model, **options)
        described = json.loads(_functions.model_spec(model, compute, options.get("num_cpus")))["onnx_model"]
        return described["replicas"], described["sharing"]

    assert told(compute=aktis.data.ActorPoolStrategy(size=2)) == (None, 2)
    assert told(num_cpus=3) == (3, None)
