"""PIVOT and UNPIVOT: answers and names of columns are those of DuckDB 2.0 (`cities` is the example of its page about PIVOT), and on
random rows those of SQLite for the query that says the same without them."""

import random
import sqlite3

import aktis.data
import pytest

CITIES = [
    ("NL", "Amsterdam", 2000, 1005), ("NL", "Amsterdam", 2010, 1065), ("NL", "Amsterdam", 2020, 1158),
    ("US", "Seattle", 2000, 564), ("US", "Seattle", 2010, 608), ("US", "Seattle", 2020, 738),
    ("US", "New York City", 2000, 8015), ("US", "New York City", 2010, 8175), ("US", "New York City", 2020, 8772),
]  # fmt: skip


def cities():
    names = ("country", "name", "year", "population")
    return aktis.data.from_items([dict(zip(names, city, strict=True)) for city in CITIES], override_num_blocks=3)


def months():
    rows = [(1, 10, None, 30), (2, None, None, None), (3, 1, 2.5, 3)]
    names = ("id", "jan", "feb", "mar")
    return aktis.data.from_items([dict(zip(names, row, strict=True)) for row in rows])


def answer(query, **tables):
    """The names of the columns, and the rows in an order of their own."""
    ds = aktis.data.sql(query, **tables)
    names = ds.schema().names
    rows = ds.take_all()
    assert all(list(row) == names for row in rows)
    return names, sorted((tuple(row.values()) for row in rows), key=repr)


@pytest.mark.parametrize(
    ("query", "names", "rows"),
    [
        (
            "select * from cities pivot (sum(population) for year in (2000, 2010 as ten, 2020))",
            ["country", "name", "2000", "ten", "2020"],
            [("NL", "Amsterdam", 1005, 1065, 1158), ("US", "New York City", 8015, 8175, 8772), ("US", "Seattle", 564, 608, 738)],
        ),
        (
            "select * from (select country, year, population from cities) pivot (sum(population) as total, max(population) as most for year in (2000, 2010))",
            ["country", "2000_total", "2000_most", "2010_total", "2010_most"],
            [("NL", 1005, 1005, 1065, 1065), ("US", 8579, 8015, 8783, 8175)],
        ),
        (
            "select * from (select country, year, population from cities) pivot (sum(population), count(distinct population) for year in (2020))",
            ["country", "2020_sum(population)", "2020_count(DISTINCT population)"],
            [("NL", 1158, 1), ("US", 9510, 2)],
        ),
        (
            "select * from (select year, country, population from cities) pivot (sum(population) as total for country in ('NL', 'DE' as germany))",
            ["year", "NL_total", "germany_total"],
            [(2000, 1005, None), (2010, 1065, None), (2020, 1158, None)],
        ),
        (
            "select * from (select country, year, name from cities) pivot (count(*) for (country, year) in (('US', 2000), ('NL', 2000) as old, ('NL', 1990)))",
            ["name", "US_2000", "old", "NL_1990"],
            [("Amsterdam", 0, 1, 0), ("New York City", 1, 0, 0), ("Seattle", 1, 0, 0)],
        ),
        # Functions that name every other column leave one group, which is there without rows, too.
        ("select * from (select year, population from cities) pivot (max(population) for year in (2000))", ["2000"], [(8015,)]),
        (
            "select * from (select year, population from cities where year < 0) pivot (max(population) for year in (2000))",
            ["2000"],
            [(None,)],
        ),
        (
            "select * from (select year > 2005 as late, population from cities) pivot (sum(population) for late in (true, false, null))",
            ["true", "false", "NULL"],
            [(20516, 9584, None)],
        ),
        (
            "select * from (select date '2020-01-01' as day, population from cities) pivot (count(population) for day in (date '2020-01-01'))",
            ["2020-01-01"],
            [(9,)],
        ),
        (
            "select p.town, p.new - p.old as more from cities pivot (sum(population) for year in (2000, 2020)) as p (land, town, old, new)",
            ["town", "more"],
            [("Amsterdam", 153), ("New York City", 757), ("Seattle", 174)],
        ),
    ],
)  # fmt: skip
def test_pivot_is_what_duckdb_makes_of_it(query, names, rows):
    assert answer(query, cities=cities()) == (names, rows)


