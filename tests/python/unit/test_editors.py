"""What an editor shows of Aktis: signatures, docstrings and names, as a language server tells them."""

import itertools
import json
import pathlib
import subprocess
import sys
import threading

import pytest

ROOT = pathlib.Path(__file__).parents[3]
#: Each `|` is where the cursor stands in one of the questions.
PROGRAM = '''
import aktis

@aktis.remote
def scaled(value: int, by: int = 2) -> int:
    """Scales."""
    return value * by

@aktis.remote
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

scaled.remote(|1)
scaled.options(|num_cpus=2)
Counter.remote(|)
aktis.init|()
aktis.get(|scaled.remote(1))
rows = aktis.data.range(10)
rows.map_batches|(dict)
rows.|limit(1)
rows.groupby("id").|count()
'''


class Editor:
    """A client of pyright's language server that has one file open."""

    def __init__(self, folder: pathlib.Path, text: str):
        settings = {"extraPaths": [str(ROOT / "python-bindings" / "python")], "pythonVersion": "3.11"}
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        self._numbers = itertools.count(1)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self._server.stdin is not None and self._server.stdout is not None
        self._to_server, self._from_server = self._server.stdin, self._server.stdout
        # A server that does not answer fails the tests.
        self._deadline = threading.Timer(120, self._server.kill)
        self._deadline.start()
        self._file = (folder / "program.py").as_uri()
        formats = {"hover": {"contentFormat": ["plaintext"]}}
        root = {"rootUri": folder.as_uri(), "workspaceFolders": [{"uri": folder.as_uri(), "name": "tests"}]}
        self._answer("initialize", {"processId": None, "capabilities": {"textDocument": formats}, **root})
        self._say({"method": "initialized", "params": {}})
        document = {"uri": self._file, "languageId": "python", "version": 1, "text": text}
        self._say({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def ask(self, question: str, line: int, character: int):
        document = {"uri": self._file}
        place = {"textDocument": document, "position": {"line": line, "character": character}}
        return self._answer(f"textDocument/{question}", place)

    def close(self) -> None:
        self._deadline.cancel()
        self._server.kill()
        self._server.communicate()

    def _say(self, message: dict) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to_server.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._to_server.flush()

    def _answer(self, method: str, params: dict):
        number = next(self._numbers)
        self._say({"id": number, "method": method, "params": params})
        while True:
            message = self._hear()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            if "id" in message and "method" in message:
                # It asks for settings, and to be told of changes.
                self._say({"id": message["id"], "result": [{} for _ in message["params"].get("items", [])]})

    def _hear(self) -> dict:
        length = 0
        while header := self._from_server.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        return json.loads(self._from_server.read(length))


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    opened = Editor(tmp_path_factory.mktemp("editor"), PROGRAM.replace("|", ""))
    yield opened
    opened.close()


def place(beginning: str) -> tuple[int, int]:
    """Where the cursor stands in the line that begins so."""
    lines = PROGRAM.splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith(beginning))
    return number, lines[number].index("|")


@pytest.mark.parametrize(
    ("line", "signature", "documentation"),
    [
        ("scaled.remote(", "(value: int, by: int = 2) -> ObjectRef[int]", "Runs the function as a task"),
        ("scaled.options(", "num_cpus: float | None", "num_cpus: CPUs it needs"),
        ("Counter.remote(", "(start: int = 0) -> ActorHandle[Counter]", "Starts an actor"),
        ("aktis.get(", "object_refs: ObjectRef[int]", "The value of a reference"),
    ],
)
def test_signatures_and_their_docstrings_are_shown_while_a_call_is_written(editor, line, signature, documentation):
    shown = editor.ask("signatureHelp", *place(line))["signatures"]
    assert any(signature in each["label"] for each in shown), shown
    assert documentation in json.dumps(shown)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("aktis.init", ("address: str | None", "Begins a session", "Args:")),
        ("rows.map_batches", ("batch_size: int", "Runs a function over batches of rows", "Args:")),
    ],
)
def test_what_the_cursor_is_on_is_explained(editor, line, words):
    number, character = place(line)
    shown = editor.ask("hover", number, character - 1)["contents"]["value"]
    assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("rows.|", {"map_batches", "filter", "groupby", "write_parquet", "iter_batches"}),
        ('rows.groupby("id").|', {"count", "aggregate", "map_groups"}),
    ],
)
def test_names_that_may_follow_are_offered(editor, line, names):
    offered = {item["label"] for item in editor.ask("completion", *place(line))["items"]}
    assert names - offered == set()
