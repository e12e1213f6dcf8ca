"""Ray's settings of datasets that Aktis does not have: refused, or harmless for the reason that is given."""

from __future__ import annotations

from ._keywords import Refused

_PROGRESS = "how progress looks; enable_progress_bars turns it off"
_STATS = "statistics and logs; Dataset.stats() has them"
_SIZES = "parts and blocks are sized by the workers and the budget"
_PRESSURE = "every step has its part of one budget, execution_options.resource_limits.object_store_memory"
_SHUFFLE = "rows go to the workers that need them in one way, by partitions that are made by size"
_FORMAT = "blocks are always Arrow"
_TRIED = "requests to stores are made again where that can help; an error that is left fails the job"
_RETRY = Refused("catch the exception in the function and call again there", (False, None, (), [], 0))

#: What tunes something that Aktis makes in another way.
CONTEXT_HARMLESS: dict[str, str] = {
    **dict.fromkeys(
        ("use_ray_tqdm", "enable_operator_progress_bars", "enable_progress_bar_name_truncation",
         "enable_rich_progress_bars", "print_on_execution_start"), _PROGRESS,
    ),
    **dict.fromkeys(
        ("enable_auto_log_stats", "verbose_stats_logs", "trace_allocations", "enable_get_object_locations_for_metrics",
         "enable_per_node_metrics", "memory_usage_poll_interval_s", "dataset_logger_id", "issue_detectors_config",
         "log_internal_stack_trace_to_stdout", "log_internal_stack_trace", "accurate_map_phase_timing",
         "per_stage_map_timing", "enable_stats_summary_collection", "use_legacy_dataset_ids"), _STATS,
    ),
    **dict.fromkeys(
        ("target_min_block_size", "target_shuffle_max_block_size", "min_parallelism", "read_op_min_num_blocks",
         "streaming_read_buffer_size", "decoding_size_estimation", "iter_get_block_batch_size",
         "actor_prefetcher_enabled", "eager_free", "large_args_threshold", "scheduling_strategy_large_args"), _SIZES,
    ),
    **dict.fromkeys(
        ("op_resource_reservation_enabled", "op_resource_reservation_ratio", "max_tasks_in_flight_per_actor",
         "downstream_capacity_backpressure_ratio", "downstream_capacity_backpressure_max_queued_bundles",
         "enable_dynamic_output_queue_size_backpressure", "autoscaling_config",
         "output_backpressure_guard_release_interval_s", "object_store_reservation_overshoot_ratio",
         "object_store_memory_pressure_fraction", "enable_lineage_reconstruction_resource_accounting"), _PRESSURE,
    ),
    **dict.fromkeys(
        ("use_push_based_shuffle", "shuffle_strategy", "pipeline_push_based_shuffle_reduce_tasks",
         "default_hash_shuffle_parallelism", "max_hash_shuffle_aggregators", "use_polars", "use_polars_sort",
         "_shuffle_strategy", "shuffle_compression", "hash_shuffle_reduce_batch_size", "hash_shuffle_reduce_get_timeout_s",
         "shuffle_input_batch_bytes", "min_hash_shuffle_aggregator_wait_time_in_s", "use_disk_based_hash_shuffle",
         "hash_shuffle_aggregator_health_warning_interval_s", "max_hash_shuffle_finalization_batch_size",
         "join_operator_actor_num_cpus_override", "hash_shuffle_operator_actor_num_cpus_override",
         "hash_aggregate_operator_actor_num_cpus_override", "gpu_shuffle_num_actors", "gpu_shuffle_rmm_pool_size",
         "gpu_shuffle_spill_memory_limit", "gpu_shuffle_setup_timeout_s"), _SHUFFLE,
    ),
    **dict.fromkeys(
        ("enable_pandas_block", "use_arrow_tensor_v2", "enable_tensor_extension_casting",
         "pandas_block_ignore_metadata", "batch_to_block_arrow_format"), _FORMAT,
    ),
    "use_datasource_v2": "sources of both kinds are read in one way",
    "_enable_ray_data_reconstruction": "blocks that are lost are made again in any case",
    "raise_original_map_exception": "the exception is an instance of the function's own class in any case",
}  # fmt: skip

#: What would change results or failures.
CONTEXT_REFUSED: dict[str, Refused] = {
    "actor_task_retry_on_errors": _RETRY,
    "actor_init_retry_on_errors": _RETRY,
    "retried_map_errors": _RETRY,
    "max_map_retries": _RETRY,
    "retried_io_errors": Refused(_TRIED, (None, [], ())),
    "write_file_retry_on_errors": Refused(_TRIED, (None, [], ())),
    "actor_init_max_retries": Refused("max_worker_deaths_per_input counts workers that die while they start", (3, 0)),
    "max_consecutive_actor_init_deaths": Refused("max_worker_deaths_per_input counts them", (0,)),
    "scheduling_strategy": Refused("ask for resources of the nodes that you mean, with resources={...}",
                                   ("SPREAD", "DEFAULT", None)),
    "execution_no_progress_timeout_s": Refused("read with a time limit of your own", (None, 0, 1800)),
    "wait_for_min_actors_s": Refused("work begins with the first actor that is ready", (-1, 0, None)),
    "override_object_store_memory_limit_fraction": Refused(
        "set execution_options.resource_limits.object_store_memory, in bytes"),
    "enforce_schemas": Refused("columns are always checked", (False, True)),
    "isolate_read_workers": Refused("limit the workers of the function instead: reading has no workers of its own",
                                    (False,)),
    "custom_execution_callback_classes": Refused("look at Dataset.stats() after the run", ([], (), None)),
    "arrow_fixed_shape_tensor_format": Refused("tensors of one shape are of Arrow's canonical type"),
    "enable_fallback_to_arrow_object_ext_type": Refused("make bytes of objects in the function, with pickle", (None, False)),
    "enable_arrow_backed_pandas_conversion": Refused("convert the frame in the function, with convert_dtypes()"),
    "default_map_logical_memory_enabled": Refused("give memory=... to the steps", (False, None)),
    "_checkpoint_config": Refused("it is called checkpoint_config"),
    **dict.fromkeys(("lance_config", "iceberg_config", "delta_config"),
                    Refused("give the arguments to the function that reads or writes")),
    "s3_try_create_dir": Refused("stores need no folders; make the bucket beforehand", (False,)),
}  # fmt: skip

OPTIONS_HARMLESS: dict[str, str] = {
    "verbose_progress": _PROGRESS,
    "actor_locality_enabled": "blocks are read in place where they lie on the node of their worker",
}
OPTIONS_REFUSED: dict[str, Refused] = {
    "exclude_resources": Refused("start nodes for datasets with fewer resources"),
    "label_selector": Refused(
        "ask for a resource that only these nodes have, with resources={...} of the steps", (None, {})
    ),
    "locality_with_output": Refused("ask for a resource of the node, with resources={...}", (False,)),
}
_LIMIT = Refused("limit the workers of a step with compute=...", (None, float("inf")))
RESOURCES_REFUSED: dict[str, Refused] = {
    "cpu": _LIMIT,
    "gpu": _LIMIT,
    "memory": Refused("give memory=... to the steps", (None, float("inf"))),
}
