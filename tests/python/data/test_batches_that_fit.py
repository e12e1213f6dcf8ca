"""Batches by what fits and pays: `batch_size="auto"`, budgets of tokens and bytes, rows of similar length together."""

# Options are given by dicts, and functions are wrong on purpose.
# pyright: reportArgumentType=false

import os
import time

import aktis.data
import numpy as np
import pytest
from aktis.data import ActorPoolStrategy

ONE = ActorPoolStrategy(size=1)


def pretended(fits, *, of_call=0.0, of_row=0.0):
    """A model that computes for a while, on a device that has room for so many rows."""

    class Model:
        def __call__(self, batch):
            rows = len(batch["id"])
            if rows > fits:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            time.sleep(of_call + of_row * rows)
            return {"id": batch["id"], "rows": np.full(rows, rows)}

    return Model


def calls_of(rows):
    """How many rows each call had, of what a pretended model returned."""
    sizes, position = [], 0
    while position < len(rows):
        sizes.append(int(rows[position]["rows"]))
        position += sizes[-1]
    return sizes


def chosen(ds):
    """What was found for the one step of a dataset that has run."""
    text = ds.stats()
    return [line.strip() for line in text.splitlines() if "batches of" in line]


@pytest.mark.parametrize(
    ("fits", "of_call", "of_row"),
    # What a call costs is much more than what a machine that has much to do adds to it: else the best size is another one there.
    [(300, 0.02, 5e-5), (100_000, 0.02, 2e-4), (100_000, 0.0, 3e-5)],
    ids=["memory ends it", "costs of a call", "nothing to gain"],
)
def test_chosen_size_is_nearly_as_good_as_the_best_fixed_one(fits, of_call, of_row):
    model = pretended(fits, of_call=of_call, of_row=of_row)
    ds = aktis.data.range(8000).map_batches(model, batch_size="auto", compute=ONE)
    ds.materialize()  # whose workers have found the size
    rows = ds.take_all()
    assert [row["id"] for row in rows] == list(range(8000))
    best = min(fits, 4096)
    best_s = 8000 / best * (of_call + of_row * best)
    took_s = sum(of_call + of_row * size for size in calls_of(rows))
    assert best_s / took_s >= 0.85, (calls_of(rows), chosen(ds))


def test_size_is_told_and_no_row_fails_for_want_of_memory():
    ds = aktis.data.range(5000).map_batches(
        pretended(200, of_call=0.02), batch_size="auto", compute=ONE, on_error="dead_letter", max_errors=0
    )
    assert [row["id"] for row in ds.take_all()] == list(range(5000))
    assert ds.dead_letters().count() == 0
    (line,) = chosen(ds)
    assert line.startswith("batches of 1") and "did not fit into memory" in line, line


def test_row_that_finds_no_memory_alone_has_failed_and_batches_stay_large():
    class Model(pretended(10_000, of_call=0.001)):
        def __call__(self, batch):
            if 700 in batch["id"]:
                raise MemoryError("cannot allocate")
            return super().__call__(batch)

    ds = aktis.data.range(3000).map_batches(Model, batch_size="auto", compute=ONE, on_error="dead_letter")
    rows = ds.take_all()
    assert [row["id"] for row in rows] == [i for i in range(3000) if i != 700]
    assert [dead["row"]["id"] for dead in ds.dead_letters().take_all()] == [700]
    assert max(int(row["rows"]) for row in rows[-500:]) >= 64, chosen(ds)
    with pytest.raises(MemoryError, match="cannot allocate"):
        aktis.data.range(1000).map_batches(Model, batch_size="auto", compute=ONE).materialize()


def test_errors_of_other_kinds_are_told_as_ever():
    def broken(batch):
        raise ValueError("no such word")

    with pytest.raises(ValueError, match="no such word"):
        aktis.data.range(100).map_batches(broken, batch_size="auto").materialize()


def test_workers_that_die_change_nothing(tmp_path):
    class Dies(pretended(500, of_call=0.001)):
        def __call__(self, batch):
            if 6000 in batch["id"]:
                deaths = len(list(tmp_path.iterdir()))
                if deaths < 2:
                    (tmp_path / str(deaths)).touch()
                    os._exit(1)
            return super().__call__(batch)

    ds = aktis.data.range(20_000).map_batches(Dies, batch_size="auto", compute=ActorPoolStrategy(size=2))
    assert [row["id"] for row in ds.take_all()] == list(range(20_000))
    assert len(list(tmp_path.iterdir())) == 2


