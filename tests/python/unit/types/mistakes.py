"""Mistakes that checkers find. Read by `test_types`, never run.

A line that ends in `# mistake` is reported by pyright and by mypy. `# mistake: mypy` is one that only mypy finds, with the plugin
`aktis.mypy_plugin`: Python's types cannot say what a method becomes on a handle.
"""

import aktis
import aktis.data
import numpy as np

Batch = dict[str, np.ndarray]


@aktis.remote
def square(x: int, *, note: str = "") -> int:
    return x * x


@aktis.remote(num_cpus=2)
def add(x: int, y: int) -> int:
    return x + y


@aktis.remote
def name_of(x: int) -> str:
    return str(x)


@aktis.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value


class Plain:
    def __init__(self, name: str) -> None:
        self.name = name


class Model:
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, batch: Batch) -> Batch:
        return {"y": batch["x"] * 2}


def tasks() -> None:
    square.remote("three")  # mistake
    square.remote(1, 2, 3)  # mistake
    square.remote()  # mistake
    add.remote(1)  # mistake
    square.remote(1, not_e="x")  # mistake
    square(3)  # mistake
    square.remote(name_of.remote(1))  # mistake
    add.remote(1, name_of.remote(1))  # mistake
    square.options(num_cpu=2).remote(1)  # mistake
    square.options(num_cpus="2").remote(1)  # mistake
    square.options(max_restarts=2).remote(1)  # mistake
    square.options(accelerator_type="A100").remote(1)  # mistake
    aktis.remote(num_gpu=1)(Plain)  # mistake
    aktis.method(num_return=2)  # mistake


def objects() -> None:
    ref = square.remote(3)
    print(ref + 1)  # mistake
    value: int = ref  # mistake
    print(value, ref.upper())  # mistake
    print(ref[0])  # mistake
    aktis.get(3)  # mistake
    aktis.get((ref, ref))  # mistake
    aktis.get(ref).upper()  # mistake
    aktis.get(ref, timeout="1")  # mistake
    aktis.get([ref])[0].upper()  # mistake
    aktis.wait(ref)  # mistake
    aktis.wait([ref], num_return=1)  # mistake
    aktis.cancel(3)  # mistake
    aktis.put(3).upper()  # mistake
    aktis.putt(3)  # mistake


def actors() -> None:
    counter = Counter.remote()
    counter.ad.remote()  # mistake: mypy
    counter.add.remote("x")  # mistake: mypy
    counter.add.remote(1, 2)  # mistake: mypy
    counter.add.remote(amont=2)  # mistake: mypy
    aktis.get(counter.add.remote()).upper()  # mistake: mypy
    counter.add(1)  # mistake
    Counter.remote(strt=1)  # mistake
    Counter.remote("x")  # mistake
    Counter.options(max_retries=1)  # mistake
    Counter.options(lifetime="for ever")  # mistake
    aktis.remote(Plain).remote()  # mistake
    aktis.remote(Plain).remote(3)  # mistake
    aktis.kill(square)  # mistake
    aktis.get(counter)  # mistake


def session() -> None:
    aktis.init(num_cpu=3)  # mistake
    aktis.init(num_cpus="3")  # mistake
    aktis.init(include_dashboard=True)  # mistake
    aktis.init(infeasible="wat")  # mistake


def datasets() -> None:
    ds = aktis.data.read_parquet(3)  # mistake
    aktis.data.read_parquet("in/", column=["x"])  # mistake
    aktis.data.read_hdf5("in/")  # mistake
    ds.map_batches(Model, batch_size="many")  # mistake
    ds.map_batches(Model, num_gpu=1)  # mistake
    aktis.data.SqlFunction(Model, "float32", num_gpu=1)  # mistake
    ds.explode(["xs"])  # mistake
    aktis.data.sql("select f(x) from ds", functions={"f": 3}, ds=ds)  # mistake
    ds.map_batches(lambda batch: 42)  # mistake
    ds.map_batches(lambda batch: [batch])  # mistake
    ds.map_batches(lambda batch: batch, batch_format="arrow")  # mistake
    ds.map_batch(Model)  # mistake
    ds.map(lambda row: 42)  # mistake
    ds.map(lambda row: row, output_schema=["y"])  # mistake
    ds.filter(lambda row: True, output_schema={"y": int})  # mistake
    ds.map(Model, num_gpu=1)  # mistake
    ds.flat_map(lambda row: {"x": 1})  # mistake
    ds.write_parquet("out/", mode="overwrit")  # mistake
    ds.write_parquet("out/", partition_cols=3)  # mistake
    ds.sort(3)  # mistake
    ds.take("3")  # mistake
    print(ds.take_batch().shape)  # mistake
    ds.iter_batches(batchsize=3)  # mistake
    ds.select_columns(3)  # mistake
    aktis.data.ActorPoolStrategy(sise=3)  # mistake
    ds.map_batches(Model, compute=[aktis.data.TaskPoolStrategy(size=4)])  # mistake


def language_models() -> None:
    settings = aktis.data.llm.HttpRequestProcessorConfig(url=3)  # mistake
    aktis.data.llm.HttpRequestProcessorConfig(url="http://a", retries=3)  # mistake
    aktis.data.llm.vLLMEngineProcessorConfig(model="m")  # mistake
    aktis.data.llm.build_processor(settings, preprocess=lambda row: 3)  # mistake
    aktis.data.llm.build_processor("http://a")  # mistake
    aktis.data.llm.SGLangEngineProcessorConfig()  # mistake
