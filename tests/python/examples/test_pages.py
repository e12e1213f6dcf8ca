"""The Python of README.md and of the pages in docs/ runs as it stands, on a machine without a GPU, and prints what it says.

The blocks of a page are one program, run in an empty folder. ``print(...)   # text`` says what is printed. Blocks behind
``<!-- needs: torch -->`` run, with all others of their page, in a test of their own, which is skipped where that package is not
installed.
"""

import importlib.util
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
PAGES = sorted(
    path.relative_to(REPOSITORY)
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    if "```python" in path.read_text()
)
BLOCK = re.compile(r"^(?:<!-- needs: (?P<needs>[\w, ]+) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^print\(.*\) +# (?P<text>.+)$", re.MULTILINE)
DEADLINE_S = 180


def needs(page):
    """The packages that some blocks of the page need."""
    blocks = BLOCK.finditer((REPOSITORY / page).read_text())
    return sorted({package.strip() for block in blocks for package in (block["needs"] or "").split(",") if package})


PAGES_WITH_MORE = [page for page in PAGES if needs(page)]


def program(page, *, whole):
    """The blocks of a page as one program: all, or those that need no more than Aktis does."""
    blocks = BLOCK.finditer((REPOSITORY / page).read_text())
    return "\n".join(block["code"] for block in blocks if whole or not block["needs"])


def test_readme_and_start_page_are_among_the_pages():
    assert {"README.md", "docs/start.md"} <= {str(page) for page in PAGES}
    assert [(str(page), needs(page)) for page in PAGES_WITH_MORE] == [("docs/start.md", ["torch", "transformers"])]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_page_runs_as_it_stands(page, tmp_path):
    run(program(page, whole=False), tmp_path)


@pytest.mark.parametrize("page", PAGES_WITH_MORE, ids=str)
def test_page_runs_with_the_blocks_that_need_more(page, tmp_path):
    missing = [package for package in needs(page) if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    run(program(page, whole=True), tmp_path)


def run(source, tmp_path):
    """Runs a program in an empty folder, and looks for what it says that it prints."""
    script = tmp_path / "page.py"
    script.write_text(source)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AKTIS_")}
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = iter(done.stdout.splitlines())
    for expected in PRINTED.finditer(source):
        # `in` takes from the iterator: the lines come in the order of the page, others may lie between.
        assert expected["text"] in printed, f"{expected['text']!r} is missing:\n{done.stdout}"


def is_free(port):
    """Whether nobody listens at `port` of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(not is_free(6379), reason="something listens at port 6379, which the page names")
def test_commands_of_a_cluster_run_as_they_stand(tmp_path):
    readme = (REPOSITORY / "README.md").read_text().partition("## More than one node")[2]
    commands = re.search(r"^```\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)[1]
    assert "aktis start --head" in commands
    # In an installed environment `aktis` and `python` are on the path; the folder keeps daemons of others out of it.
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, arguments in (("aktis", "-m aktis._cli"), ("python", "")):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        tool.chmod(0o755)
    # Short, for the paths of sockets.
    sessions = tempfile.mkdtemp(prefix="aktis-")
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "AKTIS_TEMP_DIR": sessions,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "AKTIS_NUM_CPUS": "1",
    }
    try:
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env=environment,
        )
    finally:
        subprocess.run(
            [folder / "aktis", "stop"], check=False, capture_output=True, env=environment, timeout=DEADLINE_S
        )
        shutil.rmtree(sessions)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'CPU': 2.0" in done.stdout, done.stdout
