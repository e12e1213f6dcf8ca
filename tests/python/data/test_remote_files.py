"""Reading files that are not local: from a store that has the accidents of real ones, by URL and by `filesystem=`."""

import gzip
import http.server
import io
import json
import threading

import aktis.data
import pyarrow
import pytest
from pyarrow import fs, parquet

from .object_store import ObjectStore


@pytest.fixture
def store():
    """A store with 20 ms of latency and a bucket."""
    made = ObjectStore(latency_seconds=0.02)
    yield made
    made.close()


def as_parquet(table, **options):
    sink = io.BytesIO()
    parquet.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.fixture
def numbers(store):
    """Two Parquet files of 4000 rows each, with a wide column that compression does not shrink."""
    import random

    wide = random.Random(7).randbytes
    for day in (1, 2):
        ids = list(range(4000 * day, 4000 * day + 4000))
        table = pyarrow.table({"id": ids, "word": [f"w{i}" for i in ids], "wide": [wide(1000) for _ in ids]})
        data = as_parquet(table, row_group_size=1000, compression="none", use_dictionary=False)
        store.files[f"numbers/day={day}/a b%20ä.parquet"] = data
    return "numbers"


def gets(store, ending=".parquet"):
    return [request for request in store.requests if request.method == "GET" and request.path.endswith(ending)]


def read_bytes(store, ending=".parquet"):
    ends = (request.range.removeprefix("bytes=").split("-") for request in gets(store, ending))
    return sum(int(end) - int(start) + 1 for start, end in ends)


class TestParquet:
    def test_rows_come_from_a_url_and_from_a_filesystem_with_the_columns_of_folders(self, store, numbers):
        by_url = aktis.data.read_parquet(store.url(numbers), include_paths=True)
        by_filesystem = aktis.data.read_parquet(f"bucket/{numbers}", filesystem=store.filesystem())
        assert by_url.count() == by_filesystem.count() == 8000
        assert sorted(row["id"] for row in by_filesystem.take_all()) == list(range(4000, 12000))
        assert by_filesystem.filter("day = '2'").count() == 4000
        assert by_url.take(1)[0]["path"] == "s3://bucket/numbers/day=1/a b%20ä.parquet"
        # Nothing of the key is shown.
        assert by_url.input_files() == [f"s3://bucket/numbers/day={day}/a b%20ä.parquet" for day in (1, 2)]

    def test_only_footers_and_wanted_columns_and_row_groups_are_read(self, store, numbers):
        dataset = aktis.data.read_parquet(store.url(numbers), columns=["id"], filter="id >= 11000")
        assert read_bytes(store) <= 2 * 65536
        assert dataset.map_batches(lambda batch: batch).count() == 1000
        # Footers in the driver and in two workers at most; 8 bytes per row of one row group.
        assert read_bytes(store) <= 6 * 65536 + 64_000, gets(store)

    def test_many_requests_are_under_way_at_once(self, store):
        table = pyarrow.table({"id": list(range(100))})
        for number in range(60):
            store.files[f"many/{number:02}.parquet"] = as_parquet(table)
        dataset = aktis.data.read_parquet(store.url("many"))
        assert store.most_at_once >= 8
        store.most_at_once = 0
        assert dataset.materialize().count() == 6000
        assert store.most_at_once >= 8

    def test_footers_of_many_files_are_not_read_before_the_first_row(self, store):
        for number in range(200):
            ids = list(range(10 * number, 10 * number + 10))
            store.files[f"lots/day={number % 2}/{number:03}.parquet"] = as_parquet(pyarrow.table({"id": ids}))
        dataset = aktis.data.read_parquet(store.url("lots"))
        # Of each file the length and the end are asked for.
        assert len({request.path for request in gets(store)}) == 32
        assert dataset.columns() == ["id", "day"]
        rows = iter(dataset.iter_rows())
        first = next(rows)
        assert (first["id"], first["day"]) == (0, "0")
        assert len([first, *rows]) == dataset.count() == 2000
        odd = dataset.filter("day = '1' and id % 10 = 3").take_all()
        assert sorted(row["id"] for row in odd) == list(range(13, 2000, 20))

    def test_all_footers_are_read_where_files_differ_or_it_is_asked_for(self, store):
        for number in range(100):
            columns = {"id": [number], **({"late": [1]} if number > 80 else {})}
            store.files[f"later/{number:03}.parquet"] = as_parquet(pyarrow.table(columns))
            store.files[f"same/{number:03}.parquet"] = as_parquet(pyarrow.table({"id": [number]}))
        later = aktis.data.read_parquet(store.url("later"))
        assert later.columns() == ["id", "late"]
        assert sum(row["late"] is None for row in later.take_all()) == 81
        same = aktis.data.read_parquet(store.url("same"), merge_schema=True)
        assert len({request.path for request in gets(store) if "/same/" in request.path}) == 100
        # Known from the footers: no file is read for it.
        seen = len(store.requests)
        assert same.count() == 100
        assert len(store.requests) == seen

    def test_file_with_a_column_of_its_own_is_named_where_only_some_were_looked_at(self, store, tmp_path):
        for number in range(100):
            (tmp_path / f"{number:03}.parquet").write_bytes(as_parquet(pyarrow.table({"id": [number]})))
        odd = pyarrow.table({"id": [62], "odd": [1]})
        (tmp_path / "062.parquet").write_bytes(as_parquet(odd))
        with pytest.raises(ValueError, match=r"062\.parquet: it has a column 'odd'.*merge_schema=True"):
            aktis.data.read_parquet(str(tmp_path), merge_schema=False).take_all()
        assert aktis.data.read_parquet(str(tmp_path)).columns() == ["id", "odd"]
        with pytest.raises(TypeError, match="merge_schema must be"):
            aktis.data.read_parquet(str(tmp_path), merge_schema="yes")  # pyright: ignore[reportArgumentType]

    def test_long_columns_come_in_pieces_and_whole(self, store):
        big = bytes(range(256)) * 50_000
        store.files["long.parquet"] = as_parquet(pyarrow.table({"big": [big, big[::-1]]}), compression="none")
        rows = aktis.data.read_parquet(store.url("long.parquet")).take_all()
        assert [row["big"] for row in rows] == [big, big[::-1]]
        assert len(gets(store)) >= 3


