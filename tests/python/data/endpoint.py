"""A server of answers, as a service of language models is one: with refusals, breakdowns and silence where a request asks for them."""

import collections
import contextlib
import http.server
import io
import json
import ssl
import threading
import time
import urllib.parse

#: How long it is silent, where it is: until the server ends.
SILENCE_S = 120


class Endpoint(http.server.ThreadingHTTPServer):
    """What a payload's ``do`` says, try by try, is done to it; after that, or without it, it is answered.

    A word is a status, or ``STATUS after SECONDS`` (``Retry-After``), or one of ``torn``, ``cut``, ``drop``, ``bye``,
    ``drip``, ``drip close``, ``echo``, ``hang``, ``hints``, ``more``, ``html``, ``meet N``.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, certificate=None):
        super().__init__(("127.0.0.1", 0), Handler)
        scheme, host = ("http", "127.0.0.1") if certificate is None else ("https", "localhost")
        self.url = f"{scheme}://{host}:{self.server_address[1]}/v1/chat/completions"
        self.context = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.changed = threading.Condition()
        #: Seen requests: when, payload, headers.
        self.seen = []
        self.tries = collections.Counter()
        self.present = self.most_present = self.connections = 0
        self.has_ended = threading.Event()

    def times(self, key):
        return self.tries[key]

    def handle_error(self, request, client_address):
        pass  # clients that go away are what is tested


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint  # pyright: ignore[reportIncompatibleVariableOverride]

    def setup(self):
        if self.server.context is not None:
            # Here, on a thread of its own.
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()
        self.server.connections += 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"].startswith("application/json")
        payload = json.loads(body) if is_json else {"form": body.decode("latin-1")}
        key = payload.get("key")
        server = self.server
        with server.changed:
            attempt = server.tries[key]
            server.tries[key] += 1
            server.seen.append((time.monotonic(), payload, dict(self.headers)))
            server.present += 1
            server.most_present = max(server.most_present, server.present)
            server.changed.notify_all()
        try:
            done = payload.get("do", [])
            self.answer(done[attempt] if attempt < len(done) else "200", payload)
        finally:
            with server.changed:
                server.present -= 1

    def answer(self, word, payload):
        name, _, rest = word.partition(" ")
        if name.isdigit():
            after = rest.removeprefix("after ")
            self.say(int(name), {"Retry-After": after} if after else {}, self.text(int(name), payload))
        elif name == "echo":
            key = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["key"][0]
            self.say(400, {}, f"{self.headers['X-Auth']}, {key}, {self.path}".encode())
        elif name == "html":
            self.say(200, {"Content-Type": "text/html"}, b"<html>down for maintenance</html>")
        elif name == "torn":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.close_connection = True
        elif name == "cut":
            # Torn too, and its end is only that of the connection.
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
        elif name == "hints":
            # An answer that comes later, and what comes before it.
            for status in ("102 Processing", "103 Early Hints", "100 Continue", "103 Early Hints"):
                self.wfile.write(f"HTTP/1.1 {status}\r\nLink: </style.css>\r\n\r\n".encode())
            self.answer("200", payload)
        elif name == "more":
            # Behind its answer comes another one, which nobody has asked for: at once, and longer than what one read gets.
            connection, self.wfile = self.wfile, io.BytesIO()
            self.answer("200", payload)
            self.say(200, {}, self.text(200, {"messages": [{"content": "of nobody " * 10_000}]}))
            told, self.wfile = self.wfile.getvalue(), connection
            self.wfile.write(told)
        elif name == "bye":
            # The connection is closed, and nothing said that it would be.
            self.answer("200", payload)
            self.close_connection = True
        elif name == "drop":
            self.close_connection = True
        elif name == "hang":
            self.server.has_ended.wait(SILENCE_S)
            self.close_connection = True
        elif name == "drip":
            # An answer that never ends, and is never silent for long.
            self.send_response(200)
            self.send_header(*(("Connection", "close") if rest == "close" else ("Content-Length", "100000")))
            self.end_headers()
            while not self.server.has_ended.wait(0.05):
                self.wfile.write(b" ")
        elif name == "meet":
            # Answered when so many requests are here.
            with self.server.changed:
                self.server.changed.wait_for(lambda: self.server.most_present >= int(rest), 60)
            self.answer("200", payload)
        else:
            raise ValueError(word)

    def text(self, status, payload):
        if status != 200:
            return f"no: {self.headers['Authorization']}".encode()
        said = payload.get("messages", [{"content": ""}])[-1]["content"]
        return json.dumps(
            {"choices": [{"message": {"role": "assistant", "content": said.upper()}}], "payload": payload}
        ).encode()

    def say(self, status, headers, body):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@contextlib.contextmanager
def serving(certificate=None):
    """An endpoint while the block runs; behind TLS with a certificate."""
    server = Endpoint(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.has_ended.set()
        server.shutdown()
        server.server_close()
