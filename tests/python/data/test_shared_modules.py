"""Stage workers share what their functions need instead of importing it."""

import os
import subprocess
import sys
import textwrap

import aktis.data
import numpy
import pyarrow
import pytest
from aktis.data import _plain_numbers

DEADLINE_S = 120


class Looker:
    def __init__(self):
        # Before the first batch: nothing of this process has imported anything yet.
        self.has_modules = all(name in sys.modules for name in ("numpy", "pandas", "pyarrow"))

    def __call__(self, batch):
        import numpy

        number = numpy.random.rand()
        return {"has": [self.has_modules], "pid": [os.getpid()], "number": [number]}


def test_stage_workers_begin_with_the_modules_and_random_numbers_of_their_own():
    pool = aktis.data.ActorPoolStrategy(size=2)
    rows = aktis.data.range(64).map_batches(Looker, compute=pool, batch_size=1, batch_format="pandas").take_all()
    assert all(row["has"] for row in rows)
    assert len({row["number"] for row in rows}) == len(rows)


def test_numbers_go_through_functions_and_to_the_driver_without_pandas():
    """pyarrow would import it in each process, at the first array."""
    script = """
        import sys
        import aktis.data

        class Looks:
            def __call__(self, batch):
                known = "pandas" in sys.modules
                vectors = batch["id"].reshape(-1, 1).astype("float32")
                return {"id": batch["id"], "half": batch["id"] / 2, "is_even": batch["id"] % 2 == 0, "vector": vectors}

        def is_known(batch):
            return {"known": batch["vector"][:, 0] * 0 + ("pandas" in sys.modules), "is_even": batch["is_even"]}

        aktis.init(num_cpus=2)
        ds = aktis.data.range(100).map_batches(Looks, compute=aktis.data.ActorPoolStrategy(size=1), batch_size=10)
        ds = ds.map_batches(is_known, batch_size=10, num_cpus=0.5)
        known = [batch["known"].max() for batch in ds.iter_batches(batch_size=None)]
        print(max(known), "pandas" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert done.stdout.split() == ["0.0", "False"], done.stderr


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "?", "U1", "M8[s]"]
)
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_arrays_become_the_columns_that_pyarrow_makes_of_them(dtype, rows):
    values = (numpy.arange(rows) % 2).astype(dtype)
    for array in (values, numpy.repeat(values, 2)[::2]):
        column = _plain_numbers.to_arrow(array)
        column.validate(full=True)
        expected = pyarrow.array(array.astype(array.dtype.newbyteorder("=")))
        assert column.equals(expected) and column.type == expected.type and column.null_count == 0


@pytest.mark.parametrize(
    "kind", [pyarrow.int8(), pyarrow.uint64(), pyarrow.float16(), pyarrow.float64(), pyarrow.bool_()]
)
def test_numbers_of_columns_are_seen_where_they_lie_and_nobody_writes_there(kind):
    column = pyarrow.array([0, 1, 0, 1, 1], pyarrow.int64()).cast(kind)
    for part in (column, column.slice(2), column.slice(1, 2), column.slice(0, 0)):
        values = _plain_numbers.view(part)
        assert values.tolist() == part.to_pylist()
        assert values.dtype == numpy.dtype(kind.to_pandas_dtype())
    if not pyarrow.types.is_boolean(kind):
        values = _plain_numbers.view(column)
        assert values.ctypes.data == column.buffers()[1].address
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            values.flags.writeable = True
