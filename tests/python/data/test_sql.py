"""SQL over datasets, compared with SQLite on random rows with nulls."""

import math
import pickle
import random
import sqlite3

import aktis.data
import aktis.testing
import pytest
from aktis.data.expressions import col


def people():
    return aktis.data.from_items(
        [{"name": "ada", "born": 1815}, {"name": "alan", "born": 1912}, {"name": "Grace", "born": 1906}]
    )


def test_query_gives_the_rows_that_it_says():
    query = "select upper(name) as loud, born + 100 as after from people where born > 1900 and name like '%a%' limit 5"
    assert aktis.data.sql(query, people=people()).take_all() == [
        {"loud": "ALAN", "after": 2012},
        {"loud": "GRACE", "after": 2006},
    ]
    assert aktis.data.sql("select * from p", p=people()).take_all() == people().take_all()
    nested = "with late as (select name, born from p where born > 1900) select l.name from late l where l.born < 1910"
    assert aktis.data.sql(nested, p=people()).take_all() == [{"name": "Grace"}]
    case = "select case when born > 1900 then 'late' else 'early' end as kind from p"
    assert [row["kind"] for row in aktis.data.sql(case, p=people()).take_all()] == ["early", "late", "late"]


def test_query_goes_on_as_a_dataset():
    ds = aktis.data.sql("select name, born from p", p=people().filter(expr=col("born") > 1900))
    out = ds.map(lambda row: {"n": len(row["name"])}).with_column("n", col("n") * 2)
    assert out.take_all() == [{"n": 8}, {"n": 10}]
    assert pickle.loads(pickle.dumps(ds)).count() == 2


def test_query_reads_only_what_it_needs(words):
    ds = aktis.data.sql("select word from w where id < 3", w=aktis.data.read_parquet(words))
    assert [row["word"] for row in ds.take_all()] == ["word 0", "word 1", "word 2"]
    assert "data" not in ds.explain().partition("Optimised plan:")[2]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            "select string_agg(name, ',') over (order by born rows 1 preceding) as s from p",
            "string_agg\\(\\) OVER .* rows that leave the frame cannot be taken out .* UNBOUNDED PRECEDING",
        ),
        ("select ntile(0) over (order by born) as t from p", "sql\\(\\): .*"),
        ("select p.born, q.born from p, p as q", "two columns named 'born': .* AS"),
        ("select nope from p", "nope"),
        ("select born from q", "there is no dataset 'q'; given are p"),
        ("selec born from p", "sql\\(\\): "),
    ],
)
def test_what_cannot_be_run_is_told_by_its_name(query, words):
    with pytest.raises(ValueError, match=words):
        aktis.data.sql(query, p=people())


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select nope from docs", "sql(): there is no column 'nope'; the columns are 'docs.id'"),
        ("select id from docs join docs as more on true", "sql(): several tables have a column 'id': say which is meant, table.id"),
        ("select * frm docs", "sql(): Expected: end of statement, found: frm at Line: 1, Column: 10"),
        ("select cast('x' as bigint) from docs", "sql(): Cannot cast string 'x' to value of Int64 type"),
    ],
)  # fmt: skip
def test_mistakes_are_told_without_kinds_of_the_engine(query, words):
    with pytest.raises(ValueError) as raised:
        aktis.data.sql(query, docs=aktis.data.range(3))
    assert str(raised.value) == words


def test_mistakes_of_expressions_are_told_in_the_words_of_ray():
    with pytest.raises(ValueError, match=r"Invalid syntax in the expression: Expected: .* found: super"):
        aktis.data.range(3).filter(expr="fake_news super fake")
    with pytest.raises(ValueError, match=r"filter\(expr=...\): there is no column 'nope'; the columns are 'id'$"):
        aktis.data.range(3).filter(expr="nope > 1")
    with pytest.raises(aktis.exceptions.AktisError, match=r"compute .*: division by zero$"):
        aktis.data.sql("select id / 0 as x from docs", docs=aktis.data.range(3)).take_all()


def test_dataset_whose_columns_nobody_knows_is_refused():
    behind = people().map(lambda row: row)
    with pytest.raises(ValueError, match="give p.materialize\\(\\)"):
        aktis.data.sql("select name from p", p=behind)
    assert aktis.data.sql("select name from p limit 1", p=behind.materialize()).take_all() == [{"name": "ada"}]
    with pytest.raises(TypeError, match="p is a list and no dataset"):
        aktis.data.sql("select name from p", p=[1])  # pyright: ignore[reportArgumentType]


