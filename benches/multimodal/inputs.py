"""Makes what the pipelines read: pictures, PDFs and texts, from a seed."""

import base64
import gzip
import io
import json
import zlib

WIDTH, HEIGHT = 500, 375


def picture(random):
    """A JPEG of soft shapes with some noise, which compresses about as a photo does."""
    import numpy
    from PIL import Image

    coarse = random.integers(0, 256, (12, 16, 3), dtype=numpy.uint8)
    soft = numpy.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=numpy.int16)
    noisy = soft + random.integers(-12, 13, soft.shape, dtype=numpy.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(numpy.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def words(random, count):
    """Text of made-up words that are often the same."""
    syllables = ["ka", "lo", "mi", "ter", "an", "se", "du", "pra", "vi", "ou"]
    picks = random.integers(0, len(syllables), (count, 3))
    return " ".join("".join(syllables[at] for at in row) for row in picks.tolist())


def document(texts):
    """A PDF with a page of lines for each text, put together by hand: a library for it would be one more to install."""
    objects, pages = [], []
    for text in texts:
        lines = [text[start : start + 90] for start in range(0, len(text), 90)]
        body = "BT /F1 9 Tf 40 800 Td 11 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        packed = zlib.compress(body.encode())
        content = 4 + len(objects)
        objects.append(b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(packed), packed))
        pages.append(content + 1)
        objects.append(b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
                       b"/Resources << /Font << /F1 3 0 R >> >> >>" % content)  # fmt: skip
    kids = b" ".join(b"%d 0 R" % page for page in pages)
    head = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]  # fmt: skip
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate([*head, *objects], 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, table)
    return bytes(out)


def images(folder, rows, model):
    """JPEGs in a folder, a Parquet table that names each twice, and a small convolutional network."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    random = numpy.random.default_rng(1)
    (folder / "pictures").mkdir(parents=True)
    paths = []
    for number in range(rows // 2):
        path = folder / "pictures" / f"{number:06}.jpg"
        path.write_bytes(picture(random))
        paths += [str(path)] * 2
    (folder / "table").mkdir()
    parquet.write_table(pyarrow.table({"key": range(len(paths)), "path": paths}), folder / "table" / "paths.parquet")
    network(folder / "network.onnx")


def network(path):
    """Three convolutions with strides, a mean over the picture, a product: weights from a seed."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(2)
    nodes, weights, before = [], [], "pixels"
    for at, (inputs, outputs) in enumerate([(3, 16), (16, 32), (32, 64)]):
        kernel = random.normal(0, (2 / (inputs * 9)) ** 0.5, (outputs, inputs, 3, 3)).astype(numpy.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{at}"))
        nodes.append(helper.make_node("Conv", [before, f"w{at}"], [f"c{at}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{at}"], [f"r{at}"]))
        before = f"r{at}"
    weights.append(numpy_helper.from_array(random.normal(0, 1, (64, 10)).astype(numpy.float32), "last"))
    nodes.append(helper.make_node("GlobalAveragePool", [before], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "last"], ["scores"]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 224, 224])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "network", [pixels], [scores], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def pictures(folder, rows, model):
    """Parquet files with pictures in base64."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    random = numpy.random.default_rng(3)
    (folder / "table").mkdir(parents=True)
    some = [base64.b64encode(picture(random)).decode() for _ in range(64)]
    per_file = max(rows // 8, 1)
    for number, start in enumerate(range(0, rows, per_file)):
        keys = range(start, min(start + per_file, rows))
        table = pyarrow.table({"key": keys, "picture": [some[key % len(some)] for key in keys]})
        parquet.write_table(table, folder / "table" / f"part-{number}.parquet", row_group_size=128)


def documents(folder, rows, model):
    """PDFs of 1 to 12 pages, and a Parquet table that names them."""
    import numpy
    import pyarrow
    from pyarrow import parquet

    random = numpy.random.default_rng(4)
    (folder / "documents").mkdir(parents=True)
    paths = []
    for number in range(rows):
        path = folder / "documents" / f"{number:06}.pdf"
        path.write_bytes(document([words(random, 60) for _ in range(random.integers(1, 13))]))
        paths.append(str(path))
    (folder / "table").mkdir()
    parquet.write_table(pyarrow.table({"key": range(rows), "path": paths}), folder / "table" / "paths.parquet")


def texts(folder, rows, model):
    """JSON lines of texts of 10 to 250 characters, compressed."""
    import numpy

    random = numpy.random.default_rng(5)
    (folder / "table").mkdir(parents=True)
    per_file = max(rows // 4, 1)
    for number, start in enumerate(range(0, rows, per_file)):
        with gzip.open(folder / "table" / f"part-{number}.jsonl.gz", "wt") as file:
            for key in range(start, min(start + per_file, rows)):
                text = words(random, int(random.integers(2, 38)))[: int(random.integers(10, 251))]
                file.write(json.dumps({"key": key, "text": text}) + "\n")
