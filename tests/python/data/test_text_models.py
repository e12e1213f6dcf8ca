"""Text classifiers and rerankers in a dataset, against what transformers and sentence-transformers make of the same texts.

The models and the answers are in ``text_models``, with the script that made them.
"""

import json
import os
import pathlib
import shutil
from typing import Any

import aktis.data
import aktis.models
import numpy
import pytest
from aktis.models import export_onnx

FOLDER = pathlib.Path(__file__).parent / "text_models"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
CANDLE = pathlib.Path(aktis.models.__file__).parents[1] / "native" / "libaktis_candle.so"
NEEDS_CANDLE = pytest.mark.skipif(not CANDLE.is_file(), reason="needs `make candle`")
BACKENDS = ["onnx", pytest.param("candle", marks=NEEDS_CANDLE)]


def made(kind, folder, **options):
    """A model, whose options checkers of types do not look at: some are wrong."""
    return kind(folder, **options)


def rows_of(ds):
    return sorted(ds.take_all(), key=lambda row: row["id"])


def texts_of(name):
    """The texts that the answers are for, several times and with a null between."""
    texts = REFERENCE[name]["texts"]
    return [*texts, None, *texts[::-1]], [*range(len(texts)), None, *range(len(texts))[::-1]]


def classified(name, **options):
    texts, answers = texts_of(name)
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(texts)])
    ds = ds.map_batches(aktis.models.TextClassifier(FOLDER / name, replicas=2, token_budget=128, **options))
    told = REFERENCE[name]["answers"]
    return ds, [None if answer is None else told[answer] for answer in answers]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["bert_moods", "roberta_topics", "mpnet_topics", "modern_bert_topics"])
def test_labels_and_scores_are_those_of_the_pipeline_of_transformers(name, backend):
    ds, expected = classified(name, backend=backend, top_k=None)
    assert ds.schema().names == ["id", "text", "label", "score"], "known without running"
    rows = rows_of(ds)
    assert len(rows) == len(expected)
    for row, answer in zip(rows, expected, strict=True):
        if answer is None:
            assert row["text"] is row["label"] is row["score"] is None
            continue
        assert list(row["label"]) == [one["label"] for one in answer]
        numpy.testing.assert_allclose(row["score"], [one["score"] for one in answer], atol=1e-4, rtol=0)


def test_one_label_is_a_value_and_several_are_a_list():
    best, expected = classified("bert_moods", backend="onnx", label_column="mood", score_column="how_sure")
    for row, answer in zip(rows_of(best), expected, strict=True):
        assert row["mood"] == (answer and answer[0]["label"])
        assert answer is None or abs(row["how_sure"] - answer[0]["score"]) < 1e-4
    two, expected = classified("bert_moods", backend="onnx", top_k=2)
    for row, answer in zip(rows_of(two), expected, strict=True):
        assert answer is None or list(row["label"]) == [one["label"] for one in answer[:2]]
    many, _ = classified("bert_moods", backend="onnx", top_k=9)
    assert {len(row["label"]) for row in rows_of(many) if row["text"] is not None} == {3}


def pairs_of(name):
    pairs = REFERENCE[name]["pairs"]
    rows = [{"id": i, "query": query, "text": text} for i, (query, text) in enumerate(pairs)]
    return [*rows, {"id": len(rows), "query": None, "text": "x"}, {"id": len(rows) + 1, "query": "x", "text": None}]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["bert_reranker", "roberta_reranker", "xlm_roberta_reranker", "modern_bert_reranker"])
def test_scores_of_pairs_are_those_of_a_cross_encoder_of_sentence_transformers(name, backend):
    model = aktis.models.Reranker(FOLDER / name, backend=backend, replicas=2, token_budget=96)
    rows = rows_of(aktis.data.from_items(pairs_of(name)).map_batches(model))
    found, expected = [row["score"] for row in rows], REFERENCE[name]["answers"]
    assert found[len(expected) :] == [None, None]
    numpy.testing.assert_allclose(found[: len(expected)], expected, atol=1e-4, rtol=0)


