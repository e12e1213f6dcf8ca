"""The image embedder, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from . import hub
from .native_model import NativeModel, check_count
from .onnxruntime_path import find_onnxruntime

ImagePooling = Literal["cls", "mean"]
#: Where a folder may have its graph.
_GRAPHS = ("vision_model.onnx", "onnx/vision_model.onnx", "model.onnx", "onnx/model.onnx")


class ImageEmbedder(NativeModel):
    """Turns a column of images into a column of vectors, in Rust: CLIP and ViT on ONNX Runtime.

    A description, as :class:`aktis.models.TextEmbedder` is: give it to ``map_batches`` in the place of a class::

        images = aktis.data.read_images("photos", mode="RGB")
        images.map_batches(aktis.models.ImageEmbedder("models/clip-vit-base-patch32", column="image"))

    Images are uint8 tensors of height, width and channels, as :func:`aktis.data.read_images` gives them, or encoded ones, which Pillow decodes in the workers (``pip install
    pillow``): bytes, or structs of ``bytes`` and ``path``, as Hugging Face's ``datasets`` has them. They need not have one size. Grey ones get three
    channels, and what is transparent becomes white. They are resized, cropped, rescaled and normalized as ``preprocessor_config.json`` says, as
    ``transformers`` does it with Pillow. Every input column is kept, and ``output_column`` is added: a fixed-size list of float32, null where
    the image is null.

    Args:
        model_dir: Name on the hub of Hugging Face (``"org/name"``, ``"org/name@revision"``), or folder with ``preprocessor_config.json``, ``config.json`` and ``vision_model.onnx`` or ``model.onnx``, which may lie in ``onnx/``. The graph
            takes pixels alone: of a CLIP it is that of ``CLIPVisionModelWithProjection`` or ``CLIPVisionModel``.
        column: The column with the images.
        output_column: The column that is added.
        output: The graph's output that is the vector. By default ``image_embeds``, the projection of a CLIP; or else ``pooler_output``; or else
            ``last_hidden_state``; or else the only one.
        pooling: How an output with a vector for each part of an image becomes one: ``"cls"``, that of the first part, which is taken by default, or
            ``"mean"``.
        onnx_file: The graph, a path from the folder, such as ``"onnx/vision_model_fp16.onnx"``.
        normalize: Scale every vector to length 1.
        batch_size: Most rows of a run, or ``"auto"``, as for :class:`aktis.models.OnnxModel`.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; a GPU needs ``pip install onnxruntime-gpu``.
        intra_threads: Threads that one run is computed with; by default 1.
        replicas: Copies of the model that compute side by side in one actor; by default as many as the actor has CPUs, on a GPU one.
        revision: Of a name on the hub: a branch, a tag or a commit.

    Raises:
        ValueError: there is no such pooling, ``batch_size`` is less than 1, or ``output_column`` is ``column``. What the model folder lacks is named when
            the dataset is made.

    Example:
        >>> ImageEmbedder("models/clip-vit-base-patch32", column="photo")
        ImageEmbedder('models/clip-vit-base-patch32', column='photo', output_column='embedding', batch_size=32)
    """

    kind = "image_embedder"
    _inputs = ("column",)
    _outputs = ("output_column",)

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        column: str = "image",
        output_column: str = "embedding",
        output: str | None = None,
        pooling: ImagePooling | None = None,
        onnx_file: str | None = None,
        normalize: bool = True,
        batch_size: int | Literal["auto"] = 32,
        device: str = "auto",
        intra_threads: int | None = None,
        replicas: int | None = None,
        revision: str | None = None,
    ) -> None:
        if pooling not in (None, "cls", "mean"):
            raise ValueError(f"pooling must be 'cls' or 'mean', not {pooling!r}")
        if output_column == column:
            raise ValueError(
                f"output_column and column are both {column!r}; the images are kept, so choose another name"
            )
        check_count("batch_size", batch_size, or_auto=True)
        super().__init__(device=device, intra_threads=intra_threads, replicas=replicas, revision=revision)
        self.model_dir = Path(model_dir)
        self.column = column
        self.output_column = output_column
        self.output = output
        self.pooling = pooling
        self.onnx_file = onnx_file
        self.normalize = normalize
        self.batch_size = batch_size

    def _needed(self, model: str, names: Sequence[str]) -> list[str]:
        graph = self._graph_of(model, names, _GRAPHS)
        if graph is None:
            raise ValueError(
                f"{model} has none of {', '.join(_GRAPHS)}, which an ImageEmbedder runs. It has {', '.join(names)}: name a graph by onnx_file=, or export "
                "one (optimum-cli export onnx), and give the folder"
            )
        return [*hub.described(names), graph]

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        library = find_onnxruntime()
        return {
            **self._placement(replicas, sharing),
            "model_dir": str(self.model_dir.absolute()),
            "column": self.column,
            "output_column": self.output_column,
            "output": self.output,
            "pooling": self.pooling,
            "onnx_file": self.onnx_file,
            "normalize": self.normalize,
            "batch_size": None if self.batch_size == "auto" else self.batch_size,
            "onnxruntime_path": str(library) if library is not None else None,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.model_dir)!r}, column={self.column!r}, "
            f"output_column={self.output_column!r}, batch_size={self.batch_size!r})"
        )
