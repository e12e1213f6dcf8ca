"""`download()`: files that rows name, here and elsewhere, as a column of their bytes."""

import re

import aktis.data
import pytest
from aktis.data.expressions import col, download
from pyarrow import fs

from .object_store import ObjectStore


@pytest.fixture
def store():
    """A store with 5 ms of latency and a bucket."""
    made = ObjectStore(latency_seconds=0.005)
    yield made
    made.close()


def downloaded(uris, **options):
    rows = aktis.data.from_items([{"row": row, "uri": uri} for row, uri in enumerate(uris)])
    found = rows.with_column("bytes", download("uri", **options)).take_all()
    return [row["bytes"] for row in sorted(found, key=lambda row: row["row"])]


def test_paths_urls_and_nulls_in_one_column(store, tmp_path, monkeypatch):
    (tmp_path / "a ü.txt").write_bytes(b"here")
    store.files["docs/b.txt"] = b"there"
    store.files["docs/empty"] = b""
    monkeypatch.chdir(tmp_path)
    uris = [
        str(tmp_path / "a ü.txt"),
        None,
        f"file://{tmp_path}/a ü.txt",
        "a ü.txt",
        store.url("docs/b.txt"),
        store.url("docs/empty"),
    ]
    assert downloaded(uris) == [b"here", None, b"here", b"here", b"there", b""]


def test_what_cannot_be_read_is_null_and_the_rest_is_there(store, tmp_path):
    store.files["docs/b.txt"] = b"there"
    uris = [str(tmp_path / "gone"), str(tmp_path), store.url("docs/b.txt"), store.url("docs/gone"), "", "s3://"]
    assert downloaded(uris) == [None, None, b"there", None, None, None]
    rows = aktis.data.from_items([{"uri": uri} for uri in uris]).with_column("bytes", download("uri"))
    assert rows.filter(expr=col("bytes").is_not_null()).count() == 1


def test_filesystem_has_all_files(store, tmp_path):
    (tmp_path / "a").write_bytes(b"here")
    store.files["docs/b"] = b"there"
    assert downloaded(["a"], filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())) == [b"here"]
    assert downloaded(["bucket/docs/b"], filesystem=store.filesystem()) == [b"there"]


def test_a_call_holds_few_files(tmp_path):
    (tmp_path / "a").write_bytes(b"here")
    rows = aktis.data.from_items([{"uri": str(tmp_path / "a")}] * 300, override_num_blocks=1)
    rows = rows.with_column("bytes", download("uri"))
    assert rows.count() == rows.filter(expr=col("bytes") == b"here").count() == 300
    rows.take_all()
    told = re.search(r"Udf\(download\): 300 rows in, .* (\d+) batches", rows.stats())
    assert told is not None and int(told[1]) >= 5


def test_column_that_is_no_text_is_told():
    with pytest.raises(TypeError, match="paths and URLs, which are text, and not one of int64"):
        aktis.data.range(3).with_column("bytes", download("id")).take_all()
