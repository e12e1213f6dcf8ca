"""What the pipelines compute, the same objects for every system: functions and classes from a dict of arrays to a dict of arrays."""

import base64
import io
import pathlib

PIXELS = 224
CLASSES = 10
CHUNK, OVERLAP = 2048, 200


def prepared(image):
    """Of an opened picture the pixels of its middle, as classifiers of ImageNet want them: (3, 224, 224), float32."""
    import numpy

    image = image.convert("RGB")
    shorter = min(image.size)
    image = image.resize((image.width * 232 // shorter, image.height * 232 // shorter))
    left, top = (image.width - PIXELS) // 2, (image.height - PIXELS) // 2
    pixels = numpy.asarray(image.crop((left, top, left + PIXELS, top + PIXELS)), dtype=numpy.float32)
    mean = numpy.array([0.485, 0.456, 0.406], dtype=numpy.float32) * 255
    deviation = numpy.array([0.229, 0.224, 0.225], dtype=numpy.float32) * 255
    return ((pixels - mean) / deviation).transpose(2, 0, 1)


def read_pictures(batch):
    """Paths to pixels."""
    import numpy
    from PIL import Image

    return {"key": batch["key"], "pixels": numpy.stack([prepared(Image.open(path)) for path in batch["path"]])}


def decode_pictures(batch):
    """Pictures in base64 to pixels."""
    import numpy
    from PIL import Image

    opened = (Image.open(io.BytesIO(base64.b64decode(text))) for text in batch["picture"])
    return {"key": batch["key"], "pixels": numpy.stack([prepared(image) for image in opened])}


def read_pages(batch):
    """Paths of PDFs to the texts of their pages in chunks that overlap; a row per chunk."""
    import numpy
    import pypdfium2

    keys, texts = [], []
    for key, path in zip(batch["key"], batch["path"], strict=True):
        document = pypdfium2.PdfDocument(path)
        for number, page in enumerate(document):
            text = page.get_textpage().get_text_bounded()
            for at, start in enumerate(range(0, len(text), CHUNK - OVERLAP)):
                keys.append(key * 1_000_000 + number * 1000 + at)
                texts.append(text[start : start + CHUNK])
        document.close()
    return {"key": numpy.array(keys, dtype=numpy.int64), "text": numpy.array(texts, dtype=object)}


def session_of(graph):
    """One thread for each model: there are as many models as CPUs."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(graph), settings, ["CPUExecutionProvider"])


class Classifier:
    """A small convolutional network."""

    def __init__(self, graph):
        self.session = session_of(graph)

    def __call__(self, batch):
        (scores,) = self.session.run(None, {"pixels": batch["pixels"]})
        return {"key": batch["key"], "label": scores.argmax(axis=1)}


class Projection:
    """One matrix product in the place of a large model."""

    def __init__(self, _):
        import numpy

        self.weights = numpy.random.default_rng(0).random((3 * PIXELS * PIXELS, CLASSES), dtype=numpy.float32) - 0.5

    def __call__(self, batch):
        flat = batch["pixels"].reshape(len(batch["pixels"]), -1)
        return {"key": batch["key"], "label": (flat @ self.weights).argmax(axis=1)}


class Embedder:
    """all-MiniLM-L6-v2 from its folder: mean of the tokens' vectors, of length 1."""

    def __init__(self, folder):
        import tokenizers

        self.session = session_of(pathlib.Path(folder) / "model.onnx")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    def __call__(self, batch):
        import numpy

        encoded = self.tokenizer.encode_batch([str(text) for text in batch["text"]])
        ids = numpy.array([one.ids for one in encoded], dtype=numpy.int64)
        mask = numpy.array([one.attention_mask for one in encoded], dtype=numpy.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        (hidden,) = self.session.run(["last_hidden_state"], inputs)
        weights = mask[:, :, None].astype(numpy.float32)
        mean = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return {"key": batch["key"], "embedding": mean / numpy.linalg.norm(mean, axis=1, keepdims=True)}
