"""The mistakes that users make, one row each: the script, and what its message must say, the way out above all.

The rows come from a trial by new users (mistakes of the table of November 2026, whose numbers they carry) and from others like
them. A message may be changed freely as long as it says what its row asks for.
"""

from __future__ import annotations

import textwrap
import warnings
from typing import NamedTuple

import aktis
import aktis.data
import pytest


class Row(NamedTuple):
    """A mistake."""

    name: str
    script: str
    #: Must occur in the message: cause, place, way out.
    says: tuple[str, ...]
    #: Must not.
    hides: tuple[str, ...] = ()


BATCHES = [
    Row(
        "1 wrong column",
        "data.range(3).map_batches(lambda batch: {'y': batch['ids']}).take_all()",
        ("there is no column 'ids'", "the columns are 'id'", "Did you mean 'id'?", "MapBatches(<lambda>)"),
    ),
    Row(
        "1 wrong column of a row",
        "data.range(3).map(lambda row: row['x']).take_all()",
        ("no column 'x'", "the columns are 'id'", "raised for row 0 of a batch of"),
    ),
    Row(
        "1 wrong column of a frame",
        "data.range(3).map_batches(lambda df: df.x, batch_format='pandas').take_all()",
        ("the columns are 'id'",),
    ),
    Row("2 wrong column in an expression", "data.range(3).filter(expr='x > 1')", ("the columns are 'id'",)),
    Row("3 wrong column to select", "data.range(3).select_columns(['x'])", ("no column 'x'", "the columns are 'id'")),
    Row("4 returns a number", "data.range(3).map_batches(lambda batch: 3).take_all()", ("returned int", "dict of columns")),
    Row(
        "5 returns a list of dicts",
        "data.range(3).map_batches(lambda batch: [{'a': 1}]).take_all()",
        ("returned a list", "flat_map()"),
    ),
    Row("5 returns an array", "data.range(3).map_batches(lambda batch: batch['id']).take_all()", ("{'name': array}",)),
    Row("6 returns None", "data.range(3).map_batches(lambda batch: None).take_all()", ("did you forget 'return'?",)),
    Row("6 returns no row", "data.range(3).map(lambda row: None).take_all()", ("did you forget 'return'?", "a dict")),
    Row("6 returns no rows", "data.range(3).flat_map(lambda row: None).take_all()", ("did you forget 'return'?", "[]")),
    Row(
        "7 ragged arrays in one array",
        """
        def ragged(batch):
            return {"x": numpy.array([numpy.zeros((2 + i, 3)) for i in range(3)])}
        data.range(3).map_batches(ragged).take_all()
        """,
        ("arrays of different shapes go into one column as a list of them",),
    ),
    Row(
        "8 columns of different lengths",
        "data.range(3).map_batches(lambda batch: {'x': [1], 'y': [1, 2]}).take_all()",
        ("different lengths", "'x': 1", "'y': 2"),
    ),
    Row(
        "9 scalar as column",
        "data.range(3).map_batches(lambda batch: {'x': 1}).take_all()",
        ("the column 'x'", "not one value per row", "give a list or an array"),
        ("direct cause",),
    ),
    Row("10 generator in map", "data.range(3).map(lambda row: (row for _ in '12')).take_all()", ("a generator", "flat_map()")),
    Row(
        "11 dict from flat_map",
        "data.range(3).flat_map(lambda row: {'a': 1}).take_all()",
        ("returned a dict", "return [row]", "map()"),
        ("returned str",),
    ),
    Row("11 text from flat_map", "data.range(3).flat_map(lambda row: 'abc').take_all()", ("returned str", "list of dicts")),
    Row(
        "13 no GPU for a dataset",
        "data.range(3).map_batches(lambda batch: batch, num_gpus=1, batch_size=2).take_all()",
        ("each worker needs 1 GPU", "aktis.init(num_gpus=1)"),
    ),
    Row("16 unknown option", "data.range(3).map_batches(print, batchsize=2)", ("did you mean 'batch_size'?",)),
    Row(
        "text read as Parquet",
        """
        path = os.path.join(tempfile.mkdtemp(), "a.csv")
        with open(path, "w") as file:
            file.write("id,name")
        data.read_parquet(path)
        """,
        ("a.csv: it is not a valid Parquet file", "read_csv(), read_json()"),
    ),
    Row("no path", "data.read_parquet(None)", ("a path or a list of paths, not NoneType",)),
    Row("a number among paths", "data.read_parquet(['a', 3])", ("a list of paths", "3 of type int")),
    Row("no path to write to", "data.range(3).write_parquet(None)", ("the path of a folder, not NoneType",)),
    Row("a dict of columns as items", "data.from_items({'a': [1]})", ("not a dict", "from_pandas(pandas.DataFrame(columns))")),
    Row("text as items", "data.from_items('abc')", ("not str", "give ['abc']")),
    Row("a number as items", "data.from_items(5)", ("not int", "give [5]")),
    Row("a value as a column", "data.range(3).add_column('x', 5)", ("add_column('x')", "not int", "lambda batch: 5")),
    Row("a column as an attribute", "data.range(3).id", ("but a column", "select_columns(['id'])")),
    Row("a class of strategies", "data.range(3).map_batches(print, compute=data.ActorPoolStrategy)", ("ActorPoolStrategy()",)),
    Row("a pool of none", "data.ActorPoolStrategy(size=0)", ("size must be a whole number of at least 1",), ("min_size",)),
    Row(
        "types that cannot be compared",
        "data.range(3).filter(expr=\"id > 'x'\").take_all()",
        ("'x'", "Int64"),
        ("Optimizer rule",),
    ),
    Row("a function of nothing", "data.range(3).map_batches(lambda: {})", ("<lambda>() is called with a batch", "too many")),
    Row(
        "a function with too many parameters",
        "data.range(3).map(lambda row, model: row)",
        ("<lambda>(row, model) is called with a row", "fn_args=", "missing a required argument: 'model'"),
    ),
    Row(
        "an argument that a function does not take",
        "data.range(3).map_batches(lambda batch: batch, fn_kwargs={'x': 1})",
        ("fn_kwargs=", "unexpected keyword argument 'x'"),
    ),
    Row(
        "a class without its arguments",
        """
        class Model:
            def __init__(self, weights):
                pass
            def __call__(self, batch):
                return batch
        data.range(3).map_batches(Model)
        """,
        ("Model.__init__(weights)", "fn_constructor_args=", "missing a required argument: 'weights'"),
    ),
    Row(
        "a class whose call takes too much",
        """
        class Model:
            def __call__(self, batch, model):
                return batch
        data.range(3).map_batches(Model)
        """,
        ("Model(self, batch, model) is called with a batch", "fn_args=", "'model'"),
    ),
    Row("16 unlike any option", "data.range(3).map_batches(print, quux=2)", ("known are batch_format, batch_size",)),
    Row(
        "17 wrong path in a class",
        """
        class Model:
            def __init__(self):
                open("/no/such/model")
            def __call__(self, batch):
                return batch
        data.range(3).map_batches(Model).take_all()
        """,
        ("MapBatches(Model)", "/no/such/model"),
        ("aktis.data.load",),
    ),
    Row(
        "20 lock in a class",
        """
        lock = threading.Lock()
        class Model:
            def __call__(self, batch):
                return lock
        data.range(3).map_batches(Model)
        """,
        ("MapBatches(Model)", "found at .__call__ global variable 'lock'", "in the __init__ of the class"),
        ("['function']", "  ", ".."),
    ),
    Row(
        "20 lock in the arguments of a class",
        "data.range(3).map_batches(type('M', (), {'__init__': print, '__call__': print}), fn_constructor_args=[threading.Lock()])",
        ("found at fn_constructor_args[0]",),
    ),
    Row(
        "23 exception in a batch",
        "data.from_items([{'name': 'a'}]).map_batches(lambda batch: 1 / 0).take_all()",
        ("raised for a batch of 1 row, the first of which is {'name': 'a'}",),
    ),
    Row(
        "23 exception in a row",
        "data.from_items([{'n': 1}, {'n': 0}], override_num_blocks=1).map(lambda row: 1 / row['n']).take_all()",
        ("raised for row 1 of a batch of 2: {'n': 0}",),
    ),
    Row(
        "23 exception in a row of an async function",
        """
        async def divide(row):
            return {"n": 1 / row["n"]}
        data.from_items([{"n": 1}, {"n": 0}], override_num_blocks=1).map(divide).take_all()
        """,
        ("raised for row ", "{'n': 0}"),
    ),
    Row(
        "33 folder with files",
        """
        folder = tempfile.mkdtemp()
        data.range(3).write_parquet(folder)
        data.range(3).write_parquet(folder, mode="error")
        """,
        ("has files already", "append", "overwrite"),
    ),
    Row(
        "44 writing into a batch",
        """
        def write(batch):
            batch["id"][0] = 1
        data.range(3).map_batches(write).take_all()
        """,
        ("read-only", "zero_copy_batch=False", ".copy()"),
    ),
    Row("46 captured by a function of a dataset", """
        table = numpy.zeros(3_000_000)
        data.range(3).map_batches(lambda batch: {"x": table[:3]})
        """, ("MapBatches(<lambda>)", "global variable 'table' (22 MB)", "aktis.put")),
    Row(
        "text for a tuple of arguments",
        "data.range(3).map_batches(lambda batch, path: batch, fn_args='weights.npy')",
        ("fn_args is a tuple", "('weights.npy',)"),
    ),
    Row("58 iterating over a dataset", "list(data.range(3))", ("iter_rows()", "iter_batches()")),
    Row("59 len of a dataset", "len(data.range(3))", ("count()",)),
    Row("59 index of a dataset", "data.range(3)[0]", ("take(n)",)),
    Row(
        "61 numbers and text in one column",
        "data.range(3).map_batches(lambda batch: {'x': [1, 'x']}).take_all()",
        ("the column 'x'", "int (1 in row 0)", "str ('x' in row 1)", "make them of one type", "str(value)"),
        ("direct cause",),
    ),
    Row(
        "62 numbers and text in different files",
        "data.range(4).map_batches(lambda b: {'x': [1] if b['id'][0] else ['x']}, batch_size=1)"
        ".write_parquet(tempfile.mkdtemp())",
        ("the column 'x' is", "return the same columns with the same types from every call"),
    ),
]  # fmt: skip