def changed(folder, name, **settings):
    """The model with other settings in its config.json."""
    shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def test_activation_that_the_model_names_is_taken(tmp_path):
    plain = changed(
        tmp_path, "bert_reranker", sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"}
    )
    ds = aktis.data.from_items(pairs_of("bert_reranker"))
    model = aktis.models.Reranker(plain, backend="onnx", output_column="logit")
    numbers = numpy.array([row["logit"] for row in rows_of(ds.map_batches(model))[:-2]])
    numpy.testing.assert_allclose(1 / (1 + numpy.exp(-numbers)), REFERENCE["bert_reranker"]["answers"], atol=1e-4)
    other = changed(tmp_path, "bert_reranker", sentence_transformers={"activation_fn": "torch.nn.Tanh"})
    with pytest.raises(ValueError, match="go through `Tanh`, and only Sigmoid and Identity are known"):
        ds.map_batches(aktis.models.Reranker(other))


def test_folders_and_columns_that_do_not_fit_are_told(tmp_path):
    ds = aktis.data.from_items([{"text": "x"}])
    for model, said in [
        (aktis.models.TextClassifier(FOLDER / "bert_moods", column="body"), "'body'"),
        (aktis.models.TextClassifier(tmp_path), "TextClassifier: .*no config.json and no tokenizer.json"),
        (
            aktis.models.Reranker(FOLDER / "bert_moods", query_column="text", text_column="other"),
            "Reranker: .*has one, and this model 3",
        ),
        (aktis.models.Reranker(FOLDER / "bert_reranker"), "'query'"),
        (aktis.models.Reranker(FOLDER / "bert_reranker", max_tokens=7), "a pair of texts takes 8 at least"),
    ]:
        with pytest.raises(ValueError, match=said):
            ds.map_batches(model)
    gap = changed(tmp_path, "bert_moods", id2label={"0": "a", "2": "b"})
    with pytest.raises(ValueError, match="id2label has no label 1"):
        ds.map_batches(aktis.models.TextClassifier(gap))
    more = changed(tmp_path, "bert_moods", id2label={"0": "a", "1": "b", "2": "c", "3": "d"})
    for backend, said in [("onnx", "one number for each label of config.json"), ("candle", "BF16 of shape")]:
        if backend == "onnx" or CANDLE.is_file():
            with pytest.raises(Exception, match=said):
                ds.map_batches(made(aktis.models.TextClassifier, more, backend=backend)).take_all()
    for make, said in [
        (lambda: aktis.models.TextClassifier("m", top_k=0), "top_k must be"),
        (lambda: aktis.models.TextClassifier("m", label_column="text"), "must differ"),
        (lambda: aktis.models.Reranker("m", output_column="text"), "must differ"),
        (lambda: made(aktis.models.Reranker, "m", backend="torch"), "backend must be"),
    ]:
        with pytest.raises(ValueError, match=said):
            make()


def test_rows_that_are_no_texts_are_put_aside():
    ds = aktis.data.from_items([{"query": 1, "text": "x"}, {"query": 2, "text": "y"}])
    ds = ds.map_batches(aktis.models.Reranker(FOLDER / "bert_reranker", backend="onnx"), on_error="dead_letter")
    assert ds.take_all() == []
    assert all("string column" in row["message"] for row in ds.dead_letters().take_all())


def embedded(name, answers, folder=None, **options):
    """Vectors of length 1, and those that are right."""
    texts, numbers = texts_of(name)
    options = {"replicas": 2, "token_budget": 128, **options}
    model = aktis.models.TextEmbedder(folder or FOLDER / name, **options)
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(texts)]).map_batches(model)
    found = [row["embedding"] for row in rows_of(ds)]
    assert [vector is None for vector in found] == [number is None for number in numbers]
    expected = [REFERENCE[name][answers][number] for number in numbers if number is not None]
    return numpy.array([vector for vector in found if vector is not None]), numpy.array(expected)