@pytest.mark.parametrize(
    ("query", "names", "rows"),
    [
        (
            "select * from m unpivot (v for month in (jan, feb, mar))",
            ["id", "month", "v"],
            [(1, "jan", 10.0), (1, "mar", 30.0), (3, "feb", 2.5), (3, "jan", 1.0), (3, "mar", 3.0)],
        ),
        (
            "select * from m unpivot include nulls (v for month in (jan, feb as x, mar as 'M'))",
            ["id", "month", "v"],
            [(1, "M", 30.0), (1, "jan", 10.0), (1, "x", None), (2, "M", None), (2, "jan", None), (2, "x", None),
             (3, "M", 3.0), (3, "jan", 1.0), (3, "x", 2.5)],
        ),
        (
            "select * from m unpivot ((v, w) for pair in ((jan, mar), (mar, id) as b)) where v < 10",
            ["feb", "pair", "v", "w"],
            [(2.5, "b", 3, 3), (2.5, "jan_mar", 1, 3)],
        ),
        (
            "select * from m unpivot (v for month in (mar)) unpivot (w for kind in (v, jan))",
            ["id", "feb", "month", "kind", "w"],
            [(1, None, "mar", "jan", 10), (1, None, "mar", "v", 30), (3, 2.5, "mar", "jan", 1), (3, 2.5, "mar", "v", 3)],
        ),
    ],
)  # fmt: skip
def test_unpivot_is_what_duckdb_makes_of_it(query, names, rows):
    assert answer(query, m=months()) == (names, rows)


def test_unpivot_leaves_out_rows_that_have_none_of_the_values():
    # As Spark and BigQuery do; DuckDB leaves out those that lack one of several.
    _, rows = answer("select id, v, w from m unpivot ((v, w) for pair in ((jan, feb)))", m=months())
    assert rows == [(1, 10, None), (3, 1, 2.5)]


def test_default_stands_in_the_place_of_null():
    query = (
        "select * from (select year, country, population from cities) "
        "pivot (sum(population) for country in ('NL', 'DE') default on null (0))"
    )
    assert answer(query, cities=cities())[1] == [(2000, 1005, 0), (2010, 1065, 0), (2020, 1158, 0)]


def test_pivots_stand_wherever_tables_do():
    query = """
        with wide as (select * from cities pivot (sum(population) for year in (2000, 2020))),
             long as (select country, name, year, people from wide unpivot (people for year in ("2000", "2020")))
        select l.name, l.year, l.people, s.first
        from long l join (select * from seas pivot (min(sea) as first for deep in (true as d))) s (country, first) using (country)
        where l.people > (select avg(people) from long) order by l.people
    """
    seas = [{"country": "NL", "sea": "North", "deep": True}, {"country": "US", "sea": "Pacific", "deep": True}]
    ds = aktis.data.sql(query, cities=cities(), seas=aktis.data.from_items(seas))
    assert [tuple(row.values()) for row in ds.take_all()] == [
        ("New York City", "2000", 8015, "Pacific"),
        ("New York City", "2020", 8772, "Pacific"),
    ]
    joined = "select * from (select c.name, s.sea, c.year from cities c join seas s using (country)) pivot (count(*) for sea in ('North'))"
    named = aktis.data.sql(joined, cities=cities(), seas=aktis.data.from_items(seas)).filter(expr="North > 0")
    assert named.count() == 3


