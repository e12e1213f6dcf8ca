"""The jobs: pictures to labels, PDFs and texts to embeddings. One script for all systems, the same functions for each.

    python multimodal_job.py make   --pipeline images --input FOLDER --rows 2000 --model FOLDER
    python multimodal_job.py run    --pipeline images --system aktis|aktis-windows|ray|daft|loop --input FOLDER --output FOLDER --model FOLDER
    python multimodal_job.py verify --output FOLDER --reference FOLDER

Prints one JSON object in its last line.
"""

import argparse
import concurrent.futures
import dataclasses
import importlib
import itertools
import json
import multiprocessing
import pathlib
import time

import inputs
import steps


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What is read, what happens to it on CPUs, and which model it meets then."""

    make: object
    prepare: object
    model: type
    graph: object
    batch_size: int
    #: Rows of the input that are prepared together.
    prepared_rows: int = 16
    is_json: bool = False


PIPELINES = {
    "images": Pipeline(inputs.images, steps.read_pictures, steps.Classifier, lambda o: o.input / "network.onnx", 100),
    "pictures": Pipeline(inputs.pictures, steps.decode_pictures, steps.Projection, lambda o: None, 64),
    "documents": Pipeline(inputs.documents, steps.read_pages, steps.Embedder, lambda o: o.model, 10, 4),
    "texts": Pipeline(inputs.texts, None, steps.Embedder, lambda o: o.model, 64, is_json=True),
}


def run_with_dataset(options, pipeline):
    """The same lines for Aktis and for Ray Data: functions for the preparation, a pool of actors for the model."""
    return run_with(options.system, options, pipeline, batch_size=pipeline.batch_size)


def run_with_windows(options, pipeline):
    """Texts in batches of similar length: so many characters in a batch, padding included, and not so many rows."""
    if pipeline.model is not steps.Embedder:
        raise SystemExit(f"pad: only texts are padded, and {options.pipeline} have none")
    return run_with("aktis", options, pipeline, token_budget=8192, tokens="text", window_rows=1024)


def run_with(system, options, pipeline, **batches):
    importlib.import_module(system).init(num_cpus=options.cpus)
    data = importlib.import_module(f"{system}.data")
    read = data.read_json if pipeline.is_json else data.read_parquet
    start = time.perf_counter()
    dataset = read(str(options.input / "table"))
    if pipeline.prepare:
        dataset = dataset.map_batches(pipeline.prepare, batch_size=pipeline.prepared_rows)
    pool = data.ActorPoolStrategy(min_size=1, max_size=options.cpus)
    dataset.map_batches(
        pipeline.model,
        fn_constructor_args=(str(pipeline.graph(options)),),
        compute=pool,
        **batches,
    ).write_parquet(str(options.output))
    return time.perf_counter() - start


def run_with_daft(options, pipeline):
    """Functions of Daft around the same objects."""
    import daft
    import numpy

    read = daft.read_json if pipeline.is_json else daft.read_parquet
    is_embedder = pipeline.model is steps.Embedder
    result = daft.DataType.list(daft.DataType.float32()) if is_embedder else daft.DataType.int64()
    fed, told = ("text", "embedding") if is_embedder else ("pixels", "label")

    @daft.udf(return_dtype=result, batch_size=pipeline.batch_size, concurrency=options.cpus)
    class Model:
        def __init__(self):
            self.model = pipeline.model(str(pipeline.graph(options)))

        def __call__(self, key, value):
            values = numpy.stack(value.to_pylist()) if fed == "pixels" else value.to_pylist()
            answer = self.model({"key": numpy.array(key.to_pylist()), fed: values})[told]
            return answer.tolist() if is_embedder else answer

    chunk = daft.DataType.struct({"key": daft.DataType.int64(), "text": daft.DataType.string()})

    @daft.udf(return_dtype=daft.DataType.list(chunk), batch_size=pipeline.prepared_rows)
    def chunks(key, path):
        made = []
        for pair in zip(key.to_pylist(), path.to_pylist(), strict=True):
            batch = pipeline.prepare({"key": [pair[0]], "path": [pair[1]]})
            made.append([{"key": int(k), "text": t} for k, t in zip(batch["key"], batch["text"], strict=True)])
        return made

    tensor = daft.DataType.tensor(daft.DataType.float32(), (3, steps.PIXELS, steps.PIXELS))

    @daft.udf(return_dtype=tensor, batch_size=pipeline.prepared_rows)
    def pixels(key, value):
        name = "path" if pipeline.prepare is steps.read_pictures else "picture"
        return list(pipeline.prepare({"key": key.to_pylist(), name: value.to_pylist()})["pixels"])

    start = time.perf_counter()
    frame = read(str(options.input / "table" / "*"))
    col = daft.col
    if pipeline.prepare is steps.read_pages:
        frame = frame.select(chunks(col("key"), col("path")).alias("chunk")).explode("chunk")
        frame = frame.select(col("chunk")["key"].alias("key"), col("chunk")["text"].alias("text"))
    elif pipeline.prepare:
        value = "path" if pipeline.prepare is steps.read_pictures else "picture"
        frame = frame.select(col("key"), pixels(col("key"), col(value)).alias("pixels"))
    frame.select(col("key"), Model(col("key"), col(fed)).alias(told)).write_parquet(str(options.output))
    return time.perf_counter() - start


def run_with_loop(options, pipeline):
    """The floor: as many processes as CPUs, each with a share of the input and a model of its own, and nothing else."""
    import pyarrow
    from pyarrow import parquet

    start = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(options.cpus, multiprocessing.get_context("fork")) as pool:
        shares = [pool.submit(share_of_loop, options, number) for number in range(options.cpus)]
        tables = [share.result() for share in shares]
    options.output.mkdir(parents=True)
    parquet.write_table(pyarrow.concat_tables(tables), options.output / "part.parquet")
    return time.perf_counter() - start


def share_of_loop(options, number):
    """A process of the loop: every so manieth batch of the input is prepared, and given to the model in its batch size."""
    import numpy
    import pyarrow

    pipeline = PIPELINES[options.pipeline]
    model, size = pipeline.model(str(pipeline.graph(options))), pipeline.batch_size
    waiting, made = [], []

    def compute(*, all_of_it):
        joined = {name: numpy.concatenate([one[name] for one in waiting]) for name in waiting[0]}
        rows = len(joined["key"])
        stop = rows if all_of_it else rows - rows % size
        waiting[:] = [{name: values[stop:] for name, values in joined.items()}] if stop < rows else []
        for at in range(0, stop, size):
            made.append(model({name: values[at : min(at + size, stop)] for name, values in joined.items()}))

    for batch in itertools.islice(batches_of(options, pipeline), number, None, options.cpus):
        arrays = {name: numpy.array(values.to_pylist()) for name, values in zip(batch.schema.names, batch, strict=True)}
        waiting.append(pipeline.prepare(arrays) if pipeline.prepare else arrays)
        if sum(len(one["key"]) for one in waiting) >= size:
            compute(all_of_it=False)
    if waiting:
        compute(all_of_it=True)
    return pyarrow.table({name: pyarrow.concat_arrays([column(one[name]) for one in made]) for name in made[0]})


def batches_of(options, pipeline):
    import pyarrow.json
    from pyarrow import parquet

    rows = pipeline.prepared_rows if pipeline.prepare else pipeline.batch_size
    for path in sorted((options.input / "table").iterdir()):
        table = pyarrow.json.read_json(path) if pipeline.is_json else parquet.read_table(path)
        yield from table.to_batches(max_chunksize=rows)


def column(values):
    import pyarrow

    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])


SYSTEMS = {
    "aktis": run_with_dataset,
    "aktis-windows": run_with_windows,
    "ray": run_with_dataset,
    "daft": run_with_daft,
    "loop": run_with_loop,
}


def verify(output, reference):
    """That both folders have the same rows: labels equal, embeddings of a cosine near 1. Returns how many rows."""
    import numpy
    import pyarrow.dataset

    ours, theirs = (
        pyarrow.dataset.dataset(folder, format="parquet").to_table().sort_by("key") for folder in (output, reference)
    )
    assert ours["key"].to_pylist() == theirs["key"].to_pylist(), f"{len(ours)} rows, {len(theirs)} expected, or others"
    if "label" in theirs.column_names:
        assert ours["label"].to_pylist() == theirs["label"].to_pylist(), "other labels"
    else:
        one, other = (numpy.array(table["embedding"].to_pylist()) for table in (ours, theirs))
        assert (one * other).sum(axis=1).min() > 0.999, "other embeddings"
    return len(ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("make", "run", "verify"))
    parser.add_argument("--pipeline", choices=PIPELINES)
    parser.add_argument("--system", choices=SYSTEMS)
    for name in ("input", "output", "reference", "model"):
        parser.add_argument(f"--{name}", type=pathlib.Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    if options.action == "make":
        PIPELINES[options.pipeline].make(options.input, options.rows, options.model)
        result = {"rows": options.rows}
    elif options.action == "verify":
        result = {"rows": verify(options.output, options.reference)}
    else:
        result = {"job_s": SYSTEMS[options.system](options, PIPELINES[options.pipeline])}
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
