"""Embeds texts in a job that is killed half way, and runs it again: what was embedded before the kill is not embedded again.

    make model                                       # the model, once
    python examples/embed_and_resume.py
    python examples/embed_and_resume.py --rows 20000

The job is `embed()`, five lines that know nothing of kills. It runs in a process of its own, as a script of yours would, which gets
SIGKILL when part of the rows lie on the disk. Then it runs again: the same command, no column of ids, no setting.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import aktis
import aktis.data
import pyarrow as pa
import pyarrow.parquet as pq
from aktis.models import TextEmbedder

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = Path(os.environ.get("AKTIS_TEST_MODEL_DIR", REPOSITORY / ".models" / "all-MiniLM-L6-v2"))
INPUT_FILES = 8
WORDS = [
    "a",
    "river",
    "of",
    "light",
    "over",
    "the",
    "old",
    "harbour",
    "where",
    "nobody",
    "sells",
    "coffee",
    "in",
    "winter",
]
#: Some 60 vectors, in the journal of a worker.
KEPT_BYTES = 100_000
PATIENCE_S = 100


def embed(source: Path, target: Path, model: Path) -> None:
    """The job. `resume="auto"`, the default, goes on with what an earlier run has left."""
    embedded = aktis.data.read_parquet(str(source)).map_batches(TextEmbedder(model, column="text"))
    embedded.write_parquet(str(target), mode="append")
    table = embedded.stats(format="table")
    (step,) = (row for row in table.to_pylist() if "TextEmbedder" in row["operator"])
    # Rows whose vectors are there already come to the step, and do not come to the model.
    print(f"this run embedded {step['rows_out']} of the {step['rows_in']} rows that it read")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3000, help="texts to embed (default: 3000)")
    parser.add_argument("--model", type=Path, default=MODEL, help="model folder (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "demo-output" / "embed_and_resume")
    parser.add_argument("--only-the-job", action="store_true", help="what this script runs in a process of its own")
    arguments = parser.parse_args()
    source, target = arguments.output / "texts", arguments.output / "embeddings"
    if arguments.only_the_job:
        embed(source, target, arguments.model)
        return
    if not (arguments.model / "tokenizer.json").is_file():
        raise SystemExit(f"there is no model in {arguments.model}: run `make model`")
    shutil.rmtree(arguments.output, ignore_errors=True)
    write_texts(source, arguments.rows)

    job = [sys.executable, __file__, "--only-the-job", "--model", arguments.model, "--output", arguments.output]
    first = subprocess.Popen(job)
    try:
        wait_for_rows(target, first)
    finally:
        first.kill()
        first.wait()
    print(f"killed; {len(visible(target))} files are visible, what is done lies hidden")
    subprocess.run(job, check=True)

    ids = sorted(pq.read_table(target, columns=["id"])["id"].to_pylist())
    print(f"{len(ids)} rows, each of {arguments.rows} once: {ids == list(range(arguments.rows))}")


def write_texts(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True)
    per_file = -(-rows // INPUT_FILES)
    for first in range(0, rows, per_file):
        ids = range(first, min(first + per_file, rows))
        texts = [" ".join(WORDS[(i + k * k) % len(WORDS)] for k in range(4 + i % 20)) for i in ids]
        pq.write_table(pa.table({"id": list(ids), "text": texts}), folder / f"texts-{first:08d}.parquet")


def wait_for_rows(target: Path, job: subprocess.Popen[bytes]) -> None:
    """Until some rows are kept in journals, which is where those of an input that is under way are."""
    deadline = time.monotonic() + PATIENCE_S
    while sum(path.stat().st_size for path in target.glob(".unfinished-*/*.journal")) < KEPT_BYTES:
        if job.poll() is not None:
            raise SystemExit("the job was over before it could be killed: try more --rows")
        if time.monotonic() > deadline:
            raise SystemExit(f"the job has kept nothing for {PATIENCE_S} s")
        time.sleep(0.01)


def visible(folder: Path) -> list[Path]:
    """The files that a reader takes for data."""
    return [path for path in folder.glob("*") if path.name[0] not in "._"]


if __name__ == "__main__":
    main()
