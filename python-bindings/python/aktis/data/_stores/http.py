"""Files of web servers, over HTTP and HTTPS."""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable

from .backend import Entry, version_of

#: One answer may take so long from one piece to the next.
_TIMEOUT_SECONDS = 30.0
_MOST_REDIRECTS = 5
_READ_ONLY = "a web server takes no files"


class WebFiles:
    """Files by URL. A server lists nothing: every file is named."""

    has_folders = False

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._local = threading.local()

    def __getstate__(self) -> tuple[()]:
        return ()

    def __reduce__(self) -> tuple[type[WebFiles], tuple[()]]:
        return WebFiles, ()

    def entry(self, path: str) -> Entry | None:
        """What lies there."""
        status, headers, _ = self._ask("HEAD", path, {})
        length = headers.get("Content-Length")
        if status in (404, 410):
            return None
        if status in (403, 405, 501) or (status == 200 and length is None):
            # Some servers answer nothing but GET, or do not know lengths beforehand; a range tells it.
            status, headers, body = self._ask("GET", path, {"Range": "bytes=0-0"})
            if status in (404, 410):
                return None
            length = headers.get("Content-Range", "").rpartition("/")[2] if status == 206 else str(len(body))
        _check(status)
        if length is None or not length.isdigit():
            raise NotImplementedError(f"{path}: the server does not say how long it is; download it first")
        return Entry(path, int(length), version_of(headers.get("ETag"), headers.get("Last-Modified")))

    def files_below(self, folder: str) -> Iterable[Entry]:
        """Never asked: `entry` knows only files."""
        raise NotImplementedError(f"{folder}: a web server lists no files; name each of them")

    def missing_root(self, path: str) -> str | None:
        """There are no buckets."""
        return None

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        status, _, body = self._ask("GET", path, {"Range": f"bytes={start}-{end - 1}"})
        _check(status)
        # A server that knows no ranges gives all of it.
        return body if status == 206 else body[start:end]

    def forget(self) -> None:
        """Nothing is kept."""

    def write(self, local: str, path: str) -> None:
        """Never asked, and so are those below: nothing is written where no folders are."""
        raise NotImplementedError(_READ_ONLY)

    def copy(self, source: str, path: str) -> None:
        """As `write`."""
        raise NotImplementedError(_READ_ONLY)

    def remove(self, path: str) -> None:
        """As `write`."""
        raise NotImplementedError(_READ_ONLY)

    def remove_folder(self, path: str) -> None:
        """As `write`."""
        raise NotImplementedError(_READ_ONLY)

    def _ask(self, method: str, url: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        for _ in range(_MOST_REDIRECTS):
            status, answered, body = self._ask_once(method, url, headers)
            target = answered.get("Location")
            if status not in (301, 302, 303, 307, 308) or target is None:
                return status, answered, body
            url = urllib.parse.urljoin(url, target)
        raise ValueError(f"{url}: it was passed on {_MOST_REDIRECTS} times")

    def _ask_once(self, method: str, url: str, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        parts = urllib.parse.urlsplit(url)
        key = (parts.scheme, parts.hostname, parts.port)
        connections: dict[object, http.client.HTTPConnection] = self._local.__dict__.setdefault("connections", {})
        connection = connections.pop(key, None)
        is_new = connection is None
        connection = connection or _connected(parts)
        target = urllib.parse.urlunsplit(
            ("", "", urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._"), parts.query, "")
        )
        if getattr(connection, "asks_whole_url", False):
            target = url
        headers = {"User-Agent": "aktis", "Accept-Encoding": "identity", **_authorization(parts), **headers}
        try:
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            if is_new:
                raise
            # The server has closed a connection that was not used for a while.
            return self._ask_once(method, url, headers)
        if not response.will_close:
            connections[key] = connection
        return response.status, response.headers, body


def _connected(parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
    proxy = urllib.request.getproxies().get(parts.scheme)
    host = parts.hostname or ""
    is_direct = proxy is None or bool(urllib.request.proxy_bypass(host))
    through = parts if is_direct else urllib.parse.urlsplit(str(proxy))
    connected: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connected = http.client.HTTPSConnection(
            through.hostname or "", through.port, timeout=_TIMEOUT_SECONDS, context=context
        )
        if not is_direct:
            connected.set_tunnel(host, parts.port or 443)
    else:
        connected = http.client.HTTPConnection(through.hostname or "", through.port, timeout=_TIMEOUT_SECONDS)
        connected.asks_whole_url = not is_direct  # type: ignore[attr-defined]
    return connected


def _authorization(parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _check(status: int) -> None:
    if status not in (200, 206):
        raise OSError(f"HTTP status {status}: {http.client.responses.get(status, 'unknown')}")
