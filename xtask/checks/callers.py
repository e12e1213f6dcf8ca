"""What is `pub` and has no caller: dead code that rustc cannot see, because somebody outside might call it.

A caller is code of a crate that can see the item, outside the item itself and outside the tests of its own crate. Names are
compared and not types: a method that shares its name with one that is called passes. So the check finds less than there is and
complains of nothing that lives.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import tomllib
from collections import defaultdict

from rust import ROOT, Source, item_end

_PUBLIC = re.compile(
    r"^(?P<indent>[ \t]*)pub(?P<reach>\([^)]*\))?\s+(?:default\s+|const\s+(?=fn|unsafe|async)|async\s+|unsafe\s+|extern\s+\"[^\"]*\"\s+)*"
    r"(?P<kind>fn|struct|enum|trait|type|const|static|union)\s+(?P<name>[A-Za-z_]\w*)",
    re.MULTILINE,
)
_USE = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))?\s+)?use\s[^;]*;", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_]\w*")
_IMPL = re.compile(r"\bimpl\b[^{;]*\{")
#: Called by others than Rust: Python, C, the command line of a derive.
_OUTWARD = re.compile(r"#\[(?:py|no_mangle|unsafe\(no_mangle|unsafe\(export|export_name)")

#: Whose public items are for programs that are not here. `pub(crate)` has to have callers there as well.
FOR_OTHERS = {"aktis": "the Rust API"}
#: What is public for another reason, by crate and name.
_COPIES = "copies between the store and a GPU, tested on one: their callers are the store and models that take arrays"
ALLOWED: dict[tuple[str, str], str] = {
    **{
        ("cuda", name): _COPIES
        for name in ("CopyStream", "to_device", "to_host", "PinnedRange", "progress", "info", "DEFAULT_CHUNK_BYTES")
    },
    ("data", "GATHER"): "one of the four kinds of edges; what cuts a plan at a gather comes with aggregates",
    ("inference/candle", "TABLE_SYMBOL"): "abi.rs is compiled into inference as well, which looks for the symbol",
    (
        "object-store",
        "in_place",
    ): "producers that write straight into the arena; until there is one, the tests of ranges write by it",
    ("operator", "AktisCronJobSpec"): "the derive of kube makes AktisCronJob of it",
    ("raylet", "grpc_address"): "tests of a node speak to it from outside, as other nodes do",
}


@dataclasses.dataclass
class Item:
    """Something that is `pub`."""

    source: Source
    name: str
    kind: str
    is_method: bool
    is_crates: bool
    start: int
    end: int


def complaints(
    files: list[Source], users: dict[str, set[str]], allowed: dict[tuple[str, str], str] | None = None
) -> list[str]:
    """One sentence for each item without a caller. `users`: for each crate those that can see it, itself included."""
    allowed = ALLOWED if allowed is None else allowed
    items = [item for source in files for item in _items(source)]
    traits = {item.name for item in items if item.kind == "trait"}
    places = _mentions(files, {item.name for item in items}, traits)
    found = []
    for item in items:
        if (item.source.crate, item.name) in allowed:
            continue
        if item.source.crate in FOR_OTHERS and not item.is_crates:
            continue
        if not any(_calls(item, source, offset, users) for source, offset in places[item.name]):
            found.append(
                f"{item.source.place(item.start)}: {item.kind} {item.name} is public and nothing calls it but its own tests: delete it with "
                "them; make it private, or #[cfg(test)] if it only looks for tests; or say in xtask/checks/callers.py who needs it"
            )
    there = {(item.source.crate, item.name) for item in items}
    return found + [
        f"xtask/checks/callers.py allows {crate}: {name}, which is gone: remove the line"
        for crate, name in allowed
        if (crate, name) not in there
    ]


def _items(source: Source) -> list[Item]:
    items = []
    for found in _PUBLIC.finditer(source.code):
        if source.is_test(found.start()) or _OUTWARD.search(_attributes(source, found.start())):
            continue
        kind = found.group("kind")
        items.append(
            Item(
                source=source,
                name=found.group("name"),
                kind=kind,
                is_method=kind == "fn" and bool(found.group("indent")),
                is_crates=found.group("reach") is not None,
                start=found.start("kind"),
                end=item_end(source.code, found.start("kind")),
            )
        )
    return items


def _attributes(source: Source, offset: int) -> str:
    """The lines before an item that belong to it."""
    lines = source.code[:offset].splitlines()
    above = []
    while lines and (
        lines[-1].strip().startswith(("#[", ")]")) or not lines[-1].strip() or lines[-1].startswith(" " * 8)
    ):
        above.append(lines.pop())
        if len(above) > 20:
            break
    return "\n".join(above)


def _mentions(files: list[Source], names: set[str], traits: set[str]) -> dict[str, list[tuple[Source, int]]]:
    """Where each name stands in code or between quotes, imports left out, and the heads of `impl` but for traits."""
    places: dict[str, list[tuple[Source, int]]] = defaultdict(list)
    for source in files:
        code = _USE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source.code_and_strings)
        for found in _IMPL.finditer(source.code):
            head = _NAME.sub(
                lambda name: name.group() if name.group() in traits else " " * len(name.group()), found.group()
            )
            code = code[: found.start()] + head + code[found.end() :]
        for found in _NAME.finditer(code):
            if found.group() in names:
                places[found.group()].append((source, found.start()))
    return places


def _calls(item: Item, source: Source, offset: int, users: dict[str, set[str]]) -> bool:
    """Whether the name at that place is a call, or a use, of the item."""
    own = item.source.crate
    if source.crate != own and (item.is_crates or source.crate not in users.get(own, set())):
        return False
    if source is item.source and item.start <= offset < item.end:
        return False
    # Examples are programs, and callers; what looks at the crate from its own tests is none.
    if source.crate == own and source.is_test(offset) and "/examples/" not in source.path:
        return False
    before, after = source.text[:offset][-24:], source.text[offset + len(item.name) :][:24]
    if re.search(r"\b(?:fn|struct|enum|trait|type|const|static|union|mod|let|for)\s+(?:mut\s+)?$", before):
        return False
    if source.code[offset : offset + 1] == " ":  # between quotes: a path in an attribute, or a constant in a format
        return bool(re.search(r'["{:]$', before) and re.match(r'["}:]', after))
    if item.kind != "fn":
        return True
    if re.search(r"::\s*$", before) or re.match(r"\s*(?:\(|::<)", after):
        return True
    return not item.is_method and bool(re.match(r"\s*[,);]", after)) and not before.endswith(".")


def users(root: pathlib.Path = ROOT) -> dict[str, set[str]]:
    """For each crate, by its folder, the folders of those that depend on it, and its own."""
    manifests = {}
    for path in root.glob("**/Cargo.toml"):
        if "target" in path.parts or ".venv" in path.parts:
            continue
        manifest = tomllib.loads(path.read_text())
        if "package" in manifest:
            manifests[path.parent.relative_to(root).as_posix()] = manifest
    folders = {manifest["package"]["name"]: folder for folder, manifest in manifests.items()}
    found: dict[str, set[str]] = {folder: {folder} for folder in manifests}
    for folder, manifest in manifests.items():
        tables = [manifest, *manifest.get("target", {}).values()]
        for table in tables:
            for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
                for name in table.get(kind, {}):
                    if name in folders:
                        found[folders[name]].add(folder)
    # What a crate gives on from another is seen by those that use it.
    for _ in manifests:
        for seen in found.values():
            for folder in list(seen):
                seen |= found[folder]
    return found
