"""Jobs that write files go on where they were left, whatever has ended them, and do what is done only once."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings

import aktis.data
import pytest
from aktis.data.checkpoint import CheckpointConfig

from .unfinished_jobs import GATE, finish, hidden, kill_when, start

#: The job of a process of its own: notes each call, and takes its time over it.
JOB = """
import os, sys, time
import aktis.data

noted, out, kind, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def work(batch):
    pass_gate_after(noted)
    time.sleep(0.025)
    with open(noted, "a") as file:
        file.write(f"{batch['id'][0]}\\n")
    return {"id": batch["id"], "twice": batch["id"] * 2, "k": batch["id"] % 2}

def halves(batch):
    work(batch)
    for half in (slice(0, 5), slice(5, None)):
        yield {"id": batch["id"][half], "twice": batch["id"][half] * 2, "k": batch["id"][half] % 2}

aktis.init(num_cpus=2)
# Two parts, neither of which is done before the last run: what is kept of them are notes.
ds = aktis.data.range(rows, override_num_blocks=2) if kind != "files" else aktis.data.read_parquet(sys.argv[5])
ds = ds.map_batches(halves if kind == "generator" else work, batch_size=10)
if kind == "csv":
    ds.write_csv(out, mode="append")
elif kind == "folders":
    ds.write_parquet(out, mode="append", partition_cols=["k"])
elif kind == "chain":
    ds.map(lambda row: row).write_parquet(out, mode="append")
else:
    ds.write_parquet(out, mode="append")
