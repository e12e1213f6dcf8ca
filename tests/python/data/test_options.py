"""No option is ignored: each keyword of Ray's data API is used, refused by name, or harmless for a reason.

The table below has the names and keywords of Ray Data 2.60. A keyword that is missing in Aktis altogether raises TypeError,
so that this test also fails when a function forgets one.
"""

import inspect
import pathlib
from typing import Any

import aktis.data
import numpy
import pyarrow.compute
import pytest
from aktis.data import (
    ActorPoolStrategy,
    DataContext,
    Dataset,
    ExecutionOptions,
    ExecutionResources,
)
from aktis.data import _ray_settings as ray_settings
from aktis.data.datasource import FilenameProvider
from aktis.data.expressions import col

REMOTE = {
    "accelerator_type": "refused", "label_selector": "refused", "fallback_strategy": "refused", "runtime_env": "refused",
    "scheduling_strategy": "refused", "ray_remote_args_fn": "refused", "max_calls": "refused", "max_restarts": "refused",
    "max_task_retries": "refused", "max_retries": "refused", "retry_exceptions": "refused", "max_concurrency": "used",
}  # fmt: skip
ROWS = {
    **REMOTE, "max_retries": "used", "retry_exceptions": "used", "compute": "used", "fn_args": "used", "fn_kwargs": "used", "fn_constructor_args": "used",
    "fn_constructor_kwargs": "used", "num_cpus": "used", "num_gpus": "used", "memory": "used", "concurrency": "used",
    "resources": "used",
}  # fmt: skip
COLUMNS = {name: verdict for name, verdict in REMOTE.items() if verdict == "refused"} | dict.fromkeys(
    ("compute", "concurrency", "num_cpus", "num_gpus", "memory", "resources"), "harmless"
)
#: A value that is not the default, where `object()` would be refused for another reason.
VALUES = {
    "compute": ActorPoolStrategy(size=1), "fn_args": (), "fn_kwargs": {}, "fn_constructor_args": (), "num_cpus": 1,
    "fn_constructor_kwargs": {}, "num_gpus": 0, "memory": 0, "concurrency": 1, "resources": {}, "max_concurrency": 2,
    "batch_size": 2, "batch_format": "numpy", "zero_copy_batch": False, "udf_modifying_row_count": False, "cols": ["id"],
    "mode": "append", "try_create_dir": True, "min_rows_per_file": 1, "max_rows_per_file": 9, "num_rows_per_file": 1,
    "arrow_parquet_args_fn": dict, "compression": "zstd", "row_group_size": 3, "max_restarts": 3, "max_task_retries": 3,
    "max_retries": 0, "retry_exceptions": [OSError], "max_calls": 1, "expr": None, "filesystem": None, "partition_cols": [], "filename_provider": FilenameProvider(file_format="parquet"),
    "use_dictionary": False, "write_statistics": False, "data_page_size": 4096, "sorting_columns": [], "min_bytes_per_file": 9,
}  # fmt: skip
SIGNATURES = {
    "map_batches": {
        **ROWS, "batch_size": "used", "batch_format": "used", "zero_copy_batch": "used", "udf_modifying_row_count": "used",
    },
    "map": ROWS,
    "flat_map": ROWS,
    "filter": {**ROWS, "expr": "used"},
    "add_column": {**{name: ROWS[name] for name in ROWS if not name.startswith("fn_")}, "batch_format": "used"},
    "with_column": COLUMNS,
    "with_columns": COLUMNS,
    "select_columns": COLUMNS,
    "drop_columns": COLUMNS,
    "rename_columns": COLUMNS,
    "write_parquet": {
        "partition_cols": "used", "filesystem": "used", "catalog": "refused", "try_create_dir": "used",
        "arrow_open_stream_args": "refused", "filename_provider": "used", "arrow_parquet_args_fn": "used",
        "min_rows_per_file": "used", "max_rows_per_file": "used", "min_bytes_per_file": "used",
        "ray_remote_args": "refused", "concurrency": "used", "num_rows_per_file": "used", "mode": "used",
        "compression": "used", "row_group_size": "used", "use_dictionary": "used", "data_page_size": "used",
        "write_statistics": "used", "sorting_columns": "used", "coerce_timestamps": "refused",
    },
}  # fmt: skip
CASES = [(name, keyword, verdict) for name, keywords in SIGNATURES.items() for keyword, verdict in keywords.items()]


def call(name, folder, **keywords):
    ds = aktis.data.range(3)
    if name in ("map_batches", "map", "flat_map", "filter"):
        if "fn_constructor_args" in keywords or "fn_constructor_kwargs" in keywords or "compute" in keywords:
            return getattr(ds, name)(Same, **keywords)
        return getattr(ds, name)(same, **keywords)
    if name == "add_column":
        return ds.add_column("x", same, **keywords)
    if name == "with_column":
        return ds.with_column("x", col("id"), **keywords)
    if name == "with_columns":
        return ds.with_columns({"x": col("id")}, **keywords)
    if name == "rename_columns":
        return ds.rename_columns({"id": "key"}, **keywords)
    if name == "write_parquet":
        return ds.write_parquet(folder / "out", **keywords)
    return getattr(ds, name)(["id"], **keywords)


