"""Datasets whose driver, node or head ends while they write: nothing is half done, nothing is left behind, and others go on."""

import contextlib
import os
import pathlib
import signal

import aktis
import aktis.data
import pytest
from pyarrow import parquet
from waiting import DEADLINE_S, driver, until

ROWS = 4000
WRITER = """
    import os, pathlib, time
    import aktis, aktis.data

    out, gate = (pathlib.Path(os.environ[name]) for name in ("OUT", "GATE"))

    def held(batch):
        if batch["id"][0] >= 2000:
            gate.with_suffix(".reached").touch()
            while not gate.exists():
                time.sleep(0.01)
        return batch

    aktis.init(address=os.environ["CLUSTER"], log_to_driver=False)
    ds = aktis.data.range(4000, override_num_blocks=8)
    ds.map_batches(held, batch_size=100, num_cpus=0, resources={"b": 1}).write_parquet(out)
    print("written", flush=True)
"""


@contextlib.contextmanager
def writer(cluster, folder, **environment):
    """A driver in the middle of its job: some inputs are written, the others wait for ``folder / "gate"``."""
    where = {"CLUSTER": cluster.address, "OUT": str(folder / "out"), "GATE": str(folder / "gate")}
    with driver(WRITER, env=where | environment) as process:
        reached = (folder / "gate.reached").exists
        until(lambda: reached() or process.poll() is not None, "the job is half way")
        assert process.poll() is None, process.communicate()
        yield process


def ends_well(process, folder):
    """The writer comes to its end, and the folder has each row once and nothing else."""
    (folder / "gate").touch()
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert output == "written\n", errors
    has_each_row_once(folder)


def has_each_row_once(folder):
    files = list((folder / "out").iterdir())
    assert all(path.suffix == ".parquet" and path.name[0] not in "._" for path in files), files
    assert sorted(parquet.read_table(folder / "out")["id"].to_pylist()) == list(range(ROWS))


def visible(folder):
    return [path.name for path in (folder / "out").glob("*") if path.name[0] not in "._"]


def test_driver_that_is_killed_leaves_nothing_to_see_or_to_hold_and_others_go_on(cluster, tmp_path):
    cluster.start_head("--num-cpus", "1")
    cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2, "c": 1}')
    aktis.init(address=cluster.address, log_to_driver=False)
    try:
        batches = iter(
            aktis.data.range(100).map(lambda row: row, num_cpus=0, resources={"c": 1}).iter_batches(batch_size=10)
        )
        ids = list(next(batches)["id"])
        with writer(cluster, tmp_path) as process:
            process.kill()
            process.wait()
            assert visible(tmp_path) == []
        until(lambda: aktis.available_resources().get("b") == 2, "the workers of the dead driver are gone")
        assert visible(tmp_path) == []
        for batch in batches:
            ids.extend(batch["id"])
        assert ids == list(range(100)), "the other job does not notice"
        with pytest.warns(UserWarning, match="left by a job that was killed"):
            aktis.data.range(ROWS).write_parquet(tmp_path / "out")
        has_each_row_once(tmp_path)
    finally:
        aktis.shutdown()


def test_node_that_dies_while_a_dataset_writes_costs_no_row_and_doubles_none(cluster, tmp_path):
    cluster.start_head("--num-cpus", "1")
    first = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    with writer(cluster, tmp_path) as process:
        cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
        os.kill(first, signal.SIGKILL)
        ends_well(process, tmp_path)


def test_own_node_of_a_driver_that_dies_ends_its_job_with_nothing_to_see(cluster, tmp_path):
    cluster.start_head("--num-cpus", "1", "--resources", '{"b": 2}')
    (head,) = cluster.daemons()
    with writer(cluster, tmp_path) as process:
        os.kill(head, signal.SIGKILL)
        (tmp_path / "gate").touch()
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1 and output == ""
        # A note about what is kept comes after it.
        assert any(line.startswith("aktis.exceptions.") for line in errors.splitlines()), errors
    assert visible(tmp_path) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_dataset_goes_on_when_the_head_is_restarted(cluster, tmp_path, how):
    """The driver and its workers are on a node that was started in a folder of its own."""
    cluster.start_head("--num-cpus", "1")
    (head,) = cluster.daemons()
    (token,) = [path.read_text() for path in cluster.folder.glob("aktis-*/*/token")]
    beside = {"AKTIS_TEMP_DIR": str(cluster.folder / "n"), "AKTIS_TOKEN": token}
    pathlib.Path(beside["AKTIS_TEMP_DIR"]).mkdir()
    with cluster.elsewhere(**beside):
        node = cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    with writer(cluster, tmp_path, **beside) as process:
        os.kill(head, how)
        until(lambda: head not in cluster.daemons(), "the head has ended")
        cluster.start_head_again("--num-cpus", "1")
        ends_well(process, tmp_path)
    os.kill(node, signal.SIGTERM)
