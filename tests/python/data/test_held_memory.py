"""What a function leaves out of its rows is held by nobody: not by the columns that it keeps, nor by the rows."""

import aktis.data
import pyarrow as pa
import pytest

#: What each call has made, and leaves out.
PAD_BYTES = 4 << 20
CALLS = 40


def padded(batch):
    """One row with a long pad."""
    pad = pa.array([bytes(PAD_BYTES)], pa.binary())
    return pa.table({"id": batch["id"], "pad": pad})


def without_pad(batch):
    """The row without it, and what this process has of pyarrow then."""
    held = [pa.total_allocated_bytes()] * batch.num_rows
    return batch.drop_columns(["pad"]).append_column("held", pa.array(held))


def first_row(batch):
    """A row of many, and what this process has of pyarrow then."""
    rows = PAD_BYTES // 8
    held = pa.repeat(pa.total_allocated_bytes(), rows)
    return pa.table({"id": pa.repeat(batch["id"][0], rows), "held": held}).slice(0, 1)


def columns_left_out(ds):
    made = ds.map_batches(padded, batch_size=1, batch_format="pyarrow")
    return made.map_batches(without_pad, batch_size=None, batch_format="pyarrow")


def columns_left_out_at_once(ds):
    return ds.map_batches(lambda batch: without_pad(padded(batch)), batch_size=1, batch_format="pyarrow")


def rows_left_out(ds):
    return ds.map_batches(first_row, batch_size=1, batch_format="pyarrow")


@pytest.mark.parametrize("steps", [columns_left_out, columns_left_out_at_once, rows_left_out])
def test_what_a_function_leaves_out_does_not_stay(steps):
    # One input, whose rows wait for each other: they are one block.
    rows = steps(aktis.data.range(CALLS, override_num_blocks=1)).take_all()
    assert sorted(row["id"] for row in rows) == list(range(CALLS))
    assert max(row["held"] for row in rows) < CALLS * PAD_BYTES / 3
