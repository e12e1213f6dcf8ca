"""`aktis cost`: what jobs have cost, when they are over too, and their head was started anew."""

import json
import os
import signal
import subprocess
import sys

import pytest
from waiting import DEADLINE_S, until

PROGRAM = """
import sys
import aktis, aktis.data
from aktis.data import ActorPoolStrategy

class Same:
    def __call__(self, batch):
        return batch

aktis.init(address=sys.argv[1], tags={"team": sys.argv[2], "stage": "test"}, log_to_driver=False)
ds = aktis.data.range(100).map_batches(Same, compute=ActorPoolStrategy(size=1))
ds.take_all()
print(ds.cost()["cpu_s"])
"""


def test_jobs_that_are_over_are_added_up_by_tags_also_by_a_head_that_was_started_anew(cluster, tmp_path):
    cluster.start_head("--num-cpus", "2")
    script = tmp_path / "job.py"
    script.write_text(PROGRAM)
    told = {}
    for team in ("red", "red", "blue"):
        command = [sys.executable, script, cluster.address, team]
        job = subprocess.run(
            command, env=cluster.environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert job.returncode == 0, job.stderr
        told[team] = told.get(team, 0.0) + float(job.stdout)
    costs = json.loads(cluster.run("cost", "--by", "team", "--json"))
    assert {one["team"]: one["runs"] for one in costs} == {"red": 2, "blue": 1}
    for one in costs:
        assert told[one["team"]] == pytest.approx(one["cpu_s"]) and one["rows"] == 100 * one["runs"]
    assert len(json.loads(cluster.run("cost", "--by", "team,job", "--json"))) == 3
    operators = json.loads(cluster.run("cost", "--by", "operator,worker", "--json"))
    assert {one["operator"] for one in operators} == {"Read", "MapBatches(Same)"}
    text = cluster.run("cost", "--by", "team", "--prices", '{"CPU": 3600}')
    assert text.startswith("TEAM") and "MONEY" in text

    (head,) = cluster.daemons()
    os.kill(head, signal.SIGKILL)
    until(lambda: head not in cluster.daemons(), "the head has ended")
    cluster.start_head_again("--num-cpus", "2")
    again = json.loads(cluster.run("cost", "--by", "team", "--json"))
    assert [(one["team"], one["cpu_s"]) for one in again] == [(one["team"], one["cpu_s"]) for one in costs]
