"""Makes a data set out of nothing: columns from numpy's distributions, and texts that a model writes, as one streaming job.

    python examples/synthetic_data.py
    python examples/synthetic_data.py --rows 1000000 --seed 7

Whatever is drawn by chance hangs on the seed and on which chunk or row it is for, never on the worker or on the batch. So the job makes the same rows on any number of
workers and after any kill, and another run of it goes on where the last one was left.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
from pathlib import Path

import aktis
import aktis.data
import numpy as np
import pyarrow.parquet as pq
from aktis.data.expressions import col

#: Rows that one draw of numpy's makes.
CHUNK = 1000
CITIES = np.array(["Oslo", "Porto", "Quito", "Riga"])
#: What the model learns to write from, by how content people were.
REVIEWS = {
    "bad": "cold soup and slow service . slow coffee and cold bread . the soup was cold and the bread was old .",
    "good": "warm bread and good coffee . the coffee was good and the service was warm . good soup and warm bread .",
}

Batch = dict[str, np.ndarray]


def orders(batch: Batch, *, seed: int, rows: int) -> Batch:
    """The orders of the chunks in `batch`, `rows` in all."""
    chunks = [chunk_of_orders(int(chunk), seed, rows) for chunk in batch["id"]]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def chunk_of_orders(chunk: int, seed: int, rows: int) -> Batch:
    draw = np.random.default_rng([seed, chunk])
    ids = np.arange(chunk * CHUNK, min((chunk + 1) * CHUNK, rows))
    count = len(ids)
    return {
        "id": ids,
        "city": CITIES[draw.choice(len(CITIES), count, p=[0.4, 0.3, 0.2, 0.1])],
        "items": 1 + draw.poisson(1.5, count),
        "price": draw.lognormal(2.5, 0.6, count).round(2),
        "stars": draw.binomial(4, 0.7, count) + 1,
    }


class Writer:
    """A generator model: which word follows which, learnt from a few lines. One of yours would load weights here."""

    def __init__(self, seed: int, words: int) -> None:
        self.seed, self.words = seed, words
        self.next_words = {mood: learnt(text.split()) for mood, text in REVIEWS.items()}

    def __call__(self, batch: Batch) -> Batch:
        moods = np.where(batch["stars"] >= 3, "good", "bad")
        texts = [self.write(int(row), str(mood)) for row, mood in zip(batch["id"], moods, strict=True)]
        return {**batch, "review": np.array(texts, dtype=object)}

    def write(self, row: int, mood: str) -> str:
        draw = np.random.default_rng([self.seed, row])
        word, written = ".", []
        for _ in range(self.words):
            word = draw.choice(self.next_words[mood][word])
            written.append(word)
        return " ".join(written)


def learnt(words: list[str]) -> dict[str, list[str]]:
    after = collections.defaultdict(list)
    for word, following in zip([".", *words], words, strict=False):
        after[word].append(following)
    return dict(after)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000, help="rows to make (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    output = Path(__file__).resolve().parent.parent / "demo-output" / "synthetic_data"
    parser.add_argument("--output", type=Path, default=output)
    arguments = parser.parse_args()
    target = arguments.output / "orders"

    aktis.init()
    # A row of this range is a chunk: no input is needed but numbers.
    chunks = aktis.data.range(-(-arguments.rows // CHUNK))
    made = chunks.map_batches(orders, batch_size=4, fn_kwargs={"seed": arguments.seed, "rows": arguments.rows})
    made = made.map_batches(Writer, fn_constructor_args=(arguments.seed, 8), batch_size=500)
    # What every row must be like, looked at as it passes by.
    made = made.expect((col("price") > 0) & (col("items") >= 1), name="prices and items")
    made.write_parquet(str(target), mode="overwrite")
    report(target)
    aktis.shutdown()


def report(folder: Path) -> None:
    table = pq.read_table(folder).sort_by("id")
    for row in table.slice(0, 2).to_pylist():
        print(row)
    by_city = collections.Counter(table["city"].to_pylist())
    print(f"{table.num_rows} rows, mean price {np.mean(table['price']):.2f},", dict(sorted(by_city.items())))
    print("digest:", hashlib.sha256(str(table.to_pylist()).encode()).hexdigest()[:16])


if __name__ == "__main__":
    main()
