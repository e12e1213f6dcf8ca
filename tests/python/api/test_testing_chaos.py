"""``aktis.testing.chaos()``: faults that are real, and the same for a seed."""

import itertools
import os
import pathlib
import re
from typing import Any

import aktis
import aktis.data
import aktis.testing
import pytest
from aktis._session import session
from aktis.data import ActorPoolStrategy, DataContext
from aktis.data._stores import requests

DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def quiet_session():
    aktis.shutdown()
    with aktis.init(num_cpus=2, log_to_driver=False):
        yield


def doubled(rows=100, **options):
    return aktis.data.range(rows, override_num_blocks=4).map_batches(
        lambda batch: {"n": batch["id"] * 2}, batch_size=5, **options
    )


def is_running(pid):
    return os.path.exists(f"/proc/{pid}")


def test_workers_are_killed_while_they_work_and_no_row_is_lost():
    with aktis.testing.chaos(seed=1, kill_workers=3) as faults:
        rows = [row["n"] for row in doubled().take_all()]
    assert sorted(rows) == [2 * n for n in range(100)]
    killed = [fault.pid for fault in faults.faults if fault.kind == "kill"]
    assert len(set(killed)) == 3
    assert os.getpid() not in killed
    # 20 batches, and each of those whose call was the end of a worker once more.
    assert faults.calls >= 23
    assert not any(map(is_running, killed))


def test_the_same_seed_gives_the_same_faults():
    def run(seed):
        with aktis.testing.chaos(seed=seed, kill_workers=1, slow=0.3) as faults:
            doubled(50, compute=ActorPoolStrategy(size=1)).take_all()
        return [fault[:3] for fault in faults.faults]

    first, second, other = run(5), run(5), run(6)
    assert first == second
    assert first != other
    assert {kind for kind, _, _ in first} == {"kill", "slow"}


def test_a_pipeline_that_keeps_its_promise_passes_for_all_seeds():
    done = aktis.testing.chaos_check(lambda folder: doubled().write_parquet(folder), seeds=range(2), kill_workers=1)
    assert [faults.seed for faults in done] == [0, 1]
    assert [faults.count("kill") for faults in done] == [1, 1]


def test_a_pipeline_with_arguments_that_it_does_not_need_gets_none():
    def pipeline(rows=3, *more, **options):
        return [rows, more, options]

    assert len(aktis.testing.chaos_check(pipeline, seeds=[1], kill_workers=0)) == 1


def test_rows_that_differ_are_shown(tmp_path):
    def pipeline():
        log = tmp_path / "log"
        log.write_text("")

        def note(batch):
            with open(log, "a") as file:
                file.write("x")
            return batch

        aktis.data.range(40, override_num_blocks=2).map_batches(note, batch_size=10).take_all()
        return [{"calls": len(log.read_text())}, {"always": 1}]

    # A seed whose death comes after the work of the call, which is then done twice.
    from aktis.testing._chaos.faults import deaths_of

    seed = next(s for s in range(100) if deaths_of({"seed": s, "kill_workers": 1, "calls": 4})[0][1] == "after")
    with pytest.raises(AssertionError) as caught:
        aktis.testing.chaos_check(pipeline, seeds=[seed])
    told = str(caught.value)
    assert f"seed={seed}: 1 kill" in told
    assert "missing: 1 of 2 rows\n    {'calls': 4}" in told
    # Five, or six where the call before it was of the same input.
    assert re.search(r"too many: 1 of 2 rows\n    \{'calls': [56]\}", told)
    assert "always" not in told
    assert "called again: results must hang on the rows alone" in told


def test_rows_that_differ_without_faults_too_are_not_their_fault():
    numbers = itertools.count()
    with pytest.raises(AssertionError) as caught:
        aktis.testing.chaos_check(lambda: [{"n": next(numbers)}], seeds=[1], kill_workers=0)
    told = str(caught.value)
    assert "others in every run, also without faults" in told and "Let what is random hang on the row" in told
    assert "missing: 1 of 1 rows" in told and "seed=1" not in told


def test_what_a_pipeline_raises_names_the_seed():
    attempts = []

    def pipeline():
        attempts.append(1)
        if len(attempts) > 1:
            raise OSError("second")
        return []

    with pytest.raises(OSError, match="second") as caught:
        aktis.testing.chaos_check(pipeline, seeds=[7], kill_workers=0)
    assert "seed=7" in caught.value.__notes__[0]


def test_tasks_are_killed_and_those_that_nobody_tries_again_are_not():
    @aktis.remote
    def work(n):
        return n

    @aktis.remote(max_retries=0)
    def once(n):
        return n

    @aktis.remote
    def stream(n):
        yield from range(n)

    with aktis.testing.chaos(seed=2, kill_workers=2, slow=0.2) as faults:
        assert aktis.get([once.remote(n) for n in range(10)], timeout=DEADLINE_S) == list(range(10))
        assert faults.calls == 0
        found = aktis.get([work.remote(n) for n in range(20)], timeout=DEADLINE_S)
        assert [aktis.get(ref) for ref in stream.remote(3)] == [0, 1, 2]
    assert found == list(range(20))
    assert faults.calls >= 23  # two once more
    assert faults.count("kill") == 2
    assert not any(is_running(fault.pid) for fault in faults.faults if fault.kind == "kill")
    assert {fault.name for fault in faults.faults} <= {"work", "stream"}


