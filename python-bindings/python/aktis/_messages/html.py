"""What notebooks show in the place of a repr. Nothing here runs a task, or waits for one.

Whatever comes from outside, names and values alike, is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_CELL = "text-align:left;vertical-align:top;padding:1px 12px 1px 0"


def text(value: object) -> str:
    """A value as HTML that shows it as it is.

    >>> text("<b>")
    '&lt;b&gt;'
    """
    import html

    return html.escape(str(value))


def titled(title: str, *parts: str) -> str:
    """A title, which is escaped, above pieces of HTML."""
    return f"<div><b>{text(title)}</b>{''.join(parts)}</div>"


def line(said: str) -> str:
    """A line of text below a title, escaped."""
    return f'<div style="opacity:0.75">{text(said)}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Heads are escaped, cells are HTML already.

    >>> table(["a"], [["1"]]).count("<tr>")
    2
    """
    head = "".join(f'<th style="{_CELL}">{text(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in rows)
    return f'<table style="margin:0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """A table of names and values; both are escaped."""
    rows = "".join(
        f'<tr><td style="{_CELL};opacity:0.75">{text(name)}</td><td style="{_CELL}"><code>{text(value)}</code></td></tr>'
        for name, value in pairs
    )
    return f'<table style="margin:0"><tbody>{rows}</tbody></table>'


def reference(ref: Any) -> str:
    """A reference: whether its value is there yet, not the value."""
    from .._session import session

    if not session.is_initialized():
        state = "its session is over"
    elif ref.is_ready():
        state = "ready, or failed: get() says which"
    else:
        state = "still being made"
    return titled("ObjectRef", facts([("id", ref.hex()), ("state", state)]))


def actor(handle: Any) -> str:
    """An actor: its class, its id and what can be called."""
    spec = handle._spec
    calls = ", ".join(f"{name}.remote()" for name in sorted(spec.methods) if not name.startswith("_"))
    return titled(f"Actor of class {spec.class_name}", facts([("id", handle._core.id()), ("methods", calls or "none")]))