def matches_sentence_transformers(name, answers, folder=None, **options):
    found, expected = embedded(name, answers, folder, **options)
    assert found.shape == expected.shape
    assert (found * expected).sum(1).min() >= 0.9999
    numpy.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, "cls"),
        ({"pooling": "mean"}, "mean"),
        ({"pooling": "last"}, "last"),
        ({"prompt": "query: "}, "prompt"),
        ({"dimensions": 6}, "dimensions"),
    ],
    ids=["as the folder says", "mean", "last", "prompt", "dimensions"],
)
def test_vectors_are_those_of_sentence_transformers(options, answers, backend):
    matches_sentence_transformers("bert_sentences", answers, backend=backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["xlm_roberta_sentences", "mpnet_sentences", "modern_bert_sentences"])
def test_vectors_of_other_families_are_those_of_sentence_transformers(name, backend):
    """With the literal text of padding in one of the texts, which some do not count as a position, and with texts longer than the reach of a layer."""
    matches_sentence_transformers(name, "mean", pooling="mean", backend=backend)


@NEEDS_CANDLE
def test_camembert_is_a_roberta_and_other_families_are_refused(tmp_path):
    camembert = changed(tmp_path / "camembert", "xlm_roberta_sentences", model_type="camembert", pad_token_id=None)
    matches_sentence_transformers("xlm_roberta_sentences", "cls", folder=camembert, backend="candle")
    other = changed(tmp_path / "other", "xlm_roberta_sentences", model_type="xlm-roberta-xl")
    ds = aktis.data.from_items([{"text": "x"}])
    with pytest.raises(Exception, match=r"model_type `xlm-roberta-xl` is not supported .*backend=.?\"onnx"):
        ds.map_batches(aktis.models.TextEmbedder(other, backend="candle")).take_all()


@pytest.mark.parametrize(("file", "least"), [("model_fp16.onnx", 0.9999), ("model_int8.onnx", 0.98)])
def test_graphs_of_smaller_numbers_give_nearly_the_same_vectors(file, least):
    found, expected = embedded("bert_sentences", "mean", onnx_file=f"onnx/{file}", pooling="mean")
    assert (found * expected).sum(1).min() >= least
    # It is not the graph in float32.
    assert abs(found - expected).max() > 1e-5
    numpy.testing.assert_allclose((found * found).sum(1), 1, atol=1e-5)


def test_scores_of_a_graph_in_float16_are_nearly_the_same():
    model = aktis.models.Reranker(FOLDER / "roberta_reranker", onnx_file="onnx/model_fp16.onnx", replicas=1)
    rows = rows_of(aktis.data.from_items(pairs_of("roberta_reranker")).map_batches(model))
    expected = REFERENCE["roberta_reranker"]["answers"]
    numpy.testing.assert_allclose([row["score"] for row in rows[: len(expected)]], expected, atol=5e-3, rtol=0)


def rounded(folder, name, kind, models=FOLDER):
    """The model with weights of 16 bits."""
    shutil.copytree(models / name, folder, dirs_exist_ok=True)
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors, numbers, written = json.loads(data[8 : 8 + size]), data[8 + size :], b""
    for tensor in tensors.values():
        if "dtype" in tensor and tensor["dtype"] == "F32":
            start, end = tensor["data_offsets"]
            values = numpy.frombuffer(numbers[start:end], "<f4")
            # Of bfloat16 the upper half of a float32.
            short = values.astype("<f2") if kind == "F16" else (values.view("<u4") >> 16).astype("<u2")
            tensor.update(dtype=kind, data_offsets=[len(written), len(written) + short.nbytes])
            written += short.tobytes()
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + written)
    return folder


@NEEDS_CANDLE
@pytest.mark.parametrize(("kind", "most"), [("F16", 5e-3), ("BF16", 5e-2)])
def test_weights_of_16_bits_on_candle(tmp_path, kind, most):
    model = aktis.models.Reranker(rounded(tmp_path, "bert_reranker", kind), backend="candle", replicas=1)
    rows = rows_of(aktis.data.from_items(pairs_of("bert_reranker")).map_batches(model))
    expected = numpy.array(REFERENCE["bert_reranker"]["answers"])
    found = numpy.array([row["score"] for row in rows[: len(expected)]])
    numpy.testing.assert_allclose(found, expected, atol=most, rtol=0)
    assert abs(found - expected).max() > 1e-6, "they are not the weights in float32"


