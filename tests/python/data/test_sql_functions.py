"""Functions, classes and native models that queries in SQL call: steps of their own, with workers of their own.

What rows come out is asked in this process, which takes no workers; how steps run, of workers.
"""

import json
import pathlib
import pickle
import random
import re
import time
from typing import Any

import aktis.data
import aktis.models
import aktis.testing
import numpy
import pyarrow
import pytest
from aktis.data import ActorPoolStrategy, SqlFunction, _sql_calls
from aktis.data.expressions import udf

from . import onnx_files
from .onnx_files import node, port
from .test_mixed_workers import both_begin

MODELS = pathlib.Path(__file__).parent / "text_models"
ANSWERS = json.loads((MODELS / "reference.json").read_text())


def docs(rows=8):
    return aktis.data.from_items([{"id": n, "text": f"text {n}", "label": "ab"[n % 2]} for n in range(rows)])


def plus(numbers, more=1):
    return [number + more for number in numbers.to_pylist()]


def picky(numbers):
    """A function that must not see large numbers."""
    assert max(numbers.to_pylist()) < 5, "a row came that the query leaves out"
    return numbers


def different(numbers):
    """Never the same twice."""
    return [random.SystemRandom().random() for _ in numbers]


PLUS = SqlFunction(plus, int)
PICKY = SqlFunction(picky, "int64")


def run(query, functions=None, **tables):
    functions = {"plus": PLUS, "picky": PICKY} if functions is None else functions
    with aktis.testing.local():
        return aktis.data.sql(query, functions=functions, **(tables or {"docs": docs()})).take_all()


def values(query, functions=None, **tables):
    """Those of the only column, in their order."""
    return sorted(next(iter(row.values())) for row in run(query, functions, **tables))


def test_function_is_called_with_columns_and_constants():
    assert values("select plus(id) as next from docs where id < 3") == [1, 2, 3]
    assert values("select Plus(id, 10 * 2) + 1 as later from docs where id < 2") == [21, 22]
    assert run("select PLUS(id) from docs limit 1") == [{"plus(docs.id)": 1}]
    joined = SqlFunction(lambda a, b, c: [f"{x}{c}{y}" for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)], str)
    assert values("select j(text, label, null) from docs limit 1", {"j": joined}) == ["text 0Nonea"]


@pytest.mark.parametrize("batch_format", ["pyarrow", "numpy", "pandas"])
def test_arrays_come_in_the_format_that_was_asked_for(batch_format):
    kinds = {"pyarrow": "Int64Array", "numpy": "ndarray", "pandas": "Series"}

    def double(numbers):
        assert type(numbers).__name__ == kinds[batch_format]
        return numbers if batch_format == "pyarrow" else numbers * 2

    function = SqlFunction(double, "float32", batch_format=batch_format)
    assert values("select f(id) from docs where id < 3", {"f": function}) in ([0, 1, 2], [0, 2, 4])
    assert aktis.data.sql("select f(id) as x from docs", functions={"f": function}, docs=docs()).schema().types == [
        pyarrow.float32()
    ]


def test_conditions_and_limits_come_before_functions(words):
    assert values("select picky(id) from docs where id < 5 and picky(id) > 2") == [3, 4]
    assert values("select y from (select id, picky(id) as y from docs) where id < 5 and y > 2") == [3, 4]
    assert values("select picky(id) from docs order by -id desc limit 3") == [0, 1, 2]
    tables = {"docs": docs(), "few": aktis.data.from_items([{"id": 1}, {"id": 2}])}
    assert values("select picky(docs.id) from docs, few where docs.id = few.id", **tables) == [1, 2]
    with aktis.testing.local():
        query = "select picky(id) from w where id < 3"
        ds = aktis.data.sql(query, functions={"picky": PICKY}, w=aktis.data.read_parquet(words))
        assert "data" not in ds.explain().partition("Optimised plan:")[2]
        assert ds.count() == 3


