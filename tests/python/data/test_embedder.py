"""The native text embedder in a dataset."""

import json
import pathlib

import aktis.data
import aktis.models
import numpy
import pytest
from aktis.data import ActorPoolStrategy, _functions
from pyarrow import parquet

MODEL = pathlib.Path(__file__).resolve().parents[3] / ".models" / "all-MiniLM-L6-v2"
TEXTS = ["a ray of light", "sunshine on the water", "quarterly financial report", None, "tax returns and invoices"]


def embedder(**options):
    return aktis.models.TextEmbedder(MODEL, column="text", backend="candle", **options)


needs_model = pytest.mark.skipif(not (MODEL / "model.safetensors").is_file(), reason="the model was not fetched")


@needs_model
def test_vectors_stand_beside_their_texts_and_are_close_where_meanings_are(tmp_path):
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(TEXTS)])
    ds = ds.map_batches(embedder(), compute=ActorPoolStrategy(size=1))
    assert ds.schema().names == ["id", "text", "embedding"], "known without running"
    ds.write_parquet(tmp_path)
    table = parquet.read_table(tmp_path).sort_by("id")
    assert table["text"].to_pylist() == TEXTS
    assert table["embedding"][3].as_py() is None
    vectors = numpy.array([v for v in table["embedding"].to_pylist() if v is not None])
    assert vectors.shape == (4, 384)
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    closeness = vectors @ vectors.T
    assert closeness[0, 1] > closeness[0, 2] and closeness[2, 3] > closeness[0, 3]


@needs_model
def test_rows_that_a_model_cannot_take_are_put_aside():
    ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(TEXTS)])
    good = ds.map_batches(embedder(), on_error="dead_letter", timeout_s=100)
    assert {row["id"] for row in good.take_all() if row["embedding"] is not None} == {0, 1, 2, 4}
    assert good.dead_letters().count() == 0
    wrong = aktis.data.from_items([{"text": 3}, {"text": 4}]).map_batches(embedder(), on_error="dead_letter")
    assert wrong.take_all() == []
    dead = wrong.dead_letters().take_all()
    assert sorted(row["row"]["text"] for row in dead) == [3, 4]
    assert all("string column" in row["message"] for row in dead)


@needs_model
def test_texts_that_were_embedded_before_are_not_again(tmp_path):
    def run(texts, **options):
        ds = aktis.data.from_items([{"id": i, "text": text} for i, text in enumerate(texts)])
        ds = ds.map_batches(embedder(**options), cache=tmp_path)
        rows = ds.take_all()
        counts = ds._stats.stats()["stages"][0]["operators"][1]
        return [row["embedding"] for row in rows], (counts["cache_hits"], counts["cache_misses"])

    first, counts = run(TEXTS)
    assert counts == (0, 5)
    # How fast it is told to be makes no difference.
    again, counts = run([*TEXTS[:2], "something else", *TEXTS[3:]], token_budget=512)
    assert counts == (4, 1)
    assert numpy.array_equal(first[0], again[0]) and again[3] is None
    assert run(TEXTS, normalize=False)[1] == (0, 5)


@needs_model
def test_columns_that_nobody_wants_do_not_reach_the_model(words):
    ds = aktis.data.read_parquet(words).rename_columns({"word": "text"}).limit(10).map_batches(embedder())
    ds = ds.select_columns(["id", "embedding"])
    assert "projection=[id, word]" in ds.explain()
    assert [row["embedding"].shape for row in ds.take_all()] == [(384,)] * 10


@needs_model
def test_wrong_column_and_wrong_model_are_told(tmp_path):
    ds = aktis.data.from_items([{"body": "x"}])
    with pytest.raises(ValueError, match=r"'text'.*'body'"):
        ds.map_batches(embedder())
    with pytest.raises(ValueError, match="TextEmbedder"):
        ds.map_batches(aktis.models.TextEmbedder(tmp_path, column="body", backend="candle"))
    numbers = aktis.data.from_items([{"text": 3}]).map_batches(embedder())
    with pytest.raises(Exception, match="text"):
        numbers.take_all()


@needs_model
@pytest.mark.parametrize(("options", "way_out"), [
    ({"input_columns": ["text"]}, "the columns that it is made to read"),
    ({"passthrough_columns": ["id"]}, "all columns pass by"),
    ({"max_concurrency": 4}, r"ActorPoolStrategy\(size="),
    ({"fn_args": (1,)}, "it is made with"),
    ({"fn_constructor_kwargs": {"path": "m"}}, "it is made already"),
    ({"token_budget": 100}, r"TextEmbedder\(token_budget="),
    ({"retry_exceptions": True}, "would fail again"),
])  # fmt: skip
def test_options_of_functions_are_refused_and_not_ignored(options, way_out):
    with pytest.raises(
        ValueError, match=rf"{next(iter(options))}=...\) is for functions, and TextEmbedder .*{way_out}"
    ):
        aktis.data.from_items([{"text": "x"}]).map_batches(embedder(), **options)


def test_actors_of_a_pool_take_their_part_of_the_processors_that_their_own_machine_has():
    def told(**options):
        compute = _functions.compute_of(embedder(), **options)
        model = json.loads(_functions.model_spec(embedder(), compute, options.get("num_cpus")))
        model = model["text_embedder"]["embedder"]
        return model["replicas"], model["sharing"]

    assert told(compute=ActorPoolStrategy(size=2)) == (None, 2)
    assert told() == (None, 1)
    assert told(num_cpus=3) == (3, None), "as many as were asked for"
