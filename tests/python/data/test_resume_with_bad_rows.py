"""Jobs that leave rows out go on where they were left: every row is in the output or among the dead ones, once."""

import aktis.data
import pytest

from .unfinished_jobs import GATE, ended, finish, hidden, kill_when, start, tells

ROWS = 1000

JOB = """
import sys, time
import aktis.data

out, kind, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])

def check(batch, number, rest):
    if any(id % number == rest for id in batch["id"]):
        raise ValueError("bad")

def prepared(batch):
    check(batch, 89, 3)
    return {"id": batch["id"]}

class Model:
    def __call__(self, batch):
        pass_gate(batch)
        time.sleep(0.03)
        if kind == "noted":
            with open(out + ".calls", "a") as calls:
                calls.write("".join(f"{id} " for id in batch["id"]))
        check(batch, 97, 5)
        return {"id": batch["id"], "twice": batch["id"] * 2}

aktis.init(num_cpus=4, num_gpus=2)
ds = aktis.data.range(1000, override_num_blocks=20)
dead = {"on_error": "dead_letter"}
if kind == "stages":
    ds = ds.map_batches(prepared, batch_size=25, **dead)
    ds = ds.map_batches(Model, batch_size=10, concurrency=2, num_gpus=1, **dead)
elif kind == "noted":
    ds = aktis.data.range(1000, override_num_blocks=1).expect("id <> 7", max_violations=1)
    ds = ds.map_batches(Model, batch_size=10, concurrency=1, **dead).expect("id % 10 <> 0", max_violations=100)
elif kind == "context":
    aktis.data.DataContext.get_current().on_error = "dead_letter"
    ds = ds.map_batches(Model, batch_size=10, concurrency=2)
else:
    ds = ds.map_batches(Model, batch_size=10, concurrency=2, max_errors=limit, **dead)
ds.write_parquet(out, mode="append")
"""


@pytest.fixture
def job(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(GATE + JOB)
    return lambda kind, limit=1000: start(script, tmp_path / "out", kind, limit, below=ROWS - 1)


def bad(kind):
    """The rows that the functions of a job fail for."""
    of_model = {id for id in range(ROWS) if id % 97 == 5}
    return of_model | ({id for id in range(ROWS) if id % 89 == 3} if kind == "stages" else set())


def check(out, kind):
    rows = sorted(row["id"] for row in aktis.data.read_parquet(str(out)).take_all())
    assert rows == sorted(set(range(ROWS)) - bad(kind))
    dead = sorted(row["row"]["id"] for row in aktis.data.read_dead_letters(str(out)).take_all())
    assert dead == sorted(bad(kind))
    assert hidden(out) == ["_dead_letters"]


@pytest.mark.parametrize("kind", ["stages", "context"])
def test_killed_driver_is_taken_up_with_the_rows_that_failed(kind, job, tmp_path):
    out = tmp_path / "out"
    kill_when(job(kind), lambda: tells(out))
    assert "goes on with a job that was left unfinished" in finish(job(kind))
    check(out, kind)


def test_limits_count_the_rows_of_all_runs_and_may_be_other_ones(job, tmp_path):
    out, count = tmp_path / "out", len(bad("one"))
    kill_when(job("one"), lambda: tells(out))
    err = ended(job("one", count - 1), 1)
    assert f"{count} rows have failed" in err and f"more than max_errors={count - 1} allows" in err
    assert "goes on with a job that was left unfinished" in err
    assert "goes on with a job that was left unfinished" in finish(job("one", count))
    check(out, "one")


def test_rows_of_an_input_that_were_noted_are_not_done_again(job, tmp_path):
    """What was found of them counts: letters are there once, and no expectation is broken by rows that are counted twice."""
    out, calls = tmp_path / "out", tmp_path / "out.calls"

    def has_noted():
        return any(path.stat().st_size > 20_000 for path in out.glob(".unfinished-*/*.journal"))

    running = job("noted")
    kill_when(running, has_noted)
    before = len(calls.read_text().split())
    assert "goes on with a job that was left unfinished" in finish(job("noted"))
    check(out, "noted")
    assert len(calls.read_text().split()) < before + ROWS
    letters = aktis.data.read_dead_letters(str(out)).take_all()
    assert all(
        letter["position"]["row"] == letter["position"]["input_row"] == letter["row"]["id"] for letter in letters
    )