def test_calls_in_calls_and_the_same_call_once():
    assert values("select plus(plus(id) * 2) from docs where id < 2") == [3, 5]
    once = {"f": SqlFunction(different, float)}
    for row in run("select f(id) as a, f(id) as b, f(id + 0) as c from docs where f(id) >= 0 order by f(id)", once):
        assert row["a"] == row["b"]
    rows = run("select f(id) as a, id from docs where f(id) > 0 order by f(id) * 2 desc limit 5", once)
    assert [row["a"] for row in rows] == sorted((row["a"] for row in rows), reverse=True)
    again = run("select f(id) as a, f(id + 1) as b from docs", once)
    assert all(row["a"] != row["b"] for row in again)


def test_functions_stand_anywhere_in_a_query():
    labels = aktis.data.from_items([{"label": "a", "weight": 10}, {"label": "b", "weight": 20}])
    tables = {"docs": docs(), "labels": labels}
    assert values("select plus(id + weight) from docs join labels using (label) where id < 2", **tables) == [11, 22]
    below = "select y + weight from (select label, plus(id) as y from docs) as d join labels using (label) where y < 3"
    assert values(below, **tables) == [11, 22]
    on = "select id from docs join labels on docs.label = labels.label and plus(weight) > 15 where id < 4"
    assert values(on, **tables) == [1, 3]
    both = "select d.label from docs d join labels l on d.label = l.label where plus(d.id, 1) = plus(l.weight, -9)"
    assert values(both, **tables) == ["a"]
    groups = (
        "select plus(id % 2) as k, sum(plus(id, 100)) as s from docs group by plus(id % 2) having plus(count(*)) > 4"
    )
    assert sorted(row["s"] for row in run(groups)) == [412, 416]
    assert values("select plus(max(id)) from docs group by label") == [7, 8]
    rollup = "select plus(id % 2) as k, count(*) as n from docs group by rollup (plus(id % 2))"
    assert sorted((row["k"] or 0, row["n"]) for row in run(rollup)) == [(0, 8), (1, 4), (2, 4)]
    assert [row["id"] for row in run("select id from docs order by plus(id % 2, 0) desc, id limit 3")] == [1, 3, 5]
    window = "select id, row_number() over (order by plus(-id)) as n from docs qualify n <= 2"
    assert sorted(row["id"] for row in run(window)) == [6, 7]
    assert values("select distinct plus(id % 2) from docs union all select plus(id) from docs where id = 7") == [
        1,
        2,
        8,
    ]
    assert values("select id from docs where id in (select plus(id) from docs where picky(id) < 2)", {
        "plus": PLUS, "picky": SqlFunction(lambda numbers: numbers, int)}) == [1, 2]  # fmt: skip
    largest = "select id from docs where id = (select max(plus(id)) - 1 from docs)"
    assert values(largest) == [7]
    exists = (
        "select id from docs where exists (select 1 from labels where labels.label = docs.label and plus(weight) > 15)"
    )
    assert values(exists, **tables) == [1, 3, 5, 7]
    best = "select id from docs where plus(id) = (select max(plus(w)) from u where u.id = docs.id)"
    assert values(best, docs=docs(), u=aktis.data.from_items([{"id": 1, "w": 1}, {"id": 2, "w": 7}])) == [1]
    chosen = "select case when plus(id) > 7 then 'late' else 'early' end as x from docs"
    assert values(chosen) == ["early"] * 7 + ["late"]


def test_call_that_is_the_same_for_all_rows_is_made_once():
    calls = []

    def noted(numbers):
        calls.append(len(numbers))
        return numbers

    assert values("select f(7) + id from docs", {"f": SqlFunction(noted, int)}) == list(range(7, 15))
    assert calls == [1]
    assert values("select plus(id) * plus(1, 2) from docs where id < 3") == [3, 6, 9]


