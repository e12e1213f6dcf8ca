"""A folder as a bucket of S3, with the latency and the connections of a real store: to be read from, in a process of its own.

    python store_server.py --folder FOLDER --latency-ms 20 --connections 16 --connection-mbs 8

Every folder in FOLDER is a bucket. It answers GET (ranges too), HEAD and listings page by page, without looking at signatures.
So many requests as there are connections are answered at once, each with so many megabytes a second after the latency; more of them
wait for their turn. Prints the port in its first line, and ends when its input does. It does as little as it can for a request,
since it shares the cores with what is measured.
"""

import argparse
import contextlib
import os
import pathlib
import re
import socket
import sys
import threading
import time
import urllib.parse
import xml.sax.saxutils

_PAGE = 1000
#: So much is sent at once; what it may take is waited for before the next piece.
_PIECE_BYTES = 128 << 10
_RANGE = re.compile(rb"(?i)\r\nrange: *bytes=(\d*)-(\d*)")


class Store:
    """The folder, and how fast it answers."""

    def __init__(self, folder, latency_s, connections, bytes_per_s):
        self.folder, self.latency_s, self.bytes_per_s = folder, latency_s, bytes_per_s
        self.slots = threading.BoundedSemaphore(connections)
        self.sizes, self.keys = {}, {}

    def size_of(self, key):
        """Bytes of a file; `None`: there is none. Files do not change."""
        if key not in self.sizes:
            path = self.folder / key
            self.sizes[key] = path.stat().st_size if path.is_file() else None
        return self.sizes[key]

    def keys_of(self, bucket):
        """All that is in a bucket, in order."""
        if bucket not in self.keys:
            root = self.folder / bucket
            found = (os.path.join(at, name) for at, _, names in os.walk(root, followlinks=True) for name in names)
            self.keys[bucket] = sorted(os.path.relpath(path, root) for path in found)
        return self.keys[bucket]

    def listing(self, bucket, query):
        """A page of ListObjectsV2."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        keys = [key for key in self.keys_of(bucket) if key.startswith(prefix)]
        files, folders = [], set()
        for key in keys:
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            (files.append(key) if end < 0 else folders.add(key[: end + 1]))
        left = [key for key in files if key > after]
        most = min(_PAGE, int(query.get("max-keys", _PAGE)))
        page, is_cut = left[:most], len(left) > most
        text = xml.sax.saxutils.escape
        contents = "".join(
            f"<Contents><Key>{text(key)}</Key><Size>{self.size_of(f'{bucket}/{key}')}</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        common = "".join(f"<CommonPrefixes><Prefix>{text(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
        token = f"<NextContinuationToken>{text(page[-1])}</NextContinuationToken>" if is_cut else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{text(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}{contents}{common}</ListBucketResult>"
        ).encode()


def serve(store, connection):
    """Answers the requests of one connection, one after the other."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    with connection, contextlib.suppress(ConnectionError):
        while True:
            while b"\r\n\r\n" not in waiting:
                read = connection.recv(65536)
                if not read:
                    return
                waiting += read
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            with store.slots:
                time.sleep(store.latency_s)
                answer(store, connection, head)


def answer(store, connection, head):
    method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
    path, _, query = target.decode().partition("?")
    key = urllib.parse.unquote(path).strip("/")
    bucket, _, inner = key.partition("/")
    if not inner:
        listed = store.listing(bucket, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)))
        kind, body = b"200 OK\r\nContent-Type: application/xml", b"" if method == b"HEAD" else listed
        return connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(listed), body))
    size = store.size_of(key)
    if size is None:
        missing = b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>not there</Message></Error>'
        body = b"" if method == b"HEAD" else missing
        kind = b"404 Not Found\r\nContent-Type: application/xml"
        return connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(missing), body))
    start, end, asked = 0, size, _RANGE.search(head)
    if asked is not None:
        first, last = asked.groups()
        start, end = (max(0, size - int(last)), size) if not first else (int(first), min(size, int(last or size) + 1))
    status = b"200 OK" if asked is None else b"206 Partial Content\r\nContent-Range: bytes %d-%d/%d" % (start, end - 1, size)  # fmt: skip
    known = b'ETag: "x"\r\nAccept-Ranges: bytes\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: binary/octet-stream'
    connection.sendall(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n\r\n" % (status, end - start, known))
    if method == b"GET":
        send(store, connection, key, start, end)


def send(store, connection, key, start, end):
    """The bytes of a file, no faster than a connection gives them."""
    begun, first = time.perf_counter(), start
    with open(store.folder / key, "rb", buffering=0) as file:
        while start < end:
            sent = os.sendfile(connection.fileno(), file.fileno(), start, min(_PIECE_BYTES, end - start))
            if sent == 0:
                raise ConnectionError("the file has become shorter")
            start += sent
            early = begun + (start - first) / store.bytes_per_s - time.perf_counter()
            if early > 0:
                time.sleep(early)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--connection-mbs", type=float, default=8)
    options = parser.parse_args()
    store = Store(options.folder, options.latency_ms / 1e3, options.connections, options.connection_mbs * 1e6)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listener.getsockname()[1], flush=True)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(store, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
