"""Removes texts that say nearly the same as an earlier one, by their embeddings. No row passes this process.

    python examples/near_duplicates.py
    python examples/near_duplicates.py --rows 100000

What happens::

    texts ──► Embedder ──► buckets: 8 rows for each, by signs of ──► group by bucket ──► ids that have an earlier neighbour
       │      (vectors)             random projections                 (cosines inside)                │
       └───────────────────────────────────────────────────────────────────────── left anti join ◄─────┘ ──► Parquet

Vectors that are near have the same signs along most directions, so that they meet in one of the buckets at least; only those that meet are compared.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import aktis
import aktis.data
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIMENSIONS = 256
#: Tables of buckets, and directions whose signs name a bucket. More tables find more; more directions compare less.
TABLES, DIRECTIONS = 8, 12
#: From which cosine on two texts are the same.
LEAST_COSINE = 0.92
#: Every so many texts one is a copy of the text before it, with a word changed.
COPIES_EVERY = 5
SYLLABLES = [
    "am",
    "bir",
    "ce",
    "del",
    "em",
    "fjo",
    "gro",
    "ha",
    "in",
    "jet",
    "kno",
    "led",
    "mar",
    "nor",
    "oce",
    "pi",
    "qua",
    "rid",
    "sho",
    "tar",
]

Batch = dict[str, np.ndarray]


class Embedder:
    """Texts as vectors of length 1: how often each triple of letters occurs, hashed. `aktis.models.TextEmbedder` may stand in its place."""

    def __call__(self, batch: Batch) -> Batch:
        return {"id": batch["id"], "vector": np.stack([self.embed(text) for text in batch["text"]])}

    def embed(self, text: str) -> np.ndarray:
        vector = np.zeros(DIMENSIONS, dtype=np.float32)
        for at in range(len(text) - 2):
            vector[zlib.crc32(text[at : at + 3].encode()) % DIMENSIONS] += 1
        return vector / np.linalg.norm(vector)


def buckets(batch: Batch) -> Batch:
    """Each row once for each table, with the bucket that it has there."""
    directions = np.random.default_rng(0).normal(size=(DIMENSIONS, TABLES * DIRECTIONS))
    # Around their middle: without that all counts are positive, and signs would tell little apart.
    signs = (batch["vector"] - 1 / DIMENSIONS**0.5) @ directions > 0
    numbers = signs.reshape(-1, TABLES, DIRECTIONS) @ (1 << np.arange(DIRECTIONS))
    numbers += np.arange(TABLES) << DIRECTIONS
    return {
        "bucket": numbers.reshape(-1),
        "id": np.repeat(batch["id"], TABLES),
        "vector": np.repeat(batch["vector"], TABLES, axis=0),
    }


def later_ones(bucket: Batch) -> Batch:
    """Ids of the rows of a bucket that are near an earlier one."""
    order = np.argsort(bucket["id"])
    vectors = np.stack(list(bucket["vector"]))[order]
    is_near = np.tril(vectors @ vectors.T >= LEAST_COSINE, k=-1).any(axis=1)
    return {"id": bucket["id"][order][is_near]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3000, help="texts (default: 3000)")
    output = Path(__file__).resolve().parent.parent / "demo-output" / "near_duplicates"
    parser.add_argument("--output", type=Path, default=output)
    arguments = parser.parse_args()
    source, target = arguments.output / "texts", arguments.output / "different"
    write_texts(source, arguments.rows)

    aktis.init()
    texts = aktis.data.read_parquet(str(source))
    bucketed = texts.map_batches(Embedder, batch_size=256).map_batches(buckets, batch_size=256)
    copies = bucketed.groupby("bucket").map_groups(later_ones, batch_format="numpy")
    different = texts.join(copies, "left_anti", 8, on=("id",))
    different.write_parquet(str(target), mode="overwrite")
    report(target, arguments.rows)
    aktis.shutdown()


def write_texts(folder: Path, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw, texts = np.random.default_rng(1), list[str]()
    for row in range(rows):
        words = ["".join(word) for word in draw.choice(SYLLABLES, (30, 2))]
        if row % COPIES_EVERY == 1:
            words = texts[-1].split()
            words[draw.integers(len(words))] = "lake"
        texts.append(" ".join(words))
    pq.write_table(pa.table({"id": range(rows), "text": texts}), folder / "texts.parquet", row_group_size=500)


def report(folder: Path, rows: int) -> None:
    """How many of the copies that were put in are gone, and how many others."""
    kept = set(pq.read_table(folder, columns=["id"])["id"].to_pylist())
    copies = {row for row in range(rows) if row % COPIES_EVERY == 1}
    gone = set(range(rows)) - kept
    print(f"{len(gone & copies)} of {len(copies)} copies are gone, and {len(gone - copies)} other texts")


if __name__ == "__main__":
    main()
