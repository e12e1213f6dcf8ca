"""Workers of several kinds for one function: the session has two CPUs and one logical GPU."""

import os
import pathlib
import re
import time
from typing import Any

import aktis
import aktis.data
import aktis.models
import pytest
from aktis.data import ActorPoolStrategy, TaskPoolStrategy
from aktis.exceptions import OutOfMemoryError
from waiting import DEADLINE_S, until

GPU = ActorPoolStrategy(size=1, num_gpus=1, batch_size=64, fn_constructor_kwargs={"device": "cuda"})
CPU = ActorPoolStrategy(size=1, num_cpus=1, batch_size=8, fn_constructor_kwargs={"device": "cpu"})
#: The session has one.
TWO_GPUS = ActorPoolStrategy(size=1, num_gpus=2, batch_size=64, fn_constructor_kwargs={"device": "cuda"})


def both_begin(folder, device):
    """Each kind has something to do, however long the other takes to begin."""
    (folder / device).touch()
    until(lambda: len(list(folder.iterdir())) == 2, "workers of both kinds")


class Tells:
    """What it was called with, and where."""

    def __init__(self, device="none", seconds=None, folder=None):
        self.device = device
        self.seconds = (seconds or {}).get(device, 0.0)
        if folder is not None:
            both_begin(folder, device)

    def __call__(self, batch):
        rows = len(batch["id"])
        time.sleep(self.seconds * rows)
        said = {"device": self.device, "rows": rows, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
        return {"id": batch["id"], **{name: [value] * rows for name, value in said.items()}}


def kinds_of(ds):
    """What is told of each kind of worker."""
    (stage,) = (stage for stage in ds.get_stats_summary()["stages"] if stage["kinds"])
    return stage["kinds"]


def test_kinds_take_from_the_same_rows_each_with_its_batches_and_arguments(tmp_path):
    kwargs = {"seconds": {"cuda": 0.0005, "cpu": 0.002}, "folder": tmp_path}
    ds = aktis.data.range(1000).map_batches(Tells, compute=[GPU, CPU], fn_constructor_kwargs=kwargs)
    rows = ds.take_all()
    assert [row["id"] for row in rows] == list(range(1000)), "in order, and each once"
    sizes = {device: max(row["rows"] for row in rows if row["device"] == device) for device in ("cuda", "cpu")}
    assert sizes == {"cuda": 64, "cpu": 8}, "both worked"
    assert {(row["device"], row["gpus"]) for row in rows} == {("cuda", "0"), ("cpu", "")}
    cuda, cpu = kinds_of(ds)
    assert (cuda["batch_size"], cuda["gpus"], cpu["batch_size"], cpu["cpus"]) == (64, 1, 8, 1)
    assert cuda["rows"] + cpu["rows"] == 1000 and cuda["rows"] > cpu["rows"] > 0
    assert cuda["batches"] < cuda["rows"] / 32 and cpu["batches"] >= cpu["rows"] / 8
    assert cuda["busy_s"] > 0 and cpu["time"]["useful_s"] > 0 and cuda["waits"] is cpu["waits"] is None


def test_costs_and_statistics_are_told_by_kind(tmp_path):
    kwargs = {"seconds": {"cuda": 0.0005, "cpu": 0.001}, "folder": tmp_path}
    ds = aktis.data.range(1000).map_batches(Tells, compute=[GPU, CPU], fn_constructor_kwargs=kwargs)
    assert ds.count() == 1000
    text = ds.stats()
    assert "actor, 0 CPU, 1 GPU, batches of 64: " in text and "actor, 1 CPU, batches of 8: " in text
    (stage,) = ds.get_stats_summary()["stages"]
    called = [one for one in ds.cost()["operators"] if one["operator"] == "MapBatches(Tells)"]
    assert {one["worker"]: one["gpu_s"] > 0 for one in called} == {"actor, 0 CPU, 1 GPU": True, "actor, 1 CPU": False}
    held = sum(kind["time"]["held_s"] for kind in stage["kinds"])
    assert held == pytest.approx(stage["time"]["held_s"]), "all time is that of a kind"
    table = [row for row in ds.stats(format="table").to_pylist() if row["operator"] == "MapBatches(Tells)"]
    assert {row["worker"] for row in table} == {one["worker"] for one in called}
    assert sum(row["rows_in"] for row in table) == 1000


def test_kind_that_no_node_can_take_waits_and_the_others_do_the_work():
    ds = aktis.data.range(200).map_batches(Tells, compute=[TWO_GPUS, CPU])
    assert {row["device"] for row in ds.take_all()} == {"cpu"}
    cuda, cpu = kinds_of(ds)
    assert cuda["waits"] == "each needs 2 GPU, but no node has more than 1" and cuda["rows"] == 0
    assert cpu["waits"] is None and cpu["rows"] == 200
    assert "batches of 64: waits: each needs 2 GPU" in ds.stats()


def test_kind_whose_room_others_have_waits_and_the_others_do_the_work():
    @aktis.remote(num_gpus=1)
    class Holds:
        def ready(self):
            return True

    holder = Holds.remote()
    assert aktis.get(holder.ready.remote())
    ds = aktis.data.range(200).map_batches(Tells, compute=[GPU, CPU])
    assert {row["device"] for row in ds.take_all()} == {"cpu"}
    cuda, _ = kinds_of(ds)
    assert "waits for room on a node" in cuda["waits"] and cuda["rows"] == 0
    aktis.kill(holder)
    assert {row["device"] for row in ds.take_all()} <= {"cuda", "cpu"}


def test_job_that_no_kind_can_do_is_refused_as_any_other():
    four = ActorPoolStrategy(size=1, num_cpus=400, batch_size=8)
    ds = aktis.data.range(10).map_batches(Tells, compute=[TWO_GPUS, four])
    with pytest.raises(Exception, match=r"each worker needs 2 GPU, but no node has more than 1"):
        ds.take_all()


def test_explain_names_the_kinds():
    ds = aktis.data.range(10).map_batches(Tells, compute=[GPU, ActorPoolStrategy(min_size=1, max_size=2, batch_size=8)])
    text = ds.explain()
    assert "actors=1..1 GPU=1 batch_size=64 or actors=1..2 CPU=1 batch_size=8" in text


class Dies:
    """Ends its process once, in the middle of what a worker of one kind has."""

    def __init__(self, device, flag):
        self.device, self.flag = device, pathlib.Path(flag)

    def __call__(self, batch):
        if self.device == "cuda" and batch["id"].max() >= 300 and not self.flag.exists():
            self.flag.touch()
            os._exit(1)
        time.sleep(0.002)
        return {"id": batch["id"], "data": [b"x" * 1000] * len(batch["id"])}


def test_worker_that_dies_is_replaced_and_every_row_comes_once(tmp_path):
    ds = aktis.data.range(1000).map_batches(
        Dies, compute=[GPU, CPU], fn_constructor_kwargs={"flag": str(tmp_path / "died")}
    )
    ids = ds.map_batches(lambda batch: {"id": batch["id"]}, compute=TaskPoolStrategy(size=1))
    assert [row["id"] for row in ids.take_all()] == list(range(1000))
    assert sum(stage["worker_deaths"] for stage in ids.get_stats_summary()["stages"]) == 1
    assert sum(kind["rows"] for kind in kinds_of(ids)) >= 1000


class Refuses:
    def __init__(self, device, folder):
        self.device = device
        both_begin(folder, device)

    def __call__(self, batch):
        if any(batch["id"] % 100 == 13):
            raise ValueError("an unlucky number")
        time.sleep(0.001 * len(batch["id"]))
        return {"id": batch["id"], "device": [self.device] * len(batch["id"])}


def test_rows_that_fail_are_found_whatever_worker_has_them(tmp_path):
    kwargs = {"folder": tmp_path}
    ds = aktis.data.range(1000).map_batches(
        Refuses, compute=[GPU, CPU], on_error="dead_letter", fn_constructor_kwargs=kwargs
    )
    rows = ds.take_all()
    assert [row["id"] for row in rows] == [i for i in range(1000) if i % 100 != 13]
    assert {row["device"] for row in rows} == {"cuda", "cpu"}
    assert sorted(letter["row"]["id"] for letter in ds.dead_letters().take_all()) == list(range(13, 1000, 100))


class Kills:
    def __init__(self, device):
        pass

    def __call__(self, batch):
        if (batch["id"] == 77).any():
            os._exit(1)
        return {"id": batch["id"]}


def test_row_that_kills_workers_of_both_kinds_is_found():
    # Small batches: each death is a process.
    pools = [
        ActorPoolStrategy(size=1, num_gpus=1, batch_size=8, fn_constructor_kwargs={"device": "cuda"}),
        ActorPoolStrategy(size=1, num_cpus=1, batch_size=3, fn_constructor_kwargs={"device": "cpu"}),
    ]
    ds = aktis.data.range(100).map_batches(Kills, compute=pools, on_error="dead_letter")
    assert [row["id"] for row in ds.take_all()] == [i for i in range(100) if i != 77]
    assert [letter["row"]["id"] for letter in ds.dead_letters().take_all()] == [77]


def test_end_does_not_wait_for_what_a_slow_kind_has():
    # What the slow one is given takes minutes.
    ds = aktis.data.range(64 * 6).map_batches(
        Tells, compute=[GPU, CPU], fn_constructor_kwargs={"seconds": {"cpu": 2.0, "cuda": 0.0002}}
    )
    rows = ds.take_all()
    assert [row["id"] for row in rows] == list(range(64 * 6))
    assert {row["device"] for row in rows} == {"cuda"}


SMALL, LARGE = 256 << 20, 1 << 30
#: For these a worker takes more than a small one may hold.
LARGE_ROWS = [13, 63]


class Holds:
    """What it holds of large rows is seen: where that is too much it waits until its process is ended."""

    def __init__(self, room):
        self.room = room

    def __call__(self, batch):
        if any(row in LARGE_ROWS for row in batch["id"]):
            held = bytearray(b"x") * (SMALL + SMALL // 2)
            time.sleep(0.5 if len(held) < self.room else DEADLINE_S)
        return {"id": batch["id"], "room": [self.room] * len(batch["id"])}


def with_memory(memory, room=None, **options):
    options = {"size": 1, "num_cpus": 0.5, "batch_size": 2, **options}
    return ActorPoolStrategy(memory=memory, fn_constructor_kwargs={"room": room or memory}, **options)


@pytest.mark.parametrize(
    ("kinds", "on_error"),
    [
        ([with_memory(SMALL), with_memory(LARGE)], "raise"),
        ([with_memory(SMALL), with_memory(LARGE)], "dead_letter"),
        # Beside what reads, there is room for one of them.
        ([with_memory(SMALL, num_cpus=1.5), with_memory(LARGE, num_cpus=1.5)], "raise"),
        # Nobody limits what the second kind holds.
        ([with_memory(SMALL), with_memory(None, LARGE)], "dead_letter"),
    ],
)
def test_row_that_has_no_room_in_a_small_worker_goes_to_a_larger_one(kinds, on_error):
    ds = aktis.data.range(100, override_num_blocks=4).map_batches(Holds, compute=kinds, on_error=on_error)
    rows = ds.take_all()
    assert [row["id"] for row in rows] == list(range(100))
    assert {row["room"] for row in rows if row["id"] in LARGE_ROWS} == {LARGE}
    if on_error == "dead_letter":
        assert ds.dead_letters().count() == 0


def test_row_counts_as_failed_where_no_larger_worker_can_be_started():
    ds = aktis.data.range(100, override_num_blocks=4)
    kinds = [with_memory(SMALL), with_memory(1 << 60)]
    said = "memory=256 MiB is what it may hold.*; no worker of a kind with more memory could be started"
    with pytest.raises(OutOfMemoryError, match=f"a row alone .number 13 of .*{said}"):
        ds.map_batches(Holds, compute=kinds).take_all()
    put_aside = ds.map_batches(Holds, compute=kinds, on_error="dead_letter")
    assert [row["id"] for row in put_aside.take_all()] == [i for i in range(100) if i not in LARGE_ROWS]
    letters = put_aside.dead_letters().take_all()
    assert [letter["row"]["id"] for letter in letters] == LARGE_ROWS
    assert all(re.search(said, letter["message"]) for letter in letters)


class Stops:
    """Fails at a row until somebody has mended it, and counts its rows."""

    def __init__(self, device, folder, layers=1):
        self.folder = pathlib.Path(folder)

    def __call__(self, batch):
        if (batch["id"] == 1500).any() and not (self.folder / "mended").exists():
            raise RuntimeError("not yet")
        time.sleep(0.0002 * len(batch["id"]))
        with (self.folder / "calls").open("a") as calls:
            calls.write("".join(f"{row}\n" for row in batch["id"]))
        return {"id": batch["id"]}


def test_job_goes_on_with_another_batch_size_of_the_smaller_kind(tmp_path):
    (tmp_path / "said").mkdir()
    smaller = ActorPoolStrategy(size=1, num_cpus=1, batch_size=16, fn_constructor_kwargs={"device": "cpu"})

    def write(pools, **how):
        ds = aktis.data.range(2000).map_batches(
            Stops, compute=pools, fn_constructor_kwargs={"folder": str(tmp_path / "said")}
        )
        ds.write_parquet(tmp_path / "out", **how)

    with pytest.raises(Exception, match="not yet"):
        write([GPU, CPU])
    other = ActorPoolStrategy(size=1, num_cpus=1, batch_size=8, fn_constructor_kwargs={"device": "cpu", "layers": 2})
    with pytest.raises(ValueError, match=r"the function of MapBatches\(Stops\) \(2\)"):
        write([GPU, other], resume=True)
    done = (tmp_path / "said" / "calls").read_text().split()
    (tmp_path / "said" / "mended").touch()
    write([GPU, smaller])
    rows = aktis.data.read_parquet(tmp_path / "out").take_all()
    assert sorted(row["id"] for row in rows) == list(range(2000))
    calls = (tmp_path / "said" / "calls").read_text().split()
    assert len(calls) < len(done) + 2000, "what was done is not done again"


def test_kept_results_are_those_of_functions_of_all_kinds(tmp_path):
    def called(*devices):
        pools = [
            ActorPoolStrategy(size=1, num_cpus=0.5 + place / 4, fn_constructor_kwargs={"device": device})
            for place, device in enumerate(devices)
        ]
        options = {"batch_size": 8, "compute": pools, "udf_modifying_row_count": False, "cache": tmp_path}
        ds = aktis.data.range(40).map_batches(Tells, **options)
        assert len(ds.take_all()) == 40
        (stage,) = (stage for stage in ds.get_stats_summary()["stages"] if stage["kinds"])
        return sum(one["cache_misses"] for one in stage["operators"])

    assert called("cuda", "cpu") == 40
    assert called("cuda", "cpu") == called("cpu", "cuda") == 0, "their order says nothing"
    assert called("cuda", "tpu") == 40, "some of what is kept was made by another function"


def test_functions_over_rows_run_in_workers_of_several_kinds():
    pools = [ActorPoolStrategy(size=1, num_gpus=1), ActorPoolStrategy(size=1, num_cpus=1)]
    ds = aktis.data.range(100).map(lambda row: {"id": row["id"] + 1}, compute=pools)
    assert [row["id"] for row in ds.take_all()] == list(range(1, 101))
    assert sum(kind["rows"] for kind in kinds_of(ds)) == 100
    kept = aktis.data.range(100).filter(lambda row: row["id"] % 2 == 0, compute=pools)
    assert kept.count() == 50


def test_one_strategy_says_what_its_workers_have():
    ds = aktis.data.range(100).map_batches(Tells, compute=GPU)
    assert {(row["device"], row["gpus"]) for row in ds.take_all()} == {("cuda", "0")}
    (stage,) = ds.get_stats_summary()["stages"]
    assert (stage["worker"], stage["kinds"]) == ("actor, 0 CPU, 1 GPU", [])
    same = aktis.data.range(10).map_batches(Tells, compute=GPU, num_gpus=1, batch_size=64)
    assert same.count() == 10, "said twice, and the same"
    groups = aktis.data.range(10).groupby("id").map_groups(Tells, compute=ActorPoolStrategy(size=1, num_gpus=1))
    assert {row["gpus"] for row in groups.take_all()} == {"0"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute": []}, r"map_batches\(compute=\[\]\) names no kind of worker"),
        ({"compute": [GPU, TaskPoolStrategy(size=4)]}, r"not TaskPoolStrategy\(size=4\) at place 1: they are actors"),
        ({"compute": [GPU, "actors"]}, r"takes an ActorPoolStrategy for each kind of worker, not 'actors' at place 1"),
        ({"compute": [CPU, GPU, CPU]}, r"the same kind of worker at places 0 and 2: say how many there are with size="),
        ({"compute": [GPU, CPU], "num_gpus": 2}, r"num_gpus=2 is given beside compute=ActorPoolStrategy\(num_gpus=1\)"),
        ({"compute": GPU, "num_gpus": 0.5}, r"num_gpus=0.5 is given beside compute=ActorPoolStrategy\(num_gpus=1\)"),
        ({"compute": CPU, "batch_size": 7}, r"batch_size=7 is given beside compute=ActorPoolStrategy\(batch_size=8\)"),
        ({"compute": [GPU, CPU], "concurrency": 2}, r"either compute or concurrency"),
        ({"compute": [GPU, CPU], "fn_constructor_kwargs": {"device": "x"}}, r"fn_constructor_kwargs has 'device', and so has"),
        ({"compute": [GPU, ActorPoolStrategy(num_cpus=1)], "batch_size": "auto"}, r"batch_size='auto' is given beside"),
        ({"compute": [ActorPoolStrategy(num_gpus=1), CPU]}, r"num_gpus=...\) needs a batch_size"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        aktis.data.range(1).map_batches(Tells, **options)


def test_strategies_are_checked_where_they_are_made_and_used():
    wrong: list[dict[str, Any]] = [{"num_gpus": -1}, {"batch_size": 0}, {"resources": 3}, {"memory": True}]
    for options in wrong:
        with pytest.raises(ValueError, match=f"ActorPoolStrategy: {next(iter(options))} must be"):
            ActorPoolStrategy(**options)
    ds = aktis.data.range(1)
    with pytest.raises(ValueError, match=r"batch_size=...\) is for map_batches\(\), whose functions get batches"):
        ds.map(lambda row: row, compute=[GPU, CPU])
    with pytest.raises(ValueError, match="compute as a list"):
        ds.groupby("id").map_groups(lambda group: group, compute=[CPU])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"ActorPoolStrategy\(batch_size=...\) is for map_batches"):
        ds.add_column("x", lambda batch: 1, compute=CPU)


TEXT_MODELS = pathlib.Path(__file__).parent / "text_models"


def test_native_model_has_a_device_and_budget_by_kind():
    texts = [{"id": i, "text": "a good day " * (i % 7 + 1)} for i in range(60)]
    model = aktis.models.TextClassifier(TEXT_MODELS / "bert_moods", backend="onnx")
    pools = [
        ActorPoolStrategy(size=1, num_gpus=1, fn_constructor_kwargs={"device": "cpu", "token_budget": 256}),
        ActorPoolStrategy(size=1, num_cpus=1, fn_constructor_kwargs={"device": "cpu", "token_budget": 32}),
    ]
    ds = aktis.data.from_items(texts).repartition(12).map_batches(model, compute=pools)
    alone = aktis.data.from_items(texts).map_batches(model)
    spec, compute, *_ = ds._plan._calls[-1].args
    assert '"token_budget": 256' in spec and '"token_budget": 32' in compute["others"][0]["model"]
    labels = [{row["id"]: row["label"] for row in one.take_all()} for one in (ds, alone)]
    assert labels[0] == labels[1] and len(labels[0]) == 60
    # What one takes over from the other at the end counts for both, once as repeated.
    assert sum(kind["rows"] - kind["time"]["rows_repeated"] for kind in kinds_of(ds)) == 60
    wrong = ActorPoolStrategy(num_cpus=1, fn_constructor_kwargs={"column": "id"})
    with pytest.raises(
        ValueError, match="kinds of workers may differ in device, intra_threads, replicas, token_budget"
    ):
        ds.map_batches(model, compute=[wrong, pools[0]])
