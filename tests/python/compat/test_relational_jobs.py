"""Jobs that join, group, shuffle and split around a model, as they are written for Ray Data."""

import importlib

import numpy as np
import pytest

from .system import ray

data = importlib.import_module(f"{ray.__name__}.data")
aggregate = importlib.import_module(f"{ray.__name__}.data.aggregate")

pytestmark = pytest.mark.usefixtures("session")
WORDS: list[str] = ["light", "beam", "sun", "lamp", "actor", "task", "queue", "batch", "table", "column"]


def texts(count):
    chosen = np.random.default_rng(3).choice(WORDS, size=(count, 6))
    return [{"id": number, "text": " ".join(row), "author": number % 7} for number, row in enumerate(chosen)]


class Embedder:
    """A stand-in for a model: loaded once, deterministic, a vector of length 1 for each text."""

    def __init__(self, size=16):
        vectors = np.random.default_rng(7).normal(size=(len(WORDS), size)).astype(np.float32)
        self.vectors = dict(zip(WORDS, vectors, strict=True))

    def __call__(self, batch):
        rows = np.stack([sum(self.vectors[word] for word in str(text).split()) for text in batch["text"]])
        batch["embedding"] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return batch


class Classifier:
    def __call__(self, batch):
        batch["label"] = np.array([WORDS.index(str(text).split()[0]) % 3 for text in batch["text"]])
        batch["score"] = np.array([len(str(text)) / 64 for text in batch["text"]])
        return batch


def test_texts_are_joined_with_their_authors_and_embedded(tmp_path):
    authors = data.from_items([{"author": number, "name": f"author {number}"} for number in range(5)])
    joined = data.from_items(texts(200)).join(authors, join_type="inner", num_partitions=4, on=("author",))
    joined.map_batches(Embedder, concurrency=1, batch_size=32).write_parquet(str(tmp_path / "out"))
    rows = data.read_parquet(str(tmp_path / "out")).take_all()
    assert sorted(row["id"] for row in rows) == [row["id"] for row in texts(200) if row["author"] < 5]
    assert all(row["name"] == f"author {row['author']}" for row in rows)
    assert all(abs(np.linalg.norm(row["embedding"]) - 1) < 1e-5 for row in rows)


def test_labels_are_counted_after_inference():
    scored = data.from_items(texts(300)).map_batches(Classifier, concurrency=1, batch_size=64)
    found = scored.groupby("label").aggregate(aggregate.Count(), aggregate.Mean("score"), aggregate.Max("score"))
    rows = {row["label"]: row for row in found.take_all()}
    wanted = Classifier()({"text": np.array([row["text"] for row in texts(300)])})
    for label in range(3):
        scores = wanted["score"][wanted["label"] == label]
        assert rows[label]["count()"] == len(scores)
        assert rows[label]["mean(score)"] == pytest.approx(scores.mean())
        assert rows[label]["max(score)"] == scores.max()


def test_the_best_rows_of_each_group_are_kept():
    def best(group):
        order = np.argsort(-group["score"], kind="stable")[:3]
        return {name: values[order] for name, values in group.items()}

    scored = data.from_items(texts(300)).map_batches(Classifier, concurrency=1)
    rows = scored.groupby("author").map_groups(best, batch_format="numpy").take_all()
    wanted = Classifier()({"text": np.array([row["text"] for row in texts(300)])})["score"]
    authors = np.array([row["author"] for row in texts(300)])
    for author in range(7):
        mine = sorted(row["score"] for row in rows if row["author"] == author)
        assert mine == sorted(wanted[authors == author])[-3:]


def test_near_duplicates_are_removed():
    copies = [{**row, "id": row["id"] + 1000} for row in texts(60)]
    embedded = data.from_items([*texts(60), *copies]).map_batches(Embedder, concurrency=1)

    def bucket(batch):
        planes = np.random.default_rng(1).normal(size=(batch["embedding"].shape[1], 8))
        batch["bucket"] = ((batch["embedding"] @ planes > 0) * 2 ** np.arange(8)).sum(axis=1)
        return batch

    def first_of_each(group):
        kept = []
        for number, vector in enumerate(group["embedding"]):
            if all(vector @ group["embedding"][other] < 0.999 for other in kept):
                kept.append(number)
        return {"id": group["id"][kept], "text": group["text"][kept]}

    rows = embedded.map_batches(bucket).groupby("bucket").map_groups(first_of_each, batch_format="numpy").take_all()
    same_words = {" ".join(sorted(row["text"].split())) for row in texts(60)}
    assert len(rows) == len(same_words)


def test_rows_are_sampled_shuffled_and_split():
    rows = data.from_items(texts(1000))
    sampled = rows.random_sample(0.5, seed=4)
    assert 350 < sampled.count() < 650
    shuffled = rows.random_shuffle(seed=5)
    assert sorted(row["id"] for row in shuffled.take_all()) == list(range(1000))
    assert [row["id"] for row in shuffled.take(20)] != list(range(20))
    train, test = rows.train_test_split(0.2, shuffle=True, seed=6)
    assert (train.count(), test.count()) == (800, 200)
    ids = [row["id"] for part in (train, test) for row in part.take_all()]
    assert sorted(ids) == list(range(1000))
