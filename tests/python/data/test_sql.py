"""SQL over datasets."""

import pickle

import aktis.data
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
        ("select born from p order by born", "ORDER BY is not there yet"),
        ("select count(*) from p", "count\\(\\) is not there yet"),
        ("select distinct born from p", "DISTINCT is not there yet"),
        ("select a.born from p a join p b on a.born = b.born", "JOIN is not there yet"),
        ("select born from p limit 1 offset 1", "OFFSET is not there yet"),
        ("select nope from p", "nope"),
        ("select born from q", "there is no dataset 'q'; given are p"),
        ("selec born from p", "sql\\(\\): "),
    ],
)
def test_what_cannot_be_run_is_told_by_its_name(query, words):
    with pytest.raises(ValueError, match=words):
        aktis.data.sql(query, p=people())


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