def test_plan_is_explained_in_three_steps():
    text = people().with_column("n", col("born") + 1).select_columns(["n"]).explain()
    logical, optimised, stages = (text.index(title) for title in ("Logical plan:", "Optimised plan:", "Stages:"))
    assert logical < optimised < stages
    assert "name" in text[logical:optimised] and "name" not in text[optimised:]


def random_rows(seed, rows):
    chance = random.Random(seed)

    def some(value):
        return None if chance.random() < 0.1 else value

    return [
        {
            "id": n,
            "k": some(chance.randrange(12)),
            "name": some(f"n{chance.randrange(6)}"),
            "x": some(chance.uniform(-5, 5)),
        }
        for n in range(rows)
    ]


TABLES = {"a": random_rows(1, 300), "b": random_rows(2, 60), "c": random_rows(3, 9)}


@pytest.fixture(scope="module")
def sqlite():
    connection = sqlite3.connect(":memory:")
    for name, rows in TABLES.items():
        connection.execute(f"create table {name} (id integer, k integer, name text, x real)")
        connection.executemany(f"insert into {name} values (:id, :k, :name, :x)", rows)
    yield connection
    connection.close()


def alike(one, other):
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return one == other


def is_ordered(query):
    return " order by " in query.rpartition(")")[2]


@pytest.mark.parametrize(
    "query",
    [
        # Joins.
        "select a.id, b.id as other, b.x from a join b on a.k = b.k where a.id > 10",
        "select a.id, b.id as other from a left join b on a.k = b.k and a.x < b.x",
        "select a.id, b.id as other from a right join b on a.k = b.k and a.name = b.name",
        "select a.id, b.id as other from a full join b on a.id = b.id * 7",
        "select id, a.x, b.x as y from a join b using (id)",
        "select a.id, c.id as other from a cross join c where a.k < c.k",
        "select a.id, c.id as other from a left join c on a.k < c.k",
        "select one.id, two.id as other from b one join b two on one.k = two.k and one.id < two.id",
        "select a.id, b.name, c.x from a join b on a.k = b.k join c on b.k = c.k",
        # Groups.
        "select k, count(*) as rows, count(x) as xs, sum(x) as s, avg(x) as m, min(name) as least, max(id) as most from a group by k",
        "select k, name, count(distinct id % 5) as d, sum(distinct id % 7) as s from a group by k, name having count(*) > 2",
        "select k % 3 as rest, sum(id) as s, count(*) filter (where x > 0) as positive from a group by k % 3",
        "select count(*) as n, sum(id) as s, avg(x) as m from a where id < 0",
        "select count(*) as n from a",
        "select distinct k, name from a",
        "select b.name, sum(a.x) as s from a join b on a.k = b.k group by b.name order by s nulls last, b.name nulls last",
        # Order.
        "select id, k from a order by k desc nulls last, id limit 7",
        "select id from a order by x * x nulls first, id limit 5 offset 3",
        "select id from a order by id desc offset 290",
        "select id, x from a order by abs(x - 1) nulls last, id",
        # Unions.
        "select id, k from b union all select k, id from c",
        "select k from a union select k from b",
        "select name from a except select name from c",
        "select name from a intersect select name from c",
        # Subqueries.
        "select id from a where k in (select k from c)",
        "select id from a where id not in (select id from c)",
        "select id from a where k not in (select k from b)",
        "select id from a where exists (select 1 from c where c.k = a.k and c.id > 2)",
        "select id from a where not exists (select 1 from c where c.k = a.k)",
        "select id from a where x > (select avg(x) from b)",
        "select id from a where x >= (select max(x) from b where b.k = a.k)",
        "select id from a where k in (select k from c) or x > 4",
        "select a.id, b.id as other from a, b, c where a.k = b.k and b.id = c.id * 2 and b.k in (select k from a group by k having count(*) > 25)",
        "select a.id, b.x from a join b on a.k = b.k where a.name in (select name from a group by name having sum(id) > 7000) and b.x > 0",
        "select id, (select max(b.id) from b where b.k = a.k) as most from a",
        "with t as (select k, count(*) as n from a group by k), u as (select max(n) as n from t) select k from t join u on t.n = u.n",
        "select s.k, s.total from (select k, sum(x) as total from a group by k) s join c on c.k = s.k order by s.total nulls last, s.k",
        "select 1 as one, 'x' as text",
        # Windows.
        "select id, row_number() over (partition by k order by id) as n from a",
        "select id, rank() over (order by k nulls last) as r, dense_rank() over (order by k nulls last) as d from a",
        "select id, percent_rank() over w as p, cume_dist() over w as c from a window w as (partition by name order by k nulls last)",
        "select id, ntile(4) over (partition by name order by id desc) as part, ntile(7) over (order by id) as of_all from a",
        "select id, lag(x) over w as before, lead(id, 2, -1) over w as after from a window w as (partition by k order by id)",
        "select id, first_value(x) over w as f, last_value(x) over w as l, nth_value(x, 2) over w as s from a window w as (partition by k order by id)",
        "select id, sum(x) over (partition by k) as s, avg(x) over () as m, count(*) over (partition by k, name) as n from a",
        "select id, sum(id) over (order by id) as s, count(x) over (partition by k order by name nulls last) as n from a",
        "select id, sum(id) over (order by id rows between 2 preceding and 1 following) as s, min(x) over (order by id rows 5 preceding) as m from a",
        "select id, sum(id) over (order by id range between 10 preceding and 3 following) as s from a",
        "select id, count(*) over (order by k groups between 1 preceding and current row) as n from a where k is not null",
        "select id, max(x) over (partition by k order by id rows between current row and unbounded following) as m from a",
        "select id, sum(id) filter (where x > 0) over (partition by name) as s from a",
        "select k, count(*) as n, rank() over (order by count(*) desc, k nulls last) as r from a group by k",
        "select id, k from (select id, k, row_number() over (partition by k order by id desc) as n from a) t where n <= 2",
        "select id, x - avg(x) over (partition by k % 3) as d from a where id > 20",
        "select a.id, b.n from a join (select k, row_number() over (order by id) as n from b) b on a.k = b.k",
        "select id, row_number() over (order by id desc) as n from a order by n limit 5",
        "select sum(s) as s from (select k, sum(x) over (partition by k) as s from a where id < 0) t",
        # Conditions of functions.
        "select k, count(distinct k) as one, max(k) as same, sum(x) filter (where k > 2) as s, max(x) filter (where k > 2) as m from a group by k",
        "select name, sum(x) filter (where k = 1) as one, sum(x) filter (where k = 2) as two, count(*) filter (where k > 2) as more from a group by name",
        "select k, sum(case when name = 'n1' then x end) as n1, max(case when name = 'n2' then id else -1 end) as n2 from a group by k",
    ],
)  # fmt: skip
def test_answers_are_those_of_sqlite(query, sqlite):
    datasets = {name: aktis.data.from_items(rows, override_num_blocks=3) for name, rows in TABLES.items()}
    used = {name: ds for name, ds in datasets.items() if f" {name}" in query.replace(",", " ")}
    sqlite_query = query.replace(" offset 290", " limit -1 offset 290")
    cursor = sqlite.execute(sqlite_query)
    names = [column[0] for column in cursor.description]
    expected = [list(row) for row in cursor.fetchall()]
    ds = aktis.data.sql(query, **used)  # pyright: ignore[reportArgumentType]
    assert ds.schema().names == names
    found = [list(row.values()) for row in ds.take_all()]
    if not is_ordered(query):
        expected, found = (
            sorted(rows, key=lambda row: repr([round(v, 6) if isinstance(v, float) else v for v in row]))
            for rows in (expected, found)
        )
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        assert all(alike(one, two) for one, two in zip(row, other, strict=True)), (row, other)