def test_nulls_come_as_nulls_and_no_rows_call_nothing():
    def known(texts):
        return [None if text is None else len(text) for text in texts.to_pylist()]

    table = aktis.data.from_items([{"text": "abc"}, {"text": None}])
    rows = run("select f(text) as n from t", {"f": SqlFunction(known, int)}, t=table)
    assert sorted(rows, key=str) == [{"n": 3}, {"n": None}]

    def never(texts):
        raise AssertionError("there are no rows")

    ds = aktis.data.sql(
        "select f(text) as n from docs where id > 99", functions={"f": SqlFunction(never, int)}, docs=docs()
    )
    assert ds.take_all() == []
    assert ds.to_arrow().schema.names == ["n"]


class Scaled:
    def __init__(self, factor, *, more=0):
        self.factor, self.more = factor, more

    def __call__(self, numbers):
        return numpy.asarray(numbers) * self.factor + self.more


def test_class_runs_in_actors_with_its_resources():
    scaled = SqlFunction(
        Scaled,
        "int64",
        fn_constructor_args=(3,),
        fn_constructor_kwargs={"more": 1},
        num_gpus=0.5,
        concurrency=1,
        batch_size=2,
    )
    ds = aktis.data.sql("select scaled(id) as x from docs", functions={"scaled": scaled}, docs=docs(3))
    assert sorted(row["x"] for row in ds.take_all()) == [1, 4, 7]
    stages = ds.explain().partition("Stages:")[2]
    assert re.search(r"SqlFunction\(scaled\).* \(actors=1\.\.1 GPU=0\.5\)", stages)
    assert "SqlFunction(scaled)" in ds.stats()


def test_async_function_is_awaited():
    async def later(numbers):
        return [number + 1 for number in numbers.to_pylist()]

    assert values("select f(id) from docs where id < 2", {"f": SqlFunction(later, int, max_concurrency=2)}) == [1, 2]


def test_rows_that_fail_are_put_aside():
    def inverse(numbers):
        return [1 / number for number in numbers.to_pylist()]

    function = SqlFunction(inverse, float, on_error="dead_letter")
    ds = aktis.data.sql("select f(id) as x from docs", functions={"f": function}, docs=docs(3))
    assert sorted(row["x"] for row in ds.take_all()) == [0.5, 1.0]
    (dead,) = ds.dead_letters().take_all()
    assert dead["row"]["id"] == 0 and "division" in dead["message"]
    with pytest.raises(Exception, match="division by zero"):
        run("select f(id) from docs", {"f": SqlFunction(inverse, float)})


def test_results_are_kept_from_query_to_query(tmp_path):
    noted = tmp_path / "calls"

    def slow(numbers):
        with noted.open("a") as file:
            file.writelines(f"{number}\n" for number in numbers.to_pylist())
        return numbers

    functions = {"slow": SqlFunction(slow, int, cache=tmp_path / "kept"), "plus": PLUS}
    assert values("select slow(id) from docs where id < 3", functions) == [0, 1, 2]
    later = "select plus(id), slow(id) as x, plus(id, 2) from docs where id between 1 and 3 and plus(id) > 0"
    assert sorted(row["x"] for row in run(later, functions)) == [1, 2, 3]
    assert sorted(noted.read_text().split()) == ["0", "1", "2", "3"]


class Where:
    """Tells in which kind of worker a row was, and how many were with it."""

    def __init__(self, folder, device):
        self.device = device
        both_begin(folder, device)

    def __call__(self, numbers):
        time.sleep(0.002 * len(numbers))
        return [f"{self.device} {len(numbers)}"] * len(numbers)


