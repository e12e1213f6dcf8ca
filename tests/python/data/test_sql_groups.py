"""Groups of SQL beyond a list of keys: several sets of them in one query, and functions that see rows in an order."""

import math
import random
import sqlite3
import statistics

import aktis.data
import pytest

chance = random.Random(14)


def some(value):
    return None if chance.random() < 0.1 else value


ROWS = [
    {"id": n, "k": some(chance.randrange(5)), "name": some(f"n{chance.randrange(4)}"), "x": some(chance.uniform(-5, 5))}
    for n in range(300)
]


@pytest.fixture(scope="module")
def sqlite():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table a (id integer, k integer, name text, x real)")
    connection.executemany("insert into a values (:id, :k, :name, :x)", ROWS)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def a():
    return aktis.data.from_items(ROWS, override_num_blocks=3)


def answer(query, a):
    return [list(row.values()) for row in aktis.data.sql(query, a=a).take_all()]


def in_order(rows):
    rounded = [[round(value, 6) if isinstance(value, float) else value for value in row] for row in rows]
    return sorted(rounded, key=repr)


#: A query, and what it is the union of.
SETS = [
    (
        "select k, name, count(*) as n, sum(x) as s from a group by rollup (k, name)",
        [
            "select k, name, count(*), sum(x) from a group by k, name",
            "select k, null, count(*), sum(x) from a group by k",
            "select null, null, count(*), sum(x) from a",
        ],
    ),
    (
        "select k % 3 as rest, name, max(id) as most from a where x > 0 group by cube (k % 3, name)",
        [
            "select k % 3, name, max(id) from a where x > 0 group by k % 3, name",
            "select k % 3, null, max(id) from a where x > 0 group by k % 3",
            "select null, name, max(id) from a where x > 0 group by name",
            "select null, null, max(id) from a where x > 0",
        ],
    ),
    (
        "select k, name, grouping(k) as gk, grouping(name) as gn, sum(k) as s from a group by grouping sets ((k), (name), (k, name))",
        [
            "select k, null, 0, 1, sum(k) from a group by k",
            "select null, name, 1, 0, sum(k) from a group by name",
            "select k, name, 0, 0, sum(k) from a group by k, name",
        ],
    ),
    (
        "select name, k, count(distinct id % 7) as d from a group by name, rollup (k)",
        [
            "select name, k, count(distinct id % 7) from a group by name, k",
            "select name, null, count(distinct id % 7) from a group by name",
        ],
    ),
    (
        "select k, count(*) as n from a group by grouping sets ((k), (k), ())",
        [
            "select k, count(*) from a group by k",
            "select k, count(*) from a group by k",
            "select null, count(*) from a",
        ],
    ),
    (
        "select t.k, t.n from (select k, count(*) as n from a group by rollup (k) having count(*) > 3) t where t.k is not null",
        ["select k, count(*) from a where k is not null group by k having count(*) > 3"],
    ),
    (
        "select k, name, count(*) as n, sum(x) as s from a where id < 0 group by rollup (k, name)",
        ["select null, null, 0, null"],
    ),
    (
        "select k, count(x) as n from a where id < 0 group by grouping sets ((k), (), ())",
        ["select null, 0", "select null, 0"],
    ),
    ("select k, name, count(*) as n from a where id < 0 group by grouping sets ((k), (name))", []),
]  # fmt: skip


@pytest.mark.parametrize(("query", "parts"), SETS)
def test_several_sets_of_keys_are_the_union_of_their_groups(query, parts, a, sqlite):
    expected = [list(row) for part in parts for row in sqlite.execute(part).fetchall()]
    assert in_order(answer(query, a)) == in_order(expected)


def test_sums_of_sets_come_in_an_order(a, sqlite):
    found = answer("select k, count(*) as n from a group by rollup (k) order by grouping(k), k nulls last", a)
    expected = sqlite.execute("select k, count(*) from a group by k order by k nulls last").fetchall()
    assert found == [*map(list, expected), [None, len(ROWS)]]


@pytest.mark.parametrize("name", ["id", "x"])
def test_more_keys_than_a_cube_can_have_are_refused(a, name):
    keys = ", ".join(f"{name} + {n}" for n in range(13))
    with pytest.raises(ValueError, match="CUBE of more than 12 keys is not there yet: .*GROUPING SETS"):
        aktis.data.sql(f"select count(*) as n from a group by cube ({keys})", a=a)


def ordered(key, is_descending=False):
    """Rows of each `k` by a key, those without it last."""
    groups = {}
    for row in ROWS:
        groups.setdefault(row["k"], []).append(row)

    def place(row):
        value = row[key]
        return value is None, (0 if value is None else -value if is_descending else value), row["id"]

    return {k: sorted(rows, key=place) for k, rows in groups.items()}


def by_group(query, a):
    return {row[0]: row[1:] for row in answer(query, a)}


def test_functions_see_rows_in_the_order_that_they_ask_for(a):
    found = by_group(
        "select k, array_agg(id order by x desc nulls last, id) as down, array_agg(x order by id) as xs, "
        "string_agg(name, ',' order by id desc) as names, "
        "first_value(id order by x nulls last, id) as f, last_value(id order by id) as l, sum(id order by x) as s, "
        "array_agg(id order by x nulls last, id) filter (where id % 2 = 0) as even from a group by k",
        a,
    )
    up, down, ids = ordered("x"), ordered("x", is_descending=True), ordered("id")
    assert found == {
        k: [
            [row["id"] for row in down[k]],
            [row["x"] for row in ids[k]],
            ",".join(row["name"] for row in reversed(ids[k]) if row["name"] is not None),
            up[k][0]["id"],
            ids[k][-1]["id"],
            sum(row["id"] for row in ids[k]),
            [row["id"] for row in up[k] if row["id"] % 2 == 0],
        ]
        for k in ids
    }


def test_order_within_a_whole_and_of_different_values(a):
    names = sorted({row["name"] for row in ROWS if row["name"]}, reverse=True)
    found = answer(
        "select array_agg(distinct name order by name desc) filter (where name is not null) as names from a", a
    )
    assert found == [[names]]
    found = by_group("select k, percentile_cont(0.5) within group (order by x) as middle from a group by k", a)
    for k, rows in ordered("x").items():
        middle = statistics.median(row["x"] for row in rows if row["x"] is not None)
        assert math.isclose(found[k][0], middle)


def test_order_in_functions_of_several_sets(a):
    found = by_group("select k, array_agg(id order by id desc) as ids from a where id < 50 group by rollup (k)", a)
    total = [row["id"] for row in ROWS if row["id"] < 50]
    nulls = [row["id"] for row in ROWS if row["id"] < 50 and row["k"] is None]
    assert found[None] in ([total[::-1]], [nulls[::-1]])
    assert found[1] == [[row["id"] for row in reversed(ROWS) if row["id"] < 50 and row["k"] == 1]]
