"""What documents name is there: files, folders, and the pages and headings that they link to."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[3]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
FILES = {path for path in TRACKED if path}
FOLDERS = {str(parent) for path in FILES for parent in pathlib.PurePath(path).parents} - {"."}
AT_THE_ROOT = {path.partition("/")[0] for path in FOLDERS}
PAGES = sorted(path for path in FILES if path.endswith(".md"))
#: What names a file by itself. Others with a dot in them are names of Python or of settings.
KINDS = "rs|py|pyi|proto|toml|md|sh|svg|jinja2"
#: Made by commands and programs, so that no clone has them at first.
MADE = {"docs/api", "dist", ".venv", "target", "benches/results", "aktis/logs"}


def expanded(path: str) -> list[str]:
    """``a/{b,c}`` as ``a/b`` and ``a/c``."""
    braces = re.search(r"\{([^{}]*)\}", path)
    if braces is None:
        return [path]
    return [
        end for part in braces[1].split(",") for end in expanded(path[: braces.start()] + part + path[braces.end() :])
    ]


def paths_in(text: str) -> list[str]:
    """What a page says in code that can only be a path of this repository."""
    words = [word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]
    paths = [path for word in words for path in expanded(word.strip(",;:").rstrip("/").removeprefix("./"))]
    named = re.compile(rf"[\w.*/-]+\.(?:{KINDS})|(?:{'|'.join(map(re.escape, sorted(AT_THE_ROOT)))})/[\w.*/-]+")
    return [path for path in paths if named.fullmatch(path)]


def is_there(path: str) -> bool:
    if any(path == made or path.startswith(f"{made}/") for made in MADE):
        return True
    if path in FILES or path in FOLDERS:
        return True
    if "*" in path:
        return any(pathlib.PurePath(file).match(path) for file in FILES)
    # The end of a path says enough where the text around it says which crate it is about.
    return path.partition("/")[0] not in AT_THE_ROOT and any(file.endswith(f"/{path}") for file in FILES)


def headings(page: str) -> set[str]:
    lines = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", lines, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links_in(text: str) -> list[str]:
    return re.findall(
        r"\]\(((?!https?:|mailto:)[^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    assert [path for path in paths_in((ROOT / page).read_text()) if not is_there(path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_page_and_heading_that_a_page_links_to_exists(page: str) -> None:
    missing = []
    for link in links_in((ROOT / page).read_text()):
        target, _, heading = link.partition("#")
        path = (ROOT / page).parent / target if target else ROOT / page
        if not path.exists() or (heading and heading not in headings(str(path.resolve().relative_to(ROOT)))):
            missing.append(link)
    assert missing == []


def answers() -> list[tuple[str, str]]:
    """The rows of "Where would it go?": what is asked, and the column that says where."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where would it go?")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.split("\n") if line.startswith("| ")]
    return [(row[0], row[1]) for row in rows if row[0] != "what"]


@pytest.mark.parametrize(("what", "where"), answers())
def test_every_new_thing_has_one_folder(what: str, where: str) -> None:
    (folder,) = re.findall(r"`([^`]+)`", where)
    assert folder in FOLDERS, what


@pytest.mark.parametrize(
    "what", ["join", "aggregator", "source", "sink", "placement", "metric", "page", "event", "setting", "command"]
)
def test_the_next_features_have_an_answer(what: str) -> None:
    assert any(re.search(rf"\b{what}\b", asked) for asked, _ in answers())


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`docs/adr/nothing.md` and `worker/src/{lib,nothing}.rs`", ["docs/adr/nothing.md", "worker/src/nothing.rs"]),
        ("`worker/src/nothing` and `nothing.rs`", ["worker/src/nothing", "nothing.rs"]),
        ("`worker/src/lib.rs`, `runtime/submit.rs`, `gcs/src/*.rs`, `worker/src/core`, `a/b`, `aktis.data`", []),
    ],
)
def test_a_path_that_is_not_there_is_found(text: str, missing: list[str]) -> None:
    assert [path for path in paths_in(text) if not is_there(path)] == missing