def test_first_rows_of_an_order_are_found_by_every_worker():
    ds = aktis.data.sql("select id from r order by id desc limit 3", r=aktis.data.range(1000))
    assert [row["id"] for row in ds.take_all()] == [999, 998, 997]
    assert "TopK(partial)" in ds.explain()


def test_filter_goes_below_the_join():
    query = "select l.id from l join r on l.id = r.id where l.id < 5 and r.id > 2"
    ds = aktis.data.sql(query, l=aktis.data.range(100), r=aktis.data.range(100))
    assert sorted(row["id"] for row in ds.take_all()) == [3, 4]
    stages = ds.explain().partition("Stages:")[2]
    assert stages.count("Filter") == 2 and stages.index("Filter") < stages.index("Join")


def test_joined_and_grouped_rows_go_through_functions_and_methods():
    labels = aktis.data.from_items([{"id": n, "label": f"l{n % 3}"} for n in range(30)])
    query = "select label, count(*) as n, sum(d.id) as s from d join labels on d.id = labels.id group by label"
    ds = aktis.data.sql(query, d=aktis.data.range(20), labels=labels)
    out = ds.map(lambda row: {"label": row["label"], "mean": row["s"] / row["n"]}).sort("label")
    assert out.take_all() == [{"label": "l0", "mean": 9.0}, {"label": "l1", "mean": 10.0}, {"label": "l2", "mean": 9.5}]
    assert ds.filter(expr="n = 6").join(labels, "inner", 2, on=("label",)).count() == 10
    assert pickle.loads(pickle.dumps(ds)).count() == 3
    again = aktis.data.sql("select sum(n) as n from t", t=ds)
    assert again.take_all() == [{"n": 20}]


