"""Sources and sinks of one's own, databases, and datasets of torch's kind."""

import sqlite3
from typing import Any

import aktis
import aktis.data
import pandas
import pyarrow
import pytest
from aktis.data.block import BlockMetadata
from aktis.data.datasource import Datasink, Datasource, ReadTask


class Numbers(Datasource):
    def __init__(self, rows, block=None):
        self.rows = rows
        self.block = block or (lambda numbers: pyarrow.table({"id": list(numbers)}))

    def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
        def task(part):
            numbers = range(self.rows * part // parallelism, self.rows * (part + 1) // parallelism)
            return ReadTask(lambda: [self.block(numbers)], BlockMetadata(num_rows=len(numbers)))

        return [task(part) for part in range(parallelism)]


@pytest.mark.parametrize(
    "block",
    [
        lambda numbers: pyarrow.table({"id": list(numbers)}),
        lambda numbers: pandas.DataFrame({"id": list(numbers)}),
        lambda numbers: {"id": list(numbers)},
    ],
    ids=["pyarrow", "pandas", "dict"],
)
def test_tasks_give_blocks_of_any_kind_in_order(block):
    ds = aktis.data.read_datasource(Numbers(100, block), override_num_blocks=7)
    assert [row["id"] for row in ds.take_all()] == list(range(100))
    assert ds.count() == 100


def test_number_of_tasks_follows_the_size_if_it_is_told():
    class Sized(Numbers):
        asked = None

        def estimate_inmemory_data_size(self):
            return 3 << 20

        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            type(self).asked = parallelism
            return super().get_read_tasks(parallelism)

    assert aktis.data.read_datasource(Sized(10)).count() == 10
    assert Sized.asked == 3


def test_task_that_fails_names_the_source():
    class Broken(Datasource):
        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            def read():
                yield {"id": [1]}
                raise RuntimeError("no connection")

            return [ReadTask(read)]

    with pytest.raises(RuntimeError, match="no connection") as caught:
        aktis.data.read_datasource(Broken()).take_all()
    assert "ReadBroken" in str(caught.value)


def test_what_is_no_source_and_what_are_no_tasks_is_refused():
    with pytest.raises(TypeError, match="derive from it"):
        aktis.data.read_datasource([1])  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotImplementedError, match="needs a method get_read_tasks"):
        aktis.data.read_datasource(Datasource())

    class NoTasks(Datasource):
        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None) -> Any:
            return [print]

    with pytest.raises(TypeError, match="returns a list of ReadTask"):
        aktis.data.read_datasource(NoTasks())
    reference = aktis.put(1)

    class Holds(Datasource):
        def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
            return [ReadTask(lambda: [aktis.get(reference)])]

    with pytest.raises(TypeError, match="holds an object reference"):
        aktis.data.read_datasource(Holds())


def test_row_limit_of_a_task_ends_its_reading():
    task = ReadTask(lambda: ({"id": [n, n]} for n in range(10**9)), per_task_row_limit=5)
    assert sum(block.num_rows for block in task()) == 5


def test_source_is_read_again_when_its_worker_dies(tmp_path):
    marker = tmp_path / "killed"

    def block(numbers):
        import os
        import signal

        if 50 in numbers and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"id": list(numbers)}

    ds = aktis.data.read_datasource(Numbers(100, block), override_num_blocks=5)
    assert [row["id"] for row in ds.take_all()] == list(range(100))
    assert marker.exists()


@pytest.fixture
def database(tmp_path):
    path = str(tmp_path / "a.db")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT, share REAL)")
        rows = [(n, f"word {n % 7}", None if n % 10 == 0 else n / 2) for n in range(10_000)]
        connection.executemany("INSERT INTO words VALUES (?, ?, ?)", rows)
    return lambda: sqlite3.connect(path)


def test_query_gives_rows(database):
    ds = aktis.data.read_sql("SELECT * FROM words ORDER BY id", database)
    assert ds.count() == 10_000
    assert ds.take(2) == [{"id": 0, "word": "word 0", "share": None}, {"id": 1, "word": "word 1", "share": 0.5}]
    some = aktis.data.read_sql("SELECT id FROM words WHERE word = ? AND id < ?", database, sql_params=("word 3", 20))
    assert some.take_all() == [{"id": 3}, {"id": 10}, {"id": 17}]
    none = aktis.data.read_sql("SELECT id, word FROM words WHERE id < 0", database)
    assert none.take_all() == [] and none.columns() == ["id", "word"]


