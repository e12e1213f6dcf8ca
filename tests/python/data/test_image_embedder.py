"""Vectors of images in a dataset, against what transformers makes of the same images.

The models, the images and the answers are in ``image_models``, with the script that made them.
"""

import importlib.util
import io
import json
import pathlib
import shutil

import aktis.data
import aktis.models
import numpy
import pytest

from . import onnx_files
from .onnx_files import node, port

FOLDER = pathlib.Path(__file__).parent / "image_models"
REFERENCE = numpy.load(FOLDER / "reference.npz")
IMAGES = [REFERENCE[f"images/{number}"] for number in range(8)]
#: Those with three axes, and among them those in color.
DEEP = [number for number, image in enumerate(IMAGES) if image.ndim == 3]
COLORED = [number for number in DEEP if IMAGES[number].shape[2] == 3]


def embedder(name, **options):
    return aktis.models.ImageEmbedder(FOLDER / name, **{"batch_size": 4, "replicas": 2, **options})


def dataset(numbers):
    """The images twice, in different orders, and a row without one between."""
    rows = [*numbers, None, *numbers[::-1]]
    images = [None if number is None else IMAGES[number] for number in rows]
    return aktis.data.from_items([{"id": i, "image": image} for i, image in enumerate(images)]), rows


def check(model, numbers, expected):
    ds, rows = dataset(numbers)
    ds = ds.map_batches(model)
    assert ds.schema().names == ["id", "image", model.output_column], "known without running"
    found = sorted(ds.take_all(), key=lambda row: row["id"])
    assert len(found) == len(rows)
    for row, number in zip(found, rows, strict=True):
        vector = row[model.output_column]
        if number is None:
            assert row["image"] is vector is None
            continue
        answer = expected(number)
        if model.normalize:
            answer = answer / numpy.linalg.norm(answer)
            assert vector @ answer >= 0.9999
        assert vector.dtype == numpy.float32
        numpy.testing.assert_allclose(vector, answer, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, lambda number: REFERENCE[f"clip/image_embeds/{number}"]),
        ({"output": "last_hidden_state"}, lambda number: REFERENCE[f"clip/last_hidden_state/{number}"][0]),
        ({"pooling": "mean"}, lambda number: REFERENCE[f"clip/last_hidden_state/{number}"].mean(0)),
        ({"normalize": False, "output_column": "v"}, lambda number: REFERENCE[f"clip/image_embeds/{number}"]),
    ],
    ids=["projection", "first part", "mean of parts", "as they are"],
)
def test_vectors_of_a_clip_are_those_of_transformers(options, expected):
    check(embedder("clip", **options), DEEP, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": "auto"}, lambda number: REFERENCE[f"vit/pooler_output/{number}"]),
        ({"pooling": "cls"}, lambda number: REFERENCE[f"vit/last_hidden_state/{number}"][0]),
    ],
    ids=["pooler", "first part"],
)
def test_vectors_of_a_vit_are_those_of_transformers(options, expected):
    check(embedder("vit", **options), COLORED, expected)


def test_graph_in_float16_gives_nearly_the_same_vectors():
    model = embedder("clip", onnx_file="onnx/vision_model_fp16.onnx")
    ds, rows = dataset(DEEP)
    found = [row["embedding"] for row in sorted(ds.map_batches(model).take_all(), key=lambda row: row["id"])]
    pairs = [(v, REFERENCE[f"clip/image_embeds/{n}"]) for v, n in zip(found, rows, strict=True) if n is not None]
    cosines = [vector @ answer / numpy.linalg.norm(answer) for vector, answer in pairs]
    assert 0.999 <= min(cosines) < 0.9999999


def test_batches_fill_the_runs_of_a_graph_with_a_fixed_first_axis(tmp_path):
    folder = changed(tmp_path, "pixels", size=2, crop_size=2, do_rescale=False, do_normalize=False)
    onnx_files.write(
        folder / "model.onnx",
        [
            node("Flatten", ["x"], ["all"]),
            node("ReduceMean", ["all"], ["mean"]),
            node("Sub", ["all", "all"], ["zeros"]),
            node("Add", ["zeros", "mean"], ["y"]),
        ],
        [port("x", "float32", [8, 3, 2, 2])],
        [port("y", "float32", [8, 12])],
    )
    images = numpy.arange(16, dtype="uint8").reshape(16, 1, 1, 1).repeat(2, 1).repeat(2, 2)
    ds = aktis.data.from_numpy(images)
    model = aktis.models.ImageEmbedder(folder, column="data", batch_size=5, replicas=1, normalize=False)
    # The mean of a whole run, none of which has rows that fill it up.
    means = sorted(float(row["embedding"][0]) for row in ds.map_batches(model).take_all())
    assert means == [3.5] * 8 + [11.5] * 8


