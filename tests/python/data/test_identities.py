"""Random columns through random functions that change nothing, compared with what went in."""

import datetime
import decimal
import random

import aktis.data
import numpy
import pyarrow
import pytest

ROWS = 60


def leaf(rng):
    """A type, and a function that makes a value of it."""
    text = lambda: "".join(rng.choices("abcé😀", k=rng.randrange(4)))
    moment = lambda: datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=rng.randrange(2**50))
    return rng.choice([
        (pyarrow.int8(), lambda: rng.randrange(-128, 128)),
        (pyarrow.int32(), lambda: rng.randrange(-(2**31), 2**31)),
        (pyarrow.int64(), lambda: rng.randrange(-(2**63), 2**63)),
        (pyarrow.uint64(), lambda: rng.randrange(2**64)),
        (pyarrow.float32(), lambda: float(numpy.float32(rng.uniform(-9, 9)))),
        (pyarrow.float64(), lambda: rng.uniform(-9, 9)),
        (pyarrow.bool_(), lambda: rng.random() < 0.5),
        (pyarrow.string(), text),
        (pyarrow.large_string(), text),
        (pyarrow.binary(), lambda: rng.randbytes(rng.randrange(4))),
        (pyarrow.binary(3), lambda: rng.randbytes(3)),
        (pyarrow.decimal128(20, 3), lambda: decimal.Decimal(rng.randrange(10**12)).scaleb(-3)),
        (pyarrow.date32(), lambda: moment().date()),
        (pyarrow.timestamp("us"), moment),
        (pyarrow.timestamp("ns"), lambda: rng.randrange(2**60)),
        (pyarrow.timestamp("us", "Europe/Berlin"), lambda: rng.randrange(2**50)),
        (pyarrow.duration("us"), lambda: datetime.timedelta(microseconds=rng.randrange(2**50))),
    ])  # fmt: skip


def nested(rng, depth=2):
    if depth == 0 or rng.random() < 0.5:
        return leaf(rng)
    kind, value = nested(rng, depth - 1)
    other, other_value = leaf(rng)
    return rng.choice([
        (pyarrow.list_(kind), lambda: [value() for _ in range(rng.randrange(4))]),
        (pyarrow.struct({"a": kind, "b": other}), lambda: {"a": value(), "b": other_value()}),
        (pyarrow.map_(pyarrow.string(), other), lambda: [(f"k{i}", other_value()) for i in range(rng.randrange(3))]),
    ])  # fmt: skip


def column(rng):
    kind, value = nested(rng)
    nulls = rng.choice([0, 0, 0.2, 1])
    return pyarrow.array([None if rng.random() < nulls else value() for _ in range(ROWS)], kind)


def identity(ds, rng):
    """A dataset of the same rows, and a name for it."""
    size = rng.choice([1, 7, 20, None])
    how = rng.choice(["numpy", "pandas", "pyarrow", "map", "flat_map"])
    if how == "map":
        return ds.map(lambda row: row), how
    if how == "flat_map":
        return ds.flat_map(lambda row: [dict(row)]), how
    if how == "numpy" and rng.random() < 0.5:
        return ds.map_batches(lambda b: dict(b), batch_size=size, zero_copy_batch=False), f"writable {how} {size}"
    return ds.map_batches(lambda batch: batch, batch_format=how, batch_size=size), f"{how} {size}"


def is_told(kind):
    """Whether a type survives numpy: structs become dicts of Python values, whose numbers have no width."""
    if pyarrow.types.is_list(kind):
        return is_told(kind.value_type)
    return not pyarrow.types.is_struct(kind)


def values(table, name):
    """In a form in which numbers of any width are equal."""
    found = table[name]
    return found.combine_chunks().to_pylist() if not pyarrow.types.is_map(found.type) else found.to_pylist()


@pytest.mark.parametrize("seed", range(25))
def test_random_columns_pass_random_functions_and_files_unchanged(seed, tmp_path):
    rng = random.Random(seed)
    names = [f"c{i}" for i in range(rng.randrange(1, 5))]
    table = pyarrow.table({"id": range(ROWS)} | {name: column(rng) for name in names})
    ds, passed = aktis.data.from_arrow(table), []
    for _ in range(rng.randrange(1, 4)):
        ds, how = identity(ds, rng)
        passed.append(how)
    ds.write_parquet(tmp_path)
    collected = ds.to_arrow()
    handed = pyarrow.concat_tables(ds.iter_batches(batch_size=rng.choice([13, None]), batch_format="pyarrow"))
    read = aktis.data.read_parquet(tmp_path).to_arrow().sort_by("id")
    for found in (collected, handed, read):
        for name in table.column_names:
            wanted = values(table, name)
            assert values(found, name) == wanted, (seed, name, str(table.schema.field(name).type), passed)
            if not any(how in ("map", "flat_map") for how in passed) and is_told(table.schema.field(name).type):
                assert found.schema.field(name).type == table.schema.field(name).type, (seed, name, passed)