class TestOtherFormats:
    def test_csv_is_cut_between_lines_and_read_from_patterns_and_compressed(self, store):
        lines = [f"{i},{'x' * 90}" for i in range(60_000)]
        store.files["csv/a/large.csv"] = "\n".join(["id,text", *lines]).encode()
        store.files["csv/b/packed.csv.gz"] = gzip.compress(b"id,text\n-1,y\n")
        store.files["csv/_b/hidden.csv"] = b"id,text\n-2,y\n"
        dataset = aktis.data.read_csv(store.url("csv"), override_num_blocks=4)
        assert sorted(row["id"] for row in dataset.select_columns(["id"]).take_all()) == list(range(-1, 60_000))
        some = aktis.data.read_csv(store.url("csv/*/la*.csv"))
        assert some.input_files() == ["s3://bucket/csv/a/large.csv"]

    def test_every_format_reads_from_a_filesystem(self, store):
        filesystem = store.filesystem()
        store.files["f/a.jsonl"] = b'{"id": 1}\n{"id": 2}\n'
        store.files["f/a.txt"] = b"one\n\ntwo"
        store.files["f/a.bin"] = b"abc"
        import numpy
        from pyarrow import orc

        array = io.BytesIO()
        numpy.save(array, numpy.arange(3))
        store.files["f/a.npy"] = array.getvalue()
        with filesystem.open_output_stream("bucket/f/a.orc") as sink:
            orc.write_table(pyarrow.table({"id": [7]}), sink)
        read = aktis.data
        assert read.read_json("bucket/f/a.jsonl", filesystem=filesystem).take_all() == [{"id": 1}, {"id": 2}]
        assert read.read_text("bucket/f/a.txt", filesystem=filesystem).take_all() == [{"text": "one"}, {"text": "two"}]
        found = read.read_binary_files("bucket/f", filesystem=filesystem, file_extensions=["bin"], include_paths=True)
        assert found.take_all() == [{"bytes": b"abc", "path": "bucket/f/a.bin"}]
        assert read.read_numpy("bucket/f/a.npy", filesystem=filesystem).take_all() == [{"data": i} for i in range(3)]
        assert read.read_orc("bucket/f/a.orc", filesystem=filesystem).take_all() == [{"id": 7}]

    def test_parts_of_a_file_and_its_first_block_are_read_about_once_and_in_several_requests_at_once(self, store):
        rows = 300_000
        store.files["a.csv"] = b"id,word\n" + b"".join(b"%d,word %d\n" % (i, i) for i in range(rows))
        store.files["a.jsonl"] = b"".join(b'{"id": %d, "word": "word %d"}\n' % (i, i) for i in range(rows))
        store.files["a.txt"] = store.files["a.csv"]
        for name, read in (("a.csv", aktis.data.read_csv), ("a.jsonl", aktis.data.read_json)):
            store.most_at_once = 0
            dataset = read(f"bucket/{name}", filesystem=store.filesystem())
            # Before it runs: whether it can be cut.
            assert read_bytes(store, name) <= 1 << 18
            assert dataset.sum("id") == sum(range(rows))
            size = len(store.files[name])
            # Each of two workers looks at the first block, and every part begins and ends amid a line.
            parts, blocks = size >> 20, 2 << 20
            assert read_bytes(store, name) <= size + blocks + (1 << 18) + parts * (1 << 17), gets(store, name)
            assert store.most_at_once >= 4
        assert aktis.data.read_text("bucket/a.txt", filesystem=store.filesystem()).count() == rows + 1
        assert read_bytes(store, "a.txt") <= 1.3 * len(store.files["a.txt"])

    def test_folder_is_listed_while_it_is_looked_whether_it_is_one(self, store, numbers):
        aktis.data.read_parquet(f"bucket/{numbers}", filesystem=store.filesystem())
        first = [request for request in store.requests if not request.path.endswith(".parquet")]
        # What it is, and what is in it: both before either is answered.
        asked = {(request.method, "delimiter" in request.query) for request in first[:2]}
        assert asked == {("HEAD", False), ("GET", False)}

    def test_small_files_are_asked_for_before_it_is_their_turn(self, store):
        for number in range(200):
            store.files[f"small/{number:03}.bin"] = bytes([number]) * 100
        dataset = aktis.data.read_binary_files(store.url("small"))
        store.most_at_once = 0
        assert [row["bytes"][0] for row in dataset.take_all()] == list(range(200))
        assert store.most_at_once >= 8


