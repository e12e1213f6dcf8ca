"""Lists whose elements become rows: `explode()`, and `UNNEST` and `VALUES` of SQL. What rows come out is asked in this process."""

import os
import pathlib
import signal

import aktis.data
import aktis.testing
import pyarrow
import pytest
from aktis.data import SqlFunction
from aktis.data.expressions import col

from .unfinished_jobs import GATE, finish, hidden, kill_when, start


def docs():
    return aktis.data.from_arrow(
        pyarrow.table({
            "id": [1, 2, 3, 4],
            "tags": pyarrow.array([["a", "b"], [], None, ["c", None]], pyarrow.list_(pyarrow.string())),
            "sizes": pyarrow.array([[10, 20], [30], None, [40]], pyarrow.large_list(pyarrow.int64())),
            "deep": pyarrow.array([[[1, 2], [3]], [[4]], [[]], None], pyarrow.list_(pyarrow.list_(pyarrow.int64()))),
            "places": [[{"x": 1, "y": 2}], [{"x": 3, "y": 4}, {"x": 5, "y": 6}], [], None],
            "place": pyarrow.array([{"x": 1, "y": 2}, None, {"x": 3, "y": None}, {"x": 4, "y": 5}]),
        })
    )  # fmt: skip


def run(query, **functions):
    with aktis.testing.local():
        return aktis.data.sql(query, functions=functions, docs=docs()).take_all()


def tuples(query, **functions):
    return [tuple(row.values()) for row in run(query, **functions)]


TAGS = [(1, "a"), (1, "b"), (4, "c"), (4, None)]
EMPTY_TOO = [(1, "a"), (1, "b"), (2, None), (3, None), (4, "c"), (4, None)]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("select id, unnest(tags) as tag from docs", TAGS),
        ("select d.id, t.tag from docs d, unnest(d.tags) as t(tag)", TAGS),
        ("select id, tag from docs, unnest(tags) as tag", TAGS),
        ("select id, unnest from docs cross join unnest(tags)", TAGS),
        ("select d.id, tag from docs d cross join lateral (select unnest(d.tags) as tag)", TAGS),
        ("select id, tag from docs left join unnest(tags) as tag on true", EMPTY_TOO),
        ("select id, tag from docs, unnest(tags) as tag where tag = 'c' and id > 1", [(4, "c")]),
        ("select id, tag from docs join unnest(tags) as tag on tag <> 'a'", [(1, "b"), (4, "c")]),
        ("select id, t.tags from docs, unnest(tags) as t(tags)", TAGS),
        ("select id, tag, n from docs, unnest(tags) with ordinality as t(tag, n)", [(1, "a", 1), (1, "b", 2), (4, "c", 1), (4, None, 2)]),
        ("select id, tag, ordinality from docs, unnest(tags) with ordinality as tag", [(1, "a", 1), (1, "b", 2), (4, "c", 1), (4, None, 2)]),
        ("select id, tag, size from docs, unnest(tags, sizes) as t(tag, size)", [(1, "a", 10), (1, "b", 20), (2, None, 30), (4, "c", 40), (4, None, None)]),
        ("select id, tag, size from docs, unnest(tags) tag, unnest(sizes) size where id = 1", [(1, "a", 10), (1, "a", 20), (1, "b", 10), (1, "b", 20)]),
        ("select id, unnest(unnest(deep)) as n from docs", [(1, 1), (1, 2), (1, 3), (2, 4)]),
        ("select id, p.x + p.y as sum from docs, unnest(places) as t(p)", [(1, 3), (2, 7), (2, 11)]),
        ("select id, unnest(place) from docs", [(1, 1, 2), (2, None, None), (3, 3, None), (4, 4, 5)]),
        ("select tag, price from docs, unnest(tags) as tag join (values ('b', 3), ('x', 5)) as p(tag, price) using (tag)", [("b", 3)]),
        ("select d.id, t, x from docs d, unnest(d.tags) t left join (values ('b', 3)) as p(t2, x) on t = t2 where id = 1 order by t", [(1, "a", None), (1, "b", 3)]),
        ("select unnest([1, 2]) as n", [(1,), (2,)]),
        ("select n from unnest(range(0, 3)) as n", [(0,), (1,), (2,)]),
        ("select tag, count(*) as n from docs, unnest(tags) as tag group by tag order by tag", [("a", 1), ("b", 1), ("c", 1), (None, 1)]),
        ("select count(*) as n from docs, unnest(tags)", [(4,)]),
        ("select id from docs, unnest(tags) limit 3", [(1,), (1,), (4,)]),
        ("select id, word from docs, unnest(split(id)) as word where id < 3", [(1, "x"), (2, "x"), (2, "x")]),
    ],
)  # fmt: skip
def test_elements_of_lists_become_rows(query, rows):
    split = SqlFunction(lambda numbers: [["x"] * number for number in numbers.to_pylist()], list[str])
    assert tuples(query, split=split) == rows


def test_fields_of_structs_have_their_names():
    assert run("select id, unnest(place) from docs order by id limit 1") == [{"id": 1, "x": 1, "y": 2}]


