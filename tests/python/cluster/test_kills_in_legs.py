"""Jobs in legs (ADR 163) whose workers, nodes, head or own raylet are killed amid a leg: all rows are there once, and little is made again."""

import contextlib
import json
import os
import pathlib
import random
import signal
import time
from collections import Counter

import pytest
from pyarrow import parquet
from waiting import DEADLINE_S, driver, until

ROWS, BATCH, WORKERS = 600, 10, 2
#: Calls of a worker that are made again at most when it dies: those of the first tenth of a second of an input, the one under way, and
#: those that were not noted yet.
AGAIN = 7
JOB = """
    import json, os, time
    import aktis, aktis.data

    out, noted, gate = (os.environ[name] for name in ("OUT", "NOTED", "GATE"))

    class Model:
        def __init__(self, name):
            self.name = name

        def __call__(self, batch):
            while open(noted).read().count(self.name) >= json.load(open(gate))[self.name]:
                time.sleep(0.01)
            time.sleep(0.02)
            with open(noted, "a") as file:
                file.write(f"{self.name} {os.getpid()}\\n")
            return {**batch, self.name: batch["id"] * 2}

    def model(ds, name):
        options = {"batch_size": 10, "concurrency": 2, "num_cpus": 0, "resources": {"b": 1}}
        return ds.map_batches(Model, fn_constructor_args=(name,), **options)

    aktis.init(address=os.environ["CLUSTER"], log_to_driver=False)
    ds = model(aktis.data.range(600, override_num_blocks=4), "first")
    model(ds.random_shuffle(), "second").write_parquet(out)
    print("written", flush=True)
"""


class Job:
    """A job of two models and a shuffle between them, which goes no further than it is let."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder, self.killed = cluster, folder, 0
        self.chance = random.Random(2026)
        self.noted, self._gate = folder / "noted", folder / "gate"
        self.noted.touch()

    @contextlib.contextmanager
    def run(self, **environment):
        self._let(first=1, second=1)
        where = {"OUT": str(self.folder / "out"), "NOTED": str(self.noted), "GATE": str(self._gate)}
        with driver(JOB, env={"CLUSTER": self.cluster.address} | where | environment) as self.process:
            yield

    def _let(self, **calls):
        new = self._gate.with_suffix(".new")
        new.write_text(json.dumps(calls))
        os.replace(new, self._gate)

    def calls(self):
        """Of each model the processes that have made them, in their order."""
        lines = [line.split() for line in self.noted.read_text().split("\n")[:-1]]
        return {name: [int(pid) for model, pid in lines if model == name] for name in ("first", "second")}

    def kill_amid(self, name, kill):
        """Lets the job go on to the middle of the leg of a model, where something is killed."""
        enough = len(self.calls()[name]) + self.chance.randrange(10, 20)
        self._let(
            **({"first": enough + 3, "second": 0} if name == "first" else {"first": 1 << 40, "second": enough + 3})
        )
        until(lambda: len(self.calls()[name]) >= enough or self.process.poll() is not None, f"{name} has come so far")
        assert self.process.poll() is None, self.process.communicate()
        time.sleep(self.chance.random() * 0.03)
        kill(self.calls()[name][-1])
        self.killed += 1

    def end(self):
        self._let(first=1 << 40, second=1 << 40)
        output, errors = self.process.communicate(timeout=DEADLINE_S)
        return output, errors

    def ends_well(self, workers):
        """So many workers have died each time."""
        output, errors = self.end()
        assert output == "written\n", errors
        out = self.folder / "out"
        assert [path.name for path in out.iterdir() if path.name[0] in "._"] == []
        rows = parquet.read_table(out).select(["id", "first", "second"]).to_pylist()
        assert sorted(tuple(row.values()) for row in rows) == [(n, 2 * n, 2 * n) for n in range(ROWS)]
        again = Counter({name: len(calls) - ROWS // BATCH for name, calls in self.calls().items()})
        assert again.total() <= self.killed * workers * AGAIN, f"{again} were made again"
        return errors


@pytest.fixture
def job(cluster, tmp_path):
    return Job(cluster, tmp_path)


def end_worker(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_workers_and_nodes_that_die_amid_legs_cost_what_they_had_under_way(cluster, job):
    cluster.start_head("--num-cpus", "1")
    start_node = lambda: cluster.start_node("--num-cpus", "1", "--resources", '{"b": 2}')
    nodes = [start_node()]

    def end_node(_pid):
        os.kill(nodes[-1], signal.SIGKILL)
        nodes.append(start_node())

    with job.run():
        job.kill_amid("first", end_worker)
        job.kill_amid("second", end_worker)
        job.kill_amid("second", end_node)
        job.ends_well(WORKERS)


def test_job_whose_own_raylet_and_head_die_amid_legs_goes_on_when_it_is_run_again(cluster, job):
    arguments = ("--num-cpus", "2", "--resources", '{"b": 2}')
    cluster.start_head(*arguments)

    def end_head(_pid):
        (head,) = cluster.daemons()
        os.kill(head, signal.SIGKILL)
        until(lambda: head not in cluster.daemons(), "the head has ended")

    with job.run():
        job.kill_amid("second", end_head)
        output, errors = job.end()
        assert output == "" and "aktis.exceptions." in errors
    cluster.start_head_again(*arguments)
    with job.run():
        assert "goes on with a job that was left unfinished: 2 of 3 legs" in job.ends_well(WORKERS)


def test_job_elsewhere_goes_on_when_the_head_is_started_again_amid_legs(cluster, job):
    cluster.start_head("--num-cpus", "1")
    (head,) = cluster.daemons()
    (token,) = [path.read_text() for path in cluster.folder.glob("aktis-*/*/token")]
    beside = {"AKTIS_TEMP_DIR": str(cluster.folder / "n"), "AKTIS_TOKEN": token}
    pathlib.Path(beside["AKTIS_TEMP_DIR"]).mkdir()
    with cluster.elsewhere(**beside):
        node = cluster.start_node("--num-cpus", "2", "--resources", '{"b": 2}')

    def end_head(_pid):
        os.kill(head, signal.SIGKILL)
        until(lambda: head not in cluster.daemons(), "the head has ended")
        cluster.start_head_again("--num-cpus", "1")

    with job.run(**beside):
        job.kill_amid("first", end_head)
        # Nobody has died who works for it.
        job.ends_well(workers=0)
    os.kill(node, signal.SIGTERM)
