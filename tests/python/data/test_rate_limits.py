"""Limits of calls per second that all workers of a step share."""

import asyncio
import bisect
import os
import random
import time
from types import SimpleNamespace

import aktis
import aktis.data
import pytest
from aktis.data import RateLimit, _rate_limits
from aktis.data._fingerprints import fingerprint
from aktis.data._turns import LOST_S, SECOND_S, Turns, most_per_second
from aktis.util import list_named_actors
from waiting import until


def most_in_a_second(moments):
    """The most calls that began in any second; what clocks of processes lack is no second."""
    moments = sorted(moments)
    return max(bisect.bisect_left(moments, moment + 0.999) - at for at, moment in enumerate(moments))


def moment(row):
    return {"at": time.time(), "pid": os.getpid(), **row}


def came(row):
    """Notes when a row has come to the function before the one that is limited: no turn of its was there earlier."""
    return {**row, "came": time.time()}


@pytest.mark.parametrize(("per_second", "burst"), [(20, 1), (20, 8), (2.5, 1), (0.4, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_no_second_has_more_calls_whatever_becomes_of_turns(per_second, burst, seed):
    """TURN-1, TURN-2: calls begin later than they may, are told of later still, or never, because their workers die."""
    chance = random.Random(seed)
    turns, now, began, told = Turns(per_second, burst, 0.0), 0.0, [], []
    for _ in range(400):
        while (wait := turns.wait_s(1, now, has_waited=True)) > 0:
            now += min(wait, chance.random() * 0.05 + 0.001)
            for when, ticket in [one for one in told if one[0] <= now]:
                told.remove((when, ticket))
                turns.began(ticket, when)
        ticket = turns.take(1, now)
        begins = now + chance.choice([0.0, 0.001, 0.2, LOST_S - 0.01])
        if chance.random() < 0.9:
            began.append(begins)
            if chance.random() < 0.8:
                told.append((begins + chance.choice([0.0, 0.01, 0.3]), ticket))
    assert most_in_a_second(began) <= most_per_second(per_second, burst)


def test_turns_come_at_their_pace():
    turns, now, given = Turns(100, 1, 0.0), 0.0, 0
    while now < 10:
        if turns.wait_s(1, now, has_waited=True) == 0:
            given += 1
            turns.began(turns.take(1, now), now)
        else:
            # Whoever waits is woken late.
            now += 0.013
    assert 0.97 * 1000 <= given <= 1001


def test_turns_are_saved_up_to_the_burst_and_no_further():
    turns = Turns(10, 3, 0.0)
    for _ in range(3):
        assert turns.wait_s(1, 100.0) == 0
        turns.began(turns.take(1, 100.0), 100.0)
    assert turns.wait_s(1, 100.0) == pytest.approx(0.1)
    assert turns.is_idle(100.0 + SECOND_S + 1)


def test_limiter_that_begins_anew_gives_nothing_for_a_second():
    turns = Turns(10, 3, 0.0, is_fresh=False)
    assert turns.wait_s(1, 0.0) == pytest.approx(SECOND_S)


def is_within(rows, per_second, burst=1, names=("at",)):
    """Whether none of these calls began before its turn, of turns that came since the first row did. Only a call that is too early says
    that there is no limit: how late one begins is the machine's affair, and late ones may crowd together."""
    since = min(row["came"] for row in rows) - 0.01
    moments = sorted(row[name] for row in rows for name in names)
    return all(moment >= since + (at + 1 - burst) / per_second for at, moment in enumerate(moments))


@pytest.mark.parametrize("call", ["map", "map_batches", "async"])
def test_all_workers_share_the_limit(call):
    ds = aktis.data.range(60, override_num_blocks=8).map(came)
    if call == "map":
        ds = ds.map(moment, rate_limit=50)
    elif call == "map_batches":
        ds = ds.map_batches(lambda batch: {"at": [time.time()], "came": batch["came"]}, batch_size=1, rate_limit=50)
    else:

        async def later(row):
            at = time.time()
            await asyncio.sleep(0.05)
            return {"at": at, **row}

        ds = ds.map(later, rate_limit=50, max_concurrency=8)
    rows = ds.take_all()
    assert len(rows) == 60
    assert is_within(rows, 50)
    assert "for their turns (rate_limit)" in ds.stats()
    operator = ds._stats.stats()["stages"][0]["operators"][2]
    assert operator["waited_s"] > 0


def test_each_key_has_its_own_limit():
    limit = RateLimit(20, key="who", burst=2)
    ds = aktis.data.range(60, override_num_blocks=4).map(lambda row: came({"who": "ab"[row["id"] % 2]}))
    rows = ds.map(moment, rate_limit=limit).take_all()
    for who in "ab":
        own = [row for row in rows if row["who"] == who]
        assert len(own) == 30
        assert is_within(own, 20, burst=2)
    # If they shared a limit, the second one would wait for a quarter of an hour.
    assert aktis.data.range(12).map(moment, rate_limit=RateLimit(0.001, key="id")).count() == 12


def test_batch_takes_a_turn_of_each_of_its_keys():
    by_parity = RateLimit(10, key=lambda row: int(row["id"]) % 2)
    ds = (
        aktis.data.range(24, override_num_blocks=2)
        .map(came)
        .map_batches(lambda batch: {"at": [time.time()], "came": batch["came"][:1]}, batch_size=2, rate_limit=by_parity)
    )
    rows = ds.take_all()
    assert len(rows) == 12
    assert is_within(rows, 10)


def test_rows_of_batches_are_counted_where_that_is_asked_for():
    def one(batch):
        return {"at": [time.time()] * len(batch["id"]), "came": batch["came"]}

    ds = aktis.data.range(80).map(came)
    rows = ds.map_batches(one, batch_size=10, rate_limit=RateLimit(60, unit="rows", burst=11)).take_all()
    assert len(rows) == 80
    assert is_within(rows, 60, burst=11)
    for batch_size in (None, 41):
        with pytest.raises(ValueError, match="give batch_size=40 or less"):
            aktis.data.range(8).map_batches(one, rate_limit=RateLimit(40, unit="rows"), batch_size=batch_size)


def test_steps_that_are_given_one_limit_share_it():
    limit = RateLimit(30)
    ds = aktis.data.range(20).map(came).map(lambda row: {**row, "first": time.time()}, rate_limit=limit)
    rows = ds.map(lambda row: {**row, "second": time.time()}, rate_limit=limit).take_all()
    assert len(rows) == 20
    assert is_within(rows, 30, names=("first", "second"))


def test_worker_that_dies_gives_nothing_away(tmp_path):
    def fragile(row):
        (tmp_path / f"{row['id']}-{time.time()}-{row['came']}").touch()
        if row["id"] in (5, 25) and not (tmp_path / f"died-{row['id']}").exists():
            (tmp_path / f"died-{row['id']}").touch()
            os._exit(1)
        return row

    ds = aktis.data.range(40, override_num_blocks=4).map(came).map(fragile, rate_limit=30)
    assert sorted(row["id"] for row in ds.take_all()) == list(range(40))
    calls = [file.name.split("-") for file in tmp_path.iterdir() if not file.name.startswith("died")]
    assert len(calls) > 40
    assert is_within([{"at": float(at), "came": float(came)} for _, at, came in calls], 30)


def test_nobody_waits_behind_calls_of_the_dead(monkeypatch):
    """Whoever is there asks again, and keeps its place."""
    monkeypatch.setattr(_rate_limits, "_ASKS_AGAIN_S", 0.05)
    monkeypatch.setattr(_rate_limits, "_GONE_S", 0.3)
    begun_once = SimpleNamespace(was_current_actor_reconstructed=False)
    monkeypatch.setattr(aktis, "get_runtime_context", lambda: begun_once)

    async def calls():
        limiter = _rate_limits.Limiter(2, burst=1)
        served = []

        async def call(name):
            while (tickets := (await limiter.take(name, [("key", 1), (name, 1)]))[0]) is None:
                pass
            served.append(name)
            await limiter.began([("key", tickets[0]), (name, tickets[1])])
            return tickets[0]

        first = await call("first")
        dead = await asyncio.gather(*[limiter.take(f"dead {number}", [("key", 1)]) for number in range(20)])
        # On a machine that sleeps it may have been their turn.
        given = sum(tickets is not None for tickets, _ in dead)
        tickets = await asyncio.gather(call("second"), call("third"))
        return first, [ticket - given for ticket in tickets], served, (limiter._waiting, limiter._queues)

    first, tickets, served, left = asyncio.run(asyncio.wait_for(calls(), 60))
    assert (first, tickets, served) == (0, [1, 2], ["first", "second", "third"])
    assert left == ({}, {})


def test_limiter_that_is_killed_forgets_no_call():
    limit = RateLimit(40, burst=40)
    ds = aktis.data.range(90, override_num_blocks=90).map(came).map(moment, rate_limit=limit)
    rows = []
    for row in ds.iter_rows():
        if not rows:
            # The burst is used up.
            aktis.kill(aktis.get_actor(f"rate_limit.{limit._id}", "aktis.data"), no_restart=False)
        rows.append(row)
    assert len(rows) == 90
    assert is_within(rows, 40, burst=40)


def limiters():
    return [one["name"] for one in list_named_actors(all_namespaces=True) if one["name"].startswith("rate_limit")]


def test_end_of_a_run_waits_for_no_turn():
    rows = aktis.data.range(100, override_num_blocks=100).map(moment, rate_limit=RateLimit(0.001, burst=3)).iter_rows()
    assert next(rows)["id"] == 0
    assert limiters()
    rows.close()
    # A thousand seconds before the next turn.
    until(lambda: not limiters(), "it ends with the run")


def test_run_that_nobody_looks_at_ends_its_limiter():
    ds = aktis.data.range(100).map(moment, rate_limit=RateLimit(0.001))
    ds._run()
    assert limiters()
    del ds
    until(lambda: not limiters(), "it ends with the execution")


def test_waiting_is_no_part_of_the_time_that_a_call_may_take():
    # The second call waits for two seconds, and the last one for as long, or for four if it is the other worker's.
    ds = aktis.data.range(3, override_num_blocks=2).map_batches(
        lambda batch: batch, batch_size=1, rate_limit=0.5, timeout_s=1.5, on_error="dead_letter", concurrency=2
    )
    assert ds.count() == 3
    assert ds.dead_letters().count() == 0


def test_other_processes_run_it_too():
    ds = aktis.data.range(5).map(moment, rate_limit=50)

    @aktis.remote(num_cpus=0)
    def elsewhere(ds):
        return len(ds.take_all())

    assert aktis.get(elsewhere.remote(ds)) == 5


def test_two_processes_that_run_it_at_once_are_told(tmp_path):
    limit = RateLimit(0.001, burst=2)
    ds = aktis.data.range(5, override_num_blocks=5).map(moment, rate_limit=limit)
    rows = ds.iter_rows()
    next(rows)

    @aktis.remote(num_cpus=0, max_retries=0)
    def elsewhere(ds):
        return len(ds.take_all())

    with pytest.raises(RuntimeError, match="in use by a dataset that another process of this session runs"):
        aktis.get(elsewhere.remote(ds))
    assert limiters(), "it is not ended by one who has not begun it"
    rows.close()


def test_run_that_the_garbage_collector_ends_while_another_begins_is_not_waited_for(monkeypatch):
    limit = RateLimit(5)
    first = _rate_limits.Held([limit])
    begun = _rate_limits._begun

    def begins(wanted):
        first.release()
        return begun(wanted)

    monkeypatch.setattr(_rate_limits, "_begun", begins)
    second = _rate_limits.Held([RateLimit(5), limit])
    assert len(limiters()) == 2
    second.release()
    until(lambda: not limiters(), "both are gone")
    assert not _rate_limits._BEGUN._used


def test_limits_of_a_run_that_does_not_begin_are_left(monkeypatch):
    begun, wanted = _rate_limits._begun, [RateLimit(5), RateLimit(6)]

    def fails(limit):
        if limit is wanted[1]:
            raise KeyboardInterrupt
        return begun(limit)

    monkeypatch.setattr(_rate_limits, "_begun", fails)
    with pytest.raises(KeyboardInterrupt):
        _rate_limits.Held(wanted)
    until(lambda: not limiters(), "the first one is gone")
    assert not _rate_limits._BEGUN._used


def test_how_fast_it_is_called_is_none_of_what_a_function_is():
    one, other = (
        fingerprint(dict(aktis.data.range(1).map(moment, rate_limit=limit)._plan._calls[-1].kwargs["definition"].parts))
        for limit in (None, 5)
    )
    assert one == other


@pytest.mark.parametrize(("wanted", "told"), [
    (0, "per_second must be a number above 0"),
    ("5", "per_second must be a number"),
    (True, "per_second"),
])  # fmt: skip
def test_what_is_no_limit_is_refused_where_it_is_written(wanted, told):
    with pytest.raises(ValueError, match=rf"map\(rate_limit=...\): RateLimit: {told}"):
        aktis.data.range(1).map(moment, rate_limit=wanted)


def test_column_that_a_function_does_not_get_is_no_key():
    with pytest.raises(ValueError, match="the key of its rate_limit is the column 'who'"):
        aktis.data.range(1).map(moment, rate_limit=RateLimit(5, key="who")).take_all()
    with pytest.raises(ValueError, match="burst must be"):
        RateLimit(5, burst=0)
    with pytest.raises(ValueError, match="'calls' or 'rows'"):
        RateLimit(5, unit="tokens")
    with pytest.raises(ValueError, match="an expression calls no function"):
        aktis.data.range(1).filter(expr="id > 0", rate_limit=5)


def test_limit_holds_for_functions_on_all_sides_of_a_meeting_and_in_queries():
    numbers = aktis.data.range(3)
    limited = numbers.map(lambda row: row, rate_limit=1000, output_schema={"id": int})
    assert sorted(row["id"] for row in numbers.union(limited).take_all()) == [0, 0, 1, 1, 2, 2]
    function = aktis.data.SqlFunction(lambda array: array, int, rate_limit=1000)
    query = "select f(id) as x from t order by x"
    found = aktis.data.sql(query, functions={"f": function}, t=numbers).take_all()
    assert [row["x"] for row in found] == [0, 1, 2]