def test_requests_fail_as_often_as_they_may_and_not_more(tmp_path):
    from aktis.testing._chaos.faults import Faults

    made = []
    plan = {"seed": 5, "kill_workers": 0, "slow": 0.0, "errors": 1.0, "calls": None, "folder": str(tmp_path)}
    faulty = Faults(plan).request(lambda: made.append(1) or "answer", "read s3://bucket/a")
    outcomes = []
    for _ in range(9):
        try:
            outcomes.append(faulty())
        except ConnectionResetError:
            outcomes.append("failed")
    assert outcomes == ["failed", "failed", "answer"] * 3
    # Some of those that failed had reached the store.
    assert 3 < len(made) < 9


def test_no_work_is_the_end_of_two_workers(tmp_path):
    from aktis.testing._chaos.faults import Faults

    plan = {"seed": 5, "kill_workers": 2, "slow": 0.0, "errors": 0.0, "calls": 1, "folder": str(tmp_path)}
    here, there = Faults(plan), Faults(plan)  # as two processes
    assert here.death_for(1, "f", lambda: "rows 0 to 9") in ("before", "after")
    assert there.death_for(2, "f", lambda: "rows 0 to 9") is None
    assert there.death_for(3, "f", lambda: "rows 10 to 19") in ("before", "after")
    assert here.death_for(4, "f", lambda: "rows 20 to 29") is None


def test_nothing_is_left_of_it():
    deaths = DataContext.get_current().max_worker_deaths_per_input
    with pytest.raises(ZeroDivisionError), aktis.testing.chaos(kill_workers=9) as faults:
        folder = pathlib.Path(session.runtime.context()["session_dir"])
        assert (folder / "chaos.json").exists()
        assert DataContext.get_current().max_worker_deaths_per_input == 9
        raise ZeroDivisionError
    assert DataContext.get_current().max_worker_deaths_per_input == deaths
    assert not list(folder.glob("chaos*"))
    assert requests.around is None
    assert session.instead_of is None
    doubled().take_all()
    assert (faults.calls, faults.faults) == (0, [])


def test_too_few_calls_are_told_of(caplog):
    with aktis.testing.chaos(seed=1, kill_workers=2):
        aktis.data.range(10).sum("id")
    assert "has killed 0 workers: there were 0 calls of functions to kill one in" in caplog.text


def test_mistakes_are_named():
    mistakes: list[dict[str, Any]] = [{"kill_workers": -1}, {"slow": 2}, {"errors": "x"}, {"seed": 1.5}]
    for wrong in mistakes:
        with pytest.raises(ValueError, match=rf"chaos\({next(iter(wrong))}="), aktis.testing.chaos(**wrong):
            pass
    seeds: list[Any] = [[], 3, "1", [1.5]]
    for none in seeds:
        with pytest.raises(ValueError, match=r"chaos_check\(seeds=.*one at least"):
            aktis.testing.chaos_check(list, seeds=none)
    with pytest.raises(TypeError, match="takes a function that runs a pipeline"):
        aktis.testing.chaos_check(doubled().take_all())  # pyright: ignore[reportArgumentType]
    with aktis.testing.chaos(), pytest.raises(RuntimeError, match="already"), aktis.testing.chaos():
        pass
    with aktis.testing.local(), pytest.raises(RuntimeError, match="which has no workers"), aktis.testing.chaos():
        pass


def test_tables_frames_and_values_are_rows():
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from aktis.testing._chaos.checking import _Rows, _rows_of

    rows = [{"a": 1, "b": [1.5, None]}, {"a": 2, "b": [0.0, 2.0]}]
    forms = [rows, pa.Table.from_pylist(rows), aktis.data.from_items(rows)]
    assert not any(_Rows(rows).difference(_Rows(_rows_of(form))) for form in forms)
    assert not _Rows(_rows_of(pd.DataFrame({"a": [1, 2]}))).difference(_Rows([{"a": 2}, {"a": 1}]))
    whole = list(range(1000))
    for form in (pd.Series(whole), iter(whole), (number for number in whole), np.array(whole).tolist()):
        assert not _Rows(whole).difference(_Rows(_rows_of(form)))
    assert _Rows(_rows_of(pd.Series([1] * 1000))).difference(_Rows(_rows_of(pd.Series([1] * 500 + [2] + [1] * 499))))
    assert not _Rows([{"b", "a"}]).difference(_Rows([{"a", "b"}]))
    assert _Rows([{"x": np.zeros(3)}]).difference(_Rows([{"x": np.zeros((3, 1))}]))
    assert "(2 times)" in _Rows([1, 1]).difference(_Rows([]))
