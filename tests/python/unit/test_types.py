"""What type checkers say of programs that use Aktis: they find mistakes, and nothing where there is none."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from aktis import _typed
from aktis._calls import options as _options
from aktis._session import init_arguments
from aktis.data import _iterating, _keywords, _parquet_options, _reading, _transforms, _writing, _writing_files
from aktis.data import _typed as _data_typed

ROOT = pathlib.Path(__file__).parents[3]
PROGRAMS = pathlib.Path(__file__).parent / "types"
MISTAKES = PROGRAMS / "mistakes.py"
RIGHT = [PROGRAMS / "right_uses.py", *sorted((ROOT / "examples").glob("*.py"))]
#: A file and a line with an error.
Place = tuple[str, int]


def _run(*command: str) -> str:
    # It would ask the registry for a newer version of itself.
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=140, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), f"{command[0]} did not run:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def errors_of_mypy(_folder: pathlib.Path) -> set[Place]:
    output = _run("mypy", "--no-error-summary", *map(str, [MISTAKES, *RIGHT]))
    found = re.finditer(r"^([^:\n]+):(\d+): error: ", output, re.MULTILINE)
    return {(pathlib.Path(match[1]).name, int(match[2])) for match in found}


def errors_of_pyright(folder: pathlib.Path) -> set[Place]:
    files = [os.path.relpath(path, folder) for path in (MISTAKES, *RIGHT)]
    project = folder / "pyrightconfig.json"
    project.write_text(
        json.dumps({"extends": os.path.relpath(ROOT / "pyrightconfig.json", folder), "include": files, "exclude": []})
    )
    report = json.loads(_run("pyright", "--project", str(project), "--pythonpath", sys.executable, "--outputjson"))
    assert report["summary"]["filesAnalyzed"] == len(files)
    found = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    return {(pathlib.Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found}


def mistakes(*, of_mypy_too: bool) -> set[Place]:
    """The lines that are marked."""
    endings = ("# mistake", "# mistake: mypy") if of_mypy_too else ("# mistake",)
    lines = enumerate(MISTAKES.read_text().splitlines(), start=1)
    return {(MISTAKES.name, number) for number, line in lines if line.endswith(endings)}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_checker_finds_every_mistake_and_nothing_else(checker, tmp_path):
    found = {"mypy": errors_of_mypy, "pyright": errors_of_pyright}[checker](tmp_path)
    wanted = mistakes(of_mypy_too=checker == "mypy")
    assert {"missed": sorted(wanted - found), "false": sorted(found - wanted)} == {"missed": [], "false": []}


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        (_typed.TaskOptions, _options.TASK_OPTIONS - {"num_returns"}),
        (_typed.ActorOptions, _options.ACTOR_OPTIONS),
        (_typed.RemoteOptions, (_options.TASK_OPTIONS | _options.ACTOR_OPTIONS) - {"num_returns"}),
        (_typed.MethodOptions, _options.METHOD_OPTIONS),
        (
            _typed.InitOptions,
            {*init_arguments.HARMLESS, *init_arguments._ONLY_DEFAULT, *init_arguments._SETTINGS},
        ),
        (_data_typed.RemoteArgs, set(_keywords.REMOTE_ARGS)),
        (_data_typed.RowOptions, {*_keywords.REMOTE_ARGS, *_transforms._ROW_OPTIONS}),
        (_data_typed.ColumnHints, {*_keywords.REMOTE_ARGS, *_keywords.COLUMN_HINTS}),
        (_data_typed.SourceHints, {*_reading._RESOURCES, "override_num_blocks", "parallelism"}),
        (_data_typed.ReadHints, {*_reading._REFUSED, "override_num_blocks", "parallelism", "filesystem"}),
        (
            _data_typed.WriteWholeFileArgs,
            {
                *_writing_files._REFUSED,
                "num_rows_per_file",
                "max_rows_per_file",
                "partition_cols",
                "filename_provider",
                "resume",
                "dead_letters",
                "filesystem",
            },
        ),
        (_data_typed.IterArgs, set(_iterating._ITERATION.refused)),
        (
            _data_typed.WriteArgs,
            {*_writing._WRITE_KEYWORDS.refused, "num_rows_per_file", "filesystem"} - set(_keywords.PYARROW_WRITER)
            | set(_parquet_options.DEFAULTS) - {"compression", "row_group_size"},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_typed_options_are_those_that_are_accepted(options, accepted):
    assert options.__optional_keys__ == accepted