def test_neighbours_in_other_rows_are_found_by_lateral_queries():
    query = "select d.id, m.most from docs d, lateral (select max(e.id) as most from docs e where e.id = d.id - 1) m order by d.id"
    assert tuples(query) == [(1, None), (2, 1), (3, 2), (4, 3)]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("values (1, 'a'), (2.5, null)", [(1.0, "a"), (2.5, None)]),
        ("select n * 2 as m from (values (1), (2)) as t(n)", [(2,), (4,)]),
        ("select id, name from docs join (values (1, 'one'), (4, upper('four'))) as t(id, name) using (id) order by id", [(1, "one"), (4, "FOUR")]),
        ("with t(n) as (values (1), (2)) select sum(n) as s from t", [(3,)]),
        ("select id from docs where id in (select * from (values (2), (9)))", [(2,)]),
    ],
)  # fmt: skip
def test_values_are_a_table(query, rows):
    assert tuples(query) == rows


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("select id from docs left join unnest(tags) as tag on tag = 'a'", "LEFT JOIN with UNNEST .* write ON true"),
        ("select id from docs where exists (select 1 from unnest(tags) as t(x) where x = 'a')", r"sql\(\): .*LATERAL"),
        ("select d.id from docs d, lateral (select count(*) as n from docs e where e.id < d.id)", "a LATERAL query of this form cannot be run"),
        ("select unnest(id) from docs", r"sql\(\): .*unnest"),
        ("select * from docs, unnest(tags, sizes) with ordinality", "needs names: .* AS t"),
        ("select * from (values ((select max(id) from docs))) as t", "VALUES takes values, and .* is none"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_told(query, words):
    with pytest.raises(ValueError, match=words):
        aktis.data.sql(query, docs=docs())


@pytest.mark.parametrize("kind", ["known", "open"])
def test_explode_gives_a_row_for_each_element_in_their_order(kind):
    with aktis.testing.local():
        ds = docs() if kind == "known" else docs().map_batches(lambda table: table, batch_format="pyarrow")
        tags = ds.explode("tags").select_columns(["id", "tags"])
        assert [tuple(row.values()) for row in tags.take_all()] == EMPTY_TOO
        some = ds.explode("tags", ignore_empty_and_null=True, index_column="n").select_columns(["id", "tags", "n"])
        assert [tuple(row.values()) for row in some.take_all()] == [(1, "a", 0), (1, "b", 1), (4, "c", 0), (4, None, 1)]
        both = ds.explode("tags", "sizes", ignore_empty_and_null=True, index_column="n").filter(expr=col("id") > 1)
        rows = [(row["id"], row["tags"], row["sizes"], row["n"]) for row in both.take_all()]
        assert rows == [(2, None, 30, 0), (4, "c", 40, 0), (4, None, None, 1)]
        assert ds.explode("deep", ignore_empty_and_null=True).explode("deep").count() == 5
        assert ds.explode("tags").limit(2).count() == 2
        assert ds.explode("tags", ignore_empty_and_null=True).count() == 4


def test_mistakes_of_explode_are_told():
    behind = docs().map_batches(lambda table: table, batch_format="pyarrow")
    for make, words in [
        (lambda: docs().explode("id"), "explode\\(\\): 'id' is Int64 and no list"),
        (lambda: behind.explode("id").take_all(), "explode\\(\\): 'id' is Int64 and no list"),
        (lambda: docs().explode("nope"), "there is no column 'nope'"),
        (lambda: docs().explode(), "needs the name of a column"),
        (lambda: docs().explode("tags", "tags"), "tags"),
        (lambda: docs().explode("tags", index_column="id"), "a column of that name already"),
    ]:  # fmt: skip
        with pytest.raises(Exception, match=words):
            make()
    with pytest.raises(TypeError, match="the name of a column is text"):
        docs().explode(["tags"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_worker_that_dies_makes_no_row_twice_and_loses_none(tmp_path):
    def lists(batch):
        marker = pathlib.Path(tmp_path / "died")
        if batch["id"].max() >= 300 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"id": batch["id"], "part": [list(range(n % 3)) for n in batch["id"].tolist()]}

    def same(batch):
        return batch

    ds = (
        aktis.data.range(600, override_num_blocks=6)
        .map_batches(lists, batch_size=20)
        .explode("part", ignore_empty_and_null=True)
    )
    ds = ds.map_batches(same, num_cpus=0.5)
    assert [(row["id"], row["part"]) for row in ds.take_all()] == [
        (n, part) for n in range(600) for part in range(n % 3)
    ]
    assert (tmp_path / "died").exists()


#: The job of a process of its own: its model takes its time, and notes its calls.
JOB = """
import sys, time
import aktis.data

noted, out = sys.argv[1], sys.argv[2]

def lists(batch):
    return {"id": batch["id"], "part": [list(range(n % 4)) for n in batch["id"].tolist()]}

class Model:
    def __call__(self, batch):
        pass_gate_after(noted)
        time.sleep(0.01)
        with open(noted, "a") as file:
            file.write(f"{batch['id'][0]}\\n")
        return batch

aktis.init(num_cpus=4, num_gpus=1)
ds = aktis.data.range(600, override_num_blocks=6).map_batches(lists, batch_size=30).explode("part", ignore_empty_and_null=True)
ds.map_batches(Model, batch_size=10, concurrency=1, num_gpus=1).write_parquet(out, mode="append")
print("done")
"""


def test_job_behind_a_list_goes_on_where_it_was_left(tmp_path):
    noted, out, script = tmp_path / "noted", tmp_path / "out", tmp_path / "job.py"
    script.write_text(GATE + JOB)

    def calls():
        return noted.read_text().count("\n") if noted.exists() else 0

    job = start(script, noted, out, below=60)
    kill_when(job, lambda: calls() >= 45)
    assert "goes on with a job that was left unfinished" in finish(start(script, noted, out, below=1000))
    rows = aktis.data.read_parquet(str(out)).take_all()
    assert sorted((row["id"], row["part"]) for row in rows) == [(n, part) for n in range(600) for part in range(n % 4)]
    assert hidden(out) == []
    assert calls() < 90 + 40, "what was done was not done again"