class TestAccidents:
    def test_what_may_come_right_is_asked_for_again(self, store, numbers):
        # No file meets more than a request is tried again, whichever comes first.
        for day in ("day=1", "day=2"):
            for kind in ("503", "torn", "lost", "500", "503"):
                store.arm(kind, 1, lambda request, day=day: request.method == "GET" and f"/{day}/" in request.path)
        dataset = aktis.data.read_parquet(f"bucket/{numbers}", filesystem=store.filesystem())
        assert sorted(row["id"] for row in dataset.select_columns(["id"]).take_all()) == list(range(4000, 12000))

    def test_lines_are_whole_when_answers_are_torn(self, store):
        store.files["a.csv"] = b"id\n" + b"".join(b"%d\n" % i for i in range(50_000))
        armed = store.arm("torn", 2, lambda request: request.method == "GET" and request.path.endswith(".csv"))
        dataset = aktis.data.read_csv("bucket/a.csv", filesystem=store.filesystem())
        assert dataset.sum("id") == sum(range(50_000))
        assert armed.left == 0

    def test_what_no_second_attempt_changes_is_an_error_at_once_that_says_what_helps(self, store, numbers):
        filesystem = store.filesystem()
        for path, function in (
            ("bucket/nothing", aktis.data.read_parquet),
            ("bucket/nothing.csv", aktis.data.read_csv),
        ):
            with pytest.raises(FileNotFoundError, match=f"read {path}: there is no such file or folder"):
                function(path, filesystem=filesystem)
        with pytest.raises(FileNotFoundError, match=r"no-bucket.*there is no such bucket"):
            aktis.data.read_parquet("no-bucket/a", filesystem=filesystem)
        with pytest.raises(FileNotFoundError, match=r"no file matches \(looked for files ending in .csv"):
            aktis.data.read_csv(f"bucket/{numbers}", filesystem=filesystem, file_extensions=["csv"])
        before = len(store.requests)
        with pytest.raises(PermissionError, match=r"access is denied \(403\).*filesystem=") as caught:
            aktis.data.read_parquet(f"bucket/{numbers}", filesystem=store.filesystem(key="stranger"))
        assert len(store.requests) - before <= 3
        assert "stranger" not in str(caught.value)

    def test_file_that_goes_or_is_closed_while_it_is_read_is_named(self, store, numbers):
        dataset = aktis.data.read_parquet(f"bucket/{numbers}", filesystem=store.filesystem())
        is_second = lambda request: "day=2" in request.path
        store.arm("403", 1000, is_second)
        with pytest.raises(PermissionError, match=r"day=2/a b%20ä.parquet: access is denied"):
            dataset.take_all()
        del store.files["numbers/day=1/a b%20ä.parquet"]
        with pytest.raises(FileNotFoundError, match=r"day=1/a b%20ä.parquet: there is no such file"):
            dataset.filter("day = '1'").take_all()

    def test_store_that_cannot_be_reached_says_so_and_does_not_hang(self):
        filesystem = fs.S3FileSystem(
            access_key="a", secret_key="b", scheme="http", endpoint_override="127.0.0.1:1", region="us-east-1",
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )  # fmt: skip
        with pytest.raises(OSError, match=r"bucket/a.*can this machine reach it\? \(tried 6 times\)"):
            aktis.data.read_parquet("bucket/a", filesystem=filesystem)


