"""Jobs in which rows of different inputs meet go on from the last leg that is finished, and within the one that was under way."""

import os
import time
from collections import Counter

import aktis.data
import pytest
from aktis.data.checkpoint import CheckpointConfig

from .unfinished_jobs import GATE, finish, hidden, kill_when, start, tells

#: The job of a process of its own: each model notes its calls, and passes the gate of all calls together.
JOB = """
import sys, time
import aktis.data

noted, out, kind, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def note(name, batch):
    if kind in ("together", "few"):
        # Each model by itself, the second a thousand calls later: nobody knows how many the first makes to find bad rows.
        before = 1000 if name == "second" else 0
        while before + open(noted).read().count(name) >= int(open(gate).read()):
            time.sleep(0.01)
    else:
        pass_gate_after(noted)
    time.sleep(0.02)
    with open(noted, "a") as file:
        file.write(f"{name} {len(batch['id'])}\\n")

class Model:
    def __init__(self, name="first"):
        self.name = name

    def __call__(self, batch):
        if kind == "together" and self.name == "first" and 7 in batch["id"] % 97:
            raise ValueError("a bad row")
        note(self.name, batch)
        return {**batch, "k": batch["id"] % 7, self.name: batch["id"] * 2}

def model(ds, name, **options):
    return ds.map_batches(Model, fn_constructor_args=(name,), batch_size=10, concurrency=1, **options)

def sums(group):
    return {"k": group["k"][:1], "first": [group["first"].sum()]}

aktis.init(num_cpus=2)
ds = aktis.data.range(rows, override_num_blocks=4)
if kind == "shuffle":
    model(model(ds, "first").random_shuffle(), "second").write_parquet(out, mode="append")
elif kind == "few":
    model(model(ds, "first").limit(rows // 2), "second").write_parquet(out, mode="append")
elif kind == "together":
    first = model(ds, "first", on_error="dead_letter").expect("id % 50 <> 1", max_violations=rows // 50)
    with aktis.data.run_together() as run:
        model(first.random_shuffle(), "second").write_parquet(out, mode="append")
        first.write_csv(out + " of first", mode="append")
        first.groupby("k").map_groups(sums).write_csv(out + " by groups", mode="append")
    print(run.stats(), file=sys.stderr)
else:
    model(ds, "first").limit(rows // 2).write_parquet(out, mode="append")
"""


@pytest.fixture
def noted(tmp_path):
    path = tmp_path / "noted"
    path.touch()
    return path


def calls(noted):
    return Counter(line.split()[0] for line in noted.read_text().split("\n")[:-1])


def run(tmp_path, noted, kind, rows, below):
    """Starts the job, which goes on while fewer calls than that are noted."""
    script = tmp_path / "job.py"
    script.write_text(GATE + JOB)
    return start(script, noted, tmp_path / "out", kind, rows, below=below)


def read(out):
    return aktis.data.read_parquet(str(out)).take_all()


def test_functions_before_a_shuffle_are_called_again_for_what_was_under_way_alone(tmp_path, noted):
    rows, out = 400, tmp_path / "out"
    job = run(tmp_path, noted, "shuffle", rows, 23)
    kill_when(job, lambda: calls(noted).total() >= 20)
    err = finish(run(tmp_path, noted, "shuffle", rows, 1 << 40))
    assert "goes on with a job that was left unfinished: 0 of 3 legs are done" in err
    found = read(out)
    assert sorted((row["id"], row["first"], row["second"]) for row in found) == [(n, 2 * n, 2 * n) for n in range(rows)]
    assert [row["id"] for row in found] != list(range(rows))
    assert hidden(out) == []
    # One worker: calls of the first tenth of a second of an input, the one under way, and those that were not noted yet.
    again = calls(noted)["first"] - rows // 10
    assert again <= 10, f"{again} calls were made again"


