"""A service that keeps points by id, as vector stores do, and loses replies: each row is one point, whatever is sent again."""

import json
import os
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aktis.data
import numpy
import pytest
from aktis.data.expressions import monotonically_increasing_id

#: One of so many replies is lost.
LOST = 10


class Store(ThreadingHTTPServer):
    """Points by id. What was asked for is done, also where its reply is lost."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.points = {}
        self.requests = self.lost = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Store  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_PUT(self):
        points = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.points.update(points)
            self.server.requests += 1
            is_lost = self.server.requests % LOST == 0
            self.server.lost += is_lost
        if not is_lost:
            self.send_response(200)
            self.end_headers()

    def log_message(self, format, *args): ...


@pytest.fixture
def store():
    with Store() as server:
        yield server
        server.shutdown()


class Points(aktis.data.Datasink):
    """Puts rows by the numbers of their places: what comes again takes the place of itself."""

    def __init__(self, url, marker):
        self.url, self.marker = url, marker

    def write(self, blocks, ctx):
        sent = 0
        for block in blocks:
            for first in range(0, block.num_rows, 10):
                rows = block.slice(first, 10).to_pylist()
                self.put({str(row["point"]): row["vector"] for row in rows})
                sent += len(rows)
            if not os.path.exists(self.marker):
                # Sent, and nobody will know: the rows of this worker come again.
                open(self.marker, "x").close()
                os._exit(1)
        return sent

    def put(self, points):
        request = urllib.request.Request(f"{self.url}/points", json.dumps(points).encode(), method="PUT")
        for _ in range(10):
            try:
                with urllib.request.urlopen(request, timeout=20):
                    return
            except (urllib.error.URLError, ConnectionError, OSError):
                continue
        raise RuntimeError("no reply in ten tries")

    def on_write_complete(self, write_result):
        self.sent = sum(write_result.write_returns)


def test_each_row_is_one_point_though_replies_and_workers_are_lost(store, tmp_path):
    def embedded(batch):
        return {"vector": numpy.stack([batch["id"] / 2, -batch["id"]], axis=1)}

    ds = aktis.data.range(600, override_num_blocks=6).map_batches(embedded)
    points = ds.with_column("point", monotonically_increasing_id())
    for _ in range(2):
        # The second time is a job that somebody has begun anew: its rows have the same places.
        sink = Points(store.url, str(tmp_path / "died"))
        points.write_datasink(sink)
        assert sink.sent == 600
        assert sorted(map(tuple, store.points.values())) == sorted((i / 2, -i) for i in range(600))
    assert os.path.exists(tmp_path / "died") and store.lost >= 12