def test_query_is_shared_out_by_keys(database):
    ds = aktis.data.read_sql(
        "SELECT id FROM words", database, shard_keys=["id"], shard_hash_fn="ABS", override_num_blocks=4
    )
    assert sorted(row["id"] for row in ds.take_all()) == list(range(10_000))
    with pytest.raises(ValueError, match=r"cannot share rows out by NOHASH\(\)"):
        aktis.data.read_sql(
            "SELECT id FROM words", database, shard_keys=["id"], shard_hash_fn="NOHASH", override_num_blocks=4
        )


def test_query_is_parted_by_a_column_and_every_row_comes_once(database):
    with database() as connection:
        connection.execute("INSERT INTO words (id, word, share) VALUES (20000, 'far', NULL)")
    words = "SELECT * FROM words WHERE id >= ?"
    for column, parts in (("id", 4), ("share", 7), ("id", None)):
        hints = {} if parts is None else {"override_num_blocks": parts}
        ds = aktis.data.read_sql(words, database, sql_params=(0,), partition_column=column, **hints)  # pyright: ignore[reportArgumentType]
        assert [*sorted(row["id"] for row in ds.take_all())] == [*range(10_000), 20_000], column
        assert parts is None or ds.num_blocks() == parts
    none = aktis.data.read_sql(
        "SELECT id FROM words WHERE id < 0", database, partition_column="id", override_num_blocks=3
    )
    assert none.take_all() == []
    with pytest.raises(ValueError, match="go from 'far' to 'word 6'.*numbers, dates or times"):
        aktis.data.read_sql("SELECT * FROM words", database, partition_column="word", override_num_blocks=3)
    with pytest.raises(ValueError, match="cannot tell its bounds.*no such column"):
        aktis.data.read_sql("SELECT * FROM words", database, partition_column="nope")


def test_several_queries_are_parts(database):
    ds = aktis.data.read_sql([f"SELECT id FROM words WHERE id % 3 = {rest}" for rest in range(3)], database)
    assert ds.num_blocks() == 3
    assert [row["id"] for row in ds.take_all()] == [*range(0, 10_000, 3), *range(1, 10_000, 3), *range(2, 10_000, 3)]
    with pytest.raises(ValueError, match="in one way"):
        aktis.data.read_sql("SELECT 1 AS id", database, partition_column="id", shard_keys=["id"])
    with pytest.raises(TypeError, match="a query or a list of queries"):
        aktis.data.read_sql([], database)


def test_filesystem_is_refused_where_nothing_is_read_from_one(database):
    with pytest.raises(TypeError, match="unknown argument 'filesystem'"):
        aktis.data.read_sql("SELECT 1", database, filesystem=object())  # pyright: ignore[reportCallIssue]


def test_mistakes_with_databases_are_named(database):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        aktis.data.read_sql("SELECT * FROM absent", database).take_all()
    with pytest.raises(ValueError, match="gives no rows"):
        aktis.data.read_sql("CREATE TABLE more (id INTEGER)", database).take_all()
    with pytest.raises(TypeError, match="a function that makes a connection"):
        aktis.data.read_sql("SELECT 1", "a.db")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="no connection of Python's DB API"):
        aktis.data.read_sql("SELECT 1", lambda: 3).take_all()


def test_rows_go_into_a_database(database):
    with database() as connection:
        connection.execute("CREATE TABLE copies (id INTEGER PRIMARY KEY, word TEXT)")
    ds = aktis.data.from_items([{"id": n, "word": f"w{n}"} for n in range(100)])
    ds.write_sql("INSERT INTO copies VALUES (?, ?)", database)
    assert aktis.data.read_sql("SELECT * FROM copies ORDER BY id", database).take_all() == ds.take_all()
    with pytest.raises(sqlite3.IntegrityError):
        ds.write_sql("INSERT INTO copies VALUES (?, ?)", database)
    ds.write_sql("INSERT OR REPLACE INTO copies VALUES (?, ?)", database)
    assert aktis.data.read_sql("SELECT * FROM copies", database).count() == 100


class Noted(Datasink):
    def __init__(self, folder, fails=False):
        self.folder, self.fails, self.told = str(folder), fails, []

    def __getstate__(self):
        return {**self.__dict__, "told": []}

    def on_write_start(self, schema=None):
        self.told.append(("start", schema))

    def write(self, blocks, ctx):
        import pathlib

        if self.fails:
            raise RuntimeError("full")
        rows = [row for block in blocks for row in block.to_pylist()]
        pathlib.Path(self.folder, str(ctx.task_idx)).write_text(repr(rows))
        return len(rows)

    def on_write_complete(self, write_result):
        self.told.append(("complete", write_result.num_rows, sum(write_result.write_returns)))

    def on_write_failed(self, error):
        self.told.append(("failed", str(error)))


