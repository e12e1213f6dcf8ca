"""Queries that name themselves, run in rounds, against the same in Python."""

import aktis.data
import pytest

EDGES = [(1, 2), (2, 3), (3, 1), (3, 4), (7, 8), (None, 9)]


def edges(parts=2):
    rows = [{"a": a, "b": b} for a, b in EDGES]
    return aktis.data.from_items(rows, override_num_blocks=parts)


def reached(start):
    found = {start}
    while more := {b for a, b in EDGES if a in found} - found:
        found |= more
    return sorted(found)


@pytest.mark.parametrize("start", [1, 3, 7, 8, 100])
def test_union_ends_where_edges_go_in_circles(start):
    query = f"with recursive r as (select {start} as node union select b from r join edges on node = a) select node from r order by node"
    assert [row["node"] for row in aktis.data.sql(query, edges=edges()).take_all()] == reached(start)


def test_union_all_keeps_rows_that_come_again():
    query = """
        with recursive walks(node, steps) as (
            select 1, 0 union all select b, steps + 1 from walks, edges where node = a and steps < 6
        ) select node, count(*) as ways, max(steps) as steps from walks group by node order by node"""
    walks, found = [(1, 0)], []
    while walks:
        found += walks
        walks = [(b, steps + 1) for node, steps in walks for a, b in EDGES if a == node and steps < 6]
    expected = [
        {
            "node": node,
            "ways": sum(at == node for at, _ in found),
            "steps": max(steps for at, steps in found if at == node),
        }
        for node in sorted({at for at, _ in found})
    ]
    ds = aktis.data.sql(query, edges=edges())
    assert ds.take_all() == expected
    assert ds.count() == len(expected) and ds.columns() == ["node", "ways", "steps"]


def test_several_may_name_themselves_and_queries_before_them():
    query = """
        with recursive
            few as (select a, b from edges where a is not null),
            pairs as (select a, b from few union select p.a, q.b from pairs p join few q on p.b = q.a),
            sizes as (select a, count(*) as n from pairs group by a),
            t(n) as (values (0) union all select n + 1 from t where n < (select max(n) from sizes))
        select (select count(*) from pairs) as pairs, (select max(n) from t) as last"""
    pairs = {(a, b) for a, b in EDGES if a is not None}
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= more
    last = max(sum(a == b for b, _ in pairs) for a, _ in pairs)
    assert aktis.data.sql(query, edges=edges()).take_all() == [{"pairs": len(pairs), "last": last}]


def test_rows_of_rounds_may_have_wider_types_and_nulls():
    query = "with recursive t as (select 1 as n, null as s union all select n + 0.5, 'x' from t where n < 2) select * from t"
    assert aktis.data.sql(query).take_all() == [
        {"n": 1.0, "s": None},
        {"n": 1.5, "s": "x"},
        {"n": 2.0, "s": "x"},
    ]
    query = "with recursive t as (select a from edges union select a from t) select a from t order by a nulls last"
    assert [row["a"] for row in aktis.data.sql(query, edges=edges()).take_all()] == [1, 2, 3, 7, None]


def test_functions_of_python_are_called_in_rounds():
    twice = aktis.data.SqlFunction(lambda values: [2 * value for value in values.to_pylist()], int)
    query = "with recursive t(n) as (select 1 union all select twice(n) from t where n < 100) select n from t"
    found = [row["n"] for row in aktis.data.sql(query, functions={"twice": twice}).take_all()]
    assert found == [1, 2, 4, 8, 16, 32, 64, 128]


def test_recursive_without_a_query_that_names_itself_is_a_plain_one():
    query = "with recursive t as (select a from edges union all select b from edges) select count(*) as n from t"
    assert aktis.data.sql(query, edges=edges()).take_all() == [{"n": 2 * len(EDGES)}]


def test_what_cannot_be_run_is_told(monkeypatch):
    def told(query, error: type[Exception] = ValueError):
        with pytest.raises(error) as raised:
            aktis.data.sql(query, edges=edges()).take_all()
        return str(raised.value)

    assert "names itself and is none that can be run" in told("with recursive t as (select a from t) select * from t")
    assert "names itself twice in one step" in told(
        "with recursive t as (select a from edges union select t.a from t join t as u on t.a = u.a) select * from t"
    )
    assert "ORDER BY and LIMIT" in told(
        "with recursive t as (select 1 as n union all select n from t limit 3) select * from t"
    )
    assert "in the middle of a query" in told(
        "select * from (with recursive t as (select 1 as n union all select n from t) select * from t)"
    )
    assert "there is no column 'm'" in told(
        "with recursive t as (select 1 as n union all select m from t) select * from t"
    )
    monkeypatch.setattr("aktis.data._recursion.MOST_ROUNDS", 3)
    said = told("with recursive t as (select 1 as n union all select n from t) select * from t", RuntimeError)
    assert "still has rows after 3 rounds" in said and "UNION for UNION ALL" in said