def test_grey_images_need_no_channels():
    flat = [number for number in range(8) if number not in DEEP]
    check(embedder("clip"), flat, lambda number: REFERENCE[f"clip/image_embeds/{number}"])


def changed(folder, name, **settings):
    """The model with other settings in its preprocessor_config.json."""
    shutil.copytree(FOLDER / name, folder, dirs_exist_ok=True)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


@pytest.mark.parametrize("resample", [1, 2, 3, 4, 5])
def test_pixels_are_those_of_pillow(tmp_path, resample):
    """Smaller and larger, of all filters: the graph gives back the pixels that it is given."""
    model = embedder(changed(tmp_path, "pixels", resample=resample), normalize=False)
    ds, rows = dataset(DEEP)
    found = sorted(ds.map_batches(model).take_all(), key=lambda row: row["id"])
    for row, number in zip(found, rows, strict=True):
        if number is not None:
            numpy.testing.assert_allclose(row["embedding"], REFERENCE[f"pixels/{resample}/{number}"], atol=1e-6, rtol=0)


def test_rows_that_are_no_images_are_put_aside():
    shapes = {0: (6, 5, 3), 1: (6, 5, 2), 2: (0, 5, 3), 3: (4, 4, 4), 4: (1, 65_535, 3)}
    items = [{"id": i, "image": numpy.ones(shape, "uint8")} for i, shape in shapes.items()]
    ds = aktis.data.from_items(items).map_batches(embedder("clip"), on_error="dead_letter")
    assert sorted(row["id"] for row in ds.take_all()) == [0, 3, 4]
    dead = {row["row"]["id"]: row["message"] for row in ds.dead_letters().take_all()}
    assert set(dead) == {1, 2}
    assert "an image of shape [6, 5, 2]" in dead[1]
    assert "there are 1, 3 or 4 channels" in dead[1]
    assert "an image of shape [0, 5, 3]" in dead[2]
    assert "it has no pixels" in dead[2]


def test_columns_that_are_no_images_are_told():
    for value, said in [
        (numpy.ones((4, 4, 3), "float32"), "it has tensors of float32, .*; make them whole numbers from 0 to 255"),
        ("a.png", "it has the type string"),
    ]:
        ds = aktis.data.from_items([{"image": value}]).map_batches(embedder("clip"))
        with pytest.raises(Exception, match=said):
            ds.take_all()


def test_folders_that_do_not_fit_are_told(tmp_path):
    ds = aktis.data.from_items([{"image": IMAGES[0]}])
    other = tmp_path / "without"
    shutil.copytree(FOLDER / "vit", other)
    (other / "preprocessor_config.json").unlink()
    for model, said in [
        (embedder("clip", column="photo"), "'photo'"),
        (embedder(tmp_path / "nothing"), "ImageEmbedder: .*it is no folder"),
        (embedder(other), "it has no preprocessor_config.json; .*save_pretrained"),
        (embedder(changed(tmp_path / "a", "vit", image_processor_type="DonutImageProcessor")), "prepared as `Donut`"),
        (embedder(changed(tmp_path / "b", "vit", size={"shortest_edge": 24})), "size needs height and width"),
        (
            embedder(changed(tmp_path / "c", "pixels", crop_size=9)),
            r"shape \[batch, 3, 8, 8\], .* images of \[3, 9, 9\]",
        ),
        (embedder(changed(tmp_path / "d", "vit", use_square_size=True)), "use_square_size is not supported"),
        (embedder("clip", onnx_file=str(FOLDER / "vit" / "model.onnx")), "this one leads out of it"),
        (embedder("clip", output="pooler_output"), "no output `pooler_output`; its outputs are `image_embeds`"),
        (embedder("pixels", pooling="mean"), "which pooling= needs"),
    ]:
        with pytest.raises(ValueError, match=said):
            ds.map_batches(model)
    for options, said in [
        ({"pooling": "max"}, "pooling must be"),
        ({"output_column": "image"}, "are both 'image'"),
        ({"batch_size": 0}, "batch_size must be"),
    ]:
        with pytest.raises(ValueError, match=said):
            embedder("clip", **options)


def test_image_files_become_vectors(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    rows = aktis.data.read_images(str(tmp_path), mode="RGB").map_batches(embedder("clip")).take_all()
    expected = REFERENCE["clip/image_embeds/0"]
    numpy.testing.assert_allclose(rows[0]["embedding"], expected / numpy.linalg.norm(expected), atol=1e-4)


def saved(number, image_format="PNG", **options):
    """The image as it lies in a file."""
    image = pytest.importorskip("PIL.Image")
    pixels = IMAGES[number]
    file = io.BytesIO()
    image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, image_format, **options)
    return file.getvalue()


