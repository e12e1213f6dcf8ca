"""Builds an index over vectors as a job, and searches in it: each vector lies in the folder of its cell, and a search reads few of them.

    python examples/vector_index.py
    python examples/vector_index.py --rows 1000000 --cells 256

The index is what libraries call IVF: cells are found by k-means over a sample, each vector goes to the cell whose middle is nearest, and
a query looks at the vectors of the nearest cells alone. The files are ordinary Parquet::

    index/middles.npy
    index/cells/cell=0/....parquet
    index/cells/cell=1/....parquet
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import aktis
import aktis.data
import numpy as np
from aktis.data.expressions import col

DIMENSIONS = 32
CHUNK = 1000
#: Vectors that k-means learns from, for each cell.
SAMPLE_PER_CELL = 50
ROUNDS = 10

Batch = dict[str, np.ndarray]


def vectors(batch: Batch) -> Batch:
    """In the place of embeddings: vectors of length 1 around a hundred topics, a chunk for each row."""
    topics = np.random.default_rng(0).normal(size=(100, DIMENSIONS))
    made = []
    for chunk in batch["id"]:
        draw = np.random.default_rng([1, int(chunk)])
        made.append(topics[draw.integers(len(topics), size=CHUNK)] + 0.5 * draw.normal(size=(CHUNK, DIMENSIONS)))
    rows = np.concatenate(made).astype(np.float32)
    ids = (batch["id"][:, None] * CHUNK + np.arange(CHUNK)).reshape(-1)
    return {"id": ids, "vector": rows / np.linalg.norm(rows, axis=1, keepdims=True)}


def middles_of(sample: np.ndarray, cells: int) -> np.ndarray:
    """K-means: vectors of length 1, each the mean of the vectors that are nearest to it."""
    middles = sample[np.random.default_rng(2).choice(len(sample), cells, replace=False)]
    for _ in range(ROUNDS):
        nearest = (sample @ middles.T).argmax(axis=1)
        sums = np.zeros_like(middles)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A cell that nobody is nearest to stays where it is.
        middles = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), middles)
    return middles


class Assign:
    """Puts vectors into cells."""

    def __init__(self, middles: str) -> None:
        self.middles = np.load(middles)

    def __call__(self, batch: Batch) -> Batch:
        return {**batch, "cell": (batch["vector"] @ self.middles.T).argmax(axis=1)}


def build(rows: int, cells: int, index: Path) -> aktis.data.Dataset:
    """Writes the index, and returns the vectors that it is made of."""
    made = aktis.data.range(-(-rows // CHUNK)).map_batches(vectors, batch_size=4)
    # The sample is all that comes here. It is a share of the rows, drawn where they are.
    share = min(1.0, cells * SAMPLE_PER_CELL / rows)
    sample = np.stack(made.random_sample(share, seed=3).to_pandas()["vector"].to_list())
    index.mkdir(parents=True)
    np.save(index / "middles.npy", middles_of(sample, cells))
    assigned = made.map_batches(Assign, fn_constructor_args=(str((index / "middles.npy").absolute()),), batch_size=1000)
    # A cell is a folder of few files, because its rows are brought together before they are written.
    assigned.repartition(keys=["cell"], num_blocks=8).write_parquet(str(index / "cells"), partition_cols=["cell"])
    return made


def search(index: Path, query: np.ndarray, count: int, probes: int) -> list[int]:
    """Ids of the `count` nearest vectors in the `probes` nearest cells; no other file is read."""
    cells = np.argsort(-(np.load(index / "middles.npy") @ query))[:probes]
    near = aktis.data.read_parquet(str(index / "cells")).filter(col("cell").is_in([str(cell) for cell in cells]))
    return nearest(near.to_pandas(), query, count)


def nearest(frame, query: np.ndarray, count: int) -> list[int]:
    scores = np.stack(frame["vector"].to_list()) @ query
    return frame["id"].to_numpy()[np.argsort(-scores)[:count]].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="vectors (default: 20000)")
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--probes", type=int, default=8, help="cells that a search looks at (default: 8)")
    output = Path(__file__).resolve().parent.parent / "demo-output" / "vector_index"
    parser.add_argument("--output", type=Path, default=output)
    arguments = parser.parse_args()
    index = arguments.output / "index"
    shutil.rmtree(index, ignore_errors=True)

    aktis.init()
    made = build(arguments.rows, arguments.cells, index)
    print(
        f"{aktis.data.read_parquet(str(index / 'cells')).count()} vectors in {len(list((index / 'cells').glob('cell=*')))} cells"
    )
    every = made.to_pandas()
    found = 0
    queries = np.stack(every["vector"].to_list())[:: max(1, len(every) // 10)][:10]
    for query in queries:
        found += len({*search(index, query, 10, arguments.probes)} & {*nearest(every, query, 10)})
    print(f"{found} of {10 * len(queries)} nearest vectors found in {arguments.probes} of {arguments.cells} cells")
    aktis.shutdown()


if __name__ == "__main__":
    main()