"""


@pytest.fixture
def noted(tmp_path):
    path = tmp_path / "noted"
    path.touch()
    return path


def calls(noted):
    return noted.read_text().split("\n")[:-1]


def run(tmp_path, noted, kind, rows, *more, below):
    """Starts the job, which goes on while fewer calls than that are noted."""
    script = tmp_path / "job.py"
    script.write_text(GATE + JOB)
    return start(script, noted, tmp_path / "out", kind, rows, *more, below=below)


def ids(out, kind="range"):
    read = aktis.data.read_csv if kind == "csv" else aktis.data.read_parquet
    rows = read(str(out)).take_all()
    assert all(row["twice"] == 2 * row["id"] for row in rows)
    return sorted(row["id"] for row in rows)


@pytest.mark.parametrize("kind", ["range", "csv", "folders", "chain", "generator", "files"])
def test_killed_driver_is_taken_up_and_only_calls_under_way_are_made_again(kind, tmp_path, noted):
    rng = random.Random(kind)
    rows, batches = 1200, 120
    more = []
    if kind == "files":
        source = tmp_path / "in"
        aktis.data.range(rows, override_num_blocks=2).write_parquet(source)
        more = [source]
    for count in (35, 35) if kind == "range" else (60,):
        enough = len(calls(noted)) + count + rng.randrange(10)
        job = run(tmp_path, noted, kind, rows, *more, below=enough + 5)
        kill_when(job, lambda enough=enough: len(calls(noted)) >= enough)
    before = len(calls(noted))
    err = finish(run(tmp_path, noted, kind, rows, *more, below=rows))
    assert "goes on with a job that was left unfinished" in err
    assert ids(tmp_path / "out", kind) == list(range(rows))
    assert hidden(tmp_path / "out") == []
    # Of each worker a call that was under way, and one or two that were not noted yet; on a machine that has much to do, more.
    again = len(calls(noted)) - batches
    assert again <= before / 2, f"{again} calls of {before} were made again"


def test_job_that_fails_is_taken_up_when_it_is_run_again(tmp_path, noted):
    broken = tmp_path / "broken"
    broken.touch()

    def work(batch):
        if 777 in batch["id"] and broken.exists():
            raise ValueError("the disk of the model is full")
        time.sleep(0.005)
        with open(noted, "a") as file:
            file.write(f"{batch['id'][0]}\n")
        return batch

    ds = aktis.data.range(2000).map_batches(work, batch_size=10)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="model is full") as failure:
        ds.write_parquet(out)
    assert "what is done so far is kept" in str(failure.value.__notes__)
    assert next(name for name in hidden(out) if name != "_aktis").startswith(".unfinished-")
    assert not list(out.glob("*.parquet"))
    broken.unlink()
    done = len(calls(noted))
    assert done > 20
    ds.write_parquet(out, resume=True)
    assert sorted(row["id"] for row in aktis.data.read_parquet(out).take_all()) == list(range(2000))
    # Of two workers, those of the first tenth of a second of an input, too, and those of inputs whose end nobody has heard of.
    assert len(calls(noted)) <= 200 + min(40, done // 2)
    assert hidden(out) == []


def unfinished(out, function, rows=400, **options):
    """Leaves a job unfinished: it fails at its end."""
    ds = aktis.data.range(rows).map_batches(function, batch_size=10, **options)
    with pytest.raises(RuntimeError):
        ds.write_parquet(out)


def slow_until_the_end(batch):
    time.sleep(0.03)
    if batch["id"][-1] >= 399:
        raise RuntimeError("at the end")
    return batch


def another(batch):
    time.sleep(0.001)
    return {"id": batch["id"] + 1}


def noting_warnings(write):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        write()
    return "\n".join(str(each.message) for each in seen if not issubclass(each.category, ResourceWarning))


def test_changed_code_is_named_and_what_it_did_before_does_not_count(tmp_path):
    out = tmp_path / "out"
    unfinished(out, slow_until_the_end)
    ds = aktis.data.range(400).map_batches(another, batch_size=10)
    with pytest.raises(ValueError, match=r"resume=True\): an unfinished job .* the function of MapBatches\(another\)"):
        ds.write_parquet(out, resume=True)
    said = noting_warnings(lambda: ds.write_parquet(out))
    assert "what it does has changed" in said and "the function of MapBatches(another)" in said
    assert sorted(row["id"] for row in aktis.data.read_parquet(out).take_all()) == list(range(1, 401))
    assert hidden(out) == []


def test_changed_arguments_and_inputs_are_named(tmp_path):
    out, source = tmp_path / "out", tmp_path / "in"
    aktis.data.range(400).write_parquet(source)

    def job(batch_size=10, **options):
        return aktis.data.read_parquet(source).map_batches(slow_until_the_end, batch_size=batch_size, **options)

    with pytest.raises(RuntimeError):
        job().write_parquet(out)
    for write, what in (
        (
            lambda: job(batch_size=20).write_parquet(out, resume=True),
            r"steps \(MapBatches\(slow_until_the_end\) with batch_size=20 in the place of MapBatches\(slow_until_the_end\) with batch_size=10\)",
        ),
        (lambda: job().write_parquet(out, compression="zstd", resume=True), "how files are written"),
        (lambda: job().filter(expr="id < 3").write_parquet(out, resume=True), r"steps \(new: Filter\(id < 3\)\)"),
        (lambda: job().limit(300).write_parquet(out, resume=True), r"limit\(300\)"),
    ):
        with pytest.raises(ValueError, match=what):
            write()
    [file] = list(source.iterdir())[:1]
    os.utime(file)
    with pytest.raises(ValueError, match="the files that are read"):
        job().write_parquet(out, resume=True)


def test_functions_count_wherever_their_rows_come_in():
    from aktis.data import _identities
    from aktis.data._fingerprints import fingerprint

    def signs(more):
        def function(numbers):
            return {"id": numbers["id"] + more}

        numbers = aktis.data.range(4)
        other = numbers.map_batches(function, output_schema={"id": int})
        called = aktis.data.SqlFunction(lambda array: [number + more for number in array.to_pylist()], int)
        ways = [
            numbers.union(other),
            numbers.join(other, "inner", 2, on=("id",)),
            aktis.data.sql("select * from t", t=other),
            aktis.data.sql("select f(id) as y from t", functions={"f": called}, t=numbers),
        ]
        return [[fingerprint(dict(one.parts)) for one in _identities.definitions(way._plan)] for way in ways]

    assert signs(1) == signs(1)
    for one, other in zip(signs(1), signs(2), strict=True):
        assert len(one) == 1 and one != other


def test_globals_constants_and_closures_of_functions_count():
    from aktis.data._fingerprints import fingerprint

    def made(number):
        factor = {"a": number}

        def function(batch):
            return {"x": batch["id"] * factor["a"]}

        return function

    assert fingerprint(made(1)) == fingerprint(made(1))
    assert fingerprint(made(1)) != fingerprint(made(2))

    class Model:
        size = 3

        def __init__(self, path):
            self.path = path

        def __call__(self, batch):
            return helper(batch)

    assert fingerprint(Model) == fingerprint(Model)
    before = fingerprint(Model)
    Model.__call__ = lambda self, batch: batch
    assert fingerprint(Model) != before
    assert fingerprint({"a", "b", "c"}) == fingerprint({"c", "b", "a"})
    code = "from aktis.data._fingerprints import fingerprint\n" \
        "def f(x): return x in {'a', 'b', 'c', 'd'} and sorted(x, key=lambda y: (y, SIZE))\nSIZE = 3\nprint(fingerprint(f))"  # fmt: skip
    signs = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(signs) == 1


def test_arrays_that_numpy_cannot_see_are_told_apart():
    from aktis.data._fingerprints import fingerprint

    class Watched:
        """As a tensor of torch that is watched for gradients."""

        dtype, shape, nbytes = "float32", (1,), 4

        def __init__(self, value):
            self.value = value

        def __array__(self, *_):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")

    assert fingerprint(Watched(1.0)) == fingerprint(Watched(1.0))
    assert fingerprint(Watched(1.0)) != fingerprint(Watched(2.0))


def helper(batch):
    return batch


def test_what_cannot_be_taken_up_says_why(tmp_path):
    ds = aktis.data.range(100).map_batches(helper)
    for job, options, why in (
        (ds.limit(10).map_batches(helper), {}, r"limit\(\)"),
        (aktis.data.range(100).sort("id"), {}, "rows of different inputs meet"),
    ):
        with pytest.raises(ValueError, match=rf"resume=True\): this job cannot be taken up .*{why}"):
            job.write_parquet(tmp_path / "out", resume=True, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="there is no unfinished job"):
        ds.write_parquet(tmp_path / "out", resume=True)
    with pytest.raises(ValueError, match=r"resume='yes'"):
        ds.write_parquet(tmp_path / "out", resume="yes")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "out").exists()


def test_finished_job_follows_its_mode(tmp_path):
    ds = aktis.data.range(10).map_batches(helper)
    for mode, rows in ("append", 10), ("append", 20), ("overwrite", 10), ("ignore", 10):
        ds.write_parquet(tmp_path / "out", mode=mode)  # pyright: ignore[reportArgumentType]
        assert aktis.data.read_parquet(tmp_path / "out").count() == rows
        assert hidden(tmp_path / "out") == []


def test_beginning_anew_removes_what_was_left(tmp_path):
    out = tmp_path / "out"
    unfinished(out, slow_until_the_end)
    assert hidden(out) != []
    said = noting_warnings(
        lambda: aktis.data.range(400).map_batches(another, batch_size=10).write_parquet(out, resume=False)
    )
    assert "was left by a job" in said and hidden(out) == []
    assert aktis.data.read_parquet(out).count() == 400


def test_rows_in_memory_are_compared(tmp_path):
    out = tmp_path / "out"
    items = [{"id": number} for number in range(400)]
    with pytest.raises(RuntimeError):
        aktis.data.from_items(items).map_batches(slow_until_the_end, batch_size=10).write_parquet(out)
    other = aktis.data.from_items([{"id": -1}, *items[1:]]).map_batches(slow_until_the_end, batch_size=10)
    with pytest.raises(ValueError, match="the rows in memory"):
        other.write_parquet(out, resume=True)
    same = aktis.data.from_items([{"id": number} for number in range(400)]).map_batches(
        slow_until_the_end, batch_size=10
    )
    with pytest.raises(RuntimeError, match="at the end"):
        same.write_parquet(out, resume=True)


def test_worker_that_dies_costs_the_calls_under_way(tmp_path, noted):
    marker = tmp_path / "killed"

    def work(batch):
        if 1500 in batch["id"] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        with open(noted, "a") as file:
            file.write(f"{batch['id'][0]}\n")
        return batch

    aktis.data.range(2000, override_num_blocks=1).map_batches(work, batch_size=10).write_parquet(tmp_path / "out")
    assert marker.exists()
    assert sorted(row["id"] for row in aktis.data.read_parquet(tmp_path / "out").take_all()) == list(range(2000))
    # A disk that was slow a moment before is not used for a while.
    assert len(calls(noted)) <= 200 + 40


def test_worker_of_an_async_function_that_dies_costs_the_rows_under_way(tmp_path, noted):
    def note(row):
        with open(noted, "a") as file:
            file.write(f"{row['id']}\n")

    async def dies_once(row):
        await asyncio.sleep(0.03)
        note(row)
        if row["id"] == 56 and not (tmp_path / "dead").exists():
            (tmp_path / "dead").touch()
            os._exit(1)
        return row

    ds = aktis.data.range(128, override_num_blocks=1).map(dies_once, concurrency=1, max_concurrency=4)
    ds.write_parquet(tmp_path / "out")
    assert sorted(row["id"] for row in aktis.data.read_parquet(tmp_path / "out").take_all()) == list(range(128))
    # They are answers of a service, maybe: those that had gone on are not asked for again, though their input was not over.
    assert len(calls(noted)) <= 128 + 30


def test_two_writers_at_once_do_not_harm_each_other(tmp_path):
    out = tmp_path / "out"
    unfinished(out, slow_until_the_end)
    failures = []

    def write(first):
        try:
            aktis.data.range(400).map_batches(lambda batch: {"id": batch["id"] + first}, batch_size=10).write_parquet(
                out, mode="append"
            )
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1000, 2000)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert failures == []
    rows = sorted(row["id"] for row in aktis.data.read_parquet(out).take_all())
    assert rows == [first + number for first in (0, 1000, 2000) for number in range(400)]
    assert hidden(out) == []


def test_checkpoints_of_ray_are_accepted_and_say_when_they_cannot_be(tmp_path):
    context = aktis.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path=str(tmp_path / "progress"))
    try:
        assert noting_warnings(lambda: aktis.data.range(10).map_batches(helper).write_parquet(tmp_path / "out")) == ""
        said = noting_warnings(lambda: aktis.data.range(10).sort("id").write_parquet(tmp_path / "sorted"))
        assert "will begin anew if it does not end" in said and "rows of different inputs meet" in said
    finally:
        context.checkpoint_config = None
    with pytest.raises(NotImplementedError, match="checkpoint_filter_cls"):
        context.checkpoint_config = {"id_column": "id", "checkpoint_filter_cls": object}  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="CheckpointConfig"):
        context.checkpoint_config = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_ledger_says_what_is_done(tmp_path):
    """The format that `docs/ledger.md` describes, read by what is written there."""
    import struct
    import zlib

    out = tmp_path / "out"
    unfinished(out, slow_until_the_end)
    [ledger] = (out / "_aktis").iterdir()
    data, frames = ledger.read_bytes(), []
    while data:
        length, checksum = struct.unpack("<II", data[:8])
        frames.append(data[8 : 8 + length])
        assert zlib.crc32(frames[-1]) == checksum
        data = data[8 + length :]
    # Field 1 of the first record is `Begun`, field 2 of others is `Done`.
    assert frames[0][0] == 0x0A and all(frame[0] == 0x12 for frame in frames[1:]) and len(frames) > 1
    assert f".unfinished-{ledger.stem}" in os.listdir(out)