def test_gpus_take_it_too():
    with pytest.raises(ValueError, match='batch_size="auto" finds it'):
        aktis.data.range(10).map_batches(pretended(10), num_gpus=1)
    ds = aktis.data.range(100).map_batches(pretended(10), num_gpus=1, batch_size="auto")
    assert ds.count() == 100


def test_async_functions_and_small_inputs():
    async def double(batch):
        return {"id": batch["id"] * 2}

    ds = aktis.data.range(1000, override_num_blocks=50).map_batches(double, batch_size="auto")
    assert [row["id"] for row in ds.take_all()] == [i * 2 for i in range(1000)]


@pytest.fixture(scope="module")
def texts():
    lengths = [(i * 7919) % 97 + 1 for i in range(3000)]
    return aktis.data.from_items([{"id": i, "n": n, "text": "x" * n} for i, n in enumerate(lengths)]).materialize()


class Sizes:
    """Rows, the longest text and the sum of all of each batch."""

    def __call__(self, batch):
        rows, longest = len(batch["n"]), int(max(batch["n"]))
        return {"id": batch["id"], "rows": [rows] * rows, "longest": [longest] * rows, "n": batch["n"]}


@pytest.mark.parametrize("tokens", ["n", "text", lambda batch: [len(text) for text in batch["text"]]])
def test_token_budget_holds_padding_included(texts, tokens):
    rows = texts.map_batches(Sizes, token_budget=1000, tokens=tokens, compute=ONE).take_all()
    assert [row["id"] for row in rows] == list(range(3000))
    assert max(row["rows"] * row["longest"] for row in rows) <= 1000
    batches = calls_of(rows)
    # One row more would not have fitted, but at the ends of inputs.
    assert len(batches) < 3000 / 9, len(batches)


def test_rows_of_similar_length_share_batches_and_come_out_in_order(texts):
    apart = texts.map_batches(Sizes, token_budget=1000, tokens="n", compute=ONE).take_all()
    together = texts.map_batches(Sizes, token_budget=1000, tokens="n", window_rows=1000, compute=ONE).take_all()
    assert [row["id"] for row in together] == list(range(3000))
    assert [row["n"] for row in together] == [row["n"] for row in apart]
    padded = sum(row["longest"] for row in together)
    assert padded < 1.1 * sum(row["n"] for row in together)
    assert padded < 0.7 * sum(row["longest"] for row in apart)


def test_sorted_rows_that_fail_are_left_out_and_others_keep_their_places(texts):
    class Picky(Sizes):
        def __call__(self, batch):
            if any(i in (5, 1234, 2999) for i in batch["id"]):
                raise ValueError("bad")
            return super().__call__(batch)

    ds = texts.map_batches(Picky, batch_size=64, tokens="n", window_rows=1000, compute=ONE, on_error="dead_letter")
    assert [row["id"] for row in ds.take_all()] == [i for i in range(3000) if i not in (5, 1234, 2999)]
    assert sorted(dead["row"]["id"] for dead in ds.dead_letters().take_all()) == [5, 1234, 2999]


def test_byte_budget_is_of_the_columns_that_the_function_gets(texts):
    def sizes(batch):
        rows = len(batch["id"])
        return {"rows": [rows] * rows}

    rows = texts.map_batches(sizes, byte_budget=800, input_columns=["id"]).take_all()
    assert {row["rows"] for row in rows} <= set(range(1, 101))
    assert sum(row["rows"] == 100 for row in rows) > 2000


def test_functions_that_count_wrongly_are_told(texts):
    with pytest.raises(ValueError, match="must return one for each row"):
        texts.map_batches(Sizes, token_budget=10, tokens=lambda batch: [1]).materialize()
    with pytest.raises(ValueError, match="there is no column 'words'"):
        texts.map_batches(Sizes, token_budget=10, tokens="words").materialize()
    fewer = texts.map_batches(lambda batch: {"n": batch["n"][:1]}, token_budget=100, tokens="n", window_rows=100)
    with pytest.raises(ValueError, match="window_rows= sorts rows by length"):
        fewer.materialize()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"token_budget": 10}, "needs tokens="),
        ({"tokens": "n"}, "neither is given"),
        ({"tokens": 3, "token_budget": 10}, "name of a column"),
        ({"window_rows": 100, "tokens": "n"}, "say how they are cut"),
        ({"window_rows": 100, "tokens": "n", "batch_size": "auto"}, "token_budget= instead"),
        ({"byte_budget": 0}, "whole number of at least 1"),
        ({"batch_size": "best"}, "batch_size must be"),
    ],
)
def test_what_makes_no_sense_is_told_at_once(texts, options, says):
    with pytest.raises((TypeError, ValueError), match=says):
        texts.map_batches(Sizes, **options)
