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


class Keys(aktis.data.Datasink):
    """Does what it is asked for once for each key, as a service with keys of idempotence does; and its first worker dies when it has."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, blocks, ctx):
        sent = 0
        for block in blocks:
            assert block.column_names == ["id"]
            known = os.path.join(self.folder, ctx.idempotence_key)
            sent += not os.path.exists(known)
            with open(known, "w") as file:
                json.dump([ctx.kwargs["write_uuid"], block.to_pydict()["id"]], file)
            if os.path.exists(os.path.join(self.folder, "dies")):
                os.remove(os.path.join(self.folder, "dies"))
                os._exit(1)
        return sent

    def on_write_complete(self, write_result):
        self.sent = sum(write_result.write_returns)

    @property
    def min_rows_per_write(self):
        return 10

    def ids_and_runs(self):
        rows, runs = [], set()
        for name in os.listdir(self.folder):
            with open(os.path.join(self.folder, name)) as file:
                run, ids = json.load(file)
            rows += ids
            runs.add(run)
        return sorted(rows), runs


def odd(batch):
    return {"id": batch["id"] % 2}


def test_a_batch_has_the_same_key_when_it_comes_again_and_no_other_batch_has_it(tmp_path):
    (tmp_path / "dies").touch()
    ds = aktis.data.range(400, override_num_blocks=4).map_batches(odd)
    # Half of the batches are equal to each other.
    expected = sorted([0, 1] * 200)
    ds.write_datasink(sink := Keys(str(tmp_path)))
    assert not (tmp_path / "dies").exists()
    rows, runs = sink.ids_and_runs()
    assert rows == expected and len(runs) == 1
    # The same job, run anew: everything is known. Another one: nothing is.
    ds.write_datasink(sink)
    assert sink.sent == 0 and sink.ids_and_runs()[0] == expected
    ds.map_batches(odd).write_datasink(sink)
    assert sink.sent == 40 and len(sink.ids_and_runs()[0]) == 800


def test_contexts_that_are_made_by_hand_say_what_their_key_is_made_of():
    with pytest.raises(ValueError, match="give it numbered="):
        _ = aktis.data.datasource.TaskContext(1, "Write").idempotence_key


class Refuses(aktis.data.Datasink):
    def write(self, blocks, ctx):
        raise KeyError("name")


def test_errors_of_sinks_name_the_columns_of_the_user_alone():
    with pytest.raises(Exception, match="the columns are 'id'\n") as caught:
        aktis.data.range(3).write_datasink(Refuses())
    assert "the first of which is {'id': 0}" in str(caught.value) and "\ue000" not in str(caught.value)
