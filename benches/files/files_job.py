"""The jobs: many small Parquet files, doubled and written; the first row of many, and how many rows they have.

    python files_job.py make   --input FOLDER --files 5000
    python files_job.py double --system aktis|ray|daft|pyarrow --input FOLDER --output FOLDER
    python files_job.py look   --system aktis|ray|daft|pyarrow --input FOLDER
    python files_job.py verify --input FOLDER --output FOLDER

One script for all systems. Prints one JSON object in its last line.
"""

import argparse
import concurrent.futures
import importlib
import json
import pathlib
import resource
import time

ROWS_PER_FILE = 100


def double(batch):
    """Of a table with `id`, one with its double beside it."""
    import pyarrow.compute

    return batch.append_column("double", pyarrow.compute.multiply(batch["id"], 2))


def make(folder, files):
    """Writes the input once: rows 0, 1, 2, ... of the column `id`, a hundred in each file."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    for number in range(files):
        ids = numpy.arange(number * ROWS_PER_FILE, (number + 1) * ROWS_PER_FILE)
        parquet.write_table(pyarrow.table({"id": ids}), folder / f"part-{number:06}.parquet")
    return files * ROWS_PER_FILE


def verify(source, output):
    """That every row came once, with its double."""
    import numpy
    import pyarrow.dataset

    rows = sum(1 for _ in source.glob("*.parquet")) * ROWS_PER_FILE
    table = pyarrow.dataset.dataset(output, format="parquet").to_table().sort_by("id")
    ids = table["id"].to_numpy()
    assert numpy.array_equal(ids, numpy.arange(rows)), f"{len(ids)} rows instead of {rows}, or others"
    assert numpy.array_equal(table["double"].to_numpy(), ids * 2), "other doubles"
    return rows


class Datasets:
    """The same lines for Aktis and for Ray Data."""

    def __init__(self, system, cpus):
        self.system = importlib.import_module(system)
        self.system.init(num_cpus=cpus)
        self.data = importlib.import_module(f"{system}.data")

    def double(self, source, target):
        self.data.read_parquet(str(source)).map_batches(double, batch_format="pyarrow").write_parquet(str(target))

    def first_row(self, source):
        return next(iter(self.data.read_parquet(str(source)).iter_rows()))

    def count(self, source):
        return self.data.read_parquet(str(source)).count()

    def close(self):
        self.system.shutdown()


class Daft:
    def __init__(self, cpus):
        import daft

        self.daft = daft

    def _read(self, source):
        return self.daft.read_parquet(str(source / "*.parquet"))

    def double(self, source, target):
        self._read(source).with_column("double", self.daft.col("id") * 2).write_parquet(str(target))

    def first_row(self, source):
        return next(self._read(source).iter_rows())

    def count(self, source):
        return self._read(source).count_rows()

    def close(self):
        pass


class Bare:
    """The floor: a pool of threads and nothing else. Reads all, and writes one file."""

    def __init__(self, cpus):
        import pyarrow.compute  # noqa: F401 - a loop has no workers whose start would belong to the job
        from pyarrow import parquet

        self.parquet, self.cpus = parquet, cpus

    def _map(self, function, source):
        with concurrent.futures.ThreadPoolExecutor(self.cpus) as pool:
            yield from pool.map(function, sorted(source.glob("*.parquet")))

    def _read(self, path):
        with self.parquet.ParquetFile(path) as file:
            return file.read(use_threads=False)

    def double(self, source, target):
        import pyarrow

        target.mkdir(parents=True)
        tables = self._map(lambda path: double(self._read(path)), source)
        self.parquet.write_table(pyarrow.concat_tables(tables), target / "part.parquet")

    def first_row(self, source):
        return self._read(min(source.glob("*.parquet"))).slice(0, 1).to_pylist()[0]

    def count(self, source):
        return sum(self._map(lambda path: self.parquet.read_metadata(path).num_rows, source))

    def close(self):
        pass


def opened(system, cpus):
    return {"daft": Daft, "pyarrow": Bare}[system](cpus) if system in ("daft", "pyarrow") else Datasets(system, cpus)


def seconds(call, *arguments):
    start = time.perf_counter()
    value = call(*arguments)
    return value, time.perf_counter() - start


def run(options):
    system = opened(options.system, options.cpus)
    if options.action == "double":
        _, job_s = seconds(system.double, options.input, options.output)
        result = {"job_s": job_s}
    else:
        row, first_row_s = seconds(system.first_row, options.input)
        assert set(row) == {"id"}, row
        rows, count_s = seconds(system.count, options.input)
        result = {"first_row_s": first_row_s, "count_s": count_s, "rows": rows}
    system.close()
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return result | dict(zip(("driver_peak_bytes", "worker_peak_bytes"), (kib * 1024 for kib in usage), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("make", "double", "look", "verify"))
    parser.add_argument("--system", default="aktis")
    parser.add_argument("--input", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--files", type=int)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    if options.action == "make":
        result = {"rows": make(options.input, options.files)}
    elif options.action == "verify":
        result = {"rows": verify(options.input, options.output)}
    else:
        result = run(options)
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
