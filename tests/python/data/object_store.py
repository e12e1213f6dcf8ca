"""A store that speaks as much of S3 as filesystems ask for, in this process, with the accidents of real ones.

    GET (ranges), HEAD, PUT, copies, DELETE, listings page by page, uploads in parts; and plain HTTP, for what asks with no key

An accident is armed for the next requests that match: a status of the server, an answer that is cut off in the middle, a reply
that is lost after the work was done, or no answer for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
import urllib.parse
import xml.sax.saxutils
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

#: The key that has the right to read and write.
KEY = "reader"
_PAGE = 100


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    query: str
    range: str | None


class Accident:
    """What happens to the next requests of a kind."""

    def __init__(self, kind: str, times: int, matches: Callable[[Request], bool]) -> None:
        self.kind, self.left, self.matches = kind, times, matches


class ObjectStore:
    """The store."""

    def __init__(self, latency_seconds: float = 0.0) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {"bucket": {}}
        self.requests: list[Request] = []
        self.latency_seconds = latency_seconds
        self.most_at_once = 0
        self._at_once = 0
        self._uploads: dict[str, tuple[str, str, dict[int, bytes]]] = {}
        self._accidents: list[Accident] = []
        self.lock = threading.Lock()
        store = self

        class Handler(_Handler):
            objects = store

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def files(self) -> dict[str, bytes]:
        """What is in the bucket."""
        return self.buckets["bucket"]

    @property
    def unfinished_uploads(self) -> int:
        """Uploads in parts that were begun and neither completed nor given up."""
        return len(self._uploads)

    def url(self, path: str) -> str:
        """The URL of a path in the bucket, for S3."""
        return f"s3://{KEY}:secret@bucket/{path}?scheme=http&endpoint_override={self.endpoint}&region=us-east-1"

    def filesystem(self, key: str = KEY, **options: Any) -> Any:
        """The store as a filesystem of pyarrow."""
        from pyarrow import fs

        return fs.S3FileSystem(
            access_key=key, secret_key="secret", scheme="http", endpoint_override=self.endpoint, region="us-east-1",
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1), **options,
        )  # fmt: skip

    def arm(self, kind: str, times: int = 1, matches: Callable[[Request], bool] = lambda _: True) -> Accident:
        """The next matching requests meet an accident: "503", "403", "torn", "lost" or "late"."""
        accident = Accident(kind, times, matches)
        with self.lock:
            self._accidents.append(accident)
        return accident

    def accident_of(self, request: Request) -> str | None:
        """What happens to a request."""
        with self.lock:
            self.requests.append(request)
            for accident in self._accidents:
                if accident.left > 0 and accident.matches(request):
                    accident.left -= 1
                    return accident.kind
        return None

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """Counts a request while it is answered."""
        with self.lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self.lock:
                self._at_once -= 1

    # Uploads in parts: a file is there when they are completed, and not before.

    def begin_upload(self, bucket: str, key: str) -> str:
        """A new upload."""
        with self.lock:
            upload = f"upload-{len(self.requests)}-{len(self._uploads)}"
            self._uploads[upload] = (bucket, key, {})
        return upload

    def add_part(self, upload: str, number: int, data: bytes) -> bool:
        """A part of an upload; False: there is no such upload."""
        with self.lock:
            if upload not in self._uploads:
                return False
            self._uploads[upload][2][number] = data
        return True

    def end_upload(self, upload: str, *, is_complete: bool) -> bool:
        """Completes an upload, or gives it up; False: there is no such upload."""
        with self.lock:
            if upload not in self._uploads:
                return False
            bucket, key, parts = self._uploads.pop(upload)
            if is_complete:
                self.buckets[bucket][key] = b"".join(parts[number] for number in sorted(parts))
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away when they have waited long enough."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: ObjectStore
    #: So that headers and body of small answers are one packet.
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def handle_expect_100(self) -> bool:
        """Who asks whether a body is wanted waits a second for the answer, so it is not kept until there is more."""
        is_wanted = super().handle_expect_100()
        self.wfile.flush()
        return is_wanted

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path)
        body = self._body()
        request = Request(self.command, path, parts.query, self.headers.get("Range"))
        accident = self.objects.accident_of(request)
        self._accident = accident
        with self.objects.under_way():
            time.sleep(self.objects.latency_seconds)
            if accident == "late":
                time.sleep(5)
            if accident in ("503", "500", "403"):
                return self._error(
                    int(accident), {"503": "SlowDown", "500": "InternalError", "403": "AccessDenied"}[accident]
                )
            if "Authorization" in self.headers and f"Credential={KEY}/" not in self.headers["Authorization"]:
                return self._error(403, "AccessDenied")
            bucket, _, key = path.lstrip("/").partition("/")
            if bucket not in self.objects.buckets:
                return self._error(404, "NoSuchBucket")
            query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
            return getattr(self, f"_{self.command.lower()}")(bucket, key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b"".join(self._chunks())
        else:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            data = b"".join(_unsigned(data))
        return data

    def _chunks(self) -> Iterator[bytes]:
        while length := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        if self._accident == "lost":
            self.close_connection = True
            return
        self.send_response(status)
        length = {} if headers and "Content-Length" in headers else {"Content-Length": str(len(body))}
        for name, value in {**length, "ETag": '"e"', **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self._accident == "torn" and body:
            body = body[: len(body) // 2]
            self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _get(self, bucket: str, key: str, query: dict[str, str], _: bytes) -> None:
        if not key:
            return self._list(bucket, query)
        data = self.objects.buckets[bucket].get(key)
        if data is None:
            return self._error(404, "NoSuchKey")
        if wanted := self.headers.get("Range"):
            first, _dash, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data)) + 1, len(data))
            if start >= len(data):
                return self._error(416, "InvalidRange")
            return self._answer(206, data[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})
        return self._answer(200, data)

    def _head(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        data = self.objects.buckets[bucket].get(key) if key else b""
        if data is None:
            return self._answer(404)
        return self._answer(
            200, headers={"Content-Length": str(len(data)), "Last-Modified": "Sun, 29 Nov 2026 00:00:00 GMT"}
        )

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        with self.objects.lock:
            sizes = {key: len(data) for key, data in self.objects.buckets[bucket].items() if key.startswith(prefix)}
        entries: dict[str, int | None] = {}
        for key, size in sorted(sizes.items()):
            below = key[len(prefix) :]
            folder, found, _rest = below.partition(delimiter) if delimiter else ("", "", "")
            entries[prefix + folder + found if found else key] = None if found else size
        names = sorted(entries)
        start = int(query.get("continuation-token", 0))
        page = names[start : start + min(_PAGE, int(query.get("max-keys", _PAGE)))]
        more = start + len(page) < len(names)
        escape = xml.sax.saxutils.escape
        texts = [
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            if entries[name] is None
            else f"<Contents><Key>{escape(name)}</Key><Size>{entries[name]}</Size><LastModified>2026-11-29T00:00:00.000Z</LastModified></Contents>"
            for name in page
        ]
        token = f"<NextContinuationToken>{start + len(page)}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<ListBucketResult><Name>{bucket}</Name><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(texts)}</ListBucketResult>".encode(),
        )

    def _put(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if source := self.headers.get("x-amz-copy-source"):
            data = self.objects.files.get(urllib.parse.unquote(source).lstrip("/").partition("/")[2])
            if data is None:
                return self._error(404, "NoSuchKey")
            self.objects.buckets[bucket][key] = data
            return self._answer(200, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>")
        if "uploadId" in query:
            is_known = self.objects.add_part(query["uploadId"], int(query["partNumber"]), body)
            return self._answer(200) if is_known else self._error(404, "NoSuchUpload")
        if key:
            self.objects.buckets[bucket][key] = body
        return self._answer(200)

    def _post(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            upload = self.objects.begin_upload(bucket, key)
            return self._answer(
                200, f"<R><UploadId>{upload}</UploadId></R>".replace("R>", "InitiateMultipartUploadResult>").encode()
            )
        if "uploadId" in query:
            if not self.objects.end_upload(query["uploadId"], is_complete=True):
                return self._error(404, "NoSuchUpload")
            return self._answer(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
        from xml.etree import ElementTree

        for element in ElementTree.fromstring(body).iter():
            if element.tag.endswith("Key"):
                self.objects.buckets[bucket].pop(element.text or "", None)
        return self._answer(200, b"<DeleteResult></DeleteResult>")

    def _delete(self, bucket: str, key: str, query: dict[str, str], _: bytes) -> None:
        if "uploadId" in query:
            self.objects.end_upload(query["uploadId"], is_complete=False)
        else:
            self.objects.buckets[bucket].pop(key, None)
        self._answer(204)


def _unsigned(data: bytes) -> Iterator[bytes]:
    """The chunks of a body whose chunks are signed."""
    while data:
        head, _, data = data.partition(b"\r\n")
        length = int(head.split(b";")[0], 16)
        if length == 0:
            return
        yield data[:length]
        data = data[length + 2 :]