def same(value):
    return value


class Same:
    def __call__(self, value):
        return value


@pytest.mark.parametrize(("name", "keyword", "verdict"), CASES)
def test_keyword_is_used_refused_by_name_or_harmless(name, keyword, verdict, tmp_path):
    value = VALUES.get(keyword, object())
    if verdict == "refused":
        with pytest.raises(NotImplementedError, match=rf"{name}\({keyword}=\.\.\.\) is not there yet: \w+"):
            call(name, tmp_path, **{keyword: value})
    else:
        call(name, tmp_path, **{keyword: value})


@pytest.mark.parametrize("name", SIGNATURES)
def test_misspelt_keyword_is_told_with_the_nearest_name(name, tmp_path):
    misspelt = "compresion" if name == "write_parquet" else "num_cpu"
    meant = "compression" if name == "write_parquet" else "num_cpus"
    with pytest.raises(TypeError, match=rf"{misspelt}'; did you mean '{meant}'"):
        call(name, tmp_path, **{misspelt: 1})
    assert not (pathlib.Path(tmp_path) / "out").exists()


@pytest.mark.parametrize("name", ["limit", "take", "take_all", "take_batch", "show", "count", "materialize", "schema",
                                  "columns", "iter_rows", "to_pandas", "to_arrow", "input_files", "num_blocks", "stats"])  # fmt: skip
def test_functions_without_hints_take_nothing_unknown(name):
    kinds = [parameter.kind for parameter in inspect.signature(getattr(Dataset, name)).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_settings_are_known_refused_or_harmless_for_a_reason():
    context = DataContext()
    for name, reason in ray_settings.CONTEXT_HARMLESS.items():
        assert len(reason) > 10
        setattr(context, name, 1)
        assert getattr(context, name) == 1
    for name, refused in ray_settings.CONTEXT_REFUSED.items():
        setattr(context, name, refused.accepted[0])
        with pytest.raises(NotImplementedError, match=f"DataContext.{name} = .* is not there yet: "):
            setattr(context, name, "something else")
    with pytest.raises(AttributeError, match="did you mean 'target_max_block_size'"):
        context.target_max_blok_size = 1
    with pytest.raises(NotImplementedError, match="exclude_resources"):
        ExecutionOptions().exclude_resources = ExecutionResources()
    with pytest.raises(NotImplementedError, match="limit the workers"):
        ExecutionResources(gpu=1)


def test_pool_strategies_check_their_numbers():
    for name in ("size", "max_tasks_in_flight_per_actor", "max_concurrent_calls_per_actor"):
        with pytest.raises(ValueError, match=f": {name} must be"):
            ActorPoolStrategy(**{name: 0})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="initial_size"):
        ActorPoolStrategy(min_size=2, max_size=4, initial_size=5)


def test_pool_has_the_size_that_was_asked_for(tmp_path):
    class Named:
        def __init__(self):
            self.name = f"{id(self)}-{__import__('os').getpid()}"

        def __call__(self, batch):
            return {"worker": [self.name]}

    for concurrency, most in ((1, 1), ((1, 2, 1), 2)):
        ds = aktis.data.range(40).map_batches(Named, batch_size=1, num_cpus=0.1, concurrency=concurrency)
        assert 1 <= len({row["worker"] for row in ds.take_all()}) <= most


def test_sources_are_read_in_as_many_parts_as_asked_for(words):
    ranged = aktis.data.range(100, override_num_blocks=7)
    assert ranged.num_blocks() == 7
    assert ranged.materialize().num_blocks() == 7
    items = aktis.data.from_items([{"a": i} for i in range(10)], override_num_blocks=5)
    assert items.materialize().num_blocks() == 5
    files = aktis.data.read_parquet(words, override_num_blocks=3)
    assert files.map_batches(lambda batch: batch).materialize().num_blocks() == 3
    assert files.count() == 2000
    with pytest.raises(ValueError, match="override_num_blocks"):
        aktis.data.range(3, override_num_blocks=0)


READ_REFUSED = {
    "tensor_column_schema": {"x": (int, (2,))}, "runtime_env": {"pip": ["x"]}, "arrow_parquet_args": {"use_threads": False}, "ray_remote_args": {"num_cpus": 2},
    "num_cpus": 2, "num_gpus": 1, "memory": 1, "concurrency": 2,
}  # fmt: skip
RESOURCES = ("ray_remote_args", "num_cpus", "num_gpus", "memory", "concurrency")


@pytest.mark.parametrize("keyword", READ_REFUSED)
def test_reading_refuses_by_name_what_it_does_not_do(keyword, words):
    value = READ_REFUSED[keyword]
    refusal = rf"\({keyword}=\.\.\.\) is not there yet: \w+"
    with pytest.raises(NotImplementedError, match="read_parquet" + refusal):
        aktis.data.read_parquet(words, **{keyword: value})
    if keyword in RESOURCES:
        with pytest.raises(NotImplementedError, match="range" + refusal):
            aktis.data.range(3, **{keyword: value})
    else:
        with pytest.raises(TypeError, match=f"unknown argument '{keyword}'"):
            aktis.data.range(3, **{keyword: value})


