"""The jobs over files that are far: all bytes of a column through a function; and how long the first row of a dataset takes.

    python store_job.py make  --input FOLDER --files 16 --rows 6000        # of 3072 bytes that compression does not shrink
    python store_job.py read  --system aktis|ray|daft|pool --endpoint 127.0.0.1:9000 --path bucket/folder
    python store_job.py first --system aktis|ray|daft --format parquet|csv|json --path FOLDER [--endpoint ...]

One script for all systems. Prints one JSON object in its last line.
"""

import argparse
import concurrent.futures
import http.client
import importlib
import io
import itertools
import json
import pathlib
import threading
import time

ROW_BYTES = 3072
GROUP_ROWS = 2500
#: What the floor asks for: as the systems do, the end of a file for its footer, and long runs of columns in pieces.
TAIL_BYTES, PIECE_BYTES = 64 << 10, 8 << 20


def make(folder, files, rows):
    """Files of a wide column and a narrow one, several row groups each."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for number in range(files):
        flat = random.integers(0, 256, rows * ROW_BYTES, dtype=numpy.uint8)
        offsets = numpy.arange(0, (rows + 1) * ROW_BYTES, ROW_BYTES, dtype=numpy.int32)
        buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(flat)]
        data = pyarrow.Array.from_buffers(pyarrow.binary(), rows, buffers)
        table = pyarrow.table({"id": numpy.arange(number * rows, (number + 1) * rows), "data": data})
        parquet.write_table(
            table, folder / f"part-{number:04}.parquet", row_group_size=GROUP_ROWS, compression="none",
            use_dictionary=False, write_statistics=False,
        )  # fmt: skip
    return files * rows


def made_texts(folder, rows):
    """A file of CSV and one of JSON lines, if they are not there."""
    for name, line in (("csv", "{0},word {0}\n"), ("json", '{{"id": {0}, "word": "word {0}"}}\n')):
        path = folder / name / f"part.{name}"
        if not path.exists():
            path.parent.mkdir(parents=True)
            header = "id,word\n" if name == "csv" else ""
            path.write_text(header + "".join(line.format(number) for number in range(rows)))
    return rows


def length_of(batch):
    """Of a batch, its rows and the bytes of its column."""
    import pyarrow

    return pyarrow.table({"rows": [batch.num_rows], "bytes": [sum(chunk.nbytes for chunk in batch["data"].chunks)]})


class Datasets:
    """The same lines for Aktis and for Ray Data."""

    def __init__(self, system, options):
        self.system = importlib.import_module(system)
        self.system.init(num_cpus=options.cpus)
        self.data = importlib.import_module(f"{system}.data")
        self.path, self.more = options.path, {}
        if options.endpoint:
            from pyarrow import fs

            self.more["filesystem"] = fs.S3FileSystem(
                access_key="bench", secret_key="bench", scheme="http", endpoint_override=options.endpoint,
                region="us-east-1",
            )  # fmt: skip

    def _dataset(self, format):
        return getattr(self.data, f"read_{format}")(self.path, **self.more)

    def read(self):
        told = self._dataset("parquet").map_batches(length_of, batch_format="pyarrow").take_all()
        return sum(row["rows"] for row in told)

    def first(self, format):
        return next(iter(self._dataset(format).iter_rows()))

    def close(self):
        self.system.shutdown()


class Daft:
    def __init__(self, options):
        import daft

        self.daft, self.path, self.more = daft, options.path, {}
        if options.endpoint:
            from daft.io import IOConfig, S3Config

            s3 = S3Config(
                endpoint_url=f"http://{options.endpoint}", region_name="us-east-1", key_id="bench", access_key="bench",
                use_ssl=False,
            )  # fmt: skip
            self.path = f"s3://{options.path}"
            self.more["io_config"] = IOConfig(s3=s3)

    def read(self):
        frame = self.daft.read_parquet(f"{self.path}/*.parquet", **self.more)
        lengths = frame.select(self.daft.col("data").length().alias("bytes"))
        return lengths.agg(self.daft.col("bytes").count().alias("rows")).to_pydict()["rows"][0]

    def first(self, format):
        reader = getattr(self.daft, f"read_{format}")
        return next(reader(f"{self.path}/*.{format}", **self.more).iter_rows())

    def close(self):
        pass


class Pool:
    """The floor: as many threads as there are connections, which fetch the bytes that a reader needs, and decode nothing."""

    def __init__(self, options):
        import pyarrow.parquet

        self.parquet = pyarrow.parquet
        self.options, self.own = options, threading.local()
        self.rows = []

    def _get(self, path, start=None, end=None):
        connection = getattr(self.own, "connection", None)
        if connection is None:
            connection = self.own.connection = http.client.HTTPConnection(self.options.endpoint)
        connection.request("GET", path, headers={} if start is None else {"Range": f"bytes={start}-{end - 1}"})
        return connection.getresponse().read()

    def _files(self):
        bucket, _, folder = self.options.path.partition("/")
        listed = self._get(f"/{bucket}?list-type=2&prefix={folder}/").decode()
        for part in listed.split("<Contents>")[1:]:
            key, size = (part.split(f"<{name}>")[1].split("<")[0] for name in ("Key", "Size"))
            yield f"/{bucket}/{key}", int(size)

    def _pieces(self, file):
        path, size = file
        first = max(0, size - TAIL_BYTES)
        tail = self._get(path, first, size)
        metadata = self.parquet.read_metadata(io.BytesIO(b"PAR1" + tail))
        self.rows.append(metadata.num_rows)
        for group in (metadata.row_group(index) for index in range(metadata.num_row_groups)):
            columns = [group.column(index) for index in range(group.num_columns)]
            start = min(column.dictionary_page_offset or column.data_page_offset for column in columns)
            end = start + sum(column.total_compressed_size for column in columns)
            count = -(-(end - start) // PIECE_BYTES)
            places = [start + (end - start) * piece // count for piece in range(count + 1)]
            yield from ((path, *piece) for piece in itertools.pairwise(places))

    def read(self):
        with concurrent.futures.ThreadPoolExecutor(self.options.connections) as pool:
            pieces = [pool.submit(lambda file: list(self._pieces(file)), file) for file in self._files()]
            fetched = [pool.submit(self._get, *piece) for found in pieces for piece in found.result()]
            total = sum(len(piece.result()) for piece in fetched)
        assert total > sum(self.rows) * ROW_BYTES, total
        return sum(self.rows)

    def close(self):
        pass


def opened(options):
    kinds = {"daft": Daft, "pool": Pool}
    return kinds[options.system](options) if options.system in kinds else Datasets(options.system, options)


def run(options):
    system = opened(options)
    start = time.perf_counter()
    value = system.read() if options.action == "read" else system.first(options.format)
    seconds = time.perf_counter() - start
    system.close()
    if options.action == "read":
        return {"job_s": seconds, "rows": value}
    assert "id" in value, value
    return {"first_row_s": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("make", "texts", "read", "first"))
    parser.add_argument("--system", default="aktis")
    parser.add_argument("--input", type=pathlib.Path)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--endpoint")
    parser.add_argument("--path")
    parser.add_argument("--format", default="parquet")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cpus", type=int, default=2)
    options = parser.parse_args()
    if options.action == "make":
        result = {"rows": make(options.input, options.files, options.rows)}
    elif options.action == "texts":
        result = {"rows": made_texts(options.input, options.rows)}
    else:
        result = run(options)
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