def test_files_that_tell_their_columns_when_they_are_read_are_tables(tmp_path):
    aktis.data.from_items([{"id": n, "name": f"name {n}"} for n in range(6)]).write_csv(str(tmp_path / "names"))
    names = aktis.data.read_csv(str(tmp_path / "names"))
    query = "select id, upper(name) as name, even from names join numbers using (id) where names.id > 3 order by id"
    numbers = aktis.data.range(6).with_column("even", col("id") % 2 == 0)
    assert aktis.data.sql(query, names=names, numbers=numbers).take_all() == [
        {"id": 4, "name": "NAME 4", "even": True},
        {"id": 5, "name": "NAME 5", "even": False},
    ]


def test_files_whose_types_differ_or_that_are_empty_say_what_to_do(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,5\n")
    (tmp_path / "b.csv").write_text("id,x\n2,five\n")
    rows = aktis.data.read_csv([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    with pytest.raises(Exception, match=r"column 'x' is Int64 in the first rows and Utf8 in others.*: with_column\("):
        aktis.data.sql("select sum(x) as total from rows", rows=rows).take_all()
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"there are no rows in 'none', and its files tell no column"):
        aktis.data.sql("select * from none", none=aktis.data.read_csv(str(tmp_path / "empty.csv")))


def test_function_whose_columns_were_seen_is_a_table():
    doubled = aktis.data.range(100).map_batches(lambda batch: {"id": batch["id"], "twice": batch["id"] * 2})
    with pytest.raises(ValueError, match=r"call doubled.schema\(\) before"):
        aktis.data.sql("select sum(twice) as total from doubled", doubled=doubled)
    doubled.schema()
    assert aktis.data.sql("select sum(twice) as total from doubled", doubled=doubled).take_all() == [{"total": 9900}]
    # Filters stay behind the function.
    assert aktis.data.sql("select id from doubled where twice = 6", doubled=doubled).take_all() == [{"id": 3}]


def test_columns_that_come_later_fail_the_query_and_are_not_lost(tmp_path):
    aktis.data.from_items([{"id": 1}]).write_json(str(tmp_path / "a"))
    aktis.data.from_items([{"id": 2, "more": "x"}]).write_json(str(tmp_path / "b"))
    rows = aktis.data.read_json([str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(Exception, match=r"some rows have columns 'more', which the first rows had not"):
        aktis.data.sql("select * from rows", rows=rows).take_all()
    chosen = rows.select_columns(["id"])
    assert sorted(row["id"] for row in aktis.data.sql("select id from rows", rows=chosen).take_all()) == [1, 2]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select distinct on (k) k, v, w from t order by k, v desc", [("a", 3, "z"), ("b", 2, "y")]),
        ("select distinct on (k) v + 1 as next from t order by k, v limit 1", [(2,)]),
        ("select count(*) as n from (select distinct on (k, w) * from t)", [(3,)]),
    ],
)
def test_first_row_of_each_group_is_whole(query, rows):
    names = ("k", "v", "w")
    table = [("a", 1, "x"), ("b", 2, "y"), ("a", 3, "z"), ("b", 1, "y")]
    with aktis.testing.local():
        found = aktis.data.sql(query, t=aktis.data.from_items([dict(zip(names, row, strict=True)) for row in table]))
        assert [tuple(row.values()) for row in found.take_all()] == rows


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("select array_transform(xs, x -> x * by + 1) as v from t", [[21, 31], [], None]),
        ("select array_filter(xs, x -> x > 2) as v from t", [[3], [], None]),
        ("select array_transform(xss, xs -> array_transform(xs, x -> x + 1)) as v from t", [[[2], [3, 4]], [], None]),
        ("select xs as v from t where array_any_match(xs, x -> x = 3)", [[2, 3]]),
    ],
)
def test_lambdas_are_called_for_each_element(query, values):
    rows = [
        {"by": 10, "xs": [2, 3], "xss": [[1], [2, 3]]},
        {"by": 1, "xs": [], "xss": []},
        {"by": 1, "xs": None, "xss": None},
    ]
    ds = aktis.data.from_items(rows)
    with aktis.testing.local():
        assert [row["v"] for row in aktis.data.sql(query, t=ds).take_all()] == values
        text = ds.map_batches(lambda table: table, batch_format="pyarrow").filter(
            expr="array_any_match(xs, x -> x = 3)"
        )
        assert text.count() == 1
