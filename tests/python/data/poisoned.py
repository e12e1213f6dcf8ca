"""Rows that functions of these tests fail for. Good and dead rows are the input, exactly."""

import collections

import aktis.data
import pyarrow
from pyarrow import parquet

#: Rows of the input; which of them are bad.
ROWS = 6000
BAD = [0, 7, 1023, 1024, 2500, 2501, 2502, 4999, 5999]


def write_numbers(folder):
    """Three files of 2000 rows of `id` and `text`, in row groups of 500."""
    for part in range(3):
        ids = list(range(part * 2000, part * 2000 + 2000))
        table = pyarrow.table({"id": ids, "text": [f"row {i}" for i in ids]})
        parquet.write_table(table, folder / f"part-{part}.parquet", row_group_size=500)
    return folder


def read(numbers):
    return aktis.data.read_parquet(numbers)


def ids_of(rows):
    return collections.Counter(row["id"] for row in rows)


def dead_ids(letters):
    return collections.Counter(row["row"]["id"] for row in letters.take_all())


def check(good, dead, bad=BAD, rows=ROWS):
    """Multisets: no row is lost, none is there twice."""
    assert dead == collections.Counter(bad)
    assert good + dead == collections.Counter(range(rows))


class Raises:
    def __call__(self, batch):
        bad = [int(i) for i in batch["id"] if i in BAD]
        if bad:
            raise ValueError(f"cannot do {bad[0]}")
        return batch
