"""Models by name on several nodes, each with a cache of its own: from the driver's node to the others, and from one to the next."""

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal

import aktis
import aktis.data
import aktis.models
import numpy
import pytest
from data.model_hub import ModelHub
from data.onnx_files import node, port, weight
from waiting import until

from data import onnx_files

pytest.importorskip("huggingface_hub", reason="models by name need huggingface_hub")

NAME = "org/scores"
#: Weights that take several pieces to copy. The graph uses a few of them.
MANY = 24 << 20
ROWS = 64


def repository(tmp_path):
    path = onnx_files.write(
        tmp_path / "model.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        [port("x", "float32", ["rows", 3])],
        [port("y", "float32", ["rows", 1])],
        [
            weight("w", numpy.ones((3, 1), "float32")),
            weight("rest", numpy.zeros(MANY // 4, "float32"), file="rest.bin"),
        ],
    )
    rest = numpy.random.default_rng(1).bytes(MANY)
    return {"model.onnx": pathlib.Path(path).read_bytes(), "rest.bin": rest}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A hub with a model, whose files the driver keeps in a folder of its own."""
    hub = ModelHub()
    hub.put(NAME, repository(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache-driver"))
    yield hub
    hub.close()


@contextlib.contextmanager
def nodes(cluster, tmp_path, *names):
    """A head, which is the driver's node, and a node of four processors for each name, which is a resource; their processes by these names."""
    cluster.environment["HF_ENDPOINT"] = os.environ["HF_ENDPOINT"]
    with cluster.elsewhere(HF_HUB_CACHE=str(tmp_path / "cache-head")):
        cluster.start_head("--num-cpus", "1")
    pids = {}
    for name in names:
        with cluster.elsewhere(HF_HUB_CACHE=str(tmp_path / f"cache-{name}")):
            pids[name] = cluster.start_node("--num-cpus", "4", "--resources", f'{{"{name}": 4}}')
    aktis.init(address=cluster.address, log_to_driver=False)
    try:
        yield pids
    finally:
        aktis.shutdown()


def job(name, workers=1):
    """A job whose model is on the node of this name."""
    model = aktis.models.OnnxModel(NAME, inputs={"x": "data"}, outputs=["y"], batch_size=4)
    rows = aktis.data.from_numpy(numpy.ones((ROWS, 3), "float32")).repartition(8)
    return rows.map_batches(model, num_cpus=1, resources={name: 1}, compute=aktis.data.ActorPoolStrategy(size=workers))


def is_right(ds):
    return [float(row["y"].item()) for row in ds.take_all()] == [3.0] * ROWS


def files_of(tmp_path, name):
    return [path for path in (tmp_path / f"cache-{name}").rglob("rest.bin") if path.stat().st_size == MANY]


def test_each_file_is_asked_of_the_hub_once_for_all_nodes(cluster, models, tmp_path):
    with nodes(cluster, tmp_path, "a", "b"):
        assert is_right(job("a", workers=4))
        assert is_right(job("b"))
    assert models.downloads == {f"{NAME}/model.onnx": 1, f"{NAME}/rest.bin": 1}
    assert len(files_of(tmp_path, "a")) == len(files_of(tmp_path, "b")) == 1
    assert not files_of(tmp_path, "head"), "it uses the driver's"


def test_node_gets_files_from_another_than_the_drivers(cluster, models, tmp_path):
    with nodes(cluster, tmp_path, "a", "b"):
        assert is_right(job("a"))
        late = job("b")
        shutil.rmtree(tmp_path / "cache-driver")
        assert is_right(late)
    assert set(models.downloads.values()) == {1}


def test_job_ends_though_a_node_that_has_files_answers_nothing(cluster, models, tmp_path):
    with nodes(cluster, tmp_path, "a", "b") as pids:
        assert is_right(job("a"))
        late = job("b")
        shutil.rmtree(tmp_path / "cache-driver")
        os.kill(pids["a"], signal.SIGSTOP)
        try:
            assert is_right(late)
        finally:
            os.kill(pids["a"], signal.SIGCONT)
    assert models.downloads[f"{NAME}/rest.bin"] == 2
    assert len(files_of(tmp_path, "b")) == 1


def test_job_ends_though_the_node_that_gives_files_is_killed(cluster, models, tmp_path):
    rest = numpy.random.default_rng(2).bytes(8 * MANY)
    models.put(NAME, {**models.repositories[NAME]["main"], "rest.bin": rest})
    with nodes(cluster, tmp_path, "a", "b") as pids:
        assert is_right(job("a"))
        late = job("b")
        shutil.rmtree(tmp_path / "cache-driver")

        def kill_in_the_middle():
            blobs = tmp_path / "cache-b" / "models--org--scores" / "blobs"
            until(lambda: any(path.stat().st_size > MANY for path in blobs.glob("*")), "a part of the file has come")
            os.kill(pids["a"], signal.SIGKILL)

        with concurrent.futures.ThreadPoolExecutor() as threads:
            killing = threads.submit(kill_in_the_middle)
            assert is_right(late)
            killing.result()
    (found,) = (tmp_path / "cache-b").rglob("rest.bin")
    assert found.read_bytes() == rest
    assert models.downloads[f"{NAME}/rest.bin"] <= 2


def test_workers_of_a_node_that_nobody_helps_ask_the_hub_once(cluster, models, tmp_path):
    with nodes(cluster, tmp_path, "a"):
        alone = job("a", workers=4)
        shutil.rmtree(tmp_path / "cache-driver")
        assert is_right(alone)
    assert set(models.downloads.values()) == {2}


def test_error_of_a_node_that_gets_no_files_says_so(cluster, models, tmp_path):
    with nodes(cluster, tmp_path, "a"):
        alone = job("a")
        shutil.rmtree(tmp_path / "cache-driver")
        models.gated.add(NAME)
        with pytest.raises(Exception, match=r"org/scores.* is gated") as failed:
            alone.take_all()
        assert "set HF_TOKEN" in str(failed.value)
