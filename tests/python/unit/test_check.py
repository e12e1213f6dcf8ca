"""``aktis check`` tells of a script for Ray what is the same, different or missing, without running it."""

import json
import subprocess
import sys
import textwrap

import pytest
from aktis._check.__main__ import main
from aktis._check.reader import findings_in

SCRIPT = """
import ray
import ray.data as rd
from ray import serve
from ray.data import ActorPoolStrategy, read_parquet
from ray.util.placement_group import placement_group

@ray.remote(num_gpus=1, label_selector={"a": "b"}, nmu_cpus=1)
def task(x):
    return x

@ray.remote
class Actor:
    def run(self):
        return 1

actor = Actor.options(lifetime="detached", accelerator_type="H100").remote()
ray.init(include_dashboard=False, num_cpus=2)
ds = read_parquet("in", ray_remote_args={"num_cpus": 2}, colums=["a"])
ds = ds.map_batches(task, compute=ActorPoolStrategy(size=1), accelerator_type="H100", max_retries=None).limit(3)
train, test = ds.train_test_split(0.2)
test.write_mongo("out")
train.write_json("out")

def use(given: ray.data.Dataset, other):
    given.to_spark()
    other.to_spark()
    return given.groupby("a").agregate()

for part in rd.range(3).split(3):
    part.num_rows()
ray.util.collective.allreduce(1)
ray._private.worker.global_worker
ray.cancel(task.remote(1))
ds.repartition(target_num_rows_per_block=100).sort("id", boundaries=[1])
ds.map_batches(task, scheduling_strategy="SPREAD").map_batches(task, scheduling_strategy="DEFAULT", max_retries=3)
"""
#: Line, and a word of what is told; nothing else is missing.
MISSING = [
    (4, "aktis.serve"),
    (6, "placement groups"),
    (8, "label_selector"),
    (8, "did you mean 'num_cpus'"),
    (17, "accelerator_type"),
    (19, "ray_remote_args"),
    (19, "did you mean 'columns'"),
    (20, "map_batches(accelerator_type=...)"),
    (22, "Dataset.write_mongo()"),
    (26, "Dataset.to_spark() of Ray is not in Aktis yet: Spark has workers of its own"),
    (28, "Did you mean 'aggregate'"),
    (31, "use count()"),
    (32, "torch.distributed"),
    (33, "private to Ray"),
    (35, "sort(boundaries=...)"),
    (36, "map_batches(scheduling_strategy=...)"),
]


def told(source, kind):
    return [(one.line, one.verdict.text) for one in findings_in(source) if one.verdict.kind == kind]


def test_what_is_missing_is_told_at_its_line_and_nothing_else():
    missing = told(SCRIPT, "missing")
    assert [line for line, _ in missing] == [line for line, _ in MISSING], missing
    for (_, text), (_, word) in zip(missing, MISSING, strict=True):
        assert word in text


def test_what_is_different_on_purpose_is_told():
    different = [text for _, text in told(SCRIPT, "different")]
    assert [text.partition(":")[0] for text in different] == ["Dataset.write_json", "aktis.cancel"]


def test_processors_are_followed_to_the_datasets_that_they_make():
    source = """
from ray.data.llm import HttpRequestProcessorConfig, ServeDeploymentProcessorConfig, build_processor
import ray
config = HttpRequestProcessorConfig(url="http://a", batchsize=3)
processor = build_processor(config, preproces=None)
processor(ray.data.range(3)).to_spark()
processor.list_stage_name()
"""
    missing = told(source, "missing")
    assert [line for line, _ in missing] == [2, 4, 5, 6, 7], missing
    words = ["over HTTP", "'batch_size'", "'preprocess'", "Dataset.to_spark()", "a Processor has no attribute"]
    assert all(word in text for (_, text), word in zip(missing, words, strict=True)), missing
    assert "five times" in told(source, "different")[0][1]


def test_what_is_there_is_the_same():
    same = {text for _, text in told(SCRIPT, "same")}
    assert {"aktis.init", "aktis.data.read_parquet", "Dataset.map_batches", "Dataset.limit", "aktis.data.range"} <= same


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as ray\nray.util.placement_group(1)",
        "def f(ds):\n    ds.to_spark()",
        "import ray\nds = ray.data.range(3)\nds = [ds]\nds.to_spark()",
        "import ray\nray.data.range(3).map_batches(len, **{'accelerator_type': 1})",
        "import ray\ndef f(n):\n    ray.data.range(3).map_batches(len, num_gpus=n)",
    ],
)
def test_what_cannot_be_known_is_not_reported(source):
    assert told(source, "missing") == []


def test_name_that_is_missing_is_told_where_it_is_imported_and_not_where_it_is_used():
    source = "from ray.data import read_hudi as rd\nrd('a')\nrd('b').count()"
    assert [line for line, _ in told(source, "missing")] == [1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.py").write_text("import aktis as ray\nprint(ray.get(ray.put(1)))\n")
    cells = [
        {"cell_type": "markdown", "source": ["# ray.serve"]},
        {"cell_type": "code", "source": ["%pip install ray\n", "import ray\n", "ds = ray.data.range(3)"]},
        {"cell_type": "code", "source": ["ds.to_spark()"]},
    ]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def test_folders_and_notebooks_are_checked(folder, capsys):
    assert main([str(folder)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert f"{folder}/book.ipynb:4:1: missing: Dataset.to_spark() of Ray is not in Aktis yet" in out[0]
    assert out[-1] == f"{folder}/good.py: 2 uses of Ray: 2 the same, 0 different, 0 missing"


def test_findings_are_printed_as_json(folder, capsys):
    assert main([str(folder / "good.py"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["text"] for row in rows] == ["aktis.get", "aktis.put"]
    assert {row["kind"] for row in rows} == {"same"}


@pytest.mark.parametrize(
    ("name", "text", "told"), [("bad.py", "def", "not Python"), ("bad.ipynb", "x", "not a notebook")]
)
def test_script_that_cannot_be_read_is_named(tmp_path, capsys, name, text, told):
    (tmp_path / name).write_text(text)
    assert main([str(tmp_path / name), str(tmp_path / "none.py")]) == 2
    errors = capsys.readouterr().err
    assert f"{tmp_path / name}" in errors and told in errors and "none.py: No such file" in errors


def test_command_checks(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent("import ray\nray.data.read_hudi('x')\n"))
    command = [sys.executable, "-m", "aktis._cli", "check", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "aktis.data.read_hudi of Ray is not in Aktis yet" in done.stdout