CALLS = [
    Row("12 no GPU", "aktis.get(one.options(num_gpus=1).remote())", ('needs {"GPU": 1}', "aktis.init(num_gpus=1)")),
    Row("12 too few CPUs", "aktis.get(one.options(num_cpus=99).remote())", ("aktis.init(num_cpus=99)",)),
    Row("12 no such resource", "aktis.get(one.options(resources={'tpu': 1}).remote())", ("aktis.init(resources={'tpu': 1})",)),
    Row("15 unknown option", "one.options(num_cpu=1)", ("did you mean 'num_cpus'?",), (" _",)),
    Row(
        "19 lock captured",
        """
        lock = threading.Lock()
        aktis.remote(lambda: lock).remote()
        """,
        ("found at global variable 'lock'", "inside of the function"),
        ("  ",),
    ),
    Row("24 exception in __init__", "aktis.get(Failing.remote().get.remote())", ("no licence", "__init__", "line ")),
    Row("34 calling a function", "one()", ("one.remote()",)),
    Row("37 forgot get", "aktis.put(1) + 1", ("for +: 'aktis.ObjectRef' and 'int'", "aktis.get(ref)")),
    Row("37 forgot get on the right", "1 + aktis.put(1)", ("for +: 'int' and 'aktis.ObjectRef'", "aktis.get(ref)")),
    Row("37 forgot get of a sum", "sum([aktis.put(1), aktis.put(2)])", ("aktis.get(ref)",)),
    Row("37 forgot get in a comparison", "aktis.put(1) < 1", ("'<' not supported", "aktis.get(ref)")),
    Row("37 forgot get with arrays", "numpy.ones(2) * aktis.put(1)", ("aktis.get(ref)",)),
    Row("37 forgot get in len", "len(aktis.put([]))", ("no len()", "aktis.get(ref)")),
    Row("37 forgot get at an index", "aktis.put([1])[0]", ("aktis.get(ref)",)),
    Row("37 forgot get in a loop", "[x for x in aktis.put([1])]", ("iterated", "aktis.get(ref)")),
    Row("37 forgot get in a search", "1 in aktis.put([1])", ("aktis.get(ref)",)),
    Row("37 forgot get of an attribute", "aktis.put(numpy.ones(2)).shape", ("no attribute 'shape'", "aktis.get(ref)")),
    Row("37 forgot get in a number", "float(aktis.put(1))", ("aktis.get(ref)",)),
    Row("37 forgot get as an index", "[1, 2][aktis.put(1)]", ("aktis.get(ref)",)),
    Row("37 forgot get in a format", "f'{aktis.put(1):.2f}'", ("aktis.get(ref)",)),
    Row("37 forgot get in a condition", "if aktis.put(0): pass", ("is true, whatever", "aktis.get(ref)", "is not None")),
    Row(
        "38 references in a list",
        "aktis.get(aktis.remote(lambda values: sum(values)).remote([aktis.put(1)]))",
        ("aktis.get(ref)", "inside of a list"),
    ),
    Row("39 get of a number", "aktis.get(42)", ("42 of type int", "an ObjectRef or a list")),
    Row("get of a function", "aktis.get(one)", ("RemoteFunction", "Call it", ".remote(...)")),
    Row("get of what was not called", "aktis.get(one.remote)", ("Call it", ".remote(...)")),
    Row("get of a method", "aktis.get(Failing.remote().get)", ("ActorMethod", "Call it", ".remote(...)")),
    Row("get of a dict", "aktis.get({'a': aktis.put(1)})", ("of type dict", "list(refs.values())")),
    Row("option of an actor", "aktis.remote(num_returns=2)(Failing._class)", ("num_returns", "of an actor")),
    Row("pool of classes", "aktis.util.ActorPool([Failing])", ("handles of actors", "Failing.remote(...)")),
    Row(
        "pool with a plain function",
        "aktis.util.ActorPool([Failing.remote()]).submit(lambda actor, value: value, 1)",
        ("the reference that actor.method.remote(...) gives", "1 of type int"),
    ),
    Row(
        "a generator returned",
        "aktis.get(aktis.remote(lambda: (x for x in 'ab')).remote())",
        ("cannot pickle 'generator'", "list(...)", "'yield'"),
    ),
    Row("42 method with a typo", "Failing.remote().gett.remote()", ("class Failing has no method 'gett'",)),
    Row("43 too many arguments", "one.remote(1, 2)", ("one()", "too many positional arguments", "it takes (")),
    Row(
        "an attribute of an actor is set from outside",
        "handle = Failing.remote(); handle.count = 3",
        ("'count' is set on this handle only", "give Failing a method"),
    ),
    Row(
        "the address of Ray's client",
        "aktis.shutdown(); aktis.init('ray://localhost:9')",
        ("no head", "ray:// is the address of Ray's client"),
    ),
    Row("a reference compared with a value", "one.remote() == 1", ("equal to no value, here one of type int", "aktis.get(ref)")),
    Row("a reference that is not equal to text", "one.remote() != 'a'", ("equal to no value, here one of type str",)),
    Row(
        "a process that ends by sys.exit",
        "aktis.get(aktis.remote(max_retries=0)(lambda: sys.exit(3)).remote())",
        ("died while it ran the task", "the function called sys.exit or os._exit"),
    ),
    Row(
        "44 writing into an argument",
        """
        def write(array):
            array[0] = 1
        aktis.get(aktis.remote(write).remote(numpy.zeros(100_000)))
        """,
        ("read-only", "array.copy()"),
    ),
    Row(
        "45 a large argument by value in a loop",
        """
        array = numpy.zeros(1_000_000)
        for _ in range(3):
            one.remote(array)
        """,
        ("one() was given the same ndarray of 8 MB again", "ref = aktis.put(value)"),
    ),
    Row("46 captured by a task", """
        table = numpy.zeros(3_000_000)
        aktis.remote(lambda: table[:3]).remote()
        """, ("global variable 'table' (22 MB)", "ref = aktis.put(value)", "as an argument")),
    Row("46 far too much captured", """
        table = numpy.zeros(15_000_000)
        aktis.remote(lambda: table[:3]).remote()
        """, ("global variable 'table'", "aktis.put", "limit is 100 MB")),
    Row("53 nobody of that name", "aktis.get_actor('nobody')", ("'nobody'", ".options(name=")),
]  # fmt: skip

