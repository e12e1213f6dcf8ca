"""Groups by keys of types that few things can compare."""

import aktis.data
import numpy
import pyarrow
import pytest

KINDS = [
    (pyarrow.null(), [None, None, None], {3}),
    (pyarrow.float16(), list(map(numpy.float16, (1, 2, 1))), {1, 2}),
    (pyarrow.list_(pyarrow.float64()), [[1.0, None], [2.0], [1.0, None]], {1, 2}),
    (pyarrow.list_(pyarrow.float32(), 2), [[1, 2], [1, 3], [1, 2]], {1, 2}),
    (pyarrow.struct([("a", pyarrow.int64())]), [{"a": 1}, {"a": None}, {"a": 1}], {1, 2}),
]


@pytest.mark.parametrize(("kind", "values", "sizes"), KINDS, ids=[str(kind) for kind, _, _ in KINDS])
def test_keys_that_no_function_of_arrow_compares_make_groups(kind, values, sizes):
    table = pyarrow.table({"k": pyarrow.array(values, kind), "v": [1, 2, 3]})
    grouped = aktis.data.from_arrow([table.slice(0, 1), table.slice(1)]).groupby("k")
    groups = grouped.map_groups(lambda group: pyarrow.table({"rows": [group.num_rows]}), batch_format="pyarrow")
    assert {row["rows"] for row in groups.take_all()} == sizes
