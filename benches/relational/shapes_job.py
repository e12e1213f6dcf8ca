"""The shapes of relational work over more rows than memory holds. One script for all systems.

    python shapes_job.py make   --input FOLDER --gb 10
    python shapes_job.py run    --shape sort|join|groupby|shuffle --system aktis|ray|daft|duckdb --input FOLDER --output FOLDER
                                --memory 1073741824
    python shapes_job.py verify --shape sort --input FOLDER --output FOLDER

The rows lie in two folders, `left` and `right`, of Parquet files. Each row has some 100 bytes: `id` counts all rows, `key` is every
number below the rows of its folder once, in no order, `part` is one of a twentieth as many numbers, `value` is a float, `text` has
letters by chance. Prints one JSON object in its last line.
"""

import argparse
import importlib
import json
import math
import pathlib
import shutil
import time

import numpy
import pyarrow
import pyarrow.compute
from pyarrow import parquet

ROW_BYTES = 100
TEXT_BYTES = 64
FILE_ROWS = 500_000
#: Readers hold a row group at once: some 10 MB.
GROUP_ROWS = 100_000
ROWS_PER_PART = 20
#: Of the bytes that a system may use, its object store has so many, where it has one.
STORE_SHARE = 0.3


def rows_of(gb):
    """Rows of each folder."""
    return round(gb * 1e9 / ROW_BYTES / 2)


def make(options):
    rows = rows_of(options.gb)
    for number, side in enumerate(("left", "right")):
        (options.input / side).mkdir(parents=True)
        step = _step(rows, number)
        for first in range(0, rows, FILE_ROWS):
            ids = numpy.arange(first, min(first + FILE_ROWS, rows))
            path = options.input / side / f"{first:012}.parquet"
            parquet.write_table(
                _table(ids, ids * step % rows, number * rows), path, compression="none", row_group_size=GROUP_ROWS
            )
    return {"rows": 2 * rows}


def _step(rows, number):
    """Steps through all numbers below `rows`, not the same for both folders."""
    step = int(rows * (0.618, 0.382)[number]) | 1
    while math.gcd(step, rows) != 1:
        step += 2
    return step


def _table(ids, keys, first_id):
    count = len(ids)
    chance = numpy.random.default_rng(int(ids[0]) + first_id)
    letters = chance.integers(97, 123, count * TEXT_BYTES, dtype=numpy.uint8)
    offsets = numpy.arange(count + 1, dtype=numpy.int32) * TEXT_BYTES
    texts = pyarrow.StringArray.from_buffers(count, pyarrow.py_buffer(offsets), pyarrow.py_buffer(letters))
    columns = {
        "id": ids + first_id,
        "key": keys,
        "part": keys // ROWS_PER_PART,
        "value": chance.random(count),
        "text": texts,
    }
    return pyarrow.table(columns)


class DatasetJob:
    """The same lines for Aktis and for Ray Data."""

    def __init__(self, name, options):
        system = importlib.import_module(name)
        self._data = importlib.import_module(f"{name}.data")
        system.init(num_cpus=options.cpus, object_store_memory=int(options.memory * STORE_SHARE))
        importlib.import_module(f"{name}.data.aggregate")
        self._input, self._output = options.input, str(options.output)

    def _read(self, *sides):
        return self._data.read_parquet([str(self._input / side) for side in sides])

    def sort(self):
        self._read("left", "right").sort("key").write_parquet(self._output)

    def join(self):
        left, right = self._read("left"), self._read("right")
        right = right.select_columns(["key", "id", "text"]).rename_columns({"id": "other", "text": "note"})
        left.join(right, join_type="inner", num_partitions=64, on=("key",)).write_parquet(self._output)

    def groupby(self):
        functions = importlib.import_module(f"{self._data.__name__}.aggregate")
        of = [functions.Count(alias_name="rows"), functions.Sum("value", alias_name="total")]
        self._read("left", "right").groupby("part").aggregate(*of).write_parquet(self._output)

    def shuffle(self):
        self._read("left", "right").random_shuffle(seed=7).write_parquet(self._output)


