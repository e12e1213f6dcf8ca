"""Every Python example runs to its end, in time, and says what it should. (The Rust one: examples/rust/tests.)"""

import os
import pathlib
import subprocess
import sys

import pytest
from pyarrow import parquet

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "examples"
MODEL = pathlib.Path(os.environ.get("AKTIS_TEST_MODEL_DIR", REPOSITORY / ".models" / "all-MiniLM-L6-v2"))
DEADLINE_S = 120


def run(name, *arguments):
    """Standard output of an example, which must succeed before the deadline."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_has_a_test():
    tested = pathlib.Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'run("{example.name}"' in tested, f"{example.name} is not run by the tests"


def test_tasks_and_actors_shows_what_the_comments_say():
    output = run("tasks_and_actors.py")
    expected = (
        "squares: [0, 1, 4, 9, 16]",
        "sum of squares: 30",
        "nested: 30",
        "two results: [1, 2] [3, 4]",
        "wait: 2 done, 2 pending",
        "counter: [11, 12, 13]",
        "by name: 6",
        "asynchronous: ['a', 'b']",
        "after kill: ",
        "shared array: 499999500000 writable: False",
        "in a task: 999999",
        "error: True True",
        "resources: 2.0 CPUs",
    )
    for line in expected:
        assert line in output, output


def test_image_classes_labels_every_image(tmp_path):
    output = run("image_classes.py", "--rows", 1300, "--broken", 0, "--output", tmp_path)
    assert "1300 of 1300 images classified correctly" in output, output
    labels = parquet.read_table(tmp_path / "labels")
    assert sorted(labels["id"].to_pylist()) == list(range(1300))
    assert "put aside" not in output, output


def test_image_classes_puts_broken_images_aside(tmp_path):
    output = run("image_classes.py", "--rows", 1300, "--broken", 2, "--output", tmp_path)
    assert "1298 of 1298 images classified correctly" in output, output
    labels = parquet.read_table(tmp_path / "labels")
    assert sorted(labels["id"].to_pylist()) == [row for row in range(1300) if row not in {0, 650}]
    assert "put aside: image 0, row 0 of images-000000.parquet: " in output, output
    assert "put aside: image 650, row 150 of images-000500.parquet: " in output, output


def test_image_classes_runs_again_over_its_own_output(tmp_path):
    for rows in (200, 100):
        run("image_classes.py", "--rows", rows, "--broken", 0, "--output", tmp_path)
        assert parquet.read_table(tmp_path / "labels").num_rows == rows


@pytest.mark.skipif(not (MODEL / "model.onnx").is_file(), reason=f"there is no model in {MODEL}")
def test_semantic_search_finds_what_was_meant(tmp_path):
    output = run("semantic_search.py", "--rows", 400, "--output", tmp_path, "--query", "send an email message")
    answers = output.partition("'send an email message'\n")[2].splitlines()[:3]
    assert any("mail" in answer or "smtp" in answer for answer in answers), output
    assert "throughput: " in output
    embeddings = parquet.read_table(tmp_path / "embeddings")
    assert embeddings.num_rows == 400
    assert embeddings.schema.field("embedding").type.list_size == 384


@pytest.mark.skipif(not (MODEL / "model.onnx").is_file(), reason=f"there is no model in {MODEL}")
def test_embed_and_resume_embeds_each_row_once_after_a_kill(tmp_path):
    output = run("embed_and_resume.py", "--rows", 400, "--output", tmp_path)
    assert "killed; 0 files are visible" in output, output
    assert "400 rows, each of 400 once: True" in output, output
    again = int(output.partition("this run embedded ")[2].split()[0])
    assert again < 400, output


def test_synthetic_data_is_the_same_for_a_seed(tmp_path):
    def digest(seed):
        output = run("synthetic_data.py", "--rows", 2500, "--seed", seed, "--output", tmp_path)
        assert "2500 rows, mean price 1" in output, output
        return output.partition("digest: ")[2]

    first = digest(1)
    assert (digest(1) == first, digest(2) == first) == (True, False)
    orders = parquet.read_table(tmp_path / "orders")
    assert sorted(orders["id"].to_pylist()) == list(range(2500))


def test_near_duplicates_are_removed_and_nothing_else(tmp_path):
    output = run("near_duplicates.py", "--rows", 600, "--output", tmp_path)
    assert "120 of 120 copies are gone, and 0 other texts" in output, output
    different = parquet.read_table(tmp_path / "different")
    assert sorted(different["id"].to_pylist()) == [row for row in range(600) if row % 5 != 1]


def test_vector_index_has_each_vector_once_and_finds_the_nearest(tmp_path):
    output = run("vector_index.py", "--rows", 4000, "--cells", 16, "--probes", 4, "--output", tmp_path)
    assert "4000 vectors in 16 cells" in output, output
    found = int(output.partition(" of 100 nearest vectors found in 4 of 16 cells")[0].split()[-1])
    assert found >= 90, output
    cells = parquet.read_table(tmp_path / "index" / "cells")
    assert sorted(cells["id"].to_pylist()) == list(range(4000))
