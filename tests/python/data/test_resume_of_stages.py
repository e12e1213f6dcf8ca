"""Jobs whose functions want different workers go on where they were left: what is done is done through all stages."""

import os
import random
import signal
import time

import aktis.data
import pytest

from .unfinished_jobs import GATE, finish, hidden, kill_when, start, tells

#: The job of a process of its own: each function notes its calls, and the model takes its time.
JOB = """
import sys, time
import aktis.data

noted, out, kind, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def note(name, batch):
    with open(f"{noted}/{name}", "a") as file:
        file.write(f"{batch['id'][0]}\\n")

def prepared(batch):
    note("prepared", batch)
    return {"id": batch["id"]}

def halves(batch):
    note("prepared", batch)
    for half in (slice(0, 7), slice(7, None)):
        yield {"id": batch["id"][half]}

class Model:
    def __call__(self, batch):
        pass_gate_after(f"{noted}/model")
        time.sleep(0.03 if kind in ("three", "large") else 0.01)
        note("model", batch)
        return {"id": batch["id"], "twice": batch["id"] * 2}

def after(batch):
    note("after", batch)
    return batch

aktis.init(num_cpus=4, num_gpus=2)
ds = aktis.data.range(rows, override_num_blocks=rows // 50 if kind in ("three", "large") else 12)
if kind == "large":
    ds.map_batches(Model, batch_size=10, concurrency=2).write_parquet(out, mode="append", min_rows_per_file=100)
else:
    ds = ds.map_batches(halves if kind == "generator" else prepared, batch_size=50)
    ds = ds.map_batches(Model, batch_size=10, concurrency=2, num_gpus=1)
    if kind == "three":
        ds = ds.map_batches(after, batch_size=20)
    ds.write_parquet(out, mode="append")
print("done")
"""


@pytest.fixture
def noted(tmp_path):
    path = tmp_path / "noted"
    path.mkdir()
    return path


def calls(noted, name):
    path = noted / name
    return path.read_text().split("\n")[:-1] if path.exists() else []


def run(tmp_path, noted, kind, rows, below):
    """Starts the job, which goes on while the model has noted fewer calls than that."""
    script = tmp_path / "job.py"
    script.write_text(GATE + JOB)
    return start(script, noted, tmp_path / "out", kind, rows, below=below)


def ids(out):
    rows = aktis.data.read_parquet(str(out)).take_all()
    assert all(row["twice"] == 2 * row["id"] for row in rows)
    return sorted(row["id"] for row in rows)


def test_killed_driver_is_taken_up_and_the_model_is_called_for_what_is_left(tmp_path, noted):
    rng, kind = random.Random(5), "generator"
    rows, kills = 3000, 2
    for _ in range(kills):
        enough = len(calls(noted, "model")) + rng.randrange(80, 120)
        job = run(tmp_path, noted, kind, rows, enough + 5)
        kill_when(job, lambda enough=enough: len(calls(noted, "model")) >= enough)
    assert "goes on with a job that was left unfinished" in finish(run(tmp_path, noted, kind, rows, rows))
    assert ids(tmp_path / "out") == list(range(rows))
    assert hidden(tmp_path / "out") == []
    again = len(calls(noted, "model")) - rows // 10
    # Of two workers: calls of the first tenth of a second of an input, those under way, and those that were not noted yet.
    assert again <= kills * 2 * (10 + 1 + 5), f"{again} calls were made again"


@pytest.mark.parametrize("kind", ["three", "large"])
def test_what_is_in_files_is_not_made_again_whichever_stage_is_slow(kind, tmp_path, noted):
    rows, out = 1500, tmp_path / "out"
    job = run(tmp_path, noted, kind, rows, rows // 10 - 3)
    kill_when(job, lambda: tells(out))
    before = len(calls(noted, "model"))
    assert "goes on with a job that was left unfinished" in finish(run(tmp_path, noted, kind, rows, rows))
    assert ids(out) == list(range(rows))
    assert hidden(out) == []
    again = len(calls(noted, "model")) - rows // 10
    assert again <= before - 10, f"{again} of {before} calls were made again"


def test_workers_of_all_stages_that_die_cost_little_and_no_row(tmp_path, noted):
    def dies_once(name, batch, row):
        marker = noted / f"{name} died"
        if row in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(noted / name, "a") as file:
            file.write(f"{batch['id'][0]}\n")

    def prepared(batch):
        dies_once("prepared", batch, 333)
        return batch

    def model(batch):
        time.sleep(0.005)
        dies_once("model", batch, 777)
        return {"id": batch["id"], "twice": batch["id"] * 2}

    ds = aktis.data.range(1000, override_num_blocks=4).map_batches(prepared, batch_size=50)
    ds = ds.map_batches(model, batch_size=10, num_cpus=0.5)
    ds.write_parquet(tmp_path / "out")
    assert ids(tmp_path / "out") == list(range(1000))
    assert (noted / "prepared died").exists() and (noted / "model died").exists()
    assert len(calls(noted, "model")) <= 100 + 25
    assert hidden(tmp_path / "out") == []


def test_stages_that_cannot_be_followed_say_so(tmp_path):
    def same(batch):
        return batch

    staged = aktis.data.range(100).map_batches(same).map_batches(same, num_cpus=0.5)
    for job, why in (
        (staged.random_sample(0.5, seed=1), "random_sample"),
        (staged.random_shuffle(), "rows of different inputs meet"),
        (staged.union(staged), "rows of different inputs meet"),
    ):
        with pytest.raises(ValueError, match=why):
            job.write_parquet(tmp_path / "out", resume=True)
    options = aktis.data.DataContext.get_current().execution_options
    options.preserve_order = True
    try:
        with pytest.raises(ValueError, match="keeps the order of its rows"):
            staged.write_parquet(tmp_path / "out", resume=True)
    finally:
        options.preserve_order = None
    with pytest.raises(ValueError, match="there is no unfinished job"):
        staged.write_parquet(tmp_path / "out", resume=True)