def test_reading_takes_what_means_the_same_as_nothing(words):
    harmless = {
        "shuffle": None,
        "include_paths": False,
        "arrow_parquet_args": {},
        "ray_remote_args": None,
        "num_cpus": 1,
    }
    assert aktis.data.read_parquet(words, **harmless, parallelism=-1).count() == 2000
    with pytest.raises(TypeError, match="did you mean 'override_num_blocks'"):
        aktis.data.read_parquet(words, overide_num_blocks=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="folders that are values only need names"):
        aktis.data.read_parquet(words, partitioning="dir")  # pyright: ignore[reportArgumentType]


def test_filters_are_sql_and_anything_else_is_refused_with_the_way_out(words):
    ds = aktis.data.range(3)
    theirs = pyarrow.compute.cumulative_sum(pyarrow.compute.field("id")) > 1  # pyright: ignore[reportAttributeAccessIssue]
    for use in (
        lambda: aktis.data.read_parquet(words, filter=theirs),
        lambda: ds.filter(expr=theirs),
        lambda: ds.filter(theirs),
    ):
        with pytest.raises(NotImplementedError, match="function 'cumulative_sum' of pyarrow is not known"):
            use()
    for use in (lambda: aktis.data.read_parquet(words, filter=[("id", ">", 1)]), lambda: ds.filter(expr=3)):  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="takes an expression, "):
            use()


def test_rows_without_columns_are_counted_and_not_written(tmp_path):
    ds = aktis.data.range(3).drop_columns(["id"])
    assert ds.count() == 3 and ds.take_all() == [{}] * 3
    with pytest.raises(ValueError, match="keep at least one column"):
        ds.write_parquet(tmp_path)
    assert not list(tmp_path.iterdir())


def test_iteration_knows_its_keywords():
    ds = aktis.data.range(10)
    with pytest.raises(TypeError, match="did you mean 'batch_size'"):
        ds.iter_batches(batchsize=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="batch_size"):
        ds.iter_batches(batch_size=0)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_batches_are_made_ahead_and_can_be_iterated_over_again(prefetch):
    batches = aktis.data.range(10).iter_batches(batch_size=4, prefetch_batches=prefetch)
    for _ in range(2):
        assert [len(batch["id"]) for batch in batches] == [4, 4, 2]
    assert next(iter(batches))["id"].tolist() == [0, 1, 2, 3]
    rows = aktis.data.range(2).iter_rows()
    assert [list(rows), list(rows)] == [[{"id": 0}, {"id": 1}]] * 2


def test_failure_of_what_is_made_ahead_is_raised():
    def fail(batch):
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        list(aktis.data.range(10).map_batches(fail).iter_batches(prefetch_batches=3))


@pytest.mark.parametrize(("call", "option", "way_out"), [
    (lambda ds, **options: ds.map(dict, **options), {"batch_size": 3}, "for map_batches.., whose function gets batches"),
    (lambda ds, **options: ds.flat_map(list, **options), {"token_budget": 3}, "for map_batches"),
    (lambda ds, **options: ds.filter(bool, **options), {"cache": "folder"}, "one row of one row"),
    (lambda ds, **options: ds.filter(bool, **options), {"output_schema": {"a": int}}, "whose functions make rows"),
    (lambda ds, **options: ds.add_column("a", len, **options), {"input_columns": ["id"]}, "select_columns.. before it"),
    (lambda ds, **options: ds.groupby("id").map_groups(dict, **options), {"rate_limit": 3}, "for map_batches.., map.., "),
    (lambda ds, **options: ds.groupby("id").map_groups(dict, **options), {"on_error": "skip"}, "filter.. and add_column"),
])  # fmt: skip
def test_option_of_another_method_is_told_whose_it_is(call, option, way_out):
    with pytest.raises(TypeError, match=rf"\(\) takes no {next(iter(option))}=: it is .*{way_out}"):
        call(aktis.data.range(1), **option)


def test_numbers_of_numpy_are_numbers():
    ds = aktis.data.range(4)
    three: Any = numpy.int64(3)
    quick: Any = numpy.float32(5000)
    two: Any = numpy.int32(2)
    sizes = ds.map_batches(lambda batch: {"n": [len(batch["id"])]}, batch_size=three, rate_limit=quick)
    assert sorted(row["n"] for row in sizes.take_all()) == [1, 3]
    limit = aktis.data.RateLimit(numpy.float64(2.5), burst=three)
    assert (repr(limit), repr(aktis.data.RateLimit(two))) == ("RateLimit(2.5, burst=3)", "RateLimit(2.0)")
    assert aktis.data.PriceTable(gpu_hour=numpy.float64(2.5)).gpu_hour == 2.5
    wrongs: list[Any] = [True, 3.0, numpy.float64(3)]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="batch_size must be"):
            ds.map_batches(dict, batch_size=wrong)
    with pytest.raises(ValueError, match="limit.. needs a whole number"):
        ds.limit(True)