def test_sink_is_told_of_start_and_end_and_given_all_rows(tmp_path):
    sink = Noted(tmp_path)
    aktis.data.range(1000).write_datasink(sink)
    assert [told[0] for told in sink.told] == ["start", "complete"]
    assert sink.told[0][1].names == ["id"] and sink.told[1][1:] == (1000, 1000)
    rows = [row for file in tmp_path.iterdir() for row in eval(file.read_text())]
    assert sorted(row["id"] for row in rows) == list(range(1000))


def test_sink_is_told_of_failure(tmp_path):
    sink = Noted(tmp_path, fails=True)
    with pytest.raises(RuntimeError, match="full"):
        aktis.data.range(10).write_datasink(sink)
    assert [told[0] for told in sink.told] == ["start", "failed"] and "full" in sink.told[1][1]
    with pytest.raises(TypeError, match="derive from it"):
        aktis.data.range(10).write_datasink(print)  # pyright: ignore[reportArgumentType]


def test_sink_returns_what_only_the_script_knows():
    class Told:
        def __init__(self, rows):
            self.rows = rows

    class Counting(Datasink[Told]):
        def write(self, blocks, ctx):
            return Told(sum(block.num_rows for block in blocks))

        def on_write_complete(self, write_result):
            told.extend(write_result.write_returns)

    told: list[Told] = []
    aktis.data.range(10).write_datasink(Counting())
    assert sum(one.rows for one in told) == 10 and all(isinstance(one, Told) for one in told)


def test_what_only_this_node_can_read_or_write_is_refused_where_there_are_others(monkeypatch):
    class Here(Numbers):
        supports_distributed_reads = False

    class Away(Noted):
        supports_distributed_writes = False

    class Large(Datasink):
        min_bytes_per_write = 1

    source = Here(3, lambda numbers: {"id": list(numbers)})
    assert aktis.data.read_datasource(source).count() == 3
    with pytest.raises(
        NotImplementedError, match=r"Large\.min_bytes_per_write is not there yet: say min_rows_per_write"
    ):
        aktis.data.range(1).write_datasink(Large())
    monkeypatch.setattr("aktis.nodes", lambda: [{"Alive": True}, {"Alive": True}])
    with pytest.raises(
        NotImplementedError, match=r"Here\.supports_distributed_reads = False is not there yet.*from_items"
    ):
        aktis.data.read_datasource(source)
    with pytest.raises(NotImplementedError, match=r"Away\.supports_distributed_writes = False is not there yet"):
        aktis.data.range(1).write_datasink(Away("nowhere"))


class Squares:
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index >= 100:
            raise IndexError(index)
        return index * index


def test_datasets_of_torch_give_items():
    ds = aktis.data.from_torch(Squares(), override_num_blocks=3)
    assert ds.take_all() == [{"item": n * n} for n in range(100)]
    iterated = aktis.data.from_torch(iter_of(5))
    assert iterated.take_all() == [{"item": n} for n in range(5)]
    with pytest.raises(TypeError, match=r"from_torch\(\) takes"):
        aktis.data.from_torch(3)


class iter_of:
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))


def test_iterable_datasets_of_torch_are_iterated_though_they_tell_their_length():
    def item(self, index):
        raise NotImplementedError

    base = type("IterableDataset", (), {"__module__": "torch.utils.data.dataset", "__getitem__": item})
    given = type("Own", (base,), {"__module__": "own", "__len__": lambda _: 3, "__iter__": lambda _: iter([7, 8])})()
    assert aktis.data.from_torch(given).take_all() == [{"item": 7}, {"item": 8}]


def test_datasets_of_hugging_face_give_rows():
    datasets = pytest.importorskip("datasets")
    rows = [{"id": n, "words": ["a"] * (n % 3)} for n in range(3000)]
    made = datasets.Dataset.from_list(rows)
    assert aktis.data.from_huggingface(made).take_all() == rows
    assert aktis.data.from_huggingface(made.select([5, 3])).take_all() == [rows[5], rows[3]]
    assert aktis.data.from_huggingface(made.to_iterable_dataset()).take_all() == rows
    with pytest.raises(TypeError, match=r"one split, dataset\['train'\]"):
        aktis.data.from_huggingface(datasets.DatasetDict({"train": made}))


def test_what_is_no_dataset_of_hugging_face_is_refused():
    with pytest.raises(TypeError, match="not list"):
        aktis.data.from_huggingface([1])
    with pytest.raises(TypeError, match="one split"):
        aktis.data.from_huggingface({"train": [1]})
