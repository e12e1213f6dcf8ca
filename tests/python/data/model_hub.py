"""A hub of models that speaks as much of Hugging Face's protocol as downloads ask for, in this process, with the accidents of real ones.

    GET /api/models/<repository>/revision/<revision>, HEAD and GET (ranges) /<repository>/resolve/<revision>/<file>

Large files are those of Git LFS: their tag is the SHA-256 of what they have. Others have the tag of a git blob.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What opens repositories that are gated.
TOKEN = "hf_of_the_test"
LARGE = (".onnx", ".safetensors", ".bin", ".onnx_data")


class ModelHub:
    """The hub."""

    def __init__(self) -> None:
        #: Files of a repository by revision, which are commits, too.
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.gated: set[str] = set()
        self.downloads: Counter[str] = Counter()
        self.requests = 0
        #: So many of the next requests get a status of the server; so many of the next downloads of a file are cut, or are of other bytes.
        self.refusals = 0
        self.cuts: Counter[str] = Counter()
        self.lies: Counter[str] = Counter()
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            models = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    def put(self, repository: str, files: dict[str, bytes]) -> str:
        """Makes a commit, which becomes ``main``; returns its name."""
        content = "".join(f"{name} {tag_of(name, data)}\n" for name, data in sorted(files.items()))
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.repositories.setdefault(repository, {}).update({commit: files, "main": files})
        return commit

    def commit_of(self, repository: str, revision: str) -> str | None:
        """The commit that a revision is."""
        revisions = self.repositories.get(repository, {})
        files = revisions.get(revision)
        return next((name for name, known in revisions.items() if known is files and len(name) == 40), None)


def tag_of(name: str, data: bytes) -> str:
    """What the hub calls a file's content."""
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    models: ModelHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub = self.models
        with hub.lock:
            hub.requests += 1
            is_refused = hub.refusals > 0
            hub.refusals -= is_refused
        if is_refused:
            return self._say(503, b"busy")
        path = self.path.partition("?")[0]
        if about := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._describe(about[1], about[2] or "main")
        if file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*file.groups(), with_body=with_body)
        return self._say(404, b"nothing here")

    def _refused(self, repository: str, revision: str) -> bool:
        hub = self.models
        if repository not in hub.repositories:
            self._say(401, b"Invalid username or password.", error="RepoNotFound")
        elif repository in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._say(401, b"Access to this model is restricted.", error="GatedRepo")
        elif hub.commit_of(repository, revision) is None:
            self._say(404, b"no such revision", error="RevisionNotFound")
        else:
            return False
        return True

    def _describe(self, repository: str, revision: str) -> None:
        if self._refused(repository, revision):
            return
        files = self.models.repositories[repository][revision]
        about = {
            "id": repository,
            "sha": self.models.commit_of(repository, revision),
            "siblings": [{"rfilename": name} for name in files],
        }
        self._say(200, json.dumps(about).encode(), content="application/json")

    def _file(self, repository: str, revision: str, name: str, *, with_body: bool) -> None:
        if self._refused(repository, revision):
            return
        hub = self.models
        data = hub.repositories[repository][revision].get(name)
        if data is None:
            return self._say(404, b"no such file", error="EntryNotFound")
        tag, begin = tag_of(name, data), 0
        if given := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            begin = int(given[1])
        is_cut = is_lie = False
        if with_body:
            with hub.lock:
                hub.downloads[f"{repository}/{name}"] += 1
                is_cut, is_lie = hub.cuts[name] > 0, hub.lies[name] > 0
                hub.cuts[name] -= is_cut
                hub.lies[name] -= is_lie
        body = data[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("ETag", f'"{tag}"')
        if name.endswith(LARGE):
            self.send_header("X-Linked-ETag", f'"{tag}"')
            self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Repo-Commit", str(hub.commit_of(repository, revision)))
        self.send_header("Accept-Ranges", "bytes")
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not with_body:
            return
        if is_lie:
            body = bytes(len(body))
        if is_cut:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)

    def _say(self, status: int, body: bytes, *, error: str | None = None, content: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content)
        self.send_header("Content-Length", str(len(body)))
        if error is not None:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", body.decode())
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
