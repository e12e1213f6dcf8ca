"""Classifies images in a pool of actors that share one GPU: a class whose `__init__` loads the model once. Images that are
broken are put aside as dead letters, and do not end the job.

    python examples/image_classes.py
    python examples/image_classes.py --rows 20000 --broken 40

The pool holds between 2 and 10 actors, each with a quarter of a GPU. The GPU is a logical one (`num_gpus=1`), so that
this runs on any machine; with a real one the same lines place four actors on it. (Ten never fit on one GPU: the pool
takes as many as there is room for.)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import aktis
import aktis.data
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HEIGHT = WIDTH = 16
PIXELS = HEIGHT * WIDTH
CLASSES = ("dark", "bright", "left", "right", "top", "bottom")
ROWS_PER_FILE = 500


class Classifier:
    """A linear model; `__init__` runs once per actor, `__call__` once per batch."""

    def __init__(self, temperature: float) -> None:
        self.weights, self.bias = load_weights()
        self.temperature = temperature

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        # A row per image. What is missing fails the batch, which is called again in halves until its rows are known.
        images = np.stack(list(batch["image"])).astype(np.float32) / 255
        scores = np.exp((images @ self.weights + self.bias) / self.temperature)
        scores /= scores.sum(axis=1, keepdims=True)
        best = scores.argmax(axis=1)
        return {"id": batch["id"], "label": np.array(CLASSES)[best], "score": scores[np.arange(len(best)), best]}


def load_weights() -> tuple[np.ndarray, np.ndarray]:
    """What a checkpoint would hold: templates of the classes as columns, and how bright each is on average."""
    templates = np.stack([template(label) for label in CLASSES], axis=1)
    weights = 2 * templates / PIXELS
    bias = -np.square(templates).sum(axis=0) / PIXELS
    return weights.astype(np.float32), bias.astype(np.float32)


def template(label: str) -> np.ndarray:
    """How an image of the class looks without noise, from 0 (black) to 1 (white)."""
    image = np.full((HEIGHT, WIDTH), 0.9 if label == "bright" else 0.1)
    half: dict[str, slice | tuple[slice, slice]] = {
        "left": np.s_[:, : WIDTH // 2],
        "right": np.s_[:, WIDTH // 2 :],
        "top": np.s_[: HEIGHT // 2],
        "bottom": np.s_[HEIGHT // 2 :],
    }
    if label in half:
        image[half[label]] = 0.9
    return image.reshape(-1)


def write_images(folder: Path, rows: int, broken: int) -> None:
    """Noisy images of all classes in turn, as a column of fixed-size lists of bytes; `broken` of them could not be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.parquet"):
        stale.unlink()
    noise = np.random.default_rng(seed=0)
    templates = np.stack([template(label) for label in CLASSES])
    missing = np.arange(broken) * rows // max(broken, 1)
    for first in range(0, rows, ROWS_PER_FILE):
        ids = np.arange(first, min(first + ROWS_PER_FILE, rows))
        images = templates[ids % len(CLASSES)] + noise.normal(0, 0.15, (len(ids), PIXELS))
        pixels = pa.array((images.clip(0, 1) * 255).astype(np.uint8).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(pixels, PIXELS, mask=pa.array(np.isin(ids, missing)))
        table = pa.table({"id": ids, "image": column})
        pq.write_table(table, folder / f"images-{first:06d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3000, help="images to classify (default: 3000)")
    parser.add_argument("--broken", type=int, default=3, help="how many of them are broken (default: 3)")
    output = Path(__file__).resolve().parent.parent / "demo-output" / "image_classes"
    parser.add_argument("--output", type=Path, default=output)
    arguments = parser.parse_args()
    source, target = arguments.output / "images", arguments.output / "labels"
    write_images(source, arguments.rows, arguments.broken)

    aktis.init(num_gpus=1)
    labels = aktis.data.read_parquet(str(source)).map_batches(
        Classifier,
        fn_constructor_args=(0.05,),
        compute=aktis.data.ActorPoolStrategy(min_size=2, max_size=10),
        num_gpus=0.25,
        batch_size=64,
        on_error="dead_letter",
        max_error_ratio=0.05,  # more of them would be a mistake of this program
    )
    labels.write_parquet(str(target), mode="overwrite")
    print(labels.stats())
    report(target)
    aktis.shutdown()


def report(folder: Path) -> None:
    """How many of the images got the class they were made from."""
    table = pq.read_table(folder)
    expected = np.array(CLASSES)[table["id"].to_numpy() % len(CLASSES)]
    right = int((table["label"].to_numpy(zero_copy_only=False) == expected).sum())
    print(f"{right} of {table.num_rows} images classified correctly")
    for letter in aktis.data.read_dead_letters(str(folder)).take_all():
        place = letter["position"]
        print(
            f"put aside: image {letter['row']['id']}, row {place['row']} of {Path(place['file']).name}: {letter['error']}"
        )


if __name__ == "__main__":
    main()