def test_rows_of_a_function_are_pivoted_by_many_workers():
    def labelled(batch):
        return {"k": batch["id"] % 7, "name": [f"n{n % 3}" for n in batch["id"]], "v": batch["id"]}

    rows = aktis.data.range(700, override_num_blocks=5).map_batches(labelled)
    rows.schema()
    query = "select * from rows pivot (sum(v) for name in ('n0', 'n1'))"
    ds = aktis.data.sql(query, rows=rows)
    assert "Aggregate(partial)" in ds.explain()
    expected = [
        {"k": k, **{f"n{r}": sum(n for n in range(700) if n % 7 == k and n % 3 == r) for r in (0, 1)}} for k in range(7)
    ]
    assert ds.sort("k").take_all() == expected


@pytest.mark.parametrize(
    ("query", "same"),
    [
        (
            "select * from (select k, name, x from a) pivot (count(x) as n, min(x) as m for name in ('n1', 'n2', NULL as none))",
            "select k, count(x) filter (where name = 'n1'), min(x) filter (where name = 'n1'), count(x) filter (where name = 'n2'), min(x) filter (where name = 'n2'), count(x) filter (where name is null), min(x) filter (where name is null) from a group by k",
        ),
        (
            "select * from a pivot (max(id) filter (where x > 0), count(distinct k) for name in ('n' || '3', 'n4'))",
            "select max(id) filter (where name = 'n3' and x > 0), count(distinct k) filter (where name = 'n3'), max(id) filter (where name = 'n4' and x > 0), count(distinct k) filter (where name = 'n4') from a",
        ),
        (
            "select k, sum(v) from a unpivot (v for what in (id, x)) where what <> 'id' group by k",
            "select k, sum(x) from a where x is not null group by k",
        ),
        (
            "select * from a unpivot include nulls (v for what in (id, k))",
            "select name, x, 'id', id from a union all select name, x, 'k', k from a",
        ),
    ],
)  # fmt: skip
def test_answers_are_those_of_the_query_without_it(query, same):
    chance = random.Random(5)

    def some(value):
        return None if chance.random() < 0.1 else value

    rows = [
        {
            "id": n,
            "k": some(chance.randrange(9)),
            "name": some(f"n{chance.randrange(5)}"),
            "x": some(chance.randrange(-9, 9)),
        }
        for n in range(200)
    ]
    connection = sqlite3.connect(":memory:")
    connection.execute("create table a (id integer, k integer, name text, x integer)")
    connection.executemany("insert into a values (:id, :k, :name, :x)", rows)
    expected = sorted(connection.execute(same).fetchall(), key=repr)
    connection.close()
    assert len(expected) > 0
    assert answer(query, a=aktis.data.from_items(rows, override_num_blocks=3))[1] == expected


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select * from c pivot (sum(population) for year in (any))", r"IN with ANY .* FOR year IN \('a', 'b'\); ds.unique\('year'\)"),
        ("select * from c pivot (sum(population) for year in (select 2000))", "IN with a query would give columns that only a run"),
        ("select * from c pivot (sum(population) for year in (2000, 2000))", "PIVOT would make two columns named '2000': .* AS"),
        ("select * from c pivot (sum(population) for year in (2000 as name))", "PIVOT would make two columns named 'name': .* AS"),
        ("select * from c pivot (upper(name) for year in (2000))", r"upper\(name\) tells nothing of many rows: .* sum\(v\)"),
        ('select * from c pivot (sum(population) for country in ("NL"))', "\"NL\" is no constant .* single quotes, 'a'"),
        ("select * from c pivot (sum(population) for (name, year) in (2000))", "FOR has 2 columns, and 2000 in IN has 1: "),
        ("select * from c pivot (sum(nope) for year in (2000))", "nope"),
        ("select * from c pivot (sum(population) for year in (2000)) as p (a, b)", "4 columns but only 2 names"),
        ("pivot c on year using sum(population)", r"found: pivot .*FROM t PIVOT \(sum\(v\) FOR k IN"),
        ("select * from (c join d using (country)) pivot (sum(population) for year in (1))", r"FROM \(SELECT \.\.\. FROM t JOIN u"),
        ("select * from c unpivot (v for k in (name, (year, population)))", r"1 columns for values, and \(year, population\) in IN has 2"),
        ("select * from c unpivot (v for k in (year + 1))", r"year \+ 1 is no column: compute it before"),
        ("select * from c unpivot (v + 1 for k in (year))", r"v \+ 1 is no name of a column"),
        ("select * from c unpivot (name for k in (year))", "UNPIVOT would make two columns named 'name'"),
        ("select * from c unpivot (v for k in (tags, year))", r"'year' are Int64, and those before it List.*CAST"),
    ],
)  # fmt: skip
def test_what_cannot_be_pivoted_is_told_with_what_to_write(query, words):
    tagged = aktis.data.from_items([{"name": "Ulm", "country": "DE", "year": 2000, "population": 1, "tags": [True]}])
    with pytest.raises(ValueError, match=words):
        aktis.data.sql(query, c=tagged, d=tagged)


