"""Whether two answers to one question are the same: rows as multisets, floats within 1e-9 of each other, decimals within
one of their last digit. What is a decimal to one engine is a float to another.
"""

import datetime
import decimal
import json
import math
import pathlib
import sys

from pyarrow import parquet

RELATIVE = 1e-9


def difference(answer, other):
    """What differs between two tables, in words; `None`: nothing."""
    if answer.column_names != other.column_names:
        return f"columns {answer.column_names}, not {other.column_names}"
    if answer.num_rows != other.num_rows:
        return f"{answer.num_rows} rows, not {other.num_rows}"
    pairs = zip(_rows(answer), _rows(other), strict=True)
    differing = [(row, wanted) for row, wanted in pairs if not all(map(_alike, row, wanted))]
    if differing:
        row, wanted = differing[0]
        return f"{len(differing)} rows, one is {row}, not {wanted}"
    return None


def _rows(table):
    rows = zip(*([_plain(value) for value in column.to_pylist()] for column in table.columns), strict=True)
    return sorted(rows, key=lambda row: [_order(value) for value in row])


def _plain(value):
    return value.isoformat() if isinstance(value, datetime.date) else value


def _order(value):
    """Numbers that differ in their last digits must not change the order of rows."""
    is_number = isinstance(value, float | decimal.Decimal | int)
    return f"{float(value):.4g}" if is_number else str(value)


def _alike(value, other):
    numbers = [each for each in (value, other) if isinstance(each, float | decimal.Decimal | int)]
    if len(numbers) < 2:
        return value == other
    digit = max(
        (10.0 ** each.as_tuple().exponent for each in numbers if isinstance(each, decimal.Decimal)), default=0.0
    )
    first, second = map(float, numbers)
    return math.isclose(first, second, rel_tol=RELATIVE, abs_tol=digit) or (math.isnan(first) and math.isnan(second))


def main():
    folder, wanted = map(pathlib.Path, sys.argv[1:])
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        how = difference(parquet.read_table(path), parquet.read_table(wanted / path.name))
        if how:
            found[path.stem] = how
    print(json.dumps(found))


if __name__ == "__main__":
    main()
