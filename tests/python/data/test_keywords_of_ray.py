"""Every keyword of Ray's functions that are here is used, refused by name, or harmless for a reason: none is unknown, none forgotten.

The names are those of Ray 2.60.0, of its functions and classes that Aktis has. What options of tasks and actors do is looked at in
`tests/python/api/test_signatures.py`, and what the keywords of `map_batches` and its kin do in `test_options.py`.
"""

import ast
import dataclasses
import inspect
import textwrap
from typing import Any

import aktis
import aktis.data
import aktis.data.aggregate
import aktis.data.datasource
import aktis.data.expressions
import aktis.data.llm
import aktis.util.queue
import pytest
from aktis.data import _reading
from aktis.data.grouped_data import GroupedData

#: What Ray gives to tasks that read, and to those that run a function.
WORKERS = (
    "num_cpus num_gpus memory label_selector fallback_strategy max_calls resources accelerator_type runtime_env ray_remote_args "
    "concurrency override_num_blocks"
)
FUNCTION = "label_selector fallback_strategy max_calls accelerator_type runtime_env num_cpus num_gpus memory resources"
NAMES = """
cancel: ray_waitable force recursive
data.ActorPoolStrategy: size min_size max_size initial_size max_tasks_in_flight_per_actor
    max_concurrent_calls_per_actor enable_true_multi_threading
data.DataIterator.iter_batches: prefetch_batches batch_size batch_format drop_last local_shuffle_buffer_size
    local_shuffle_seed
data.DataIterator.iter_torch_batches: prefetch_batches batch_size dtypes device collate_fn drop_last
    local_shuffle_buffer_size local_shuffle_seed pin_memory
data.DataIterator.iter_jax_batches: prefetch_batches batch_size dtypes collate_fn drop_last local_shuffle_buffer_size
    local_shuffle_seed synchronize_batches paddings
data.DataIterator.iter_tf_batches: prefetch_batches batch_size dtypes drop_last local_shuffle_buffer_size local_shuffle_seed
data.DataIterator.to_tf: feature_columns label_columns additional_columns prefetch_batches batch_size drop_last
    local_shuffle_buffer_size local_shuffle_seed feature_type_spec label_type_spec additional_type_spec
data.DataIterator.to_torch: label_column feature_columns label_column_dtype feature_column_dtypes batch_size prefetch_batches drop_last
    local_shuffle_buffer_size local_shuffle_seed unsqueeze_label_tensor unsqueeze_feature_tensors
data.Dataset.add_column: col fn batch_format compute concurrency *function
data.Dataset.columns: fetch_if_missing
data.Dataset.drop_columns: cols compute concurrency *function
data.Dataset.filter: fn expr compute fn_args fn_kwargs fn_constructor_args fn_constructor_kwargs concurrency
    ray_remote_args_fn *function
data.Dataset.flat_map: fn compute fn_args fn_kwargs fn_constructor_args fn_constructor_kwargs concurrency
    ray_remote_args_fn *function
data.Dataset.get_stats_summary: detail
data.Dataset.groupby: key num_partitions
data.Dataset.iter_batches: prefetch_batches batch_size batch_format drop_last local_shuffle_buffer_size
    local_shuffle_seed _collate_fn
data.Dataset.iter_torch_batches: prefetch_batches batch_size dtypes device collate_fn drop_last
    local_shuffle_buffer_size local_shuffle_seed pin_memory
data.Dataset.iter_jax_batches: prefetch_batches batch_size dtypes collate_fn drop_last local_shuffle_buffer_size
    local_shuffle_seed synchronize_batches paddings
data.Dataset.iter_tf_batches: prefetch_batches batch_size dtypes drop_last local_shuffle_buffer_size local_shuffle_seed
data.Dataset.join: ds join_type num_partitions on right_on left_suffix right_suffix partition_size_hint
    aggregator_ray_remote_args validate_schemas
data.Dataset.limit: limit
data.Dataset.map: fn compute fn_args fn_kwargs fn_constructor_args fn_constructor_kwargs concurrency
    ray_remote_args_fn *function
data.Dataset.map_batches: fn batch_size compute batch_format zero_copy_batch fn_args fn_kwargs fn_constructor_args
    fn_constructor_kwargs concurrency udf_modifying_row_count ray_remote_args_fn *function
data.Dataset.max: on ignore_nulls
data.Dataset.mean: on ignore_nulls
data.Dataset.min: on ignore_nulls
data.Dataset.mix: weights stopping_condition
data.Dataset.random_sample: fraction seed
data.Dataset.random_shuffle: seed num_blocks
data.Dataset.randomize_block_order: seed
data.Dataset.rename_columns: names concurrency *function
data.Dataset.repartition: num_blocks target_num_rows_per_block strict shuffle keys sort
data.Dataset.schema: fetch_if_missing
data.Dataset.select_columns: cols compute concurrency *function
data.Dataset.show: limit
data.Dataset.sort: key descending boundaries
data.Dataset.split: n equal locality_hints
data.Dataset.split_at_indices: indices
data.Dataset.split_proportionately: proportions
data.Dataset.std: on ddof ignore_nulls
data.Dataset.streaming_split: n equal locality_hints
data.Dataset.streaming_train_test_split: test_size split_type hash_column seed
data.Dataset.sum: on ignore_nulls
data.Dataset.summary: columns override_dtype_agg_mapping
data.Dataset.take: limit
data.Dataset.take_all: limit
data.Dataset.take_batch: batch_size batch_format
data.Dataset.to_dask: meta verify_meta
data.Dataset.to_numpy_refs: column
data.Dataset.to_pandas: limit
data.Dataset.to_tf: feature_columns label_columns additional_columns prefetch_batches batch_size drop_last
    local_shuffle_buffer_size local_shuffle_seed feature_type_spec label_type_spec additional_type_spec
data.Dataset.to_torch: label_column feature_columns label_column_dtype feature_column_dtypes batch_size prefetch_batches drop_last
    local_shuffle_buffer_size local_shuffle_seed unsqueeze_label_tensor unsqueeze_feature_tensors
data.Dataset.train_test_split: test_size shuffle seed stratify
data.Dataset.unique: column ignore_nulls
data.Dataset.with_column: column_name expr compute *function
data.Dataset.with_columns: exprs compute *function
data.Dataset.write_csv: path filesystem try_create_dir arrow_open_stream_args filename_provider arrow_csv_args_fn
    min_rows_per_file ray_remote_args concurrency num_rows_per_file mode
data.Dataset.write_datasink: datasink ray_remote_args concurrency
data.Dataset.write_delta: path catalog mode partition_by storage_options schema_mode filesystem name description
    ray_remote_args concurrency
data.Dataset.write_iceberg: table_identifier catalog_kwargs catalog snapshot_properties mode overwrite_filter
    upsert_kwargs overwrite_kwargs ray_remote_args concurrency
data.Dataset.write_images: path column file_format filesystem try_create_dir arrow_open_stream_args
    filename_provider ray_remote_args concurrency mode
data.Dataset.write_json: path filesystem try_create_dir arrow_open_stream_args filename_provider pandas_json_args_fn
    min_rows_per_file ray_remote_args concurrency num_rows_per_file mode
data.Dataset.write_lance: path schema mode min_rows_per_file max_rows_per_file data_storage_version storage_options
    table_id namespace_impl namespace_properties ray_remote_args concurrency
data.Dataset.write_numpy: path column filesystem try_create_dir arrow_open_stream_args filename_provider
    min_rows_per_file ray_remote_args concurrency num_rows_per_file mode
data.Dataset.write_orc: path filesystem try_create_dir arrow_open_stream_args filename_provider arrow_orc_args_fn
    min_rows_per_file ray_remote_args concurrency mode
data.Dataset.write_parquet: path partition_cols filesystem catalog try_create_dir arrow_open_stream_args
    filename_provider arrow_parquet_args_fn min_rows_per_file max_rows_per_file min_bytes_per_file ray_remote_args
    concurrency num_rows_per_file mode
data.Dataset.write_sql: sql connection_factory ray_remote_args concurrency
data.Dataset.write_tfrecords: path tf_schema filesystem try_create_dir arrow_open_stream_args filename_provider
    min_rows_per_file ray_remote_args concurrency num_rows_per_file mode
data.Dataset.write_webdataset: path filesystem try_create_dir arrow_open_stream_args filename_provider
    min_rows_per_file ray_remote_args encoder concurrency num_rows_per_file mode
data.ExecutionOptions: resource_limits exclude_resources preserve_order actor_locality_enabled verbose_progress
    label_selector
data.ExecutionResources: cpu gpu object_store_memory memory
data.FileShuffleConfig: seed reseed_after_execution
data.GroupedData.map_groups: fn zero_copy_batch compute batch_format fn_args fn_kwargs fn_constructor_args
    fn_constructor_kwargs num_cpus num_gpus memory concurrency ray_remote_args_fn
data.GroupedData.max: on ignore_nulls
data.GroupedData.mean: on ignore_nulls
data.GroupedData.min: on ignore_nulls
data.GroupedData.std: on ddof ignore_nulls
data.GroupedData.sum: on ignore_nulls
data.GroupedData.with_column: column_name expr *function
data.ReadTask: read_fn metadata schema per_task_row_limit
data.TaskPoolStrategy: size
data.aggregate.AbsMax: on ignore_nulls alias_name zero_factory
data.aggregate.AggregateFn: init merge name accumulate_row accumulate_block finalize
data.aggregate.AggregateFnV2: name zero_factory on ignore_nulls
data.aggregate.ApproximateQuantile: on quantiles quantile_precision alias_name
data.aggregate.ApproximateTopK: on k log_capacity alias_name encode_lists
data.aggregate.AsList: on alias_name ignore_nulls
data.aggregate.Count: on ignore_nulls alias_name
data.aggregate.CountDistinct: on ignore_nulls alias_name
data.aggregate.Max: on ignore_nulls alias_name zero_factory
data.aggregate.Mean: on ignore_nulls alias_name
data.aggregate.Min: on ignore_nulls alias_name zero_factory
data.aggregate.MissingValuePercentage: on alias_name
data.aggregate.Quantile: on q ignore_nulls alias_name
data.aggregate.Std: on ddof ignore_nulls alias_name
data.aggregate.Sum: on ignore_nulls alias_name
data.aggregate.Unique: on ignore_nulls alias_name encode_lists
data.aggregate.ValueCounter: on alias_name
data.aggregate.ZeroPercentage: on ignore_nulls alias_name
data.datasource.FileBasedDatasource: paths filesystem schema open_stream_args meta_provider partition_filter partitioning
    ignore_missing_paths shuffle include_paths file_extensions
data.datasource.RowBasedFileDatasink: path filesystem try_create_dir open_stream_args filename_provider dataset_uuid file_format mode
data.datasource.FilenameProvider: dataset_uuid file_format
data.datasource.Partitioning: style base_dir field_names field_types filesystem
data.datasource.WriteResult: num_rows size_bytes write_returns
data.expressions.col: name
data.expressions.lit: value
data.expressions.pyarrow_udf: return_dtype
data.expressions.random: seed reseed_after_execution
data.expressions.udf: return_dtype
data.expressions.unnest: expr
data.from_arrow: tables override_num_blocks
data.from_arrow_refs: tables
data.from_blocks: blocks
data.from_daft: df
data.from_dask: df
data.from_huggingface: dataset parallelism concurrency override_num_blocks
data.from_items: items parallelism override_num_blocks
data.from_numpy: ndarrays
data.from_numpy_refs: ndarrays
data.from_pandas: dfs override_num_blocks
data.from_pandas_refs: dfs
data.from_tf: dataset
data.from_torch: dataset local_read
data.llm.HttpRequestProcessorConfig: batch_size accelerator_type concurrency url headers qps max_retries
    base_retry_wait_time_in_s session_factory http_request_stage
data.llm.HttpRequestStageConfig: enabled batch_size concurrency runtime_env num_cpus memory
data.llm.ChatTemplateStageConfig: enabled batch_size concurrency runtime_env num_cpus memory model_source chat_template
    chat_template_kwargs
data.llm.DetokenizeStageConfig: enabled batch_size concurrency runtime_env num_cpus memory model_source
data.llm.TokenizerStageConfig: enabled batch_size concurrency runtime_env num_cpus memory model_source
data.llm.vLLMEngineProcessorConfig: batch_size accelerator_type concurrency model_source runtime_env max_pending_requests
    max_concurrent_batches max_tasks_in_flight_per_actor should_continue_on_error chat_template_stage tokenize_stage
    detokenize_stage prepare_multimodal_stage engine_kwargs task_type log_engine_metrics dynamic_lora_loading_path
    placement_group_config
data.llm.ProcessorConfig: batch_size accelerator_type concurrency
data.llm.build_processor: config preprocess postprocess preprocess_map_kwargs postprocess_map_kwargs builder_kwargs
data.range: n parallelism concurrency override_num_blocks
data.range_tensor: n shape parallelism concurrency override_num_blocks
data.read_audio: paths filesystem arrow_open_stream_args partition_filter partitioning include_paths
    ignore_missing_paths file_extensions shuffle *workers
data.read_avro: paths filesystem parallelism arrow_open_stream_args partition_filter partitioning include_paths
    ignore_missing_paths shuffle file_extensions *workers
data.read_binary_files: paths include_paths filesystem parallelism arrow_open_stream_args partition_filter
    partitioning ignore_missing_paths shuffle file_extensions *workers
data.read_csv: paths filesystem parallelism arrow_open_stream_args partition_filter partitioning include_paths
    ignore_missing_paths shuffle file_extensions *workers
data.read_datasource: datasource parallelism compute *workers
data.read_delta: path version storage_options filesystem catalog columns parallelism shuffle include_paths *workers
data.read_iceberg: table_identifier row_filter parallelism selected_fields snapshot_id scan_kwargs catalog_kwargs
    catalog override_num_blocks ray_remote_args *function
data.read_images: paths filesystem parallelism arrow_open_file_args partition_filter partitioning size mode
    include_paths ignore_missing_paths shuffle file_extensions *workers
data.read_json: paths lines filesystem parallelism arrow_open_stream_args partition_filter partitioning
    include_paths ignore_missing_paths shuffle file_extensions *workers
data.read_lance: uri version columns filter storage_options scanner_options *workers
data.read_mcap: paths topics time_range message_types include_metadata filesystem parallelism partition_filter
    partitioning include_paths ignore_missing_paths shuffle file_extensions *workers
data.read_numpy: paths filesystem parallelism arrow_open_stream_args partition_filter partitioning include_paths
    ignore_missing_paths shuffle file_extensions concurrency override_num_blocks allow_pickle
data.read_orc: paths filesystem parallelism partition_filter partitioning include_paths ignore_missing_paths shuffle
    file_extensions *workers
data.read_parquet: paths filesystem catalog columns parallelism tensor_column_schema partition_filter partitioning
    shuffle include_paths include_row_hash file_extensions ignore_missing_paths skip_paths *workers
data.read_sql: sql connection_factory sql_params shard_keys shard_hash_fn parallelism *workers
data.read_text: paths encoding drop_empty_lines filesystem parallelism arrow_open_stream_args partition_filter
    partitioning include_paths ignore_missing_paths shuffle file_extensions *workers
data.read_tfrecords: paths filesystem parallelism arrow_open_stream_args partition_filter include_paths
    ignore_missing_paths tf_schema shuffle file_extensions *workers
data.read_videos: paths filesystem arrow_open_stream_args partition_filter partitioning include_paths
    include_timestamps fps resize ignore_missing_paths file_extensions shuffle *workers
data.read_webdataset: paths filesystem parallelism arrow_open_stream_args partition_filter decoder fileselect
    filerename suffixes verbose_open shuffle include_paths file_extensions expand_json *workers
get: object_refs timeout _use_object_store
get_actor: name namespace
kill: actor no_restart
put: value _owner _tensor_transport
shutdown: wait_for_processes _exiting_interpreter
util.ActorPool: actors
util.ActorPool.get_next: timeout ignore_if_timedout
util.ActorPool.get_next_unordered: timeout ignore_if_timedout
util.ActorPool.map: fn values
util.ActorPool.map_unordered: fn values
util.ActorPool.push: actor
util.ActorPool.submit: fn value
util.list_named_actors: all_namespaces
util.queue.Queue.get: block timeout
util.queue.Queue.get_async: block timeout
util.queue.Queue.get_nowait_batch: num_items
util.queue.Queue.put: item block timeout
util.queue.Queue.put_async: item block timeout
util.queue.Queue.put_nowait: item
util.queue.Queue.put_nowait_batch: items
util.queue.Queue.shutdown: force grace_period_s
wait: ray_waitables num_returns timeout fetch_local
"""
SETTINGS = """
target_max_block_size target_min_block_size streaming_read_buffer_size enable_pandas_block actor_prefetcher_enabled
autoscaling_config use_push_based_shuffle _shuffle_strategy pipeline_push_based_shuffle_reduce_tasks
default_hash_shuffle_parallelism shuffle_compression hash_shuffle_reduce_batch_size hash_shuffle_reduce_get_timeout_s
shuffle_input_batch_bytes max_hash_shuffle_aggregators min_hash_shuffle_aggregator_wait_time_in_s
hash_shuffle_aggregator_health_warning_interval_s max_hash_shuffle_finalization_batch_size
join_operator_actor_num_cpus_override hash_shuffle_operator_actor_num_cpus_override
hash_aggregate_operator_actor_num_cpus_override use_disk_based_hash_shuffle gpu_shuffle_num_actors gpu_shuffle_rmm_pool_size
gpu_shuffle_spill_memory_limit gpu_shuffle_setup_timeout_s scheduling_strategy scheduling_strategy_large_args
large_args_threshold use_polars use_polars_sort use_legacy_dataset_ids decoding_size_estimation min_parallelism
read_op_min_num_blocks use_datasource_v2 enable_tensor_extension_casting arrow_fixed_shape_tensor_format use_arrow_tensor_v2
enable_fallback_to_arrow_object_ext_type enable_auto_log_stats verbose_stats_logs accurate_map_phase_timing
per_stage_map_timing trace_allocations execution_options use_ray_tqdm enable_progress_bars enable_operator_progress_bars
enable_progress_bar_name_truncation enable_rich_progress_bars enable_get_object_locations_for_metrics
write_file_retry_on_errors warn_on_driver_memory_usage_bytes actor_task_retry_on_errors actor_init_retry_on_errors
actor_init_max_retries max_consecutive_actor_init_deaths retried_map_errors max_map_retries op_resource_reservation_enabled
op_resource_reservation_ratio output_backpressure_guard_release_interval_s max_errored_blocks
execution_no_progress_timeout_s log_internal_stack_trace raise_original_map_exception print_on_execution_start
s3_try_create_dir wait_for_min_actors_s max_tasks_in_flight_per_actor retried_io_errors lance_config iceberg_config
delta_config enable_per_node_metrics enable_stats_summary_collection override_object_store_memory_limit_fraction
memory_usage_poll_interval_s dataset_logger_id issue_detectors_config isolate_read_workers
downstream_capacity_backpressure_ratio enable_dynamic_output_queue_size_backpressure
enable_lineage_reconstruction_resource_accounting enforce_schemas pandas_block_ignore_metadata
enable_arrow_backed_pandas_conversion batch_to_block_arrow_format _checkpoint_config custom_execution_callback_classes
default_map_logical_memory_enabled _enable_ray_data_reconstruction object_store_reservation_overshoot_ratio
object_store_memory_pressure_fraction
"""
#: Parameters that change nothing, and why that is no loss.
HARMLESS = {
    ("get", "_use_object_store"): "values travel by the object store only",
    ("shutdown", "_exiting_interpreter"): "a session ends in one way",
    ("shutdown", "wait_for_processes"): "it always waits",
    ("data.aggregate.ApproximateQuantile", "quantile_precision"): "quantiles are exact",
    ("data.Dataset.get_stats_summary", "detail"): "the dict has all that is known",
}
#: What is given for parameters that have no default.
GIVEN = {
    "fn": lambda value: value, "column": "id", "col": "x", "cols": ["id"], "names": {"id": "key"}, "paths": "nowhere", "path": "nowhere",
    "exprs": {"x": aktis.data.expressions.col("id")}, "expr": aktis.data.expressions.col("id"), "column_name": "x", "n": 2,
    "items": [1], "key": "id", "join_type": "inner", "num_partitions": 1, "shape": (1,), "weights": [1.0], "test_size": 0.5,
    "datasource": aktis.data.datasource.Datasource(), "sql": "SELECT 1", "connection_factory": dict, "dataset": [1],
    "ndarrays": [], "uri": "nowhere", "table_identifier": "a.b", "tables": [], "dfs": [], "blocks": [],
}  # fmt: skip


