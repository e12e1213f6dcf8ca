"""What runs tell of themselves: operators, the time of workers and what became of it, and money."""

import os
import signal
import threading
import time

import aktis.data
import pytest
from aktis.data import ActorPoolStrategy, PriceTable
from waiting import until

PARTS = ("starting_s", "loading_s", "useful_s", "repeated_s", "idle_s")


class Slow:
    """Takes a while to load, and for each batch."""

    def __init__(self, folder=None):
        time.sleep(0.3)
        if folder:
            # Each has something to do.
            (folder / f"loaded-{os.getpid()}").touch()
            until(lambda: len(list(folder.glob("loaded-*"))) == 2, "both workers")

    def __call__(self, batch):
        time.sleep(0.05)
        return batch


def slow(folder, rows=200, **more):
    ds = aktis.data.range(rows, override_num_blocks=4)
    pool = ActorPoolStrategy(size=2)
    return ds.map_batches(Slow, fn_constructor_args=(folder,), batch_size=10, compute=pool, **more)


def test_forms_of_statistics_say_the_same(tmp_path):
    ds = slow(tmp_path, on_error="skip").expect("id < 190", max_violations=10)
    assert ds.stats(format="dict") == {} and ds.stats(format="table").num_rows == 0
    ds.take_all()
    operators = [operator for stage in ds.stats(format="dict")["stages"] for operator in stage["operators"]]
    rows = ds.stats(format="table").to_pylist()
    assert [row["operator"] for row in rows] == [operator["name"] for operator in operators]
    for row, operator in zip(rows, operators, strict=True):
        for name in ("rows_in", "rows_out", "rows_failed", "bytes_out", "batches_out", "wall_s", "cpu_s"):
            assert row[name] == operator[name]
    judged = rows[-1]
    assert (judged["expectation"], judged["violations"], judged["verdict"]) == ("id < 190", 10, "held")
    assert {row["stage_workers"] for row in rows} == {2}
    ds.write_stats(tmp_path / "stats.parquet")
    assert aktis.data.read_parquet(str(tmp_path / "stats.parquet")).take_all() == rows
    with pytest.raises(ValueError, match="'text', 'dict' or 'table'"):
        ds.stats(format="json")  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_time_of_workers_is_told_by_what_became_of_it(tmp_path):
    ds = slow(tmp_path)
    ds.take_all()
    (stage,) = ds.stats(format="dict")["stages"]
    told = stage["time"]
    # Two constructors of 0.3 s, twenty calls of 0.05 s.
    assert told["loading_s"] >= 0.6 and told["useful_s"] >= 1.0
    assert told["repeated_s"] == 0 and told["rows_repeated"] == 0
    assert sum(told[part] for part in PARTS) == pytest.approx(told["held_s"])
    assert "loading" in ds.stats() and "2 workers for" in ds.stats()
    cost = ds.cost(PriceTable(cpu_hour=3600, gpu_hour=1e9))
    assert cost["worker_s"] == pytest.approx(told["held_s"])
    assert cost["cpu_s"] == pytest.approx(told["held_s"]) and cost["money"] == pytest.approx(cost["cpu_s"])
    by_name = {one["operator"]: one for one in cost["operators"]}
    assert by_name["Read"]["loading_s"] == 0, "it has loaded nothing"
    assert by_name["MapBatches(Slow)"]["loading_s"] == pytest.approx(told["loading_s"])
    assert by_name["MapBatches(Slow)"]["worker"] == "actor, 1 CPU"


def test_gpus_are_counted_with_what_they_wait():
    ds = aktis.data.range(40).map_batches(Slow, batch_size=10, num_gpus=0.5, compute=ActorPoolStrategy(size=1))
    ds.take_all()
    cost = ds.cost(PriceTable(gpu_hour=3600))
    gpu = [one for one in cost["operators"] if one["gpus"]]
    assert {one["gpus"] for one in gpu} == {0.5}
    held = sum(one["worker_s"] + one["lent_s"] for one in gpu)
    assert cost["gpu_s"] == pytest.approx(0.5 * held) and cost["money"] == pytest.approx(cost["gpu_s"])


def test_work_that_a_dead_worker_had_done_is_told_apart(tmp_path):
    class Dies:
        def __call__(self, batch):
            time.sleep(0.02)
            if 150 in batch["id"] and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch

    ds = aktis.data.range(200, override_num_blocks=1).map_batches(
        Dies, batch_size=10, compute=ActorPoolStrategy(size=1)
    )
    assert ds.count() == 200
    (stage,) = ds.stats(format="dict")["stages"]
    told = stage["time"]
    assert stage["worker_deaths"] == 1 and told["workers"] == 2
    # Fifteen calls before it died, and twenty that count.
    assert told["repeated_s"] >= 0.3 and told["useful_s"] >= 0.4


def test_sum_is_what_the_node_has_lent_out(tmp_path):
    """The node's own numbers, looked at often, against those of the workers."""
    free = aktis.cluster_resources()["CPU"]

    def all_are_free():
        return aktis.available_resources().get("CPU", 0.0) == free

    until(all_are_free, "what ran before is gone")
    held, over = 0.0, threading.Event()

    def watch():
        nonlocal held
        before = time.monotonic()
        while not over.wait(0.002):
            used = free - aktis.available_resources().get("CPU", 0.0)
            now = time.monotonic()
            held += used * (now - before)
            before = now

    watching = threading.Thread(target=watch)
    watching.start()
    ds = slow(tmp_path, 400)
    ds.take_all()
    until(all_are_free, "its workers are gone")
    over.set()
    watching.join()
    cost = ds.cost()
    print(f"the node lent {held:.3f} CPU-seconds, the workers tell {cost['cpu_s']:.3f}")
    # A loaded machine is looked at seldom; ADR 137 has what was measured over a longer time.
    assert cost["cpu_s"] == pytest.approx(held, rel=0.2)


def test_what_has_not_run_has_cost_nothing_that_could_be_told():
    with pytest.raises(ValueError, match="it has not run"):
        aktis.data.range(3).cost()
    with pytest.raises(ValueError, match="it has not run"):
        aktis.data.range(3).write_stats("stats.parquet")


def test_what_is_no_price_is_refused():
    for wrong in (-1, "2.5", True, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gpu_hour is the price of an hour"):
            PriceTable(gpu_hour=wrong)  # pyright: ignore[reportArgumentType]
    ds = aktis.data.range(3)
    ds.count()  # known without a run
    with pytest.raises(ValueError, match="it has not run: take or write its rows first"):
        ds.cost()
    ds.take_all()
    for none in (0.04, {"cpu_hour": 0.04}, 0):
        with pytest.raises(TypeError, match=r"cost\(\) takes prices as an aktis\.data\.PriceTable"):
            ds.cost(none)  # pyright: ignore[reportArgumentType]