class TestFilesystems:
    def test_local_and_nested_filesystems_of_pyarrow_read_what_they_show(self, tmp_path):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.txt").write_text("one")
        nested = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        assert aktis.data.read_text("in", filesystem=nested).take_all() == [{"text": "one"}]
        local = aktis.data.read_text(str(tmp_path / "in"), filesystem=fs.LocalFileSystem(), include_paths=True)
        assert local.take_all() == [{"text": "one", "path": str(tmp_path / "in/a.txt")}]
        parquet.write_table(pyarrow.table({"id": [1]}), tmp_path / "in/a.parquet")
        assert aktis.data.read_parquet("in", filesystem=nested).take_all() == [{"id": 1}]

    def test_filesystems_of_fsspec_read_what_they_show_also_those_in_memory(self, tmp_path):
        fsspec = pytest.importorskip("fsspec")
        memory = fsspec.filesystem("memory")
        memory.pipe_file("/r/a.csv", b"id\n1\n")
        memory.pipe_file("/r/b.parquet", as_parquet(pyarrow.table({"id": [2]})))
        assert aktis.data.read_csv("memory://r/a.csv").take_all() == [{"id": 1}]
        assert aktis.data.read_parquet("/r", filesystem=memory).take_all() == [{"id": 2}]
        wrapped = fs.PyFileSystem(fs.FSSpecHandler(memory))
        assert aktis.data.read_parquet("/r/*.parquet", filesystem=wrapped).take_all() == [{"id": 2}]
        (tmp_path / "a.txt").write_text("one")
        folder = fsspec.filesystem("dir", path=str(tmp_path), fs=fsspec.filesystem("file"))
        assert aktis.data.read_text("a.txt", filesystem=folder).take_all() == [{"text": "one"}]
        local = fsspec.filesystem("file")
        assert aktis.data.read_text(str(tmp_path / "a.txt"), filesystem=local).take_all() == [{"text": "one"}]

    def test_what_is_no_filesystem_and_what_no_package_reaches_is_told(self, tmp_path):
        with pytest.raises(
            TypeError, match=r"read_csv\(filesystem=...\) takes a filesystem of pyarrow.fs or of fsspec, not object"
        ):
            aktis.data.read_csv("a", filesystem=object())
        with pytest.raises((ImportError, ValueError), match="floppy"):
            aktis.data.read_csv("floppy://a")
        with pytest.raises(ValueError, match="several stores"):
            aktis.data.read_csv(["s3://bucket/a", str(tmp_path)])
        with pytest.raises(ValueError, match="name of a bucket"):
            aktis.data.read_csv("s3:///a")


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers ranges, or, below /plain, knows none; passes /moved on; /closed is forbidden."""

    data = "\n".join(["id", *map(str, range(100_000))]).encode()
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self._serve(is_head=True)

    def do_GET(self):
        self._serve(is_head=False)

    def _serve(self, *, is_head):
        if self.path.startswith("/moved"):
            return self._answer(302, b"", is_head, {"Location": "/there/a.csv?version=2"})
        if self.path.startswith("/closed"):
            return self._answer(403, b"no", is_head)
        if self.path.startswith("/plain") and is_head:
            return self._answer(405, b"", is_head)
        if not self.path.startswith(("/there", "/plain")):
            return self._answer(404, b"", is_head)
        wanted = self.headers.get("Range")
        if wanted is None or is_head or self.path.startswith("/plain"):
            return self._answer(200, self.data, is_head)
        start, end = map(int, wanted.removeprefix("bytes=").split("-"))
        part = self.data[start : end + 1]
        return self._answer(
            206, part, is_head, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(self.data)}"}
        )

    def _answer(self, status, body, is_head, headers=()):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if not is_head:
            self.wfile.write(body)


@pytest.fixture
def site():
    """A web server."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class TestWeb:
    @pytest.mark.parametrize("path", ["there/a.csv", "plain/a.csv", "moved/a.csv", "there/a%20b.csv?token=x*y"])
    def test_files_are_read_from_a_web_server(self, site, path):
        dataset = aktis.data.read_csv(f"{site}/{path}")
        assert dataset.sum("id") == sum(range(100_000))

    def test_what_is_not_there_and_what_is_closed_is_told_apart(self, site):
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            aktis.data.read_csv(f"{site}/nothing.csv")
        with pytest.raises(PermissionError, match="403"):
            aktis.data.read_text(f"{site}/closed/a.txt")
        found = aktis.data.read_csv([f"{site}/nothing.csv", f"{site}/there/a.csv"], ignore_missing_paths=True)
        assert found.count() == 100_000


