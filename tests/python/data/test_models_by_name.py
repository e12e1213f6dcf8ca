"""Models by their names on a hub, which is a server of this process."""

import fcntl
import json
import os
import pathlib
import subprocess
import sys

import aktis.data
import aktis.models
import numpy
import pytest
from aktis.data import _caching, _identities
from aktis.data._sql_functions import Steps
from aktis.models import hub, hub_cache, hub_files
from aktis.models.hub_cache import HubError, HubFile

from . import model_hub, onnx_files
from .model_hub import TOKEN, ModelHub
from .onnx_files import node, port, weight

pytest.importorskip("huggingface_hub", reason="models by name need huggingface_hub")

NAME = "org/scores"
#: What is beside a model in many repositories, and no model of Aktis needs.
BALLAST = {"README.md": b"# A model", "pytorch_model.bin": b"pickled", "onnx/other.onnx": b"another graph"}


def graph(tmp_path, factor):
    """The files of a repository whose graph has its weights beside it."""
    weights = numpy.full((3, 1), factor, "float32")
    path = onnx_files.write(
        tmp_path / "model.onnx",
        [node("MatMul", ["x", "w"], ["y"])],
        [port("x", "float32", ["rows", 3])],
        [port("y", "float32", ["rows", 1])],
        [weight("w", weights, file="model.onnx_data")],
    )
    return {"model.onnx": pathlib.Path(path).read_bytes(), "model.onnx_data": weights.tobytes(), **BALLAST}


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A hub, and an empty cache."""
    served = ModelHub()
    monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_FIRST_PAUSE_S", 0.01)
    yield served
    served.close()


@pytest.fixture
def scores(models, tmp_path):
    """The hub with a model that adds three numbers."""
    models.put(NAME, graph(tmp_path, 1))
    return models


def model(name=NAME, **options):
    return aktis.models.OnnxModel(name, inputs={"x": "data"}, batch_size=4, **options)


def sums(name=NAME, **options):
    rows = aktis.data.from_numpy(numpy.arange(12, dtype="float32").reshape(4, 3))
    return sorted(float(row["y"].item()) for row in rows.map_batches(model(name, **options)).take_all())


def test_model_by_name_is_fetched_once_and_only_what_it_needs(scores):
    assert sums() == [3, 12, 21, 30]
    assert scores.downloads == {f"{NAME}/model.onnx": 1, f"{NAME}/model.onnx_data": 1}
    assert sums() == sums(f"{NAME}@main") == [3, 12, 21, 30]
    assert set(scores.downloads.values()) == {1}


def test_files_of_the_cache_need_no_hub(scores, monkeypatch):
    sums()
    asked = scores.requests
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert sums() == [3, 12, 21, 30]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert scores.requests == asked
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert sums() == [3, 12, 21, 30]


def test_revisions_are_commits_of_their_own(scores, tmp_path):
    first = scores.put(NAME, graph(tmp_path, 1))
    scores.put(NAME, graph(tmp_path, 10))
    assert sums() == [30, 120, 210, 300]
    assert sums(revision=first) == sums(f"{NAME}@{first}") == [3, 12, 21, 30]


def test_graph_may_be_named(models, tmp_path):
    files = graph(tmp_path, 2)
    models.put(NAME, {f"onnx/{name}": data for name, data in files.items()})
    assert sums() == sums(onnx_file="onnx/model.onnx") == [6, 24, 42, 60]
    with pytest.raises(ValueError, match=r"has no 'onnx/fp16.onnx'. Its graphs are: onnx/model.onnx"):
        sums(onnx_file="onnx/fp16.onnx")


@pytest.mark.parametrize("accident", ["refusals", "cuts", "lies"])
def test_accidents_of_the_hub_are_survived(scores, accident):
    if accident == "refusals":
        scores.refusals = 2
    else:
        getattr(scores, accident).update({"model.onnx_data": 1})
    assert sums() == [3, 12, 21, 30]
    if accident != "refusals":
        assert scores.downloads[f"{NAME}/model.onnx_data"] == 2


def test_content_that_stays_wrong_is_told_and_not_kept(scores, tmp_path):
    scores.lies["model.onnx_data"] = 1000
    with pytest.raises(HubError, match="changes or cuts files"):
        sums()
    tag = model_hub.tag_of("model.onnx_data", graph(tmp_path, 1)["model.onnx_data"])
    assert not list((tmp_path / "cache").rglob(tag))


def test_errors_say_what_to_do(scores, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"no model org/nothing on http.*look at its name, set HF_TOKEN.*or give the folder"
    ):
        sums("org/nothing")
    with pytest.raises(FileNotFoundError, match="has no revision 'v7'"):
        sums(revision="v7")
    with pytest.raises(ValueError, match="give one of them"):
        sums(f"{NAME}@main", revision="v7")
    with pytest.raises(ValueError, match="is for names on a hub"):
        sums("./scores", revision="v7")
    scores.gated.add(NAME)
    with pytest.raises(PermissionError, match=r"org/scores is gated: ask for access .* set HF_TOKEN"):
        sums()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert sums() == [3, 12, 21, 30]


def test_errors_without_a_hub_say_what_to_do(scores, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set, and .*cache has not all files of org/scores"):
        sums()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9 does not give org/scores .*look at the network"):
        sums()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="is no folder here .*pip install huggingface_hub"):
        sums()


TEXT = [
    "config.json",
    "tokenizer.json",
    "1_Pooling/config.json",
    "README.md",
    "pytorch_model.bin",
    "onnx/model_int8.onnx",
]


@pytest.mark.parametrize(
    ("files", "options", "taken"),
    [
        (["model.safetensors"], {}, "model.safetensors"),
        (["model.safetensors", "onnx/model.onnx"], {}, "onnx/model.onnx"),
        (["model.safetensors", "onnx/model.onnx"], {"backend": "candle"}, "model.safetensors"),
        (["model.safetensors", "onnx/model.onnx"], {"dtype": "int8"}, "model.safetensors"),
        (["model.safetensors", "onnx/model.onnx"], {"onnx_file": "onnx/model_int8.onnx"}, "onnx/model_int8.onnx"),
        (["model.safetensors.index.json"], {"backend": "candle"}, "model.safetensors.index.json"),
    ],
)
def test_text_model_needs_its_descriptions_and_one_form(files, options, taken, monkeypatch, tmp_path):
    monkeypatch.setenv("ORT_DYLIB_PATH", str(tmp_path / "libonnxruntime.so"))
    needed = aktis.models.TextEmbedder("org/name", **options)._needed("org/name", TEXT + files)
    assert needed == ["config.json", "tokenizer.json", "1_Pooling/config.json", taken]


def test_text_model_without_a_form_that_runs_says_what_there_is():
    with pytest.raises(
        ValueError, match=r"has no model.onnx or model.safetensors.*It has .*pytorch_model.bin.*convert it"
    ):
        aktis.models.TextEmbedder("org/name")._needed("org/name", TEXT)


def test_files_of_an_index_come_as_well(models):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    names = ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors", "model-3.safetensors"]
    models.put(NAME, {names[0]: json.dumps(index).encode(), **{name: name.encode() for name in names[1:]}})
    fetched = hub.fetch(hub.Named(NAME, None), lambda _: names[:1])
    assert [file.name for file in fetched.files] == names[:3]


def test_several_processes_fetch_once(scores, tmp_path):
    fetch = f"import aktis.models; print(aktis.models.OnnxModel({NAME!r})._found().path)"
    started = [subprocess.Popen([sys.executable, "-c", fetch], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(folders) == 1
    assert set(scores.downloads.values()) == {1}


def test_who_waits_for_a_process_that_fetches_nothing_names_it(scores, monkeypatch):
    monkeypatch.setattr(hub_cache, "STALLED_S", 0.5)
    path = hub_cache.cache_folder() / ".locks" / "models--org--scores" / "aktis.lock"
    path.parent.mkdir(parents=True)
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711")
        held.flush()
        with pytest.raises(HubError, match=r"process 4711 of this node fetches org/scores .*no byte has come.*end it"):
            sums()
    assert sums() == [3, 12, 21, 30]


def identity(name=NAME, **options):
    rows = aktis.data.from_numpy(numpy.arange(12, dtype="float32").reshape(4, 3))
    plan = rows.map_batches(model(name, **options))._plan
    return dict(_identities._models([_identities.Written(plan, {}, None)]))


def test_changed_revision_makes_another_job_and_is_named(scores, tmp_path):
    before, again = identity(), identity(replicas=2)
    assert before == again
    commit = scores.put(NAME, graph(tmp_path, 10))
    after = identity()
    assert f"the model {NAME} at revision {commit}" in set(after) - set(before)
    assert identity(outputs={"y": "z"}) != after


def test_changed_folder_makes_another_job(tmp_path):
    files = graph(tmp_path, 1)
    (tmp_path / "model.onnx_data").write_bytes(files["model.onnx_data"])
    path = tmp_path / "model.onnx"
    before = identity(path)
    assert identity(path) == before
    os.utime(tmp_path / "model.onnx_data", (1, 1))
    changed = {name for name, value in identity(path).items() if before[name] != value}
    assert changed == {"the files of the model model.onnx"}


def test_models_that_a_query_calls_are_part_of_the_job():
    steps = Steps(None, {"c": ("model", ('{"onnx_model": {"path": "/m/a.onnx"}}', {}), {}, ["c"])})
    assert steps.models() == ['{"onnx_model": {"path": "/m/a.onnx"}}']


def test_kept_results_hang_on_the_content_of_files(scores, tmp_path):
    def sign():
        spec = model()._found().spec_json()
        return _caching.of_model("map_batches()", tmp_path / "kept", (spec,), [])

    before = sign()
    scores.put(NAME, {**graph(tmp_path, 1), "README.md": b"# Another text"})
    assert sign() == before
    scores.put(NAME, graph(tmp_path, 10))
    assert sign() != before


DATA = numpy.random.default_rng(3).bytes(5 * 1000)
FILE = HubFile("onnx/weights.bin", len(DATA), model_hub.tag_of("weights.bin", DATA))


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_files, "PIECE_BYTES", 1000)
    return tmp_path / "models--org--scores" / "snapshots" / "c0"


def test_file_comes_in_pieces_of_which_few_are_under_way(snapshot, monkeypatch):
    monkeypatch.setattr(hub_files, "PIECES_AHEAD", 2)
    under_way = most = 0

    def ask(offset, length):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def wait():
            nonlocal under_way
            under_way -= 1
            return DATA[offset : offset + length]

        return wait

    hub_files.copy(FILE, snapshot, ask)
    assert (snapshot / FILE.name).read_bytes() == DATA
    assert hub_cache.described(snapshot, FILE.name) == FILE
    assert most == 2


def test_file_goes_on_where_a_node_that_died_has_left_it(snapshot, monkeypatch):
    monkeypatch.setattr(hub_files, "PIECES_AHEAD", 1)
    asked = []

    def dying(offset, length):
        asked.append(offset)
        if offset >= 2000:
            raise ConnectionError("gone")
        return lambda: DATA[offset : offset + length]

    with pytest.raises(ConnectionError):
        hub_files.copy(FILE, snapshot, dying)
    assert not (snapshot / FILE.name).exists()
    asked.clear()

    def living(offset, length):
        asked.append(offset)
        return lambda: DATA[offset : offset + length]

    hub_files.copy(FILE, snapshot, living)
    assert asked == [2000, 3000, 4000]
    assert (snapshot / FILE.name).read_bytes() == DATA


def test_file_of_another_content_is_not_kept(snapshot):
    with pytest.raises(HubError, match="not the content that the hub names"):
        hub_files.copy(FILE, snapshot, lambda _, length: lambda: bytes(length))
    assert not any(path.is_file() for path in snapshot.parent.parent.rglob("*"))


def test_names_that_leave_the_cache_are_refused(snapshot):
    for name, blob in [("../../x", "aa"), ("/etc/x", "aa"), ("x", "../../aa")]:
        with pytest.raises(HubError, match="no file of a repository is"):
            hub_files.copy(HubFile(name, 1, blob), snapshot, lambda _, length: lambda: bytes(length))
