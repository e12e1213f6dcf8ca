"""The text classifier, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import os
from typing import Any

from .text_model import Backend, Dtype, TextModel


class TextClassifier(TextModel):
    """Gives each text of a column its likeliest labels and their scores, in Rust.

    A description, as :class:`aktis.models.TextEmbedder` is: give it to ``map_batches`` in the place of a class::

        ds.map_batches(aktis.models.TextClassifier("models/sentiment", column="review"))

    Every input column is kept, and two are added, which are null where the text is null: with ``top_k=1`` the label, a string, and its
    score, a float32; else lists of both, the likeliest first. Labels are those of ``id2label`` in ``config.json``. Scores come of the
    model's numbers as the pipelines of ``transformers`` make them: a softmax over all labels, or for each a sigmoid where ``problem_type`` is
    ``"multi_label_classification"`` or there is only one, or the numbers themselves where it is ``"regression"``.

    Args:
        model_dir: Name on the hub of Hugging Face (``"org/name"``, ``"org/name@revision"``), or folder with ``config.json``, ``tokenizer.json`` and ``model.onnx``, whose output ``logits`` has shape (texts, labels); or
            ``model.safetensors`` of a BERT, RoBERTa, MPNet, ModernBERT or decoder with its classification head.
        column: The column with the texts.
        label_column: The column of labels that is added.
        score_column: The column of scores that is added.
        top_k: How many labels each text gets; ``None``: all.
        backend: As for :class:`aktis.models.TextEmbedder`, as are the others.
        onnx_file: The graph, a path from the folder; by default ``model.onnx`` or ``onnx/model.onnx``.
        dtype: ``"int8"`` keeps the weights of ``model.safetensors`` as whole numbers of 8 bits.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        max_tokens: Longer texts are cut to this many tokens; by default what the model folder says.
        token_budget: Most tokens of one model batch, padding included.
        intra_threads: Threads that one model batch is computed with; by default 1.
        replicas: Copies of the model that compute side by side in one actor; by default as many as the actor has CPUs.
        window_rows: Rows that are sorted by length together.
        revision: Of a name on the hub: a branch, a tag or a commit.

    Raises:
        ValueError: there is no such backend, ``top_k`` is less than 1, or columns have the same name. What the model folder lacks is named
            when the dataset is made.

    Example:
        >>> TextClassifier("models/sentiment", column="review", top_k=None)
        TextClassifier('models/sentiment', column='review', label_column='label', score_column='score', top_k=None)
    """

    kind = "text_classifier"
    _inputs = ("column",)
    _outputs = ("label_column", "score_column")

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
        column: str = "text",
        label_column: str = "label",
        score_column: str = "score",
        top_k: int | None = 1,
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
        if len({column, label_column, score_column}) < 3:
            raise ValueError(
                f"column, label_column and score_column are {column!r}, {label_column!r} and {score_column!r}: they must differ"
            )
        if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, or None for all labels, not {top_k!r}")
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
        self.label_column = label_column
        self.score_column = score_column
        self.top_k = top_k

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        return {
            "model": self.config(replicas=replicas, sharing=sharing),
            "stream": self._stream({"text_column": self.column, "output_column": self.label_column}),
            "score_column": self.score_column,
            "top_k": self.top_k,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({str(self.model_dir)!r}, column={self.column!r}, label_column={self.label_column!r}, "
            f"score_column={self.score_column!r}, top_k={self.top_k!r})"
        )
