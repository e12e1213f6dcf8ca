"""One run shared by several consumers."""

import random
import threading
import time
from typing import Any

import aktis
import aktis.data
import numpy
import pytest
from aktis.data._parts import Part
from aktis.data._shares import EqualShares, Shares


@aktis.remote(num_cpus=0)
class Consumer:
    def __init__(self, shard):
        self.shard = shard

    def ids(self, **options):
        return [i for batch in self.shard.iter_batches(**options) for i in batch["id"].tolist()]

    def first(self):
        return next(iter(self.shard.iter_rows()))["id"]


def together(work, shards):
    """What the function gives for each, on a thread each."""
    results: list[Any] = [None] * len(shards)

    def run(index):
        try:
            results[index] = work(shards[index])
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(shards))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def wide(rows):
    """Rows of 160 KB, a few in each block: more than may wait for a consumer."""

    def pad(batch):
        return {**batch, "pad": numpy.zeros((len(batch["id"]), 20_000))}

    return aktis.data.range(rows, override_num_blocks=rows // 5).map_batches(pad)


def ids_of(shard):
    return [row["id"] for row in shard.iter_rows()]


@pytest.mark.parametrize("prefetch", [1, 3])
def test_actors_share_the_rows_of_each_epoch(prefetch):
    shards = aktis.data.range(1000, override_num_blocks=20).map(lambda row: row).streaming_split(3)
    consumers = [Consumer.remote(shard) for shard in shards]
    for _ in range(2):
        calls = [each.ids.remote(batch_size=7, prefetch_batches=prefetch) for each in consumers]
        assert sorted(i for ids in aktis.get(calls) for i in ids) == list(range(1000))


@pytest.mark.parametrize(("rows", "blocks", "n"), [(1000, 20, 3), (10, 1, 4), (3, 3, 4), (100, 100, 2)])
def test_equal_shares_differ_by_no_row(rows, blocks, n):
    shards = aktis.data.range(rows, override_num_blocks=blocks).streaming_split(n, equal=True)
    found = together(ids_of, shards)
    assert [len(ids) for ids in found] == [rows // n] * n
    everything = [i for ids in found for i in ids]
    assert len(set(everything)) == len(everything)
    assert all(ids == sorted(ids) for ids in found)


def test_shares_are_also_torn_off_early_and_begun_again():
    shards = aktis.data.range(1000, override_num_blocks=50).streaming_split(2)
    consumers = [Consumer.remote(shard) for shard in shards]
    assert len(set(aktis.get([each.first.remote() for each in consumers]))) == 2
    left, rest = aktis.get([consumers[0].first.remote(), consumers[1].ids.remote()])
    # What the first has had is at most the blocks that were handed to it before it left.
    assert left not in rest and len(rest) >= 900
    assert sum(map(len, aktis.get([each.ids.remote() for each in consumers]))) == 1000


def test_failure_of_the_run_is_raised_for_every_consumer():
    def fail(row):
        raise LookupError(f"no row {row['id']}")

    found = together(ids_of, aktis.data.range(10).map(fail).streaming_split(2))
    for error in found:
        assert isinstance(error, LookupError) and "no row" in str(error)


def test_consumer_can_ask_for_columns_statistics_and_keep_its_rows():
    shards = aktis.data.range(100, override_num_blocks=10).map(lambda row: row).streaming_split(2, equal=True)
    assert shards[0].world_size() == 2
    assert shards[0].schema().names == ["id"]
    kept = together(lambda shard: shard.materialize(), shards)
    assert [each.count() for each in kept] == [50, 50]
    assert sorted(row["id"] for each in kept for row in each.take_all()) == list(range(100))
    assert "rows" in shards[1].stats()
    assert shards[0].get_context() is aktis.data.DataContext.get_current()


def test_columns_that_only_a_run_tells_are_not_asked_for_while_it_is_under_way(tmp_path):
    def late(row):
        while not (tmp_path / "go").exists():
            time.sleep(0.01)
        return {"x": row["id"]}

    (shard,) = aktis.data.range(4).map(late).streaming_split(1)
    found = []
    thread = threading.Thread(target=lambda: found.extend(shard.iter_rows()))
    thread.start()
    while shard._ask("missing", 1):
        thread.join(0.05)
    with pytest.raises(RuntimeError, match="only a function knows the columns"):
        shard.schema()
    (tmp_path / "go").touch()
    thread.join()
    assert len(found) == 4 and shard.schema().names == ["x"]


def test_settings_of_the_driver_hold_for_the_shared_run():
    context = aktis.data.DataContext.get_current()
    context.target_max_block_size = 64 << 10
    try:
        shards = aktis.data.range(100_000, override_num_blocks=1).map_batches(lambda batch: batch).streaming_split(1)
        assert shards[0].materialize().num_blocks() > 5
    finally:
        context.target_max_block_size = None


def test_who_waits_alone_is_told_for_whom(caplog, monkeypatch):
    from aktis.data import _streaming_split

    monkeypatch.setattr(_streaming_split, "_PATIENCE_S", 0.1)
    shards = aktis.data.range(10).streaming_split(2)
    found = []
    thread = threading.Thread(target=lambda: found.extend(ids_of(shards[0])))
    thread.start()
    while "consumer 0 waits for others that have not begun to iterate: 1." not in caplog.text:
        thread.join(0.05)
    found.extend(ids_of(shards[1]))
    thread.join()
    assert sorted(found) == list(range(10))


def test_who_waits_for_one_that_takes_nothing_is_told_for_whom(caplog, monkeypatch):
    from aktis.data import _streaming_split

    monkeypatch.setattr(_streaming_split, "_PATIENCE_S", 0.1)
    shards = wide(500).streaming_split(2, equal=True)
    begun = iter(shards[1].iter_rows())
    found = []
    thread = threading.Thread(target=lambda: found.extend(ids_of(shards[0])))
    thread.start()
    rest = [next(begun)["id"]]
    while "consumer 0 gets no more rows before these have taken theirs: 1." not in caplog.text:
        thread.join(0.05)
    rest.extend(row["id"] for row in begun)
    thread.join()
    assert (len(found), len(rest)) == (250, 250)
    assert sorted(found + rest) == list(range(500))


def test_one_that_was_killed_does_not_keep_rows_from_the_others():
    @aktis.remote(num_cpus=0)
    class Mortal:
        def take_one(self, shard):
            self.rows = iter(shard.iter_rows())
            return next(self.rows)["id"]

    shards = wide(1000).streaming_split(2)
    mortal = Mortal.remote()
    survivor = Consumer.remote(shards[1])
    first = mortal.take_one.remote(shards[0])
    rest = survivor.ids.remote()
    gone = aktis.get(first)
    aktis.kill(mortal)
    ids = aktis.get(rest)
    # What waited for it at the end is not there: up to the room for slow consumers.
    assert gone not in ids and len(ids) >= 700


def test_misspelt_method_of_an_iterator_is_told_with_the_nearest_name():
    iterator = aktis.data.range(3).iterator()
    with pytest.raises(AttributeError, match="Did you mean 'iter_batches'"):
        getattr(iterator, "iter_batche")  # noqa: B009


def shares_of(consumers, *, is_equal):
    """Of which few rows are many."""
    return (EqualShares if is_equal else Shares)(consumers, room_bytes=0)


def test_one_that_takes_nothing_is_waited_for_once():
    shares = shares_of(2, is_equal=False)
    for number in range(20):
        shares.put(Part(number, 0, 5, 50, True))
    while shares.take(0) is not None:
        pass
    assert shares.take(0, is_starved=True) is not None
    assert shares.take(0) is not None, "the other is late, and has taken nothing since"
    assert shares.take(1) is not None
    assert shares.take(0) is None, "it is waited for again"


@pytest.mark.parametrize("seed", range(40))
def test_shares_of_any_blocks_and_any_order_of_consumers_are_equal_and_whole(seed):
    """SHARE-1 (every-row-once), SHARE-2 (equal-at-the-end)."""
    chance = random.Random(seed)
    n = chance.randint(1, 5)
    is_equal = chance.random() < 0.6
    shares = shares_of(n, is_equal=is_equal)
    sizes = [chance.choice([0, 1, 1, 3, 50]) for _ in range(chance.randint(0, 40))]
    taken = [[] for _ in range(n)]
    pending = list(enumerate(sizes))
    for _ in range(100_000):
        if pending and not shares.is_full() and chance.random() < 0.5:
            number, rows = pending.pop(0)
            shares.put(Part(number, 0, rows, rows * 8, True))
        elif not pending:
            shares.end()
        consumer = min(chance.randrange(n), chance.randrange(n))
        part = shares.take(consumer, is_starved=chance.random() < 0.3)
        if part is not None:
            taken[consumer] += [(part.reference, part.first_row + row) for row in range(part.rows)]
        if all(map(shares.is_over, range(n))):
            break
    else:
        pytest.fail("it never ends")
    everything = [row for rows in taken for row in rows]
    assert len(set(everything)) == len(everything)
    assert sum(sizes) - len(everything) < (n if is_equal else 1)
    if is_equal:
        assert {len(rows) for rows in taken} == {sum(sizes) // n}


def test_full_shares_always_have_rows_for_who_is_behind():
    """SHARE-2 (equal-at-the-end)."""
    for n in range(1, 6):
        shares = shares_of(n, is_equal=True)
        put = 0
        for step in range(200):
            while not shares.is_full():
                shares.put(Part(put, 0, 1 + put % 7, 8, True))
                put += 1
            behind = min(range(n), key=lambda consumer: (shares._given[consumer], (consumer + step) % n))
            assert shares.take(behind) is not None


def test_whole_blocks_are_dealt_to_who_has_the_fewest_rows():
    shares = shares_of(3, is_equal=False)
    for number in range(10):
        shares.put(Part(number, 0, 100, 800, True))
    shares.end()
    found = []
    for consumer in (2, 0, 1):
        rows = 0
        while part := shares.take(consumer):
            rows += part.rows
        found.append(rows)
    assert found == [300, 400, 300]


def test_who_is_starved_gets_blocks_of_the_slowest_only_when_all_wait_for_it():
    shares = shares_of(2, is_equal=False)
    for number in range(4):
        shares.put(Part(number, 0, 10, 80, True))
    assert [shares.take(0).rows, shares.take(0).rows, shares.take(0, is_starved=True)] == [10, 10, None]
    for number in range(4, 8):
        shares.put(Part(number, 0, 10, 80, True))
    while shares.take(0):
        pass
    assert shares.take(0, is_starved=True) is None and shares.waits_for(0) == []
    shares.put(Part(8, 0, 10, 80, True))
    shares.put(Part(9, 0, 10, 80, True))
    assert shares.is_full() and shares.take(0).rows == 10
    shares.put(Part(10, 0, 10, 80, True))
    assert shares.take(0).rows == 10 and shares.take(0) is None


@pytest.mark.parametrize("is_equal", [False, True])
def test_who_leaves_holds_nobody_up(is_equal):
    shares = shares_of(3, is_equal=is_equal)
    shares.leave(1)
    got = 0
    for number in range(100):
        shares.put(Part(number, 0, 10, 80, True))
        for consumer in (0, 2):
            while part := shares.take(consumer):
                got += part.rows
        assert not shares.is_full()
    shares.end()
    for consumer in (0, 2):
        while part := shares.take(consumer):
            got += part.rows
        assert shares.is_over(consumer)
    assert got == (666 if is_equal else 1000)
    assert not shares.everybody_left()