#: They may not be installed; what these functions know is looked at by itself.
NEED_PACKAGES = {
    "read_audio",
    "read_avro",
    "read_videos",
    "read_mcap",
    "read_delta",
    "read_iceberg",
    "read_lance",
    "read_images",
    "from_huggingface",
}


def signatures():
    """Ray's names by function."""
    unwrapped = NAMES.strip().replace("\n    ", " ").replace("*workers", WORKERS).replace("*function", FUNCTION)
    return {path: names.split() for path, names in (line.split(": ") for line in unwrapped.split("\n"))}


SIGNATURES = signatures()


def found(path):
    ds = aktis.data.range(3)
    owner, _, name = path.rpartition(".")
    owners = {"data.Dataset": ds, "data.GroupedData": GroupedData(ds, "id"), "data.DataIterator": ds.iterator()}
    if owner in owners:
        return getattr(owners[owner], name)
    thing: Any = aktis
    for part in path.split("."):
        thing = getattr(thing, part)
    return thing


def kinds_of(function):
    return {name: parameter.kind for name, parameter in inspect.signature(function).parameters.items()}


OPEN = [path for path in SIGNATURES if inspect.Parameter.VAR_KEYWORD in kinds_of(found(path)).values()]


def arguments_of(path):
    parameters = inspect.signature(found(path)).parameters.values()
    more = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in more]
    if path == "data.Dataset.filter":
        needed = ["fn"]
    given = {"ds": aktis.data.range(2)} | GIVEN
    return {name: given[name] for name in needed}


