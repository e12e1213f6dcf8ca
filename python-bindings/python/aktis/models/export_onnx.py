"""Write ``model.onnx`` for a BERT-family sentence encoder, from its safetensors weights.

Needs the ``onnx``, ``numpy`` and ``safetensors`` packages; it does not import torch, and it does not import the
compiled part of Aktis, so it also runs by path::

    python -m aktis.models.export_onnx .models/all-MiniLM-L6-v2
    python python-bindings/python/aktis/models/export_onnx.py .models/all-MiniLM-L6-v2
    python -m aktis.models.export_onnx .models/all-MiniLM-L6-v2 --dtype int8

The graph uses ONNX Runtime's fused operators (domain ``com.microsoft``: EmbedLayerNormalization, Attention,
SkipLayerNormalization, BiasGelu), because the plain ones leave a third of the speed behind on a CPU::

    input_ids, token_type_ids, attention_mask          (batch, sequence) int64
        │
    EmbedLayerNormalization
        │                 ┌────────────────── x layers ──────────────────┐
        └────────────────►│ Attention -> MatMul -> SkipLayerNormalization │
                          │ MatMul -> BiasGelu -> MatMul -> SkipLayerNorm │
                          └───────────────────────┬──────────────────────┘
                                     last_hidden_state  (batch, sequence, hidden) float32

In int8, weights of linear layers are whole numbers of 8 bits with a factor for each block of 128 (MatMulNBits), and Attention is MultiHeadAttention behind
three of these. ONNX Runtime rounds what it multiplies them by in blocks of a token, so that no text's vector depends on its neighbours, as it does where a
graph is quantized dynamically.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

MS_DOMAIN = "com.microsoft"
OPSET = 17
#: IR version 8 is what every ONNX Runtime since 1.12 reads.
IR_VERSION = 8
#: Added to the scores of padding. Large enough that exp() of it is exactly zero in float32, small enough that a row
#: made of padding alone stays finite (an infinity there would turn into NaN in the softmax).
MASK_FILTER_VALUE = -10000.0
#: `hidden_act` values of a BERT config that BiasGelu computes (the exact, erf-based one).
EXACT_GELU = ("gelu", "gelu_python")
#: Weights that share a factor in int8: the fewest with which that is no slower than float32.
BLOCK = 128
#: What MatMulNBits computes in: int8.
ACCURACY_LEVEL = 4


class ExportError(ValueError):
    """The model folder cannot be exported; the message says what is missing or unsupported."""


def export_onnx(
    model_dir: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    dtype: Literal["float32", "int8"] = "float32",
) -> Path:
    """Write the fused ONNX graph of the model in `model_dir`; returns the path written.

    `output` defaults to ``model.onnx`` in the same folder, in int8 to ``onnx/model_int8.onnx``. The file appears under its name only once it is complete.
    """
    folder = Path(model_dir)
    default = "model.onnx" if dtype == "float32" else "onnx/model_int8.onnx"
    target = Path(output) if output is not None else folder / default
    config = read_config(folder)
    builder = {"float32": GraphBuilder, "int8": Int8GraphBuilder}[dtype]
    model = build_model(builder(config, Weights(folder)))
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(model, target)


def read_config(folder: Path) -> dict[str, Any]:
    """The model's ``config.json``, checked for what the graph below can express."""
    path = folder / "config.json"
    if not path.is_file():
        raise ExportError(f"{folder} has no config.json; a model folder holds config.json and model.safetensors")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if config.get("model_type") != "bert":
        raise ExportError(f"model_type {config.get('model_type')!r} in {path} is not supported; only 'bert' is")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ExportError(f"position_embedding_type in {path} is not supported; only 'absolute' is")
    if config.get("hidden_act", "gelu") not in EXACT_GELU:
        raise ExportError(f"hidden_act {config.get('hidden_act')!r} in {path} is not supported; only 'gelu' is")
    return config


class Weights:
    """The tensors of ``model.safetensors`` as float32, by their name without the ``bert.`` prefix."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        path = folder / "model.safetensors"
        if not path.is_file():
            raise ExportError(f"{folder} has no model.safetensors; a model folder holds config.json and it")
        self._path = path
        self._tensors = {name.removeprefix("bert."): tensor for name, tensor in load_file(path).items()}

    def __getitem__(self, name: str) -> Any:
        import numpy as np

        try:
            return self._tensors[name].astype(np.float32)
        except KeyError:
            raise ExportError(f"{self._path} has no tensor {name!r}; it is not a BERT encoder") from None

    def linear(self, name: str) -> Any:
        """A linear layer's weight as (inputs, outputs): the checkpoint stores (outputs, inputs)."""
        import numpy as np

        return np.ascontiguousarray(self[name].T)