class Daft:
    def __init__(self, options):
        import daft

        self._daft, self._input, self._output = daft, options.input, str(options.output)

    def _read(self, *sides):
        return self._daft.read_parquet([f"{self._input / side}/*.parquet" for side in sides])

    def sort(self):
        self._read("left", "right").sort("key").write_parquet(self._output)

    def join(self):
        col = self._daft.col
        right = self._read("right").select(col("key"), col("id").alias("other"), col("text").alias("note"))
        self._read("left").join(right, on="key").write_parquet(self._output)

    def groupby(self):
        col = self._daft.col
        of = [col("id").count().alias("rows"), col("value").sum().alias("total")]
        self._read("left", "right").groupby("part").agg(*of).write_parquet(self._output)

    def shuffle(self):
        # It has no shuffle: an order by a hash of a number that each row has alone is one.
        self._read("left", "right").sort(self._daft.col("id").hash()).write_parquet(self._output)


class DuckDB:
    def __init__(self, options):
        import duckdb

        self._connection = duckdb.connect()
        self._connection.execute(f"set memory_limit = '{options.memory}B'")
        self._connection.execute(f"set temp_directory = '{options.output}.spilled'")
        self._connection.execute(f"set threads = {options.cpus}")
        self._input, self._output = options.input, options.output

    def _write(self, query):
        self._output.mkdir()
        for side in ("left", "right"):
            files = f"'{self._input / side}/*.parquet'"
            self._connection.execute(f"create or replace temp view {side}_side as select * from {files}")
        both = "(select * from left_side union all select * from right_side)"
        target = f"'{self._output / 'all.parquet'}'"
        self._connection.execute(f"copy ({query.format(both=both)}) to {target} (format parquet)")
        shutil.rmtree(f"{self._output}.spilled", ignore_errors=True)

    def sort(self):
        self._write("select * from {both} order by key")

    def join(self):
        self._write("select l.*, r.id as other, r.text as note from left_side l join right_side r using (key)")

    def groupby(self):
        self._write("select part, count(*) as rows, sum(value) as total from {both} group by part")

    def shuffle(self):
        self._write("select * from {both} order by hash(id)")


def run(options):
    systems = {"daft": Daft, "duckdb": DuckDB}
    if options.system in systems:
        job = systems[options.system](options)
    else:
        job = DatasetJob(options.system, options)
    begin = time.perf_counter()
    getattr(job, options.shape)()
    return {"job_s": time.perf_counter() - begin}


def verify(options):
    """Fails unless all rows are there once, with what belongs to them, in order where that was asked for."""
    rows = rows_of(options.gb)
    ids, last, inversions, count = numpy.zeros(2 * rows, dtype=bool), -1, 0, 0
    for path in sorted(options.output.rglob("*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches():
            count += batch.num_rows
            if options.shape == "groupby":
                assert pyarrow.compute.max(batch["rows"]).as_py() <= 2 * ROWS_PER_PART
                ids[batch["part"].to_numpy()] = True
                continue
            ids[batch["id"].to_numpy()] = True
            lengths = pyarrow.compute.unique(pyarrow.compute.binary_length(batch["text"])).to_pylist()
            assert lengths == [TEXT_BYTES], f"texts of {lengths} bytes"
            if options.shape == "join":
                ids[batch["other"].to_numpy()] = True
            if options.shape in ("sort", "shuffle"):
                keys = batch["key" if options.shape == "sort" else "id"].to_numpy()
                inversions += int((numpy.diff(keys) < 0).sum()) + int(keys[0] < last)
                last = keys[-1]
    wanted = {"join": rows, "groupby": -(-rows // ROWS_PER_PART)}.get(options.shape, 2 * rows)
    assert count == wanted, f"{count} rows, not {wanted}"
    there = wanted if options.shape == "groupby" else 2 * rows
    assert int(ids.sum()) == there, f"{int(ids.sum())} different rows, not {there}"
    if options.shape == "sort":
        assert inversions == 0, f"{inversions} rows out of order"
    if options.shape == "shuffle":
        assert inversions > rows // 2, f"only {inversions} rows before a smaller one"
    return {"rows": count}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("make", "run", "verify"))
    parser.add_argument("--shape", choices=("sort", "join", "groupby", "shuffle"))
    parser.add_argument("--system")
    parser.add_argument("--input", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--gb", type=float, default=10)
    parser.add_argument("--memory", type=int, default=1 << 30)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    print(json.dumps({"make": make, "run": run, "verify": verify}[options.action](options)))


if __name__ == "__main__":
    main()