def test_rows_that_failed_and_what_was_judged_in_finished_legs_count_in_all_outputs(tmp_path, noted):
    rows, out = 400, tmp_path / "out"
    of_first, by_groups = tmp_path / "out of first", tmp_path / "out by groups"
    bad = set(range(7, rows, 97))
    for name, enough in (("first", 15), ("second", 1015)):
        job = run(tmp_path, noted, "together", rows, enough + 3)
        kill_when(job, lambda name=name: calls(noted)[name] >= 15)
    err = finish(run(tmp_path, noted, "together", rows, 1 << 40))
    # Of the leg that was under way, as in any job of functions.
    assert calls(noted)["second"] <= rows // 10 + 10
    good = [n for n in range(rows) if n not in bad]
    assert sorted((row["id"], row["first"], row["second"]) for row in read(out)) == [(n, 2 * n, 2 * n) for n in good]
    found = aktis.data.read_csv(str(of_first)).take_all()
    assert sorted((row["id"], row["first"]) for row in found) == [(n, 2 * n) for n in good]
    found = aktis.data.read_csv(str(by_groups)).take_all()
    sums = [(k, sum(2 * n for n in good if n % 7 == k)) for k in range(7)]
    assert sorted((row["k"], row["first"]) for row in found) == sums
    for folder in (out, of_first, by_groups):
        assert hidden(folder) == ["_dead_letters"]
        dead = aktis.data.read_dead_letters(str(folder)).take_all()
        assert sorted(row["row"]["id"] for row in dead) == sorted(bad)
    violations = sum(n % 50 == 1 for n in good)
    assert "goes on with a job" in err and "done by an earlier run" in err
    assert f"{violations} of {len(good)} rows violate it, max_violations=8: held" in err
    assert f"{len(bad)} rows failed and were left out" in err


def test_rows_that_are_done_count_against_a_limit(tmp_path, noted):
    rows, out = 1200, tmp_path / "out"
    job = run(tmp_path, noted, "limit", rows, 50)
    kill_when(job, lambda: tells(out))
    assert "goes on with a job that was left unfinished" in finish(run(tmp_path, noted, "limit", rows, 1 << 40))
    found = sorted(row["id"] for row in read(out))
    assert len(found) == len(set(found)) == rows // 2
    assert hidden(out) == []