class GraphBuilder:
    """Collects the nodes and initializers of the encoder graph, in order."""

    def __init__(self, config: dict[str, Any], weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))

    def constant(self, name: str, array: Any) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def product(self, states: str, name: str, output: str) -> str:
        """States by the weight of a linear layer."""
        return self.node("MatMul", [states, self.constant(name, self.weights.linear(name))], output)

    def node(
        self,
        op: str,
        inputs: list[str],
        output: str,
        *,
        domain: str = "",
        extra_outputs: tuple[str, ...] = (),
        **attributes: Any,
    ) -> str:
        from onnx import helper

        outputs = [output, *extra_outputs]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=output, domain=domain, **attributes))
        return output

    def embeddings(self) -> tuple[str, str]:
        """Word, position and token-type embeddings; returns the hidden state and the int32 mask."""
        from onnx import TensorProto

        ids, types, mask = (
            self.node("Cast", [name], f"{name}_int32", to=TensorProto.INT32)
            for name in ("input_ids", "token_type_ids", "attention_mask")
        )
        hidden = self.node(
            "EmbedLayerNormalization",
            [
                ids,
                types,
                self.weight("embeddings.word_embeddings.weight"),
                self.weight("embeddings.position_embeddings.weight"),
                self.weight("embeddings.token_type_embeddings.weight"),
                self.weight("embeddings.LayerNorm.weight"),
                self.weight("embeddings.LayerNorm.bias"),
            ],
            "embeddings",
            domain=MS_DOMAIN,
            extra_outputs=("unused_mask_index",),
            epsilon=self.epsilon,
        )
        return hidden, mask

    def attention(self, layer: str, hidden: str, mask: str) -> str:
        import numpy as np

        parts = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
        weight = np.concatenate([self.weights.linear(f"{part}.weight") for part in parts], axis=1)
        bias = np.concatenate([self.weights[f"{part}.bias"] for part in parts])
        return self.node(
            "Attention",
            [
                hidden,
                self.constant(f"{layer}.attention.qkv.weight", weight),
                self.constant(f"{layer}.attention.qkv.bias", bias),
                mask,
            ],
            f"{layer}.attention",
            domain=MS_DOMAIN,
            num_heads=int(self.config["num_attention_heads"]),
            mask_filter_value=MASK_FILTER_VALUE,
        )

    def add_and_norm(self, name: str, update: str, residual: str, output: str) -> str:
        """LayerNorm(update + bias of the linear layer before it + residual)."""
        return self.node(
            "SkipLayerNormalization",
            [
                update,
                residual,
                self.weight(f"{name}.LayerNorm.weight"),
                self.weight(f"{name}.LayerNorm.bias"),
                self.weight(f"{name}.dense.bias"),
            ],
            output,
            domain=MS_DOMAIN,
            epsilon=self.epsilon,
        )

    def encoder_layer(self, index: int, hidden: str, mask: str, output: str) -> str:
        layer = f"encoder.layer.{index}"
        attended = self.attention(layer, hidden, mask)
        projected = self.product(attended, f"{layer}.attention.output.dense.weight", f"{layer}.projected")
        hidden = self.add_and_norm(f"{layer}.attention.output", projected, hidden, f"{layer}.attended")
        inner = self.product(hidden, f"{layer}.intermediate.dense.weight", f"{layer}.inner")
        inner = self.node(
            "BiasGelu", [inner, self.weight(f"{layer}.intermediate.dense.bias")], f"{layer}.gelu", domain=MS_DOMAIN
        )
        outer = self.product(inner, f"{layer}.output.dense.weight", f"{layer}.outer")
        return self.add_and_norm(f"{layer}.output", outer, hidden, output)


class Int8GraphBuilder(GraphBuilder):
    """The same with weights of linear layers in 8 bits."""

    def product(self, states: str, name: str, output: str) -> str:
        import numpy as np

        weight = self.weights[name]
        outputs, inputs = weight.shape
        blocks = -(-inputs // BLOCK)
        padded = np.zeros((outputs, blocks * BLOCK), np.float32)
        padded[:, :inputs] = weight
        padded = padded.reshape(outputs, blocks, BLOCK)
        factors = abs(padded).max(2) / 127
        numbers = np.rint(padded / np.where(factors == 0, 1, factors)[..., None]) + 128
        return self.node(
            "MatMulNBits",
            [
                states,
                self.constant(f"{name}.numbers", numbers.astype(np.uint8)),
                self.constant(f"{name}.factors", factors.astype(np.float32)),
            ],
            output,
            domain=MS_DOMAIN,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=ACCURACY_LEVEL,
        )

    def attention(self, layer: str, hidden: str, mask: str) -> str:
        import numpy as np

        parts = [f"{layer}.attention.self.{name}" for name in ("query", "key", "value")]
        states = [self.product(hidden, f"{part}.weight", f"{part}.states") for part in parts]
        bias = np.concatenate([self.weights[f"{part}.bias"] for part in parts])
        return self.node(
            "MultiHeadAttention",
            [*states, self.constant(f"{layer}.attention.qkv.bias", bias), mask],
            f"{layer}.attention",
            domain=MS_DOMAIN,
            num_heads=int(self.config["num_attention_heads"]),
            mask_filter_value=MASK_FILTER_VALUE,
        )


def build_model(graph: GraphBuilder) -> Any:
    """The encoder as an ``onnx.ModelProto``."""
    from onnx import TensorProto, checker, helper

    config = graph.config
    hidden, mask = graph.embeddings()
    layers = int(config["num_hidden_layers"])
    for index in range(layers):
        output = "last_hidden_state" if index == layers - 1 else f"encoder.layer.{index}.output"
        hidden = graph.encoder_layer(index, hidden, mask, output)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [
        helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", int(config["hidden_size"])]
        )
    ]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "sentence_encoder", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MS_DOMAIN, 1)],
        ir_version=IR_VERSION,
        producer_name="aktis",
    )
    checker.check_model(proto)
    return proto


def write_atomically(model: Any, target: Path) -> Path:
    import onnx

    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        onnx.save_model(model, str(partial))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="aktis.models.export_onnx", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model_dir", help="folder with config.json and model.safetensors")
    parser.add_argument(
        "--output", help="the file to write (default: model.onnx in the folder, or onnx/model_int8.onnx)"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "int8"),
        default="float32",
        help="int8: weights of linear layers in 8 bits (default: float32)",
    )
    options = parser.parse_args(arguments)
    try:
        path = export_onnx(options.model_dir, options.output, dtype=options.dtype)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
