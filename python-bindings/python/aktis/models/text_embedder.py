"""The text embedder, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from .candle_path import find_candle
from .onnxruntime_path import find_onnxruntime

Backend = Literal["auto", "onnx", "candle"]


class TextEmbedder:
    """Turns a column of texts into a column of vectors, in Rust.

    This is a description, not a loaded model: each actor of the pool loads the model from it, once. Give it to
    ``map_batches`` in the place of a class::

        ds.map_batches(
            aktis.models.TextEmbedder(".models/all-MiniLM-L6-v2", column="text"),
            compute=ActorPoolStrategy(size=2),
        )

    Every input column is kept, and ``output_column`` is added: a fixed-size list of float32, null where the text is
    null. Rows of different blocks share the model's batches, sorted by length, so ``batch_size`` plays no part.

    Args:
        model_dir: Folder with ``config.json``, ``tokenizer.json`` and ``model.onnx`` or ``model.safetensors``.
        column: The column with the texts.
        output_column: The column that is added.
        backend: ``"onnx"`` runs ``model.onnx`` on ONNX Runtime (``pip install onnxruntime``), ``"candle"`` runs
            ``model.safetensors`` with a part of Aktis that ``make candle`` builds, ``"auto"`` takes the first if both its
            parts are there.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        max_tokens: Longer texts are cut to this many tokens; by default what the model folder says.
        token_budget: Most tokens of one model batch, padding included; by default 512 on a CPU and 32768 on a GPU. A batch that finds
            no memory is computed in halves, and later ones are smaller.
        intra_threads: Threads that one model batch is computed with; by default 1.
        replicas: Copies of the model that compute side by side in one actor; by default as many as the actor has CPUs.
        normalize: Scale every vector to length 1.
        window_rows: Rows that are sorted by length together.

    Raises:
        ValueError: there is no such backend, or ``output_column`` is ``column``. What the model folder lacks is named when the
            dataset is made.

    Example:
        >>> embedder = TextEmbedder("models/minilm", column="body", backend="candle")
        >>> embedder
        TextEmbedder('models/minilm', column='body', output_column='embedding', backend='candle')
        >>> import json
        >>> json.loads(embedder.spec_json(replicas=2))["text_embedder"]["embedder"]["replicas"]
        2
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        column: str = "text",
        output_column: str = "embedding",
        backend: Backend = "auto",
        device: str = "auto",
        max_tokens: int | None = None,
        token_budget: int | None = None,
        intra_threads: int | None = None,
        replicas: int | None = None,
        normalize: bool = True,
        window_rows: int | None = None,
    ) -> None:
        if backend not in ("auto", "onnx", "candle"):
            raise ValueError(f"backend must be 'auto', 'onnx' or 'candle', not {backend!r}")
        if output_column == column:
            raise ValueError(
                f"output_column and column are both {column!r}; the texts are kept, so choose another name"
            )
        self.model_dir = Path(model_dir)
        self.column = column
        self.output_column = output_column
        self.backend = backend
        self.device = device
        self.max_tokens = max_tokens
        self.token_budget = token_budget
        self.intra_threads = intra_threads
        self.replicas = replicas
        self.normalize = normalize
        self.window_rows = window_rows

    def config(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        """The fields of the Rust `TextEmbedderConfig`.

        Args:
            replicas: counts where the embedder itself names none.
            sharing: so many actors share the CPUs of a machine. Counts where nobody names replicas: who loads the model knows how
                many CPUs it has.

        Returns:
            A dictionary that can be written as JSON.

        >>> TextEmbedder("models/minilm").config(replicas=3)["replicas"]
        3
        """
        library = find_onnxruntime() if self.backend != "candle" else None
        candle = find_candle() if self.backend != "onnx" else None
        return {
            "model_dir": str(self.model_dir.absolute()),
            "backend": self.backend,
            "device": self.device,
            "max_tokens": self.max_tokens,
            "token_budget": self.token_budget,
            "intra_threads": self.intra_threads,
            "replicas": self.replicas if self.replicas is not None else replicas,
            "sharing": sharing,
            "normalize": self.normalize,
            "pooling": "mean",
            "onnxruntime_path": str(library) if library is not None else None,
            "candle_path": str(candle) if candle is not None else None,
        }

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        """The fields of the Rust `TextEmbedderSpec`: the model, its columns and sizes.

        Args:
            replicas: as for :meth:`config`.
            sharing: as for :meth:`config`.

        Returns:
            A dictionary of ``embedder``, as :meth:`config` gives it, and ``stream``, the columns and sizes.

        >>> TextEmbedder("models/minilm", column="body").spec()["stream"]
        {'text_column': 'body', 'output_column': 'embedding'}
        """
        stream: dict[str, Any] = {"text_column": self.column, "output_column": self.output_column}
        if self.window_rows is not None:
            stream["window_rows"] = self.window_rows
        return {"embedder": self.config(replicas=replicas, sharing=sharing), "stream": stream}

    def spec_json(self, *, replicas: int | None = None, sharing: int | None = None) -> str:
        """:meth:`spec`, under what kind of model it is, as the JSON that travels to the actors.

        Args:
            replicas: as for :meth:`config`.
            sharing: as for :meth:`config`.

        Returns:
            JSON.

        >>> TextEmbedder("models/minilm").spec_json(replicas=2).startswith('{"text_embedder": ')
        True
        """
        return json.dumps({"text_embedder": self.spec(replicas=replicas, sharing=sharing)})

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.model_dir)!r}, column={self.column!r}, "
            f"output_column={self.output_column!r}, backend={self.backend!r})"
        )