NAMES = [
    Row("a reader", "data.read_hdf5", ("the arrays", "from_items")),
    Row("an imported reader", "from aktis.data import read_hdf5", ("the arrays", "from_items")),
    Row(
        "placement groups", "from aktis.util.placement_group import placement_group", ("no placement groups", "SPREAD")
    ),
    Row("placement groups of util", "aktis.util.placement_group", ("no placement groups", "SPREAD")),
    Row("a method of datasets", "data.range(3).to_spark", ("Dataset.to_spark()", "write_parquet()")),
    Row("a sink", "data.range(3).write_mongo", ("write_datasink()",)),
    Row("another product", "aktis.serve", ("not in Aktis yet",)),
    Row("a typo", "aktis.get_actr", ("Did you mean 'get_actor'?",)),
    Row("a typo in a reader", "data.read_parqet", ("Did you mean 'read_parquet'?",)),
    Row("a typo in a method", "data.range(3).map_batch", ("Did you mean 'map_batches'?",)),
    Row("no name at all", "data.quux", ("module 'aktis.data' has no attribute 'quux'",)),
]


@pytest.fixture(scope="module", autouse=True)
def session():
    """One of two CPUs, without progress bars."""
    aktis.shutdown()
    context = aktis.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    aktis.init(num_cpus=2, num_gpus=0, log_to_driver=False)
    yield
    aktis.shutdown()
    context.enable_progress_bars = shown