def call(path, arguments, keyword):
    name = path.rpartition(".")[2]
    if name in NEED_PACKAGES:
        _reading._check_hints(name, {keyword: object()})
    else:
        found(path)(**arguments, **{keyword: object()})


@pytest.mark.parametrize("path", SIGNATURES)
def test_every_keyword_of_ray_is_known(path):
    if path == "data.Dataset.write_images":
        pytest.importorskip("PIL")
    absent, unknown = set(SIGNATURES[path]) - kinds_of(found(path)).keys(), set()
    assert not absent or path in OPEN
    arguments = arguments_of(path) if absent else {}
    for keyword in absent:
        try:
            call(path, arguments, keyword)
        except Exception as error:  # noqa: BLE001 - most are refused, or of a wrong type
            if f"unknown argument '{keyword}'" in str(error):
                unknown.add(keyword)
    assert not unknown


@pytest.mark.parametrize("path", OPEN)
def test_what_takes_many_keywords_takes_no_unknown_one(path):
    """And looks at them before anything else, so that the test above sees what it looks for."""
    if path == "data.Dataset.write_images":
        pytest.importorskip("PIL")
    with pytest.raises(TypeError, match="unknown argument 'no_such_keyword'"):
        call(path, arguments_of(path), "no_such_keyword")


@pytest.mark.parametrize("path", SIGNATURES)
def test_every_parameter_is_used_or_harmless_for_a_reason(path):
    function = found(path)
    if inspect.isclass(function):
        if dataclasses.is_dataclass(function) or issubclass(function, type(aktis.data.DataContext())):
            return
        function = function.__init__
    body = ast.parse(textwrap.dedent(inspect.getsource(function)))
    used = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    for keyword in set(SIGNATURES[path]) & kinds_of(function).keys():
        assert keyword in used or HARMLESS.get((path, keyword)), f"{path}({keyword}=) does nothing"


@pytest.mark.parametrize("name", SETTINGS.split())
def test_every_setting_of_ray_is_known(name):
    context = aktis.data.DataContext()
    try:
        setattr(context, name, getattr(context, name))
        setattr(context, name, object())
    except (NotImplementedError, ValueError) as error:
        assert f"DataContext.{name}" in str(error)