def test_workers_of_several_kinds_take_from_the_same_rows(tmp_path):
    kinds = [
        ActorPoolStrategy(size=1, num_gpus=1, batch_size=64, fn_constructor_kwargs={"device": "cuda"}),
        ActorPoolStrategy(size=1, num_cpus=1, batch_size=8, fn_constructor_kwargs={"device": "cpu"}),
    ]
    where = SqlFunction(Where, str, fn_constructor_args=(tmp_path,), compute=kinds)
    ds = aktis.data.sql("select id, told(id) as t from t", functions={"told": where}, t=aktis.data.range(600))
    rows = sorted(pickle.loads(pickle.dumps(ds)).take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(600))
    assert {"cuda 64", "cpu 8"} <= {row["t"] for row in rows}
    with pytest.raises(ValueError, match=r"has the same kind of worker at places 0 and 1"):
        SqlFunction(Where, str, fn_constructor_args=(tmp_path,), compute=[kinds[0], kinds[0]])
    with pytest.raises(TypeError, match=r"Where.* is made with what .* 'device'"):
        SqlFunction(
            Where, str, fn_constructor_args=(tmp_path,), compute=[kinds[0], ActorPoolStrategy(num_cpus=1, batch_size=8)]
        )


def test_native_model_has_workers_of_several_kinds():
    model = aktis.models.TextEmbedder(MODELS / "bert_sentences", backend="onnx")
    kinds = [ActorPoolStrategy(size=1, num_cpus=n, fn_constructor_kwargs={"token_budget": 64 * n}) for n in (1, 2)]
    ds = aktis.data.sql(
        "select embed(text) as e from docs", functions={"embed": SqlFunction(model, compute=kinds)}, docs=docs()
    )
    assert "CPU=1" in ds.explain() and "or actors=1..1 CPU=2" in ds.explain()
    with pytest.raises(ValueError, match="makes its batches itself"):
        SqlFunction(model, compute=[ActorPoolStrategy(num_cpus=1, batch_size=3)])