def numbers(count=200):
    return aktis.data.from_items([{"id": n, "a": n, "b": -n, "k": n % 3} for n in range(count)], override_num_blocks=8)


LONG = "unpivot (v for name in (a, b))"


@pytest.mark.parametrize(
    ("make", "source", "words"),
    [
        (lambda ds: ds.random_sample(0.5), "t", r"random_sample\(\) chooses"),
        (lambda ds: ds.random_shuffle(seed=1).random_sample(0.5, seed=1), "t", r"random_sample\(\) chooses"),
        (lambda ds: ds.limit(5), "t", "LIMIT or OFFSET leaves"),
        (lambda ds: ds, "(select * from t limit 5)", "LIMIT or OFFSET leaves"),
        (lambda ds: ds, "(select * from t offset 150)", "LIMIT or OFFSET leaves"),
        (lambda ds: ds, "(select * from t where id in (select id from t limit 5))", "LIMIT or OFFSET leaves"),
        (lambda ds: ds, "(select row_number() over () as id, a, b from t)", "window function without ORDER BY"),
        (lambda ds: ds, "(select row_number() over () + 1 as id, a, b from t)", "window function without ORDER BY"),
        (
            lambda ds: ds,
            "(select a, b, sum(id) over (rows between unbounded preceding and current row) as id from t)",
            "window function without ORDER BY",
        ),
        (lambda ds: ds, "(select * from t where random() < 0.5)", "function of chance"),
    ],
)
def test_unpivot_of_rows_that_another_look_would_not_find_again_is_refused(make, source, words):
    rows = make(numbers())
    with pytest.raises(ValueError, match=words + r".*: materialize\(\) the input before"):
        aktis.data.sql(f"select * from {source} {LONG}", t=rows)
    # One column is one look.
    ds = aktis.data.sql(f"select id, v from {source} unpivot (v for name in (a))", t=rows)
    assert ds.schema().names == ["id", "v"]


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (lambda ds: ds.random_sample(0.5, seed=3), "t"),
        (lambda ds: ds.random_sample(0.5).materialize(), "t"),
        (lambda ds: aktis.data.sql("select * from t limit 7", t=ds).materialize(), "t"),
        (lambda ds: ds.random_shuffle(), "t"),
        (lambda ds: ds, "(select id, a, b, count(*) over (partition by k) as near from t)"),
        (lambda ds: ds, "(select row_number() over (order by id) - 1 as id, a, b from t)"),
    ],
)
def test_unpivot_gives_all_columns_of_the_same_rows(make, source):
    rows = aktis.data.sql(f"select id, name, v from {source} {LONG}", t=make(numbers())).take_all()
    of = {name: sorted(row["id"] for row in rows if row["name"] == name) for name in "ab"}
    assert of["a"] == of["b"] and of["a"]
    assert all(row["v"] == (row["id"] if row["name"] == "a" else -row["id"]) for row in rows)