def test_functions_on_both_sides_of_a_limit_are_called_again_for_what_was_under_way_alone(tmp_path, noted):
    rows, out = 600, tmp_path / "out"
    for name, enough in (("first", 15), ("second", 1015)):
        job = run(tmp_path, noted, "few", rows, enough + 3)
        kill_when(job, lambda name=name: calls(noted)[name] >= 15)
    err = finish(run(tmp_path, noted, "few", rows, 1 << 40))
    assert "goes on with a job that was left unfinished: 1 of 2 legs" in err
    found = read(out)
    assert all(row["first"] == row["second"] == 2 * row["id"] for row in found)
    assert len(found) == len({row["id"] for row in found}) == rows // 2
    assert hidden(out) == []
    # Beside what was under way, the first works on until somebody hears that there are enough.
    of_first, of_second = (calls(noted)[name] - rows // 20 for name in ("first", "second"))
    assert of_first < 30 and of_second <= 10, f"{of_first} and {of_second} calls were made again"


class Twice:
    def __call__(self, batch):
        time.sleep(0.01)
        return {"id": batch["id"], "twice": batch["id"] * 2}


def test_job_that_fails_behind_a_sort_is_taken_up_there_and_a_change_is_named(tmp_path):
    broken, out = tmp_path / "broken", tmp_path / "out"
    broken.touch()
    path = str(broken)

    class Fails:
        def __call__(self, batch):
            if os.path.exists(path) and 300 in batch["id"]:
                raise ValueError("no such row")
            return batch

    ds = aktis.data.range(400).map_batches(Twice, batch_size=50).sort("id")
    job = ds.map_batches(Fails, batch_size=20)
    with pytest.raises(ValueError, match="no such row") as failure:
        job.write_parquet(out)
    assert "what is done so far is kept" in str(failure.value.__notes__)
    assert not list(out.glob("*.parquet"))
    with pytest.raises(ValueError, match=r"legs finished, but what it does has changed: .*steps"):
        job.filter(expr="id < 100").write_parquet(out, resume=True)
    broken.unlink()
    job.write_parquet(out, resume=True)
    assert [row["id"] for row in read(out)] == list(range(400))
    assert hidden(out) == []
    assert "Twice" not in job.stats()


class FailsOnce:
    """Fails at a row, if a file is there, which it removes."""

    def __init__(self, path, row):
        self.path, self.row = path, row

    def __call__(self, batch):
        if self.row in batch["id"] and os.path.exists(self.path):
            os.remove(self.path)
            raise ValueError("the server is away")
        return {"id": batch["id"], "twice": batch["id"] * 2}


@pytest.mark.parametrize("fails_on", ["left", "right"])
def test_sides_of_a_join_and_a_union_are_legs_of_their_own(fails_on, tmp_path):
    def side(name, divisor):
        path = tmp_path / f"{name} fails"
        if name == fails_on:
            path.touch()
        ds = aktis.data.range(300, override_num_blocks=3).filter(expr=f"id % {divisor} = 0")
        return ds.map_batches(FailsOnce, fn_constructor_args=(str(path), 150), batch_size=10)

    left, right = side("left", 1), side("right", 3)
    joined = left.join(right.rename_columns({"twice": "other"}), "left_outer", 4, on=("id",))

    def run(**options):
        with aktis.data.run_together() as run:
            joined.write_parquet(tmp_path / "joined", **options)
            left.union(right).write_parquet(tmp_path / "both", **options)
        return run.stats()

    with pytest.raises(ValueError, match="server is away") as failure:
        run()
    # Whichever side it is, both outputs are made of it.
    assert (
        "on the way to write_parquet" in failure.value.__notes__[-1]
        and "and write_parquet" in failure.value.__notes__[-1]
    )
    # The leg that was finished is not run again.
    assert run(resume=True).count("Write(leg") == (2 if fails_on == "left" else 1)
    assert hidden(tmp_path / "joined") == hidden(tmp_path / "both") == []
    found = read(tmp_path / "joined")
    expected = [(n, 2 * n, 2 * n if n % 3 == 0 else None) for n in range(300)]
    assert sorted((row["id"], row["twice"], row["other"]) for row in found) == expected
    found = sorted(row["id"] for row in read(tmp_path / "both"))
    assert found == sorted([*range(300), *range(0, 300, 3)])


def test_order_and_groups_are_those_of_one_run(tmp_path):
    ds = aktis.data.range(500, override_num_blocks=5).map_batches(Twice, batch_size=50)

    class Counts:
        def __call__(self, group):
            return {"k": group["k"][:1], "rows": [len(group["k"])], "sum": [group["twice"].sum()]}

    grouped = ds.add_column("k", lambda batch: batch["id"] % 11).groupby("k").map_groups(Counts)
    grouped.write_parquet(tmp_path / "groups")
    expected = [(k, len(range(k, 500, 11)), sum(2 * n for n in range(k, 500, 11))) for k in range(11)]
    assert sorted((row["k"], row["rows"], row["sum"]) for row in read(tmp_path / "groups")) == expected
    ds.repartition(6).map_batches(Twice).write_parquet(tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 6
    nothing = ds.filter(expr="id < 0").sort("id").map_batches(Twice)
    nothing.write_parquet(tmp_path / "nothing")
    assert read(tmp_path / "nothing") == []


def test_nothing_is_kept_on_the_way_where_nothing_is_worth_it(tmp_path):
    cheap = aktis.data.range(100).map_batches(lambda batch: batch).sort("id")
    cheap.write_parquet(tmp_path / "cheap")
    assert "leg" not in cheap.stats()
    with pytest.raises(ValueError, match="checkpoint_config"):
        cheap.write_parquet(tmp_path / "cheap", resume=True)
    context = aktis.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig()
    try:
        cheap.write_parquet(tmp_path / "kept")
    finally:
        context.checkpoint_config = None
    assert "Write(leg 1)" in cheap.stats()
    assert [row["id"] for row in read(tmp_path / "kept")] == list(range(100))
    assert hidden(tmp_path / "kept") == []