def test_calls_are_measured_by_tokens_and_bytes():
    def rows_of_call(texts, *_):
        return [len(texts)] * len(texts)

    def tokens(texts, most):
        return [min(len(text), most) for text in texts.to_pylist()]

    budget = SqlFunction(rows_of_call, int, token_budget=12, tokens=tokens)
    found = run("select id, f(text, 4) as few, f(text, 12) as one from docs", {"f": budget})
    assert (max(row["few"] for row in found), max(row["one"] for row in found)) == (3, 2)
    assert max(values("select f(text) from docs", {"f": SqlFunction(rows_of_call, int, byte_budget=30)})) < 8

    def upper(texts):
        return [text.upper() for text in texts.to_pylist()]

    sorted_by_length = SqlFunction(
        upper, str, window_rows=8, batch_size=2, tokens=lambda texts: [-hash(text) % 7 for text in texts.to_pylist()]
    )
    found = run("select text, f(text) as loud from docs", {"f": sorted_by_length})
    assert all(row["loud"] == row["text"].upper() for row in found) and len(found) == 8
    for options, words in [
        ({"token_budget": 4}, r"SqlFunction\(token_budget=...\) needs tokens="),
        ({"tokens": tokens}, r"SqlFunction\(tokens=...\) counts for token_budget= or window_rows="),
        ({"byte_budget": 0}, r"SqlFunction\(byte_budget=...\) must be a whole number of at least 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            SqlFunction(upper, str, **options)
    with pytest.raises(TypeError, match="tokens is a function of the arguments, not the name of a column"):
        SqlFunction(upper, str, token_budget=4, tokens="n")  # pyright: ignore[reportArgumentType]


def test_functions_of_expressions_are_called_too():
    @udf(return_dtype="int64")
    def double(numbers):
        return pyarrow.array([2 * number for number in numbers.to_pylist()])

    @udf(return_dtype=float)
    class Times:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, numbers):
            return pyarrow.array([number * self.factor for number in numbers.to_pylist()])

    found = run("select double(id) as a, half(id) as b from docs where id = 3", {"double": double, "half": Times(0.5)})
    assert found == [{"a": 6, "b": 1.5}]


def test_dataset_of_a_query_with_functions_travels():
    ds = aktis.data.sql(
        "select f(id, 2) as x from docs where id < 2", functions={"f": SqlFunction(lambda n, by: [by * x for x in n.to_pylist()], int)},
        docs=docs(),
    )  # fmt: skip
    assert sorted(row["x"] for row in pickle.loads(pickle.dumps(ds)).take_all()) == [0, 2]
    again = aktis.data.sql("select plus(x) as y from t where x > 0", functions={"plus": PLUS}, t=ds)
    assert again.take_all() == [{"y": 3}]


def test_native_models_are_called():
    texts = ANSWERS["bert_moods"]["texts"][:3]
    table = aktis.data.from_items([{"id": n, "body": text} for n, text in enumerate([*texts, None])])
    classifier = aktis.models.TextClassifier(MODELS / "bert_moods", backend="onnx", replicas=1)
    query = "select id, mood(body)['label'] as label, mood(body)['score'] as score from t where mood(body)['score'] > 0"
    found = aktis.data.sql(query, functions={"mood": classifier}, t=table)
    assert found.schema().types[1:] == [pyarrow.string(), pyarrow.float32()]
    expected = [answer[0] for answer in ANSWERS["bert_moods"]["answers"][:3]]
    rows = sorted(found.take_all(), key=lambda row: row["id"])
    assert [row["label"] for row in rows] == [answer["label"] for answer in expected]
    assert [row["score"] for row in rows] == pytest.approx([answer["score"] for answer in expected], abs=1e-4)
    embedder = aktis.models.TextEmbedder(MODELS / "bert_sentences", backend="onnx", replicas=1)
    reranker = aktis.models.Reranker(MODELS / "bert_reranker", backend="onnx", replicas=1)
    functions = {"embed": embedder, "rerank": SqlFunction(reranker, concurrency=1)}
    query = "select embed(body) as e, rerank('a question', body) as r, cosine_distance(embed(body), embed('a ray')) as d from t where id = 0"
    (row,) = run(query, functions, t=table)
    (plain,) = table.limit(1).map_batches(
        aktis.models.TextEmbedder(MODELS / "bert_sentences", column="body", backend="onnx", replicas=1)
    ).take_all()  # fmt: skip
    numpy.testing.assert_allclose(row["e"], plain["embedding"], atol=1e-5)
    assert 0 <= row["r"] <= 1 and 0 <= row["d"] <= 2


def test_graph_is_called_with_its_inputs_in_order(tmp_path):
    path = onnx_files.write(
        tmp_path / "difference.onnx",
        inputs=[port("a", "float32", ["n"]), port("b", "float32", ["n"])],
        outputs=[port("y", "float32", ["n"])],
        nodes=[node("Sub", ["a", "b"], ["y"])],
    )
    model = aktis.models.OnnxModel(path, inputs={"b": "right", "a": "left"})
    query = "select minus(cast(id as real), cast(10 as real)) as d from docs where id < 2"
    assert values(query, {"minus": model}) == [9.0, 10.0]
    with pytest.raises(ValueError, match=r"reads a, b, in no order: name them"):
        run(query, {"minus": aktis.models.OnnxModel(path)})


@pytest.mark.parametrize(
    ("query", "functions", "words"),
    [
        ("select pluss(id) from docs", {"plus": PLUS}, r"no function pluss\(\) in SQL; .* functions=\{'pluss': ...\}"),
        ("select plus(*) from docs", {"plus": PLUS}, r"plus\(\*\): name the columns"),
        ("select plus(distinct id) from docs", {"plus": PLUS}, "DISTINCT, ORDER BY or FILTER of a function of your own"),
        ("select plus(id) over (order by id) from docs", {"plus": PLUS}, "OVER behind a function of your own"),
        ("select plus(id, 1, 2) from docs", {"plus": PLUS}, r"plus\(\) is called with 3 arguments, and plus\(numbers, more=1\)"),
        ("select d.id from docs d join docs e on plus(d.id, e.id) > 1", {"plus": PLUS}, "columns of both sides.* WHERE"),
        ("select upper(text) from docs", {"Upper": PLUS}, r"there is a function upper\(\) in SQL already"),
        ("select f(id) from docs", {"f": PLUS, "F": PLUS}, "capitals make no difference"),
        ("select f(id) from docs", {"f": plus}, r"what f\(\) returns .* SqlFunction\(plus, return_dtype="),
        ("select f(id) from docs", {"f": udf()(plus)}, r"@udf\(return_dtype=...\)"),
        ("select f(id) from docs", {"f g": PLUS}, "cannot be the name of a function"),
        ("select f(id) from docs", {"f": 3}, "f is a function, a class or a model, not int"),
        ("select f(id) from docs", {"f": aktis.models.TextEmbedder(MODELS / "bert_sentences")}, "takes text, and argument 1 is int64"),
        ("select f(text, text) from docs", {"f": aktis.models.TextEmbedder(MODELS / "bert_sentences")}, r"takes 1 argument \(text\), and is called with 2"),
    ],
)  # fmt: skip
def test_wrong_calls_are_told_when_the_query_is_written(query, functions, words):
    with pytest.raises((ValueError, TypeError), match=words):
        aktis.data.sql(query, functions=functions, docs=docs())


def test_functions_are_no_dataset():
    with pytest.raises(TypeError, match="a dataset needs another name"):
        aktis.data.sql("select id from functions", functions=docs())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("fn", "options", "words"),
    [
        (plus, {}, r"SqlFunction\(plus, return_dtype='float32'\)"),
        (plus, {"return_dtype": "flaot"}, "'flaot' is no type"),
        (plus, {"return_dtype": int, "fn_constructor_args": (1,)}, "for classes, and plus is a function"),
        (plus, {"return_dtype": int, "num_gpus": 1}, r"SqlFunction\(num_gpus=...\) needs a batch_size"),
        (Scaled, {"return_dtype": int}, "missing a required argument: 'factor'"),
        (3, {"return_dtype": int}, "not int"),
        (aktis.models.TextEmbedder("m"), {"return_dtype": int}, "leave return_dtype= out"),
        (aktis.models.TextEmbedder("m"), {"batch_size": 3}, r"SqlFunction\(batch_size=...\) is for functions"),
    ],
)
def test_wrong_declarations_are_told_where_they_are_made(fn, options: dict[str, Any], words):
    with pytest.raises((ValueError, TypeError), match=words):
        SqlFunction(fn, **options)


@pytest.mark.parametrize(
    ("result", "kind", "words"),
    [
        (None, pyarrow.int64(), "did you forget 'return'"),
        (3, pyarrow.int64(), "it returned int, and must return an array"),
        (["x"], pyarrow.int64(), "do not become int64, which it is declared to return"),
        (pyarrow.array([300]), pyarrow.int8(), "do not become int8"),
    ],
)
def test_what_a_function_must_not_return(result, kind, words):
    with pytest.raises(ValueError, match=words):
        _sql_calls.column_of(result, kind)


def test_results_become_the_declared_type():
    matrix = _sql_calls.column_of(numpy.eye(2, dtype="float32"), pyarrow.list_(pyarrow.float32(), 2))
    assert matrix.to_pylist() == [[1, 0], [0, 1]] and matrix.type == pyarrow.list_(pyarrow.float32(), 2)
    assert _sql_calls.column_of(numpy.array([1, 2], "int8"), pyarrow.int64()).type == pyarrow.int64()
    with pytest.raises(Exception, match=r"SqlFunction\(short\).* got .* rows and returned 1"):
        run("select short(id) from docs", {"short": SqlFunction(lambda numbers: [1], int)})
