"""Any ONNX graph, as `Dataset.map_batches` takes it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .native_model import NativeModel, check_count
from .onnxruntime_path import find_onnxruntime

#: Where a folder has its graph.
_GRAPHS = ("model.onnx", "onnx/model.onnx")


class OnnxModel(NativeModel):
    """Runs an ONNX graph over columns, in Rust: its inputs are columns, its outputs become columns.

    This is a description, not a loaded model: each actor of the pool loads the graph from it, once. Give it to ``map_batches`` in the
    place of a class::

        model = aktis.models.OnnxModel("classifier.onnx", inputs={"pixel_values": "image"}, outputs={"logits": "scores"})
        ds.map_batches(model, num_gpus=1, concurrency=2)

    Every column is kept, and those of the outputs are added. The first axis of each input and output is that of the rows. What a row
    has of it:

    ==========================  =====================================================  ===================================
    in the graph                an input takes                                         an output becomes
    ==========================  =====================================================  ===================================
    ``[rows]``                  numbers                                                numbers
    ``[rows, 1]``               numbers, or arrays of one                              arrays of one
    ``[rows, 3]``               arrays of 3: lists of this length                      lists of the fixed size 3
    ``[rows, n]``               lists of any length                                    lists
    ``[rows, 3, 224, 224]``     tensors of this shape                                  tensors of this shape
    ``[rows, n, 8]``            tensors with two axes, the second of 8                 tensors whose shapes may differ
    ==========================  =====================================================  ===================================

    Types are those of the graph: float16, float32, float64, whole numbers of 8 to 64 bits, bool. A column of another type is taken if
    none of its values can be lost by that (uint8 for float32, not float64). Rows whose tensors have different shapes run apart, nothing
    is padded. A row that is null in an input is null in the outputs. A graph whose first axis is fixed gets so many rows in each run; what is
    missing in the last is made up for and left out.

    Args:
        path: The ``.onnx`` file, a folder with ``model.onnx`` or ``onnx/model.onnx``, or the name of one on the hub of Hugging Face (``"org/name"``,
            ``"org/name@revision"``). Files that it names for its weights lie beside it.
        inputs: From inputs of the graph to the columns that they take; of those that are not named the column is called as the input is.
        outputs: The outputs that are wanted: their names, or a mapping from names to the columns that they become. By default all, each in a
            column of its name.
        batch_size: Most rows of a run. ``"auto"``: as many as pay and fit into memory, which is found while the job runs. A run that
            finds no memory is made in halves, and later ones are smaller.
        byte_budget: Most bytes of the input columns of a run.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; a GPU needs ``pip install onnxruntime-gpu``.
        intra_threads: Threads that one run is computed with; by default 1.
        replicas: Copies of the graph that compute side by side in one actor; by default as many as the actor has CPUs, on a GPU one.
        onnx_file: The graph, a path from the folder, such as ``"onnx/model_fp16.onnx"``.
        revision: Of a name on the hub: a branch, a tag or a commit.

    Raises:
        TypeError: ``inputs`` is no mapping, or ``outputs`` is a single text.
        ValueError: ``batch_size`` or ``byte_budget`` is less than 1. What is wrong with the file, or with names of inputs, outputs and
            columns, is told when the dataset is made; what is wrong with the values of a column, when it runs.

    Example:
        >>> model = OnnxModel("add.onnx", inputs={"x": "price"}, outputs={"y": "total"}, batch_size=64)
        >>> model
        OnnxModel('add.onnx', inputs={'x': 'price'}, outputs={'y': 'total'}, batch_size=64)
    """

    kind = "onnx_model"
    _place = "path"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        batch_size: int | Literal["auto"] = 32,
        byte_budget: int | None = None,
        device: str = "auto",
        intra_threads: int | None = None,
        replicas: int | None = None,
        onnx_file: str | None = None,
        revision: str | None = None,
    ) -> None:
        if inputs is not None and not isinstance(inputs, Mapping):
            raise TypeError(f"inputs must be a mapping from inputs of the graph to columns, not {inputs!r}")
        if isinstance(outputs, str):
            raise TypeError(
                f"outputs must be names, or a mapping from names to columns, not {outputs!r}: give [{outputs!r}]"
            )
        check_count("batch_size", batch_size, or_auto=True)
        if byte_budget is not None:
            check_count("byte_budget", byte_budget)
        super().__init__(device=device, intra_threads=intra_threads, replicas=replicas, revision=revision)
        self.path = Path(path)
        self.onnx_file = onnx_file
        self.inputs = dict(inputs or {})
        named = outputs if isinstance(outputs, Mapping) or outputs is None else {name: name for name in outputs}
        self.outputs = None if named is None else dict(named)
        self.batch_size = batch_size
        self.byte_budget = byte_budget

    def _needed(self, model: str, names: Sequence[str]) -> list[str]:
        graph = self._graph_of(model, names, _GRAPHS)
        if graph is None:
            graphs = ", ".join(name for name in names if name.endswith(".onnx")) or "none"
            raise ValueError(f"{model} has none of {', '.join(_GRAPHS)}: name a graph by onnx_file=. It has {graphs}")
        return [graph]

    def _columns(self) -> tuple[list[str], Any]:
        from aktis import _aktis

        reads, added = _aktis.data.Plan.model_columns(self.spec_json())
        named = list(dict.fromkeys(self.inputs.values()))
        if len(reads) > 1 and set(named) != set(reads):
            raise ValueError(
                f"{self!r} reads {', '.join(reads)}, in no order: name them in that of the arguments, OnnxModel(inputs={{'input': 'column', ...}})"
            )
        return named or reads, added

    def _over(self, names: Mapping[str, str]) -> OnnxModel:
        renamed = copy.copy(self)
        reads, added = self._columns()
        taken = set(self.inputs.values())
        own = {name: name for name in reads if name not in taken}
        renamed.inputs = {name: names[column] for name, column in (self.inputs | own).items()}
        outputs = self.outputs or {name: name for name in added.names}
        renamed.outputs = {name: names[column] for name, column in outputs.items()}
        return renamed

    def spec(self, *, replicas: int | None = None, sharing: int | None = None) -> dict[str, Any]:
        library = find_onnxruntime()
        return {
            **self._placement(replicas, sharing),
            "path": str((self.path / (self.onnx_file or "")).absolute()),
            "inputs": self.inputs,
            "outputs": None if self.outputs is None else list(self.outputs.items()),
            "batch_size": None if self.batch_size == "auto" else self.batch_size,
            "byte_budget": self.byte_budget,
            "onnxruntime_path": str(library) if library is not None else None,
        }

    def __repr__(self) -> str:
        named = {"inputs": self.inputs or None, "outputs": self.outputs}
        given = "".join(f", {name}={value!r}" for name, value in named.items() if value is not None)
        return f"{type(self).__name__}({str(self.path)!r}{given}, batch_size={self.batch_size!r})"