def test_encoded_images_are_decoded(tmp_path):
    """As bytes, as structs of bytes and a path, and as a path where there are no bytes."""
    rows = [*DEEP, None, *DEEP[::-1]]
    files = [None if number is None else saved(number) for number in rows]
    (tmp_path / "a.png").write_bytes(saved(DEEP[0]))
    structs = [None if data is None else {"bytes": data, "path": None} for data in files]
    structs[0] = {"bytes": None, "path": str(tmp_path / "a.png")}
    structs[1] = {"bytes": None, "path": None}
    for images, missing in [(files, [len(DEEP)]), (structs, [1, len(DEEP)])]:
        ds = aktis.data.from_items([{"id": i, "image": image} for i, image in enumerate(images)])
        ds = ds.map_batches(embedder("clip"))
        found = sorted(ds.take_all(), key=lambda row: row["id"])
        assert [row["id"] for row in found if row["embedding"] is None] == missing
        for row, number in zip(found, rows, strict=True):
            if row["embedding"] is not None:
                expected = REFERENCE[f"clip/image_embeds/{number}"]
                numpy.testing.assert_allclose(row["embedding"], expected / numpy.linalg.norm(expected), atol=1e-4)
            assert row["image"] == images[row["id"]], "it passes by"


def test_encoded_images_of_all_modes_are_seen_as_people_see_them():
    image = pytest.importorskip("PIL.Image")
    seen = image.fromarray(IMAGES[0])
    turned = image.Exif()
    turned[274] = 6
    paletted = seen.convert("P", palette=image.Palette.ADAPTIVE)
    lies = [
        ("PNG", paletted, {}),
        ("PNG", seen.convert("RGBA"), {}),
        ("PNG", seen.rotate(90, expand=True), {"exif": turned}),
        ("TIFF", seen.convert("CMYK"), {}),
    ]
    items = []
    for number, (image_format, picture, options) in enumerate(lies):
        file = io.BytesIO()
        picture.save(file, image_format, **options)
        items.append({"id": number, "image": file.getvalue()})
    expected = REFERENCE["clip/image_embeds/0"] / numpy.linalg.norm(REFERENCE["clip/image_embeds/0"])
    rows = aktis.data.from_items(items).map_batches(embedder("clip")).take_all()
    vectors = {row["id"]: row["embedding"] for row in rows}
    # A palette has fewer colors.
    decoded = aktis.data.from_items([{"image": numpy.array(paletted.convert("RGB"))}])
    numpy.testing.assert_allclose(
        vectors[0], decoded.map_batches(embedder("clip")).take_all()[0]["embedding"], atol=1e-6
    )
    for number in (1, 2, 3):
        numpy.testing.assert_allclose(vectors[number], expected, atol=1e-4, err_msg=lies[number][0])


def test_broken_images_are_bad_rows_with_their_positions():
    good = saved(COLORED[0])
    images = [good, good[: len(good) // 2], good, b"no image", b"", None]
    items = [{"id": i, "image": image} for i, image in enumerate(images)]
    ds = aktis.data.from_items(items).map_batches(embedder("clip", batch_size=8), on_error="dead_letter")
    assert sorted(row["id"] for row in ds.take_all()) == [0, 2, 5]
    dead = {row["row"]["id"]: row["message"] for row in ds.dead_letters().take_all()}
    assert set(dead) == {1, 3, 4}
    for message in dead.values():
        assert (
            "decode the images of the column `image`: row 0 of the batch is broken, or no image that Pillow reads"
            in message
        )
    with pytest.raises(Exception, match="row 1 of the batch is broken"):
        aktis.data.from_items(items[:2]).map_batches(embedder("clip")).take_all()


@pytest.mark.skipif(importlib.util.find_spec("PIL") is not None, reason="Pillow is installed")
def test_without_pillow_the_job_ends_and_says_what_to_install():
    ds = aktis.data.from_items([{"image": b"x"}]).map_batches(embedder("clip"), on_error="skip")
    with pytest.raises(Exception, match="ImageEmbedder: .*pip install pillow"):
        ds.take_all()


def test_fields_of_configurations_have_the_names_of_their_families(tmp_path):
    """The length of vectors stands in config.json alone, under another name."""
    folder = changed(tmp_path, "pixels")
    (folder / "config.json").write_text(json.dumps({"d_model": 192, "hidden_size": None}))
    onnx_files.write(
        folder / "model.onnx",
        [node("Flatten", ["x"], ["y"])],
        [port("x", "float32", ["N", 3, 8, 8])],
        [port("y", "float32", ["N", "width"])],
    )
    row = aktis.data.from_items([{"image": IMAGES[0]}]).map_batches(embedder(folder, output="y")).take_all()[0]
    assert len(row["embedding"]) == 192
