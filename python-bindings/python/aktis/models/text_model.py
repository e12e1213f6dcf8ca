"""What the models that read texts have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from . import hub
from .candle_path import find_candle
from .native_model import NativeModel
from .onnxruntime_path import find_onnxruntime

Backend = Literal["auto", "onnx", "candle"]
Dtype = Literal["float32", "int8"]
#: Where a model is, the first that is there.
_GRAPHS = ("model.onnx", "onnx/model.onnx")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class TextModel(NativeModel):
    """A model folder, and how it is run. Its subclasses say what is read and what comes out."""

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        *,
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
        if backend not in ("auto", "onnx", "candle"):
            raise ValueError(f"backend must be 'auto', 'onnx' or 'candle', not {backend!r}")
        if onnx_file is not None and backend == "candle":
            raise ValueError(f"onnx_file={onnx_file!r} is for backend='onnx', and candle runs model.safetensors")
        if dtype not in (None, "float32", "int8"):
            raise ValueError(f"dtype must be 'float32' or 'int8', not {dtype!r}")
        if dtype is not None and (backend == "onnx" or onnx_file is not None):
            raise ValueError(
                f"dtype={dtype!r} is for backend='candle', which runs model.safetensors; a graph has the numbers that it was written with: name "
                "another by onnx_file="
            )
        super().__init__(device=device, intra_threads=intra_threads, replicas=replicas, revision=revision)
        self.model_dir = Path(model_dir)
        self.backend = backend
        self.onnx_file = onnx_file
        self.dtype = dtype
        self.max_tokens = max_tokens
        self.token_budget = token_budget
        self.window_rows = window_rows

    def _needed(self, model: str, names: Sequence[str]) -> list[str]:
        graph = self._graph_of(model, names, _GRAPHS) if self.backend != "candle" and self.dtype is None else None
        weights = next((name for name in _WEIGHTS if name in names), None) if self.backend != "onnx" else None
        if graph is None or (self.backend == "auto" and self.onnx_file is None and find_onnxruntime() is None):
            graph = weights or graph
        if graph is None:
            wanted = {"onnx": _GRAPHS[:1], "candle": _WEIGHTS[:1]}.get(self.backend, (_GRAPHS[0], _WEIGHTS[0]))
            raise ValueError(
                f"{model} has no {' or '.join(wanted)}, which a {type(self).__name__}(backend={self.backend!r}) runs. It has {', '.join(names)}: convert "
                "it (save_pretrained(safe_serialization=True), or optimum-cli export onnx), and give the folder"
            )
        return [*hub.described(names), graph]

    def config(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        """The fields of the Rust `TextEmbedderConfig`.

        Args:
            replicas: counts where the model itself names none.
            sharing: so many actors share the CPUs of a machine. Counts where nobody names replicas: who loads the model knows how
                many CPUs it has.

        Returns:
            A dictionary that can be written as JSON.

        >>> from aktis.models import TextEmbedder
        >>> TextEmbedder("models/minilm").config(replicas=3)["replicas"]
        3
        """
        library = find_onnxruntime() if self.backend != "candle" else None
        candle = find_candle() if self.backend != "onnx" else None
        return {
            **self._placement(replicas, sharing),
            "model_dir": str(self.model_dir.absolute()),
            "backend": self.backend,
            "onnx_file": self.onnx_file,
            "dtype": self.dtype,
            "max_tokens": self.max_tokens,
            "token_budget": self.token_budget,
            "onnxruntime_path": str(library) if library is not None else None,
            "candle_path": str(candle) if candle is not None else None,
        }

    def _stream(self, columns: dict[str, str]) -> dict[str, Any]:
        stream: dict[str, Any] = dict(columns)
        if self.window_rows is not None:
            stream["window_rows"] = self.window_rows
        return stream
