"""Real English text that is on every machine: the docstrings of the Python standard library."""

import ast
import pathlib
import random
import sysconfig
import warnings

#: Characters of a docstring that is taken; between these they have about 90 tokens on average.
SHORTEST, LONGEST = 120, 2000

#: Folders that are not part of the library proper, or differ from one installation to the next.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}


def docstrings(root):
    """Every docstring below a folder, in the order of the files."""
    for path in sorted(root.rglob("*.py")):
        if LEFT_OUT & set(path.relative_to(root).parts):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, OSError):
                continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and SHORTEST <= len(text) <= LONGEST:
                    yield text


def sample(rows):
    """That many different docstrings in a shuffled order that is the same every time."""
    texts = list(dict.fromkeys(docstrings(pathlib.Path(sysconfig.get_path("stdlib")))))
    random.Random(0).shuffle(texts)
    if len(texts) < rows:
        raise SystemExit(f"the standard library has {len(texts)} fitting docstrings, not {rows}: ask for fewer rows")
    return texts[:rows]
