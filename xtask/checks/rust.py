"""Rust text as the checks read it: what is code, what a comment says, what belongs to tests.

A lexer and no parser: it knows comments, strings and braces, which is what the checks need, and takes a second for all crates.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

#: Whatever hides code from a reader of characters, and a lifetime, which looks like the begin of a character.
_HIDING = re.compile(
    r"""(?P<comment>//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)
      | (?P<string>b?r(?P<hashes>\#*)"(?:(?!"(?P=hashes)).|\n)*"(?P=hashes) | b?"(?:\\.|[^"\\]|\\\n)*")
      | (?P<char>b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F]+\}|.)|[^'\\\n])')""",
    re.VERBOSE,
)
_TEST_ATTRIBUTE = re.compile(r"#\[(?:cfg\((?:test|any\(test[^\]]*)\)|(?:tokio::)?test\b[^\]]*)\]")
_TEST_MODULE = re.compile(_TEST_ATTRIBUTE.pattern + r"\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+);")
#: Files that are tests whole, by the name of a folder or of the file.
_TEST_FOLDERS = {"tests", "testing", "examples", "benches"}


@dataclasses.dataclass
class Source:
    """One file, with the path from the root of the repository."""

    path: str
    text: str
    #: Whether another file says `#[cfg(test)] mod` of it.
    is_of_tests: bool = False

    @property
    def crate(self) -> str:
        """The folder of its crate: `raylet`, `inference/candle`, `tests/cluster`."""
        parts = self.path.split("/")
        if parts[0] == "tests":
            return "/".join(parts[:2])
        inside = [
            depth
            for depth, part in enumerate(parts)
            if depth and part in {"src", "tests", "examples", "benches", "build.rs"}
        ]
        return "/".join(parts[: inside[0]])

    @functools.cached_property
    def code(self) -> str:
        """The text with blanks for comments and for what is between quotes; every character keeps its place."""
        return _HIDING.sub(lambda found: _blank(found, comments=True), self.text)

    @functools.cached_property
    def code_and_strings(self) -> str:
        """The text with blanks for comments."""
        return _HIDING.sub(lambda found: _blank(found, comments=False), self.text)

    @functools.cached_property
    def is_test_file(self) -> bool:
        parts = self.path.split("/")
        return (
            self.is_of_tests
            or bool(_TEST_FOLDERS & set(parts[:-1]))
            or parts[-1] == "tests.rs"
            or parts[-1].endswith("_tests.rs")
        )

    @functools.cached_property
    def test_spans(self) -> list[tuple[int, int]]:
        """What of the file is compiled for tests only."""
        if self.is_test_file:
            return [(0, len(self.text))]
        return [(found.start(), item_end(self.code, found.end())) for found in _TEST_ATTRIBUTE.finditer(self.code)]

    def is_test(self, offset: int) -> bool:
        return any(start <= offset < end for start, end in self.test_spans)

    @functools.cached_property
    def _line_starts(self) -> list[int]:
        return [0] + [found.end() for found in re.finditer("\n", self.text)]

    def line(self, offset: int) -> int:
        return bisect.bisect_right(self._line_starts, offset)

    def line_text(self, offset: int) -> str:
        return self.text.splitlines()[self.line(offset) - 1]

    def place(self, offset: int) -> str:
        return f"{self.path}:{self.line(offset)}"


def _blank(found: re.Match[str], comments: bool) -> str:
    """The same length, with newlines where they were; strings keep their quotes."""
    text = found.group()
    if found.group("comment") is not None:
        return re.sub(r"[^\n]", " ", text)
    if not comments:
        return text
    opening = text.index('"') if found.group("string") is not None else text.index("'")
    return text[: opening + 1] + re.sub(r"[^\n]", " ", text[opening + 1 : -1]) + text[-1]


def item_end(code: str, start: int) -> int:
    """Where the item ends that begins at `start`, which may be before its attributes: after its `;` or its last brace."""
    depth = 0
    for found in re.compile(r"[\[({})\];]").finditer(code, start):
        sign = found.group()
        if sign in "[({":
            depth += 1
        elif sign in "])}":
            depth -= 1
            if depth < 0:
                return found.start()
            if depth == 0 and sign == "}":
                return found.end()
        elif depth == 0:
            return found.end()
    return len(code)


def tracked(*patterns: str, root: pathlib.Path = ROOT) -> list[str]:
    """Paths of this repository that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(path for path in set(listed) if (root / path).is_file())


def sources(root: pathlib.Path = ROOT) -> list[Source]:
    """All Rust of the repository."""
    return with_test_modules([Source(path, (root / path).read_text()) for path in tracked("*.rs", root=root)])


def with_test_modules(files: list[Source]) -> list[Source]:
    """Knows which files are modules of tests because of how another file declares them."""
    folders: set[str] = set()
    for source in files:
        folder = re.sub(r"(?:/(?:mod|lib|main))?\.rs$", "", source.path)
        folders |= {f"{folder}/{name}" for name in _TEST_MODULE.findall(source.code)}
    for source in files:
        source.is_of_tests = any(
            source.path == f"{folder}.rs" or source.path.startswith(f"{folder}/") for folder in folders
        )
    return files
