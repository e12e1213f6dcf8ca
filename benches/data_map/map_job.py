"""The job: mean of the bytes of each row of a Parquet folder, written to Parquet. One script for all systems.

    python map_job.py run --system aktis|ray|pyarrow --input FOLDER --output FOLDER
    python map_job.py make --input FOLDER --rows 320000
    python map_job.py verify --output FOLDER --reference FOLDER

Prints one JSON object in its last line.
"""

import argparse
import concurrent.futures
import importlib
import json
import pathlib
import time

ROW_BYTES = 3072
ROWS_PER_FILE = 40_000
ROWS_PER_GROUP = 10_000


def mean_of_bytes(batch):
    """Per row, the mean of its bytes: reads Arrow's buffer in place, so that the function itself is cheap."""
    import numpy
    import pyarrow

    means = []
    for chunk in batch["data"].chunks:
        offsets = numpy.frombuffer(chunk.buffers()[1], dtype=numpy.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        flat = numpy.frombuffer(chunk.buffers()[2], dtype=numpy.uint8)[offsets[0] : offsets[-1]]
        means.append(flat.reshape(len(chunk), ROW_BYTES).mean(axis=1))
    return pyarrow.table({"id": batch["id"], "mean": numpy.concatenate(means) if means else numpy.empty(0)})


def run_with_dataset(system, source, target, cpus):
    """The same lines for Aktis and for Ray Data. Returns the seconds of the job without the start of the session."""
    ray = importlib.import_module(system)
    data = importlib.import_module(f"{system}.data")
    ray.init(num_cpus=cpus)
    start = time.perf_counter()
    data.read_parquet(str(source)).map_batches(mean_of_bytes, batch_format="pyarrow").write_parquet(str(target))
    job_s = time.perf_counter() - start
    ray.shutdown()
    return job_s


def run_with_pyarrow(source, target, cpus):
    """The floor: a pool of threads, each reading, computing and writing one file after the other by row group."""
    import numpy  # noqa: F401 - a loop has no workers whose start would belong to the job
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([("id", pyarrow.int64()), ("mean", pyarrow.float64())])

    def one(path):
        with parquet.ParquetFile(path) as file, parquet.ParquetWriter(target / path.name, schema) as writer:
            for group in range(file.num_row_groups):
                writer.write_table(mean_of_bytes(file.read_row_group(group, use_threads=False)))

    start = time.perf_counter()
    target.mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor(cpus) as pool:
        list(pool.map(one, sorted(source.glob("*.parquet"))))
    return time.perf_counter() - start


def make(folder, rows):
    """Writes the input once: uncompressed, without dictionaries, several files of several row groups."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for first in range(0, rows, ROWS_PER_FILE):
        count = min(ROWS_PER_FILE, rows - first)
        flat = random.integers(0, 256, count * ROW_BYTES, dtype=numpy.uint8)
        offsets = pyarrow.py_buffer(numpy.arange(0, (count + 1) * ROW_BYTES, ROW_BYTES, dtype=numpy.int32))
        column = pyarrow.Array.from_buffers(pyarrow.binary(), count, [None, offsets, pyarrow.py_buffer(flat)])
        table = pyarrow.table({"id": numpy.arange(first, first + count), "data": column})
        parquet.write_table(
            table, folder / f"part-{first // ROWS_PER_FILE:04}.parquet", row_group_size=ROWS_PER_GROUP,
            compression="none", use_dictionary=False, write_statistics=False,
        )  # fmt: skip
    return sum(path.stat().st_size for path in folder.iterdir())


def verify(output, reference):
    """That both folders hold the same rows: every id once, and bitwise equal means. Returns the number of rows."""
    from pyarrow import parquet

    ours, theirs = (
        parquet.read_table(folder, columns=["id", "mean"]).sort_by("id").combine_chunks()
        for folder in (output, reference)
    )
    assert ours.num_rows == theirs.num_rows, f"{ours.num_rows} rows instead of {theirs.num_rows}"
    for name in ("id", "mean"):
        assert ours[name].cast(theirs[name].type).equals(theirs[name]), f"column {name} differs"
    return ours.num_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("run", "make", "verify"))
    parser.add_argument("--system", default="aktis")
    parser.add_argument("--input", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--reference", type=pathlib.Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    if options.action == "make":
        result = {"bytes": make(options.input, options.rows)}
    elif options.action == "verify":
        result = {"rows": verify(options.output, options.reference)}
    elif options.system == "pyarrow":
        result = {"job_s": run_with_pyarrow(options.input, options.output, options.cpus)}
    else:
        result = {"job_s": run_with_dataset(options.system, options.input, options.output, options.cpus)}
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
