"""Decoders as embedders, classifiers and rerankers in a dataset, against what sentence-transformers and transformers make of the same texts.

The models and the answers are in ``decoder_models``, with the script that made them.
"""

import json
import pathlib
import shutil

import aktis.data
import aktis.models
import numpy
import pytest

from .test_text_models import rounded

FOLDER = pathlib.Path(__file__).parent / "decoder_models"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
CANDLE = pathlib.Path(aktis.models.__file__).parents[1] / "native" / "libaktis_candle.so"
pytestmark = pytest.mark.skipif(not CANDLE.is_file(), reason="needs `make candle`")
EMBEDDERS = ["qwen3", "qwen2", "qwen2_both_directions", "mistral", "mistral_both_directions", "llama", "gemma3"]


def embedded(model, texts):
    """The texts in both orders, so that each has several neighbours, and a null between."""
    rows = [*texts, None, *texts[::-1]]
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(rows)]).map_batches(model)
    found = [row["embedding"] for row in sorted(ds.take_all(), key=lambda row: row["id"])]
    assert found[len(texts)] is None
    return numpy.array(found[: len(texts)]), numpy.array(found[len(texts) + 1 :])[::-1]


def check(name, expected, folder=None, least=0.9999, **options):
    model = aktis.models.TextEmbedder(folder or FOLDER / name, replicas=2, token_budget=256, **options)
    expected = numpy.array(expected)
    for found in embedded(model, REFERENCE[name]["texts"]):
        assert found.shape == expected.shape
        assert (found * expected).sum(1).min() >= least
        if least == 0.9999:
            numpy.testing.assert_allclose(found, expected, atol=2e-4)
    return found


@pytest.mark.parametrize("name", EMBEDDERS)
def test_vectors_are_those_of_sentence_transformers(name):
    check(name, REFERENCE[name]["vectors"])


@pytest.mark.parametrize(
    ("name", "options", "answers"),
    [
        ("qwen3", {"prompt_name": "query"}, ["prompts", "query"]),
        ("qwen3", {"prompt_name": "document"}, ["prompts", "document"]),
        ("qwen2", {"prompt": ""}, ["no prompt"]),
        ("qwen2", {"prompt": "Instruct: find passages\nQuery: "}, ["vectors"]),
        ("gemma3", {"dimensions": 6}, ["dimensions"]),
    ],
    ids=["by name", "empty", "none and not the default", "its text", "dimensions"],
)
def test_prompts_and_dimensions(name, options, answers):
    expected = REFERENCE[name]
    for key in answers:
        expected = expected[key]
    check(name, expected, **options)


def test_prompts_that_a_folder_has_not_are_told(tmp_path):
    ds = aktis.data.from_items([{"text": "x"}])
    with pytest.raises(ValueError, match=r"prompt `q` from .*it has `document`, `query`; prompt= is the text itself"):
        ds.map_batches(aktis.models.TextEmbedder(FOLDER / "qwen3", prompt_name="q"))
    with pytest.raises(ValueError, match="give one of them"):
        aktis.models.TextEmbedder(FOLDER / "qwen3", prompt_name="query", prompt="x")
    folder = changed(tmp_path, "gemma3", "1_Pooling/config.json", include_prompt=False)
    with pytest.raises(ValueError, match="include_prompt is false there, and a prompt's tokens cannot be left out"):
        ds.map_batches(aktis.models.TextEmbedder(folder, prompt="x"))


def changed(folder, name, file="config.json", **settings):
    """The model with other settings in one of its files; those that are None are taken out."""
    shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
    config = {**json.loads((folder / file).read_text()), **settings}
    (folder / file).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


def test_end_token_is_put_where_the_folder_asks_for_it_and_the_tokenizer_does_not(tmp_path):
    folder = changed(tmp_path, "mistral", "tokenizer_config.json", add_eos_token=True)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    end = tokenizer["post_processor"]["single"].pop()
    assert end["SpecialToken"]["id"] == "<|endoftext|>"
    path.write_text(json.dumps(tokenizer))
    check("mistral", REFERENCE["mistral"]["vectors"], folder)
    # Texts that have it get no other.
    check(
        "mistral",
        REFERENCE["mistral"]["vectors"],
        changed(tmp_path / "both", "mistral", "tokenizer_config.json", add_eos_token=True),
    )
    changed(folder, "mistral", "tokenizer_config.json", add_eos_token=True, eos_token={"content": "</end>"})
    ds = aktis.data.from_items([{"text": "x"}]).map_batches(aktis.models.TextEmbedder(folder))
    with pytest.raises(Exception, match="has no eos_token `</end>`"):
        ds.take_all()


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_weights_of_16_bits(tmp_path, kind):
    found = check("llama", REFERENCE["llama"]["vectors"], rounded(tmp_path, "llama", kind, FOLDER), least=0.999)
    # The model was made of numbers of bfloat16, of which float16 loses the smallest.
    assert kind == "F16" or abs(found - REFERENCE["llama"]["vectors"]).max() < 1e-4


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "qwen2"])
def test_weights_of_8_bits_give_nearly_the_same_vectors(name):
    found = check(name, REFERENCE[name]["vectors"], least=0.98, dtype="int8")
    assert abs(found - REFERENCE[name]["vectors"]).max() > 1e-4, "they are not the weights in float32"