_BEGIN = """
import os, sys, tempfile, threading
import numpy
import aktis
from aktis import data

@aktis.remote
def one(x=1):
    return x

@aktis.remote
class Failing:
    def __init__(self):
        raise RuntimeError("no licence")
    def get(self):
        return 1
"""


def message_of(script: str) -> str:
    """What a user sees of a script that makes a mistake: its warnings, and the error that ends it."""
    names = {"__name__": "__main__"}
    exec(_BEGIN, names)  # noqa: S102 - the scripts of this file
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exec(textwrap.dedent(script), names)  # noqa: S102
        except Exception as error:  # noqa: BLE001 - of whatever type
            return "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert warned, "the mistake goes unnoticed"
    return "\n".join(str(each.message) for each in warned)


def test_a_warning_points_at_the_line_of_the_user():
    names = {"__name__": "__main__"}
    exec(_BEGIN, names)  # noqa: S102
    with pytest.warns(RuntimeWarning, match="on this handle only") as warned:
        exec(compile("handle = Failing.remote()\n\nhandle.count = 3", "script.py", "exec"), names)  # noqa: S102
    assert (warned[0].filename, warned[0].lineno) == ("script.py", 3)


@pytest.mark.parametrize("row", [*BATCHES, *CALLS, *NAMES], ids=lambda row: row.name)
def test_the_message_names_the_mistake_and_the_way_out(row):
    message = message_of(row.script)
    for part in row.says:
        assert part in message, message
    for part in row.hides:
        assert part not in message, message
