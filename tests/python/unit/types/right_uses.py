"""Programs that are right: neither checker may report anything here. Read by `test_types`, never run."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import aktis
import aktis.data
import numpy as np
from aktis.data.expressions import Expr, col, lit, random, star, unnest
from aktis.util.queue import Queue
from aktis.util.scheduling_strategies import NodeAffinitySchedulingStrategy

Batch = dict[str, np.ndarray]


# ------------------------------------------------------------------------------------------------ tasks


@aktis.remote
def square(x: int, *, note: str = "") -> int:
    """The square."""
    return x * x


@aktis.remote(num_cpus=2, max_retries=0, retry_exceptions=[OSError])
def add(x: int, y: int) -> int:
    return x + y


@aktis.remote(num_returns=2)
def halves(x: int) -> tuple[int, int]:
    return x // 2, x - x // 2


@aktis.remote
def words(count: int) -> Iterator[str]:
    for _ in range(count):
        yield "word"


@aktis.remote
def total(*numbers: int) -> int:
    return sum(numbers)


@aktis.remote
def untyped(value, factor=2):
    return value * factor


@aktis.remote
def fails() -> None:
    raise ValueError("as it should")


def tasks() -> None:
    ref = square.remote(3)
    assert_type(ref, aktis.ObjectRef[int])
    assert_type(aktis.get(ref), int)
    assert_type(aktis.get([square.remote(i) for i in range(3)]), list[int])
    assert_type(add.remote(ref, 2), aktis.ObjectRef[int])
    assert_type(add.remote(1, y=2), aktis.ObjectRef[int])
    assert_type(square.options(num_gpus=0.5, name="sq").remote(3, note="x"), aktis.ObjectRef[int])
    add.remote(1, ref)
    add.remote(ref, ref)
    add.remote(x=1, y=2)
    square.remote(ref, note="x")
    total.remote(1, 2, 3)
    total.remote(*[1, 2, 3])
    total.remote(*[square.remote(i) for i in range(4)])
    first, second = halves.remote(5)
    aktis.get([first, second])
    left, right = square.options(num_returns=2).remote(3)
    aktis.wait([left, right], num_returns=2)
    for item in words.remote(3):
        assert_type(aktis.get(item), str)
    for part in square.options(num_returns="streaming").remote(3):
        aktis.get(part)
    assert_type(square.options(num_returns=0).remote(3), None)
    aktis.get(untyped.remote(1))
    aktis.get(untyped.remote(ref))
    aktis.get(fails.remote(), timeout=1)
    aktis.get(aktis.remote(lambda: "plain").remote())
    aktis.remote(functools.partial(max, 1)).remote(2)
    square.options(scheduling_strategy=NodeAffinitySchedulingStrategy("ab", soft=True)).remote(1)
    square.options(scheduling_strategy="SPREAD", resources={"licence": 1}).remote(1)


def objects() -> None:
    stored = aktis.put([1, 2])
    assert_type(aktis.get(stored), list[int])
    ready, rest = aktis.wait([stored], num_returns=1, timeout=1.0)
    assert_type(aktis.get(ready), list[list[int]])
    aktis.get([stored, aktis.put("text")])
    aktis.wait([square.remote(1), words.remote(2)])
    aktis.cancel(rest[0], force=True)
    stored.future().result()


# ------------------------------------------------------------------------------------------------ actors


@aktis.remote
class Counter:
    LIMIT = 10

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value = min(self.value + amount, Counter.LIMIT)
        return self.value

    def twice(self) -> int:
        return self.add() + self.add()

    @aktis.method(num_returns=2, concurrency_group="io")
    def both(self) -> tuple[int, int]:
        return self.value, self.value

    def count(self, to: int) -> Iterator[int]:
        yield from range(to)


@aktis.remote(num_gpus=1, max_restarts=-1, lifetime="detached", concurrency_groups={"io": 2})
class Service:
    async def ask(self, question: str) -> str:
        return question

    async def stream(self) -> AsyncIterator[str]:
        yield "x"


class Plain:
    def __init__(self, name: str, *, size: int = 0) -> None:
        self.name = name

    def greet(self, other: str) -> str:
        return f"{self.name} greets {other}"


def actors() -> None:
    counter = Counter.remote(start=1)
    counter.add.remote()
    counter.add.remote(2)
    counter.add.remote(amount=square.remote(3))
    aktis.get([counter.add.remote(i) for i in range(3)], timeout=5)
    aktis.get(counter.add.options(max_task_retries=2).remote(1))
    one, two = counter.both.remote()
    aktis.get([one, two])
    for item in counter.count.remote(3):
        aktis.get(item)
    Counter.remote(square.remote(3))
    Counter.options(name="shared", get_if_exists=True, max_concurrency=2).remote(3)
    aktis.kill(counter, no_restart=False)
    aktis.get(aktis.get_actor("shared").add.remote())
    aktis.get(Service.remote().ask.remote("why?"))
    RemotePlain = aktis.remote(Plain)
    assert_type(RemotePlain.remote("x", size=3), aktis.ActorHandle[Plain])
    RemotePlain.options(num_cpus=1).remote("x")
    aktis.remote(num_cpus=1)(Plain).remote("x", size=1)
    pool = aktis.util.ActorPool([counter])
    list(pool.map(lambda actor, x: actor.add.remote(x), [1, 2]))
    Queue(maxsize=3).put("x")


async def awaiting(handle: aktis.ActorHandle[Plain]) -> int:
    await handle.greet.remote("you")
    return await square.remote(3)


def session() -> None:
    with aktis.init(num_cpus=2, num_gpus=1, resources={"a": 1}, runtime_env={"env_vars": {"A": "b"}}) as context:
        print(context.address_info["node_id"])
    aktis.init(address="auto", namespace="n", ignore_reinit_error=True, infeasible="wait", include_dashboard=False)
    print(aktis.cluster_resources()["CPU"], aktis.nodes()[0]["Alive"], aktis.get_runtime_context().get_job_id())
    aktis.shutdown()


# ------------------------------------------------------------------------------------------------ datasets


class Model:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, batch: Batch) -> Batch:
        return {"y": batch["x"] * 2}


class AsyncModel:
    async def __call__(self, batch: Batch) -> AsyncIterator[Batch]:
        yield {"y": batch["x"]}


def in_parts(batch: Batch) -> Iterator[Batch]:
    yield {"y": batch["x"]}


def datasets() -> None:
    ds = aktis.data.read_parquet(["a/", "b/"], columns=["x"], filter="x > 1", override_num_blocks=3)
    out = ds.map_batches(
        Model,
        fn_constructor_args=("m.bin",),
        compute=aktis.data.ActorPoolStrategy(min_size=2, max_size=10),
        num_gpus=1,
        batch_size=64,
    )
    assert_type(out, aktis.data.Dataset)
    out.write_parquet("out/", mode="overwrite", compression="zstd")
    ds.map_batches(AsyncModel, max_concurrency=8)
    ds.map_batches(in_parts, batch_size="auto")
    ds.map_batches(lambda batch: {"y": batch["x"] * 2}, batch_format="numpy", compute="tasks")
    on_gpus = aktis.data.ActorPoolStrategy(size=1, num_gpus=1, batch_size=256, fn_constructor_kwargs={"device": "cuda"})
    ds.map_batches(Model, compute=[on_gpus, aktis.data.ActorPoolStrategy(size=2, num_cpus=4, batch_size=32)])
    ds.map_batches(lambda table: table, batch_format="pyarrow")
    ds.map_batches(aktis.models.TextEmbedder("folder", dtype="int8", prompt_name="query"), concurrency=2)
    ds.map_batches(aktis.models.TextClassifier("folder", top_k=None), concurrency=2)
    ds.map_batches(aktis.models.Reranker("folder", query_column="q"), concurrency=2)
    ds.map_batches(aktis.models.ImageEmbedder("folder", pooling="mean", batch_size="auto"), concurrency=2)
    ds.map_batches(aktis.models.OnnxModel("file.onnx", inputs={"x": "a"}, outputs=["y"], batch_size="auto"), num_gpus=1)
    ds.map_batches(in_parts, token_budget=4096, tokens="n", window_rows=100, byte_budget=1 << 20)
    ds.map_batches(in_parts, tokens=lambda batch: [len(text) for text in batch["text"]], token_budget=10)
    ds.map(lambda row: row, retry_exceptions=[ConnectionError, OSError], max_retries=2)
    ds.map_batches(in_parts, output_schema={"y": int, "z": "float32", "w": list[str]})
    ds.map(lambda row: {"y": row["x"]}, output_schema=ds.schema())
    ds.map(lambda row: {"y": row["x"]}, num_cpus=2).flat_map(lambda row: [row] * 2, fn_kwargs={})
    computed = ds.with_column("y", -(col("x") + 1) // 2).with_columns({"z": col("y").str.upper(), "n": lit(None)})
    computed = computed.filter(expr=(col("x") > 1) & ~col("y").is_in([1, 2]) | col("z").list[0].struct["a"].is_null())
    computed = computed.select_columns([star(), col("x").dt.year().alias("year")]).add_column("r", random(seed=1))
    assert_type(aktis.data.sql("select x from a", a=computed), aktis.data.Dataset)
    called = aktis.data.SqlFunction(lambda array: array, "float32", num_cpus=0.5)
    aktis.data.SqlFunction(Model, "int8", compute=[on_gpus], token_budget=64, tokens=lambda texts: [1] * len(texts))
    ds.explode("xs", "ys", index_column="n").with_columns({"y": col("x")}, unnest(col("z"))).with_columns(
        unnest(col("z"))
    )
    queried = aktis.data.sql(
        "select f(x), g(y) from a", functions={"f": called, "g": aktis.models.TextEmbedder("m")}, a=ds
    )
    assert_type(queried, aktis.data.Dataset)
    assert_type(col("x") == 1, Expr)
    ds.filter("x > 1").filter(lambda row: row["x"] > 1, concurrency=3).filter(expr="x < 3")
    ds.add_column("y", lambda frame: frame["x"] * 2).select_columns("y").drop_columns(["x"])
    ds.rename_columns({"x": "z"}).limit(3).show(2)
    assert_type(ds.take(3), list[dict[str, Any]])
    assert_type(ds.count(), int)
    print(ds.take_batch()["x"].shape)
    for batch in ds.iter_batches(batch_size=3, drop_last=True):
        print(batch["x"].sum())
    for row in ds.iter_rows():
        print(row["x"])
    schema = ds.schema()
    if schema is not None:
        print(schema.names)
    print(ds.materialize().num_blocks(), ds.stats(), ds.to_pandas().shape, ds.to_arrow().num_rows)
    aktis.data.from_items([1, 2]).take_batch(batch_format="pandas")
    aktis.data.from_numpy(np.zeros(3)).columns()
    aktis.data.DataContext.get_current().execution_options.preserve_order = True


def language_models() -> None:
    llm = aktis.data.llm
    settings = llm.HttpRequestProcessorConfig(url="http://a/v1", qps=0.5, http_request_stage={"num_cpus": 0.5})
    settings.max_retries = 3
    processor = llm.build_processor(
        settings,
        preprocess=lambda row: {"payload": {"input": row["text"]}},
        postprocess=lambda row: {**row, "x": row["http_response"]},
    )
    assert_type(processor(aktis.data.range(3)), aktis.data.Dataset)
    engine = llm.vLLMEngineProcessorConfig(
        model_source="m", engine_kwargs={"seed": 1}, concurrency=(1, 4), tokenize_stage=False,
        chat_template_stage=llm.ChatTemplateStageConfig(chat_template="..."),
    )  # fmt: skip
    llm.build_processor(engine, builder_kwargs={"chat_template_kwargs": {}}).log_input_column_names()
