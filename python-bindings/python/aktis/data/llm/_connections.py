"""Requests by Python's own ``http.client``, on threads, many at once.

Each request has a connection to itself meanwhile; those that the server leaves open are used again. A request that takes too long, or
that nobody wants any more, is ended by closing its socket under it, so no thread waits for a server that is silent.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import queue
import select
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from ._answers import Answer

T = TypeVar("T")

#: No answer is larger.
MOST_BYTES = 256 << 20
_PIECE_BYTES = 1 << 16
#: How a connection looks that the server has closed while nobody used it.
_STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Connections:
    """Connections to one address.

    Args:
        url: The address.
        timeout_s: Seconds for a request, from the connection to the end of the answer.
        may_send_twice: Whether connections are used again. The server may close one while a request is on its way, and nobody knows
            whether it was read; it is then sent again.
    """

    def __init__(self, url: str, timeout_s: float, *, may_send_twice: bool = True) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._is_secure = parts.hostname or "", parts.port, parts.scheme == "https"
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s, self._keeps = timeout_s, may_send_twice
        self._proxy = _proxy_of(parts.scheme, parts.netloc)
        #: Of requests that a proxy reads.
        self._for_proxy = self._proxy.headers if self._proxy and not self._is_secure else {}
        if self._proxy and not self._is_secure:
            self._target = url.partition("#")[0]
        self._context = ssl.create_default_context() if self._is_secure else None
        self._threads = _Threads()
        self._idle: list[http.client.HTTPConnection] = []

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends a request and waits for the whole answer.

        Raises:
            TimeoutError: There was none in time.
            OSError, http.client.HTTPException: There was no connection, or it broke off.
        """
        exchange = _Exchange(self._unused(), self._connection)
        answering = self._threads.submit(lambda: exchange.run(self._target, body, {**headers, **self._for_proxy}))
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, connection = await asyncio.wrap_future(answering)
        except BaseException:
            exchange.end()
            raise
        if connection is not None and self._keeps:
            self._idle.append(connection)
        elif connection is not None:
            connection.close()
        return answer

    def _unused(self) -> http.client.HTTPConnection | None:
        """A connection of those that nobody uses."""
        while self._idle:
            connection = self._idle.pop()
            if _is_silent(connection.sock):
                return connection
            connection.close()
        return None

    def _connection(self) -> http.client.HTTPConnection:
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context)
        if self._proxy:
            connection.set_tunnel(self._host, self._port, dict(self._proxy.headers))
        return connection


class _Exchange:
    """One request and its answer, on one thread, which another may end."""

    def __init__(
        self, idle: http.client.HTTPConnection | None, connect: Callable[[], http.client.HTTPConnection]
    ) -> None:
        self._connect = connect
        self._connection = idle
        #: Of a connection that the answer ends, `http.client` has it no more while the answer is read.
        self._sock: socket.socket | None = None
        self._is_ended = False

    def run(
        self, target: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Answer, http.client.HTTPConnection | None]:
        """The answer, and the connection, if it can be used again."""
        if self._connection is not None:
            try:
                return self._on(self._connection, target, body, headers)
            except _STALE:
                # Closed by the server while the request was on its way: that is no failure of the request.
                if self._is_ended:
                    raise
        self._connection = self._connect()
        return self._on(self._connection, target, body, headers)

    def _on(
        self, connection: http.client.HTTPConnection, target: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[Answer, http.client.HTTPConnection | None]:
        try:
            if connection.sock is None:
                connection.connect()
            self._sock = connection.sock
            if self._is_ended:
                raise ConnectionAbortedError("nobody waits for the answer any more")
            connection.request("POST", target, body, dict(headers))
            response = _final(connection.getresponse())
            answer = Answer(response.status, response.reason, _headers_of(response), _body_of(response))
        except BaseException:
            connection.close()
            raise
        if response.will_close or self._is_ended:
            connection.close()
            return answer, None
        return answer, connection

    def end(self) -> None:
        """Wakes the thread, wherever it waits."""
        self._is_ended = True
        connection = self._connection
        sock = connection.sock if connection is not None and connection.sock is not None else self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _is_silent(sock: Any) -> bool:
    """Whether nothing has come on a connection since its last answer: neither its end nor bytes that the next request has not asked for."""
    if sock is None or isinstance(sock, ssl.SSLSocket) and sock.pending():
        return False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _final(response: Any) -> http.client.HTTPResponse:
    """The response when its status is that of the answer; those of 1xx come before it, and `http.client` knows only one of them."""
    while 100 <= response.status < 200:
        if response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            raise http.client.HTTPException("the server answers in another protocol (101), which nobody asked for")
        # Without headers it reads on where it is.
        response.headers = response.msg = None
        response.begin()
    return response


def _headers_of(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _body_of(response: http.client.HTTPResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := response.read(_PIECE_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise http.client.HTTPException(f"the answer is larger than {MOST_BYTES} bytes")
    if response.length:
        # Read piece by piece, an answer that ends early looks like one that is whole.
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


class _Proxy(NamedTuple):
    host: str
    port: int
    headers: Mapping[str, str]


def _proxy_of(scheme: str, address: str) -> _Proxy | None:
    """The proxy that the environment names for an address."""
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy or urllib.request.proxy_bypass(address):
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = {}
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    return _Proxy(parts.hostname, parts.port or 8080, headers) if parts.hostname else None


class _Threads:
    """Threads that no exit waits for, begun as they are needed. They are as many as there were requests at once."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: Threads that will take what comes next.
        self._free = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Calls on a thread."""
        future: Future[T] = Future()
        self._work.put((future, call))
        with self._lock:
            if self._free:
                self._free -= 1
                return future
        threading.Thread(target=self._run, name="aktis-http", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, call = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                    future.set_exception(error)
            # An idle thread keeps nothing alive.
            del future, call
            with self._lock:
                self._free += 1
