"""Jobs as people write them for Ray Data, from files to files and databases."""

import sqlite3

import aktis
import numpy
import pytest

ray = aktis


class Embedder:
    """Stands for a model."""

    def __init__(self, size):
        self.size = size

    def __call__(self, batch):
        texts = batch["text"]
        batch["vector"] = numpy.array(
            [[len(text) + place for place in range(self.size)] for text in texts], numpy.float32
        )
        return batch


def test_folder_of_images_is_classified(tmp_path):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "in").mkdir()
    for number in range(40):
        kind = "png" if number % 2 else "jpg"
        image.fromarray(numpy.full((20 + number, 30, 3), number * 6, numpy.uint8)).save(
            tmp_path / "in" / f"{number:03}.{kind}"
        )

    class Classifier:
        def __call__(self, batch):
            bright = batch["image"].mean(axis=(1, 2, 3))
            return {"path": batch["path"], "is_bright": bright > 120, "rows": numpy.full(len(bright), len(bright))}

    ds = ray.data.read_images(str(tmp_path / "in"), size=(16, 16), mode="RGB", include_paths=True)
    ds = ds.map_batches(Classifier, compute=ray.data.ActorPoolStrategy(size=2), batch_size=8)
    ds.write_parquet(str(tmp_path / "out"))
    rows = ray.data.read_parquet(str(tmp_path / "out")).take_all()
    assert len(rows) == 40 and {row["rows"] for row in rows} == {8}
    assert sum(row["is_bright"] for row in rows) == 19


def test_csv_becomes_embeddings(tmp_path):
    (tmp_path / "in").mkdir()
    for part in range(4):
        lines = [f'{number},"a text, of {number}"' for number in range(part * 250, part * 250 + 250)]
        (tmp_path / "in" / f"{part}.csv").write_text("id,text\n" + "\n".join(lines) + "\n")
    ds = ray.data.read_csv(str(tmp_path / "in"))
    ds = ds.map_batches(
        Embedder, fn_constructor_args=(8,), compute=ray.data.ActorPoolStrategy(min_size=1, max_size=2), batch_size=64
    )
    ds.write_parquet(str(tmp_path / "out"))
    rows = ray.data.read_parquet(str(tmp_path / "out")).take_all()
    assert sorted(row["id"] for row in rows) == list(range(1000))
    assert all(row["vector"][0] == len(row["text"]) and len(row["vector"]) == 8 for row in rows)


def test_documents_are_cut_and_embedded(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(10):
        (tmp_path / "in" / f"{number}.txt").write_text("word " * (number * 100 + 1))

    def chunks(row):
        text = row["bytes"].decode()
        return [{"source": row["path"], "text": text[start : start + 500]} for start in range(0, len(text), 500)]

    ds = ray.data.read_binary_files(str(tmp_path / "in"), include_paths=True).flat_map(chunks)
    ds.map_batches(Embedder, fn_constructor_args=(4,), concurrency=2, batch_size=16).write_json(str(tmp_path / "out"))
    rows = ray.data.read_json(str(tmp_path / "out")).take_all()
    wanted = sum(-(-(5 * (number * 100 + 1)) // 500) for number in range(10))
    assert len(rows) == wanted and len({row["source"] for row in rows}) == 10
    assert all(row["vector"] == [len(row["text"]) + place for place in range(4)] for row in rows)


def test_results_go_into_a_database(tmp_path):
    path = str(tmp_path / "results.db")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, square INTEGER)")
    ds = ray.data.range(500).map_batches(lambda batch: {"id": batch["id"], "square": batch["id"] ** 2})
    ds.write_sql("INSERT INTO results VALUES (?, ?)", lambda: sqlite3.connect(path, timeout=60))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*), sum(square) FROM results").fetchone() == (
            500,
            sum(n * n for n in range(500)),
        )
