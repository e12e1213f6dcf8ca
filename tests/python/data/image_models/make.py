# The packages need not be there where tests run.
# pyright: reportMissingImports=false
"""Makes the models of this folder, small ones with random weights, images, and what ``transformers`` makes of the images with them.

    pip install torch transformers onnx onnxruntime "pillow<13" && python tests/python/data/image_models/make.py

``reference.npz`` has the images and the answers. Processors of images are those on Pillow, which ``transformers`` takes where torchvision is not installed;
those of torchvision, and Pillow 13, differ from them by one step of 255 here and there. ``pixels`` is no model: it gives back the pixels that it is given.
"""

import pathlib
from typing import Any

import numpy
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

HERE = pathlib.Path(__file__).parent
#: Height, width and channels; one grey without channels.
SHAPES = [(40, 60, 3), (61, 37, 3), (32, 32, 3), (9, 14, 3), (5, 70, 3), (30, 41), (33, 20, 1), (25, 44, 4)]
#: Pillow's numbers of lanczos, bilinear, bicubic, box and hamming.
FILTERS = [1, 2, 3, 4, 5]
SIDE = 8


def images():
    """Waves with noise on them."""
    random = numpy.random.default_rng(3)
    for shape in SHAPES:
        y, x, channel = numpy.ogrid[: shape[0], : shape[1], : shape[2] if len(shape) == 3 else 1]
        waves = 100 + 90 * numpy.sin(y / 5 + channel) * numpy.cos(x / (3 + channel)) + random.integers(-60, 60, 1)
        noisy = waves + random.normal(0, 25, waves.shape)
        yield noisy.clip(0, 255).astype("uint8").reshape(shape)


class Graph(torch.nn.Module):
    """Outputs of a model by their names."""

    def __init__(self, model, outputs):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixel_values):
        made = self.model(pixel_values=pixel_values)
        return tuple(made[name] for name in self.outputs)


def save(name, model, processor, side, outputs):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model.eval()
    model.config.save_pretrained(folder)
    processor.save_pretrained(folder)
    free = {port: {0: "batch"} for port in ["pixel_values", *outputs]}
    torch.onnx.export(
        Graph(model, outputs), (torch.zeros(2, 3, side, side),), folder / "model.onnx", input_names=["pixel_values"],
        output_names=outputs, dynamic_axes=free, dynamo=False, opset_version=17,
    )  # fmt: skip
    return model, processor


def answers(name, model, processor, pictures, outputs):
    with torch.no_grad():
        for number, picture in pictures.items():
            made = model(**processor(images=picture, return_tensors="pt"))
            for output in outputs:
                yield f"{name}/{output}/{number}", made[output][0].numpy()


def sizes(**settings):
    return {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **settings}


def clip():
    config = transformers.CLIPVisionConfig(
        **sizes(image_size=32, patch_size=8, projection_dim=12, initializer_factor=8.0)
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    outputs = ["image_embeds", "last_hidden_state"]
    return *save("clip", transformers.CLIPVisionModelWithProjection(config), processor, 32, outputs), outputs


def vit():
    config = transformers.ViTConfig(**sizes(image_size=24, patch_size=8, initializer_range=0.4))
    processor = ViTImageProcessorPil(size={"height": 24, "width": 24})
    outputs = ["last_hidden_state", "pooler_output"]
    return *save("vit", transformers.ViTModel(config), processor, 24, outputs), outputs


def pixels(pictures):
    """A graph that gives back its input, flat, and what each filter makes of the images."""
    folder = HERE / "pixels"
    folder.mkdir(exist_ok=True)
    flat = numpy_helper.from_array(numpy.array([0, 3 * SIDE * SIDE], "int64"), "flat")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["pixel_values", "flat"], ["image_embeds"])], "pixels",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 3 * SIDE * SIDE])], [flat],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx"
    )
    for resample in FILTERS:
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": SIDE + 3}, crop_size={"height": SIDE, "width": SIDE}, resample=resample
        )
        for number, picture in pictures.items():
            made = processor(images=picture, return_tensors="np")["pixel_values"][0]
            yield f"pixels/{resample}/{number}", made.reshape(-1)
    processor.save_pretrained(folder)


def main():
    torch.manual_seed(11)
    pictures = dict(enumerate(images()))
    made: dict[str, Any] = {f"images/{number}": picture for number, picture in pictures.items()}
    # The processors want channels.
    pictures = {number: picture.reshape(*picture.shape[:2], -1) for number, picture in pictures.items()}
    # Of those in color: for others it has no meaning to the processor of a ViT.
    colored = {number: picture for number, picture in pictures.items() if picture.shape[2] == 3}
    model, processor, outputs = clip()
    made |= answers("clip", model, processor, pictures, outputs)
    half = convert_float_to_float16(onnx.load(HERE / "clip" / "model.onnx"), keep_io_types=False)
    (HERE / "clip" / "onnx").mkdir(exist_ok=True)
    onnx.save(half, HERE / "clip" / "onnx" / "vision_model_fp16.onnx")
    model, processor, outputs = vit()
    made |= answers("vit", model, processor, colored, outputs)
    made |= pixels(pictures)
    numpy.savez_compressed(HERE / "reference.npz", **made)


if __name__ == "__main__":
    main()
