"""The text embedder, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import os
from typing import Any, Literal

from .text_model import Backend, Dtype, TextModel

Pooling = Literal["mean", "cls", "last"]


class TextEmbedder(TextModel):
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
        model_dir: Name on the hub of Hugging Face (``"org/name"``, ``"org/name@revision"``), or folder with ``config.json``, ``tokenizer.json`` and ``model.onnx`` or ``model.safetensors``.
        column: The column with the texts.
        output_column: The column that is added.
        backend: ``"onnx"`` runs ``model.onnx`` on ONNX Runtime (``pip install onnxruntime``), ``"candle"`` runs
            ``model.safetensors`` (of a BERT, RoBERTa, MPNet or ModernBERT, or of a decoder: Llama, Mistral, Qwen2, Qwen3, Gemma3) with a part of Aktis that
            ``make candle`` builds, ``"auto"`` takes the first if both its parts are there.
        onnx_file: The graph, a path from the folder, such as ``"onnx/model_quantized.onnx"``; by default ``model.onnx`` or ``onnx/model.onnx``.
        dtype: ``"int8"`` keeps the weights of ``model.safetensors`` as whole numbers of 8 bits, in a quarter of the memory, on candle; by default they are
            ``"float32"``, whatever the file has.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        max_tokens: Longer texts are cut to this many tokens; by default what the model folder says.
        token_budget: Most tokens of one model batch, padding included; by default 512 on a CPU and 32768 on a GPU. A batch that finds
            no memory is computed in halves, and later ones are smaller.
        intra_threads: Threads that one model batch is computed with; by default 1.
        replicas: Copies of the model that compute side by side in one actor; by default as many as the actor has CPUs.
        normalize: Scale every vector to length 1.
        window_rows: Rows that are sorted by length together.
        pooling: How the vectors of a text's tokens become one: ``"mean"``, ``"cls"``, that of the first token, or ``"last"``, that of the last. By
            default as ``1_Pooling/config.json`` of the folder says, or else their mean. A graph that pools by itself is taken as it is, unless one
            names it.
        dimensions: Numbers of a vector that are kept, from its beginning, before it is scaled: for models that were trained for that (Matryoshka).
        prompt: What is put before each text, such as ``"query: "``. By default what the folder has as its default prompt, if any
            (``config_sentence_transformers.json``); ``""`` for nothing.
        prompt_name: The name of a prompt that the folder has, such as ``"query"``.
        revision: Of a name on the hub: a branch, a tag or a commit.

    Raises:
        ValueError: there is no such backend, dtype or pooling, ``output_column`` is ``column``, or there are two prompts. What the model folder lacks is named when the
            dataset is made.

    Example:
        >>> embedder = TextEmbedder("models/minilm", column="body", backend="candle")
        >>> embedder
        TextEmbedder('models/minilm', column='body', output_column='embedding', backend='candle')
        >>> import json
        >>> json.loads(embedder.spec_json(replicas=2))["text_embedder"]["embedder"]["replicas"]
        2
    """

    kind = "text_embedder"
    _inputs = ("column",)
    _outputs = ("output_column",)

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        column: str = "text",
        output_column: str = "embedding",
        backend: Backend = "auto",
        onnx_file: str | None = None,
        dtype: Dtype | None = None,
        device: str = "auto",
        max_tokens: int | None = None,
        token_budget: int | None = None,
        intra_threads: int | None = None,
        replicas: int | None = None,
        normalize: bool = True,
        window_rows: int | None = None,
        pooling: Pooling | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        revision: str | None = None,
    ) -> None:
        if prompt is not None and prompt_name is not None:
            raise ValueError("prompt= is a text and prompt_name= the name of one that the folder has: give one of them")
        if pooling not in (None, "mean", "cls", "last"):
            raise ValueError(f"pooling must be 'mean', 'cls' or 'last', not {pooling!r}")
        if output_column == column:
            raise ValueError(
                f"output_column and column are both {column!r}; the texts are kept, so choose another name"
            )
        super().__init__(
            model_dir,
            backend=backend,
            onnx_file=onnx_file,
            dtype=dtype,
            device=device,
            max_tokens=max_tokens,
            token_budget=token_budget,
            intra_threads=intra_threads,
            replicas=replicas,
            window_rows=window_rows,
            revision=revision,
        )
        self.column = column
        self.output_column = output_column
        self.normalize = normalize
        self.pooling = pooling
        self.dimensions = dimensions
        self.prompt = prompt
        self.prompt_name = prompt_name

    def config(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        own = {
            "normalize": self.normalize,
            "pooling": self.pooling,
            "dimensions": self.dimensions,
            "prompt": self.prompt,
            "prompt_name": self.prompt_name,
        }
        return super().config(replicas=replicas, sharing=sharing) | own

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        stream = self._stream({"text_column": self.column, "output_column": self.output_column})
        return {"embedder": self.config(replicas=replicas, sharing=sharing), "stream": stream}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.model_dir)!r}, column={self.column!r}, "
            f"output_column={self.output_column!r}, backend={self.backend!r})"
        )
