"""Embeds the docstrings of the Python standard library with a real model, then searches them by meaning.

    make demo                                        # builds everything, fetches the model, runs this
    python examples/semantic_search.py --rows 500 --query "send an email"

What happens, on a laptop and with no service running::

    docstrings ──► Parquet ──► read ──► TextEmbedder (native, in an actor pool) ──► Parquet ──► search
    (ast)          pyarrow     └────────── one streaming aktis.data job ─────────────────┘      numpy
"""

from __future__ import annotations

import argparse
import ast
import os
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import aktis
import aktis.data
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aktis.models import TextEmbedder

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = Path(os.environ.get("AKTIS_TEST_MODEL_DIR", REPOSITORY / ".models" / "all-MiniLM-L6-v2"))
QUERIES = (
    "make a temporary directory that is deleted afterwards",
    "send an email message to a server",
    "pick a random element from a list",
)
#: Docstrings shorter than this say too little to be found; longer ones are beyond what the model reads anyway.
SHORTEST, LONGEST = 40, 2000
#: Folders of the standard library that are tests, tools with a window, or not part of it.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "pydoc_data"}
INPUT_FILES = 4

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Row = dict[str, str]


def main() -> None:
    arguments = parse_arguments()
    if not (arguments.model / "tokenizer.json").is_file():
        raise SystemExit(f"there is no model in {arguments.model}: run `make model`")
    source, target = arguments.output / "docstrings", arguments.output / "embeddings"

    begun = time.perf_counter()
    rows = spread(list(docstrings(Path(sysconfig.get_path("stdlib")))), arguments.rows)
    write_parquet(rows, source)
    print(f"{len(rows)} docstrings -> {source} ({time.perf_counter() - begun:.1f} s)")

    begun = time.perf_counter()
    aktis.init()
    print(f"session started in {time.perf_counter() - begun:.2f} s")
    embedder = TextEmbedder(arguments.model, column="text")
    embed(source, target, embedder)
    search(target, embedder, tuple(arguments.query or QUERIES))
    count_with_datafusion(target)
    aktis.shutdown()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3000, help="docstrings to embed (default: 3000)")
    parser.add_argument("--model", type=Path, default=MODEL, help="model folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "demo-output" / "semantic_search")
    parser.add_argument("--query", action="append", help="a search of your own; may be given several times")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------ the text


def docstrings(root: Path) -> Iterator[Row]:
    """The public modules, classes and functions below `root` that have a docstring. Nothing is imported."""
    seen = set()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        if LEFT_OUT & set(relative.parts) or not is_public(module):
            continue
        for name, node in documented(module, parse(path)):
            text = ast.get_docstring(node) or ""
            if SHORTEST <= len(text) <= LONGEST and text not in seen:
                seen.add(text)
                yield {"name": name, "kind": kind_of(node), "text": f"{name}: {text}"}


def parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in string literals
        try:
            return ast.parse(path.read_bytes())
        except SyntaxError:  # templates and files for other versions
            return ast.Module(body=[], type_ignores=[])


def documented(name: str, node: Documented) -> Iterator[tuple[str, Documented]]:
    """The node and everything public inside it, with dotted names."""
    yield name, node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and is_public(child.name):
            yield from documented(f"{name}.{child.name}", child)


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def kind_of(node: Documented) -> str:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def spread(rows: list[Row], count: int) -> list[Row]:
    """At most `count` of the rows, evenly spaced."""
    if len(rows) <= count:
        return rows
    return [rows[index * len(rows) // count] for index in range(count)]


def write_parquet(rows: list[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    per_file = -(-table.num_rows // INPUT_FILES)
    for part in range(INPUT_FILES):
        pq.write_table(table.slice(part * per_file, per_file), folder / f"part-{part}.parquet")


# ------------------------------------------------------------------------------------------------ the job


def embed(source: Path, target: Path, embedder: TextEmbedder) -> None:
    """Reads, embeds and writes, all at the same time; shows progress on a terminal."""
    begun = time.perf_counter()
    job = aktis.data.read_parquet(str(source)).map_batches(embedder, compute=aktis.data.ActorPoolStrategy(size=1))
    job.write_parquet(str(target), mode="overwrite")
    seconds = time.perf_counter() - begun
    rows = pq.read_table(target, columns=["name"]).num_rows
    print(f"{rows} rows embedded -> {target}")
    print(f"throughput: {rows / seconds:.1f} rows/s ({seconds:.1f} s, loading of the model included)")


# ------------------------------------------------------------------------------------------------ the answers


def search(folder: Path, embedder: TextEmbedder, queries: tuple[str, ...]) -> None:
    """The three rows nearest in meaning to each query, by cosine over the Parquet files that the job wrote."""
    table = pq.read_table(folder)
    embedded = aktis.data.from_items([{"text": query} for query in queries]).map_batches(
        embedder, compute=aktis.data.ActorPoolStrategy(size=1)
    )
    questions = vectors(embedded.to_arrow())
    scores = questions @ vectors(table).T  # the vectors have length 1, so that this is the cosine
    for query, row_scores in zip(queries, scores, strict=True):
        print(f"\n{query!r}")
        for index in np.argsort(-row_scores)[:3]:
            name = table["name"][index].as_py()
            summary = table["text"][index].as_py().removeprefix(f"{name}: ").partition("\n")[0]
            print(f"  {row_scores[index]:.3f}  {name}: {summary}")


def vectors(table: pa.Table) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def count_with_datafusion(folder: Path) -> None:
    """The same files read by Aktis, whose filters are DataFusion expressions pushed down into the Parquet reader."""
    written = aktis.data.read_parquet(str(folder))
    kinds = {kind: written.filter(expr=f"kind = '{kind}'").count() for kind in ("module", "class", "function")}
    print(f"\nread back by DataFusion: {kinds}")


if __name__ == "__main__":
    main()