def test_graph_in_int8_that_is_exported_gives_nearly_the_same_vectors(tmp_path):
    """Whatever else is in a batch, which the graph that is quantized as it runs does not."""
    folder = tmp_path / "model"
    shutil.copytree(FOLDER / "bert_sentences", folder)
    pytest.importorskip("safetensors")
    path = export_onnx.export_onnx(folder, dtype="int8")
    assert path == folder / "onnx" / "model_int8.onnx"
    found, expected = embedded("bert_sentences", "mean", folder, onnx_file="onnx/model_int8.onnx", pooling="mean")
    assert (found * expected).sum(1).min() >= 0.999
    assert abs(found - expected).max() > 1e-5, "it is not the graph in float32"
    alone, _ = embedded(
        "bert_sentences", "mean", folder, onnx_file="onnx/model_int8.onnx", pooling="mean", token_budget=1
    )
    assert (found * alone).sum(1).min() >= 0.9999


REAL = pathlib.Path(os.environ.get("AKTIS_TEST_MODEL_DIR", "no model"))
FIXTURE = pathlib.Path(__file__).parents[3] / "inference" / "tests" / "fixtures" / "minilm_reference.json"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs `make model`")
@pytest.mark.parametrize("backend", BACKENDS)
def test_minilm_in_int8_is_near_the_reference_in_batches(tmp_path, backend):
    told = json.loads(FIXTURE.read_text())["rows"]
    folder = REAL
    options: dict[str, Any] = {"dtype": "int8"}
    if backend == "onnx":
        folder, options = tmp_path / "model", {"onnx_file": "onnx/model_int8.onnx"}
        shutil.copytree(REAL, folder, ignore=shutil.ignore_patterns("model.onnx"))
        export_onnx.export_onnx(folder, dtype="int8")
    model = aktis.models.TextEmbedder(folder, backend=backend, replicas=1, token_budget=2048, **options)
    ds = aktis.data.from_items([{"id": i, "text": row["text"]} for i, row in enumerate(told)])
    rows = rows_of(ds.map_batches(model))
    cosines = [row["embedding"] @ numpy.array(one["embedding"]) for row, one in zip(rows, told, strict=True)]
    assert min(cosines) >= (0.99 if backend == "onnx" else 0.999)


def test_graph_that_is_named_and_is_not_there_is_told():
    ds = aktis.data.from_items([{"text": "x"}])
    with pytest.raises(ValueError, match=r"model_q4.onnx`: onnx_file= names it, and there is no such file"):
        ds.map_batches(aktis.models.TextEmbedder(FOLDER / "bert_sentences", onnx_file="onnx/model_q4.onnx"))
    with pytest.raises(ValueError, match="onnx_file='x' is for backend='onnx'"):
        aktis.models.TextClassifier("m", onnx_file="x", backend="candle")


def test_pooling_and_dimensions_that_a_model_has_not_are_told(tmp_path):
    ds = aktis.data.from_items([{"text": "x"}])
    with pytest.raises(ValueError, match="dimensions = 17: the vectors of this model have 16"):
        ds.map_batches(aktis.models.TextEmbedder(FOLDER / "bert_sentences", dimensions=17))
    with pytest.raises(ValueError, match="pooling must be"):
        made(aktis.models.TextEmbedder, "m", pooling="max")
    folder = changed(tmp_path, "bert_sentences")
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True, "include_prompt": True})
    )
    with pytest.raises(Exception, match=r"by max_tokens\+mean_tokens: mean, cls and lasttoken are known"):
        ds.map_batches(aktis.models.TextEmbedder(folder, backend="onnx")).take_all()
    # The graph of a classifier gives no states of tokens.
    with pytest.raises(Exception, match="which pooling= needs"):
        ds.map_batches(aktis.models.TextEmbedder(FOLDER / "bert_moods", backend="onnx", pooling="cls")).take_all()