class Renamed(fs.FileSystemHandler):
    """Shows the files of another filesystem in a bucket, and nothing else."""

    def __init__(self, inner):
        self.inner = inner

    def get_type_name(self):
        return "renamed"

    def get_file_info(self, paths):
        infos = [(path, self.inner.get_file_info(f"bucket/{path}")) for path in paths]
        return [fs.FileInfo(path, info.type, size=info.size) for path, info in infos]

    def open_input_file(self, path):
        return self.inner.open_input_file(f"bucket/{path}")

    def _refuse(self, *_):
        raise NotImplementedError

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_input_stream = open_output_stream = open_append_stream = normalize_path = (
        _refuse
    )


def test_filesystem_of_a_user_travels_to_workers(store):
    store.files["a.jsonl"] = json.dumps({"id": 5}).encode()
    filesystem = fs.PyFileSystem(Renamed(store.filesystem()))
    assert aktis.data.read_json("a.jsonl", filesystem=filesystem).take_all() == [{"id": 5}]


class TestChaos:
    def test_requests_that_fail_by_chance_are_made_again_in_workers_and_here(self, store, numbers):
        from aktis import testing

        def pipeline():
            return aktis.data.read_parquet(store.url(numbers), columns=["id"]).map_batches(lambda batch: batch)

        (faults,) = testing.chaos_check(pipeline, seeds=[4], kill_workers=1, errors=0.7)
        errors = [fault for fault in faults.faults if fault.kind == "error"]
        assert {fault.what for fault in errors} == {"not sent", "its answer was lost"}
        assert len({fault.pid for fault in errors}) > 1
        assert faults.count("kill") == 1
