"""Labels of invariants: each has one meaning, is kept by code and cited by a test.

    `OBJ-3 (sealed-is-immutable)`: the bytes of a sealed object never change.

A label is *stated* where its name stands in brackets and a sentence follows, in the documentation of a module. `lib.rs` states
it, or lists it with the module that does. Code that keeps it cites it in a comment or a message beside the code; a function that
only looks whether it holds (`check.rs`, `invariants.rs`) does not keep it. Tests cite what they would see broken.
"""

from __future__ import annotations

import dataclasses
import re

from rust import Source

_LABEL = r"[A-Z]{2,6}-[A-Z]?\d+"
_NAMED = re.compile(rf"\b({_LABEL}) \(([a-z][a-z0-9]*(?:-[a-z0-9]+)*)\)(`?: | \| )?")
_CITED = re.compile(rf"\b({_LABEL})\b")
_RANGE = re.compile(r"`([A-Z]{2,6})-([A-Z]?)(\d+)(?:\.\.(\d+))?`")
#: What looks the same and is something else.
_FOREIGN = re.compile(r"(?:UTF|SHA|IEEE|RFC|ISO|CRC|MD|AES|TLS|PEP|INT|FP|BF|XXH|D|E)-?\d+$")
_LOOKS_ONLY = ("/check.rs", "/invariants.rs")


@dataclasses.dataclass
class Label:
    """Where a label occurs."""

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    stated: list[str] = dataclasses.field(default_factory=list)
    listed: list[str] = dataclasses.field(default_factory=list)
    #: Rows of a table in lib.rs: the statement, unless a module states it at length.
    in_table: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    tested: list[str] = dataclasses.field(default_factory=list)
    cited: list[str] = dataclasses.field(default_factory=list)


def complaints(files: list[Source], python: list[Source], architecture: str) -> list[str]:
    """What is wrong, one sentence each. `python`: the package and its tests; `architecture`: the page with the table."""
    labels: dict[str, Label] = {}
    for source in files:
        _read(source, labels)
    for source in python:
        _read_python(source, labels)
    prefixes = {_prefix(name) for name, label in labels.items() if label.names}
    found = []
    for name, label in sorted(labels.items(), key=lambda item: _order(item[0])):
        if label.names or _prefix(name) in prefixes:
            found += _judge(name, label)
    return found + _judge_table({name for name, label in labels.items() if label.names}, architecture)


def _read(source: Source, labels: dict[str, Label]) -> None:
    is_lib = source.path.endswith("src/lib.rs")
    for found in _CITED.finditer(source.text):
        name, place = found.group(1), source.place(found.start())
        if _FOREIGN.match(name):
            continue
        label = labels.setdefault(name, Label())
        label.cited.append(place)
        named = _NAMED.match(source.text, found.start())
        is_module_doc = source.line_text(found.start()).lstrip().startswith("//!")
        if source.is_test(found.start()):
            label.tested.append(place)
        elif not is_module_doc and not source.path.endswith(_LOOKS_ONLY):
            label.kept.append(place)
        if named:
            label.names.setdefault(named.group(2), place)
        if named and is_lib and is_module_doc and named.group(3) == " | ":
            label.in_table.append(place)
        elif (
            named
            and is_module_doc
            and not source.is_test(found.start())
            and named.group(3)
            and not _is_listing(source, found.start())
        ):
            label.stated.append(place)
        if named and is_lib and is_module_doc:
            label.listed.append(place)


def _is_listing(source: Source, offset: int) -> bool:
    """Whether the entry of the list that the label stands in only says where its statement is."""
    entry = re.split(r"\n//! ?(?:- |\n|\||#)", source.text[offset:], maxsplit=1)[0]
    entry = re.split(r"\n(?!//! ?\S)", entry, maxsplit=1)[0]
    after = entry.rsplit(")`: ", 1)[-1].replace("//!", " ").strip()
    return bool(re.fullmatch(r"(?:\[`[^\]]*`\](?:\([^)]*\))?|`[^`]*`)[.,]?", " ".join(after.split())))


def _read_python(source: Source, labels: dict[str, Label]) -> None:
    is_test = source.path.startswith("tests/")
    docstring_end = source.text.find('"""', 3) if source.text.startswith('"""') else 0
    for found in _CITED.finditer(source.text):
        name, place = found.group(1), source.place(found.start())
        if _FOREIGN.match(name):
            continue
        label = labels.setdefault(name, Label())
        label.cited.append(place)
        named = _NAMED.match(source.text, found.start())
        if named:
            label.names.setdefault(named.group(2), place)
        if is_test:
            label.tested.append(place)
        elif found.start() > docstring_end:
            label.kept.append(place)
        elif named and named.group(3):
            label.stated.append(place)
            label.listed.append(place)


def _judge(name: str, label: Label) -> list[str]:
    if not label.names:
        return [
            f"{label.cited[0]}: {name} is cited and stated nowhere: state it in the documentation of the module that keeps it"
        ]
    label.stated = label.stated or label.in_table
    found = []
    if len(label.names) > 1:
        meanings = ", ".join(f"{meaning} ({place})" for meaning, place in sorted(label.names.items()))
        found.append(f"{name} means {len(label.names)} things: {meanings}: give one of them a label of its own")
    if not label.stated:
        found.append(
            f"{name} is listed at {label.listed[0] if label.listed else label.cited[0]} and no module states it"
        )
    if len(label.stated) > 1:
        found.append(
            f"{name} is stated {len(label.stated)} times: {', '.join(label.stated)}: state it once, list or cite it elsewhere"
        )
    if not label.listed:
        found.append(
            f"{name} ({(label.stated or label.cited)[0]}) is not in its crate's lib.rs: list it there with its name"
        )
    if not label.kept:
        found.append(
            f"{name} ({(label.stated or label.cited)[0]}) is kept nowhere: cite it beside the code that keeps it, or delete it"
        )
    if not label.tested:
        found.append(
            f"{name} ({(label.stated or label.cited)[0]}) is cited by no test: write the test that sees it broken, and cite it there"
        )
    return found


def _judge_table(stated: set[str], architecture: str) -> list[str]:
    """The table of invariants in the architecture page has exactly the labels that are stated."""
    section = architecture.partition("## Invariants")[2]
    first_cells = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    table: set[str] = set()
    for prefix, letter, first, last in _RANGE.findall(first_cells):
        table |= {f"{prefix}-{letter}{number}" for number in range(int(first), int(last or first) + 1)}
    return [
        f"docs/architecture.md: {name} is stated and not in the table of invariants"
        for name in sorted(stated - table, key=_order)
    ] + [
        f"docs/architecture.md: the table of invariants has {name}, which is stated nowhere"
        for name in sorted(table - stated, key=_order)
    ]


def _prefix(name: str) -> str:
    return name.rstrip("0123456789")


def _order(name: str) -> tuple[str, int]:
    return _prefix(name), int(name[len(_prefix(name)) :])
