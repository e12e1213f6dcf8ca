"""The reranker, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import os
from typing import Any

from .text_model import Backend, Dtype, TextModel


class Reranker(TextModel):
    """Scores how well texts answer queries, by a cross-encoder that reads both at once, in Rust.

    A description, as :class:`aktis.models.TextEmbedder` is: give it to ``map_batches`` in the place of a class::

        pairs.map_batches(aktis.models.Reranker("models/bge-reranker-base", query_column="question", text_column="passage"))

    Every input column is kept, and ``output_column`` is added: a float32, null where one of the texts is null. It is the sigmoid of the model's one number, as
    ``CrossEncoder.predict`` of sentence-transformers has it, or that number itself where ``config.json`` names ``Identity`` as the
    activation. Of pairs that are too long the longer text is cut first.

    Args:
        model_dir: Name on the hub of Hugging Face (``"org/name"``, ``"org/name@revision"``), or folder with ``config.json``, ``tokenizer.json`` and ``model.onnx``, whose output ``logits`` has shape (pairs, 1); or
            ``model.safetensors`` of a BERT, RoBERTa, MPNet, ModernBERT or decoder with its classification head.
        query_column: The column with the queries.
        text_column: The column with the texts.
        output_column: The column that is added.
        backend: As for :class:`aktis.models.TextEmbedder`, as are the others.
        onnx_file: The graph, a path from the folder; by default ``model.onnx`` or ``onnx/model.onnx``.
        dtype: ``"int8"`` keeps the weights of ``model.safetensors`` as whole numbers of 8 bits.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        max_tokens: Longer pairs are cut to this many tokens; by default what the model folder says.
        token_budget: Most tokens of one model batch, padding included.
        intra_threads: Threads that one model batch is computed with; by default 1.
        replicas: Copies of the model that compute side by side in one actor; by default as many as the actor has CPUs.
        window_rows: Rows that are sorted by length together.
        revision: Of a name on the hub: a branch, a tag or a commit.

    Raises:
        ValueError: there is no such backend, or two columns have the same name. What the model folder lacks is named when the dataset is
            made.

    Example:
        >>> Reranker("models/reranker", query_column="question")
        Reranker('models/reranker', query_column='question', text_column='text', output_column='score')
    """

    kind = "reranker"
    _inputs = ("query_column", "text_column")
    _outputs = ("output_column",)

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        query_column: str = "query",
        text_column: str = "text",
        output_column: str = "score",
        backend: Backend = "auto",
        onnx_file: str | None = None,
        dtype: Dtype | None = None,
        device: str = "auto",
        max_tokens: int | None = None,
        token_budget: int | None = None,
        intra_threads: int | None = None,
        replicas: int | None = None,
        window_rows: int | None = None,
        revision: str | None = None,
    ) -> None:
        if len({query_column, text_column, output_column}) < 3:
            raise ValueError(
                f"query_column, text_column and output_column are {query_column!r}, {text_column!r} and {output_column!r}: they must differ"
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
        self.query_column = query_column
        self.text_column = text_column
        self.output_column = output_column

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        columns = {
            "text_column": self.query_column,
            "second_column": self.text_column,
            "output_column": self.output_column,
        }
        return {"model": self.config(replicas=replicas, sharing=sharing), "stream": self._stream(columns)}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.model_dir)!r}, query_column={self.query_column!r}, "
            f"text_column={self.text_column!r}, output_column={self.output_column!r})"
        )
