"""Datasets in pieces, and blocks in another order."""

import itertools

import aktis
import aktis.data
import pytest


def ids(dataset):
    return [row["id"] for row in dataset.take_all()]


def blocks(rows, count):
    return aktis.data.range(rows, override_num_blocks=count)


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize(("rows", "count", "n"), [(10, 5, 2), (10, 5, 3), (11, 4, 3), (2, 1, 4), (0, 1, 2)])
def test_pieces_hold_all_rows_in_order(equal, rows, count, n):
    pieces = blocks(rows, count).split(n, equal=equal)
    assert len(pieces) == n
    found = list(itertools.chain.from_iterable(map(ids, pieces)))
    assert found == list(range(rows - rows % n if equal else rows))
    if equal:
        assert {piece.count() for piece in pieces} == {rows // n}


def test_pieces_without_equal_are_whole_blocks_of_which_the_first_have_more():
    assert [piece.num_blocks() for piece in blocks(8, 8).split(3)] == [3, 3, 2]
    assert [piece.num_blocks() for piece in blocks(8, 8).split(3, locality_hints=[None] * 3)] == [3, 3, 2]


@pytest.mark.parametrize(
    "indices", [[0], [3], [10], [99], [2, 2, 7], [0, 10], [1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 12, 13]]
)
def test_rows_are_cut_before_indices(indices):
    rows = list(range(10))
    expected = [rows[first:end] for first, end in itertools.pairwise([0, *indices, len(rows)])]
    assert [ids(piece) for piece in blocks(10, 4).split_at_indices(indices)] == expected


def test_wrong_pieces_are_refused():
    ds = aktis.data.range(3)
    for wrong in ([], [2, 1], [-1], [1.5]):
        with pytest.raises(ValueError, match="ind"):
            ds.split_at_indices(wrong)  # pyright: ignore[reportArgumentType]
    for n in (0, -1, 2.0):
        with pytest.raises(ValueError, match="at least 1"):
            ds.split(n)  # pyright: ignore[reportArgumentType]
        with pytest.raises(ValueError, match="at least 1"):
            ds.streaming_split(n)  # pyright: ignore[reportArgumentType]
    for call in (ds.split, ds.streaming_split):
        with pytest.raises(ValueError, match="1 locality_hints for 2 pieces"):
            call(2, locality_hints=[None])
    for wrong in ([], [0.5, 0.5], [0.0], [-0.1, 0.3]):
        with pytest.raises(ValueError, match="more than 0 and less than 1"):
            ds.split_proportionately(wrong)
    with pytest.raises(ValueError, match="3 rows are too few for 4 pieces"):
        ds.split_proportionately([0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("rows", "proportions", "sizes"),
    [
        (10, [0.2, 0.5], [2, 5, 3]),
        (10, [0.9], [9, 1]),
        (10, [0.1, 0.2], [1, 2, 7]),
        (3, [0.9], [2, 1]),
        (4, [0.1, 0.1], [1, 1, 2]),
    ],
)
def test_proportions_give_pieces_none_of_which_is_empty(rows, proportions, sizes):
    pieces = blocks(rows, 3).split_proportionately(proportions)
    assert [piece.count() for piece in pieces] == sizes
    assert [i for piece in pieces for i in ids(piece)] == list(range(rows))


def test_a_dataset_runs_once_to_be_split():
    @aktis.remote(num_cpus=0)
    class Counter:
        count = 0

        def add(self, rows):
            self.count += rows
            return self.count

    counter = Counter.remote()

    def counted(batch):
        aktis.get(counter.add.remote(len(batch["id"])))
        return batch

    train, test = aktis.data.range(10).map_batches(counted).train_test_split(0.3)
    assert (ids(train), ids(test)) == (list(range(7)), [7, 8, 9])
    assert train.map(lambda row: {"id": -row["id"]}).count() == 7
    assert aktis.get(counter.add.remote(0)) == 10


def test_train_and_test_by_number_and_by_chance():
    ds = blocks(20, 4)
    train, test = ds.train_test_split(5)
    assert (ids(train), ids(test)) == (list(range(15)), list(range(15, 20)))
    train, test = ds.train_test_split(0.25, shuffle=True, seed=3)
    again, _ = ds.train_test_split(0.25, shuffle=True, seed=3)
    assert ids(train) == ids(again) != list(range(15))
    assert sorted(ids(train) + ids(test)) == list(range(20))
    for wrong in (0, 20, 1.0, 0.0, -1):
        with pytest.raises(ValueError, match="test_size"):
            ds.train_test_split(wrong)
    for wrong in ("0.5", None, True):
        with pytest.raises(TypeError, match="test_size"):
            ds.train_test_split(wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Cannot specify both .shuffle=True. and .stratify."):
        ds.train_test_split(0.5, shuffle=True, stratify="id")


@pytest.mark.parametrize("test_size", [0.25, 10])
def test_stratified_pieces_have_the_same_part_of_each_value(test_size):
    ds = aktis.data.from_items([{"id": i, "kind": "rare" if i % 5 == 0 else "common"} for i in range(40)])
    train, test = ds.train_test_split(test_size, stratify="kind")
    count = {kind: sum(row["kind"] == kind for row in test.take_all()) for kind in ("rare", "common")}
    assert count == {"rare": 2, "common": 8}
    assert train.columns() == ["id", "kind"]
    assert sorted(ids(train) + ids(test)) == list(range(40))


def test_blocks_come_in_another_order_and_keep_their_rows():
    ds = blocks(40, 8)
    first = ds.randomize_block_order(seed=1)
    rows = ids(first)
    assert rows != list(range(40)) and sorted(rows) == list(range(40))
    assert all(rows[i + 4] - rows[i] == 4 for i in range(0, 40, 5))
    assert ids(first) == ids(ds.materialize().randomize_block_order(seed=1)) == rows
    assert ids(ds.randomize_block_order(seed=2)) != rows
    assert first.map(lambda row: {"id": row["id"]}).limit(5).take_all() == [{"id": i} for i in rows[:5]]
    assert first.count() == 40 and first.columns() == ["id"]
    united = first.union(aktis.data.range(1))
    assert ids(united) == [*rows, 0]
    with pytest.raises(ValueError, match="seed"):
        ds.randomize_block_order(seed="x")  # pyright: ignore[reportArgumentType]


def test_order_by_chance_is_another_one_in_every_run():
    ds = blocks(100, 50).randomize_block_order()
    assert len({tuple(ids(ds)) for _ in range(3)}) > 1


def test_deferred_order_can_be_given_to_a_task():
    @aktis.remote(num_cpus=0)
    def rows_of(ds):
        return [row["id"] for row in ds.take_all()]

    ds = blocks(40, 8).randomize_block_order(seed=1).filter(expr="id < 100")
    assert aktis.get(rows_of.remote(ds)) == ids(ds)


@pytest.mark.parametrize("options", [{"seed": 3}, {}, {"split_type": "hash", "hash_column": "id"}])
def test_streamed_pieces_have_all_rows_and_none_twice(options):
    train, test = blocks(2000, 7).streaming_train_test_split(0.25, **options)
    for _ in range(2):
        assert sorted(ids(train) + ids(test)) == list(range(2000))
    assert 400 < test.count() < 600
    assert train.columns() == ["id"]


def test_rows_of_one_value_stay_together_where_ray_has_them():
    ds = aktis.data.from_items([{"id": i, "user": f"u{i % 50}"} for i in range(500)])
    train, test = ds.streaming_train_test_split(0.4, split_type="hash", hash_column="user")
    users = [{row["user"] for row in piece.take_all()} for piece in (train, test)]
    assert not users[0] & users[1] and len(users[0] | users[1]) == 50
    # What Ray 2.60 gives for range(8) with test_size=0.25, by the documentation of the method.
    _, test = aktis.data.range(8).streaming_train_test_split(0.25, split_type="hash", hash_column="id")
    assert ids(test) == [1, 7]


def test_arguments_of_streamed_pieces_go_together():
    ds = aktis.data.range(3)
    for wrong in (
        {"test_size": 1.0},
        {"test_size": 0.5, "split_type": "order"},
        {"test_size": 0.5, "split_type": "hash"},
        {"test_size": 0.5, "hash_column": "id"},
        {"test_size": 0.5, "split_type": "hash", "hash_column": "id", "seed": 1},
    ):
        with pytest.raises(ValueError, match="streaming_train_test_split"):
            ds.streaming_train_test_split(**wrong)  # pyright: ignore[reportArgumentType]