def test_labels_and_scores_are_those_of_transformers():
    model = aktis.models.TextClassifier(FOLDER / "qwen3_moods", top_k=None, token_budget=256)
    told = REFERENCE["qwen3_moods"]
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(told["texts"])])
    rows = sorted(ds.map_batches(model).take_all(), key=lambda row: row["id"])
    for row, answer in zip(rows, told["answers"], strict=True):
        assert list(row["label"]) == [one["label"] for one in answer]
        numpy.testing.assert_allclose(row["score"], [one["score"] for one in answer], atol=1e-4, rtol=0)


def test_scores_of_pairs_are_those_of_a_cross_encoder():
    told = REFERENCE["llama_reranker"]
    model = aktis.models.Reranker(FOLDER / "llama_reranker", token_budget=256)
    ds = aktis.data.from_items([{"id": i, "query": one, "text": other} for i, (one, other) in enumerate(told["pairs"])])
    rows = sorted(ds.map_batches(model).take_all(), key=lambda row: row["id"])
    numpy.testing.assert_allclose([row["score"] for row in rows], told["answers"], atol=1e-4, rtol=0)


def test_what_would_be_computed_otherwise_is_refused_by_name(tmp_path):
    ds = aktis.data.from_items([{"text": "x"}])
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}
    code = {"AutoModel": "modeling_qwen.Qwen2Model"}
    for at, (name, settings, said) in enumerate(
        [
            ("qwen3", {"rope_parameters": yarn}, 'rope_parameters `.*` is not supported .*backend=.?"onnx'),
            ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling `.*llama3"),
            ("qwen2", {"auto_map": code}, "auto_map .*write .*is_causal"),
            ("qwen3", {"model_type": "qwen3_moe"}, "model_type `qwen3_moe` is not supported"),
            (
                "qwen3",
                {"num_key_value_heads": 4},
                r"k_proj.weight` has shape \[16, 16\], and config.json asks for \[32, 16\]",
            ),
        ]
    ):
        model = aktis.models.TextEmbedder(changed(tmp_path / str(at), name, **settings))  # pyright: ignore[reportArgumentType]
        with pytest.raises(Exception, match=said):
            ds.map_batches(model).take_all()
    modules = changed(tmp_path / "modules", "gemma3")
    (modules / "modules.json").write_text((modules / "modules.json").read_text().replace("dense.Dense", "lstm.LSTM"))
    with pytest.raises(Exception, match=r"it has a step `.*LSTM` where it is"):
        ds.map_batches(aktis.models.TextEmbedder(modules)).take_all()
    with pytest.raises(Exception, match="its activation_function is `torch.nn.GELU`"):
        ds.map_batches(
            aktis.models.TextEmbedder(
                changed(tmp_path / "gelu", "gemma3", "3_Dense/config.json", activation_function="torch.nn.GELU")
            )
        )
    wide = changed(tmp_path / "wide", "gemma3", "3_Dense/config.json", in_features=25)
    with pytest.raises(Exception, match="it takes vectors of 25, and those before it are of 24"):
        ds.map_batches(aktis.models.TextEmbedder(wide)).take_all()
    shards = changed(tmp_path / "shards", "qwen3")
    (shards / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Exception, match="model-00002-of-00003.safetensors"):
        ds.map_batches(aktis.models.TextEmbedder(shards)).take_all()
    for options, said in [
        ({"dtype": "int4"}, "dtype must be"),
        ({"dtype": "int8", "backend": "onnx"}, "dtype='int8' is for backend='candle'"),
        ({"dtype": "int8", "onnx_file": "a.onnx"}, "name another by onnx_file="),
    ]:
        with pytest.raises(ValueError, match=said):
            made(aktis.models.TextEmbedder, "m", **options)


def made(kind, folder, **options):
    """A model, whose options checkers of types do not look at: they are wrong."""
    return kind(folder, **options)
