"""What is sent: JSON, or a form where a payload has files.

>>> encoded({"n": 1})
(b'{"n": 1}', 'application/json')
>>> body, kind = encoded({"model": "whisper", "file": {"content": b"RIFF", "filename": "a.wav"}})
>>> kind.partition("=")[0], body.count(b"Content-Disposition"), b'name="file"; filename="a.wav"' in body
('multipart/form-data; boundary', 2, True)
>>> encoded({"document": {"type": "PLAIN_TEXT", "content": "a text"}})[1]
'application/json'
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any


def encoded(payload: Any) -> tuple[bytes, str]:
    """The bytes of a payload, and their type.

    Raises:
        TypeError, ValueError: There is something in it that JSON has no word for.
    """
    if isinstance(payload, Mapping) and any(_is_file(value) for value in payload.values()):
        boundary = uuid.uuid4().hex
        return b"".join(_form(payload, boundary)), f"multipart/form-data; boundary={boundary}"
    return _json(payload).encode(), "application/json"


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain, allow_nan=False)


def _plain(value: Any) -> Any:
    """What is in rows and not in JSON, as it is meant."""
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(
        f"the payload has a {type(value).__name__}, which JSON has no word for: make text or numbers of it in preprocess="
    )


def _is_file(value: Any) -> bool:
    if isinstance(value, Mapping):
        # A message or a document in JSON has a text as its content, and no file's name.
        return "content" in value and ("filename" in value or isinstance(value["content"], (bytes, bytearray)))
    return isinstance(value, (bytes, bytearray))


def _form(payload: Mapping[str, Any], boundary: str) -> Iterator[bytes]:
    for name, value in payload.items():
        told, kind = "", None
        if isinstance(value, Mapping) and _is_file(value):
            told, kind = f'; filename="{_quoted(value.get("filename") or name)}"', value.get("content_type")
            value = value["content"]
        elif isinstance(value, (bytes, bytearray)):
            told = f'; filename="{_quoted(name)}"'
        if told and kind is None:
            kind = "application/octet-stream"
        content = (
            value
            if isinstance(value, (bytes, bytearray))
            else (value if isinstance(value, str) else _json(value)).encode()
        )
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{told}\r\n'
        yield (head + (f"Content-Type: {_quoted(kind)}\r\n" if kind else "") + "\r\n").encode()
        yield bytes(content) + b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _quoted(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
