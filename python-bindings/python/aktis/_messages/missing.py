"""Names that scripts for Ray use and that Aktis does not have: what to use instead. And misspelt names.

>>> print(explained("aktis.data", "read_parqet", ["read_parquet", "range"]))
module 'aktis.data' has no attribute 'read_parqet'. Did you mean 'read_parquet'?
>>> print(explained("aktis", "timeline", []))
aktis.timeline of Ray is not in Aktis yet: see Dataset.stats() for what a job spent its time on, and `aktis list`
"""

from __future__ import annotations

_GROUPS = (
    "there are no placement groups. Ask for the resources in each task or actor, with scheduling_strategy='SPREAD' or a "
    "NodeAffinitySchedulingStrategy"
)
_FILES = (
    "read the files in a function: from_items([{{'path': path}} for path in paths]).map_batches(f, batch_size=1), where f(batch) "
    "returns {}"
)
_TABLES = "read it with its own library, and give from_arrow() or from_pandas() what it gives"
_ENGINE = (
    "use vLLMEngineProcessorConfig, or start sglang.launch_server and ask it with HttpRequestProcessorConfig, or run the engine in a class "
    "for map_batches(), with num_gpus"
)
_OF_RAY = "it is another product of Ray's: use its library in tasks or actors, or run it with Ray"
_BLOCKS = "use to_arrow_refs()"
_SERVICE = (
    "its server was not there to try it with. Write a Datasource whose tasks each read a part with the client of the service, and give it "
    "to read_datasource()"
)
_SQL = (
    "its server was not there to try it with. It speaks SQL: read_sql(query, connect), where connect() makes a connection of its driver "
    "for Python"
)
_SERVICE_WRITE = (
    "its server was not there to try it with. Write a Datasink whose write(self, blocks, ctx) sends rows with the client of the service, "
    "by ids that make a second time harmless, and give it to write_datasink()"
)
_CATALOG = "there are no catalogs of Ray's: read_iceberg() takes one of PyIceberg, other tables are read by their paths"

_SPARK = "Spark has workers of its own, which Ray hosts in actors by another package (RayDP)"
_MODIN = "Modin computes by Ray, Dask or unidist, and not by Aktis"
_MARS = "Mars is no longer developed"

_TOP = {
    "LoggingConfig": "workers log as the function sets up the module logging; init(logging_level=...) is for the driver",
    "air": _OF_RAY,
    "autoscaler": "nodes are added by `aktis start --address`, or by the operator on Kubernetes",
    "client": "connect with init(address='HOST:PORT')",
    "cross_language": "only Python and Rust can be called",
    "dag": "call .remote() with references: tasks wait for what they depend on",
    "dashboard": "see `aktis status` and `aktis list`",
    "experimental": _OF_RAY,
    "java_function": "only Python and Rust can be called",
    "job_config": "give init() what the job needs",
    "job_submission": "start the script on a machine of the cluster with init(address='auto'), or make an AktisJob on Kubernetes",
    "rllib": _OF_RAY,
    "serve": _OF_RAY,
    "timeline": "see Dataset.stats() for what a job spent its time on, and `aktis list`",
    "train": _OF_RAY,
    "tune": _OF_RAY,
    "workflow": "keep the results of steps in files, and skip the steps whose files are there",
}
_DATA = {
    "Catalog": _CATALOG,
    "CatalogAccessMode": _CATALOG,
    "ClickHouseTableSettings": _SERVICE_WRITE,
    "DatabricksUnityCatalog": _CATALOG,
    "DatasetContext": "it is called DataContext",
    "DatasetIterator": "it is called DataIterator",
    "DatasetPipeline": "a Dataset is streamed",
    "from_mars": f"{_MARS}. from_pandas() takes a data frame of pandas",
    "from_modin": f"{_MODIN}. from_pandas(df.modin.to_pandas()), or write Parquet there and read_parquet() it here",
    "from_spark": f"{_SPARK}. Write Parquet there, and read_parquet() it here; or from_arrow(df.toArrow()) where the rows fit into memory",
    "KafkaAuthConfig": _SERVICE,
    "list_stats_summaries": "see get_stats_summary() of each dataset",
    "NodeIdStr": "the node of an actor or a task is told by aktis.get_runtime_context().get_node_id()",
    "Preprocessor": "compute what it needs by a job of its own, and apply it in map_batches()",
    "preprocessors": "compute what they need by a job of its own, and apply it in map_batches()",
    "RandomSeedConfig": "give random_shuffle() and FileShuffleConfig a seed",
    "read_bigquery": _SQL,
    "read_clickhouse": _SQL,
    "read_databricks_tables": _SQL,
    "read_delta_sharing_tables": "give from_pandas() what delta_sharing.load_as_pandas() gives",
    "read_hdf5": _FILES.format("the arrays"),
    "read_hive": "read_parquet() or read_orc() the files of the table",
    "read_hudi": _TABLES,
    "read_kafka": _SERVICE,
    "read_kinetica": _SERVICE,
    "read_lerobot": "read_parquet() the episodes, and read_videos() their films",
    "read_mongo": _SERVICE,
    "read_parquet_bulk": "read_parquet() takes a list of files",
    "read_snowflake": _SQL,
    "read_unity_catalog": _CATALOG,
    "read_zarr": "read slices of the array in a function: range(n).map_batches(f), where f(batch) opens it and returns them",
    "ReaderFormat": _CATALOG,
    "ResolvedSource": _CATALOG,
    "set_progress_bars": "set DataContext.get_current().enable_progress_bars",
    "SinkMode": _SERVICE_WRITE,
}
_KINDS = "expressions are of one class, Expr: repr() shows what it is made of, structurally_equals() compares two"
_EXPRESSIONS = dict.fromkeys(
    (
        "AliasExpr", "BinaryExpr", "ColumnExpr", "DownloadExpr", "LiteralExpr", "MonotonicallyIncreasingIdExpr", "Operation",
        "PyArrowComputeUDFExpr", "RandomExpr", "StarExpr", "UDFExpr", "UUIDExpr", "UnaryExpr", "UnnestExpr",
    ),
    _KINDS,
)  # fmt: skip
_TYPES = "the engine finds types when the plan is built: see schema() of the dataset with the column"
_EXPR = {
    "expand_projection": "give star() to select_columns(), and unnest() to with_columns()",
    "get_type": _TYPES,
    "is_idempotent": "expressions give the same again, those by chance included: random() and uuid() have a seed",
    "nullable": _TYPES,
    "to_field": _TYPES,
    "to_pyarrow": "it is computed by the engine; where pyarrow is to compute it, write it with pyarrow.compute.field()",
}
_CUSTOM = "derive from FileBasedDatasource, or from Datasource with tasks of your own"
_DATASOURCE = {
    "BaseFileMetadataProvider": _CUSTOM,
    "Connection": "connections are those of Python's DB API 2: leave it out",
    "DefaultFileMetadataProvider": _CUSTOM,
    "DeltaSharingDatasource": "give from_pandas() what delta_sharing.load_as_pandas() gives",
    "DummyOutputDatasink": "take what the rows cost from explain(analyze=True), which throws them away",
    "FileMetadataProvider": _CUSTOM,
    "LeRobotDatasource": "read_parquet() the episodes, and read_videos() their films",
    "MCAPDatasource": "use read_mcap()",
    "RandomIntRowDatasource": "use range(n) and map_batches()",
    "Reader": "a Datasource says its tasks itself, in get_read_tasks()",
    "TimeRange": "give read_mcap(time_range=...) two times in nanoseconds",
    "TurbopufferDatasink": _SERVICE_WRITE,
}
_UTIL = {
    "accelerators": "give nodes a resource of that name, and ask for it with resources={...}",
    "annotations": "they mark what is public in Ray; leave them out",
    "collective": "use torch.distributed between actors",
    "dask": _OF_RAY,
    "debugpy": "call the function in this process: f._function(...)",
    "get_current_placement_group": _GROUPS,
    "get_placement_group": _GROUPS,
    "inspect_serializability": "call .remote(): an error of pickling names the part at fault",
    "iter": "use aktis.data",
    "joblib": "call tasks: aktis.get([f.remote(x) for x in xs])",
    "lightgbm": _OF_RAY,
    "metrics": "there are no metrics yet",
    "multiprocessing": "call tasks, aktis.get([f.remote(x) for x in xs]), or use aktis.util.ActorPool",
    "placement_group": _GROUPS,
    "placement_group_table": _GROUPS,
    "register_serializer": "give the class a __reduce__, or use copyreg.pickle()",
    "remove_placement_group": _GROUPS,
    "rpdb": "call the function in this process: f._function(...)",
    "serialization": "give the class a __reduce__, or use copyreg.pickle()",
    "spark": _OF_RAY,
    "state": "use `aktis list nodes`, `actors` or `jobs`, with --json for programs",
    "tracing": "there are no traces yet",
    "xgboost": _OF_RAY,
}
_DATASET = {
    "deserialize_lineage": "unpickle the dataset",
    "fully_executed": "use materialize()",
    "get_dataset_id": "name what you keep of its results yourself",
    "get_internal_block_refs": _BLOCKS,
    "has_serializable_lineage": "a dataset can be pickled",
    "iter_internal_ref_bundles": _BLOCKS,
    "lazy": "datasets are lazy: leave it out",
    "map_batches_internal": "use map_batches()",
    "name": "datasets have no names: keep them in a dict",
    "num_rows": "use count()",
    "set_name": "datasets have no names: keep them in a dict",
    "serialize_lineage": "pickle the dataset",
    "to_mars": f"{_MARS}. to_pandas() gives a data frame of pandas",
    "to_modin": f"{_MODIN}. modin.pandas.DataFrame(ds.to_pandas()), or write_parquet() and read it there",
    "to_random_access_dataset": "keep to_pandas() with an index in an actor",
    "to_spark": f"{_SPARK}. write_parquet(), and spark.read.parquet() there; or spark.createDataFrame(ds.to_arrow()) where the rows fit into memory",
    "write_bigquery": _SERVICE_WRITE,
    "write_clickhouse": _SERVICE_WRITE,
    "write_databricks_tables": _SERVICE_WRITE,
    "write_kinetica": _SERVICE_WRITE,
    "write_qdrant": _SERVICE_WRITE,
    "write_kafka": _SERVICE_WRITE,
    "write_mongo": _SERVICE_WRITE,
    "write_snowflake": _SERVICE_WRITE,
    "write_turbopuffer": _SERVICE_WRITE,
}
_AGGREGATE = {
    "VectorizedAggregateFnV2": "accumulators are merged two by two here: derive from AggregateFnV2, and give combine() in the place of combine_column()"
}
_CHECKPOINT = dict.fromkeys(
    ("CheckpointBackend", "CheckpointFilter", "CheckpointManager", "IdColumnCheckpointManager", "NumpyArrayBasedCheckpointFilter"),
    "jobs go on by the ledger beside their output, without a column of ids: see docs/data/resume.md",
)  # fmt: skip
_COLLATE = {
    "DefaultCollateFn": "it is what happens without a collate_fn: leave it out",
    "is_tensor_batch_type": "ask isinstance(batch, torch.Tensor)",
}
_LLM = {
    "PrepareMultimodalStageConfig": "load pictures and others in preprocess=, and return them as 'multimodal_data' with a 'prompt'",
    "SGLangEngineProcessorConfig": _ENGINE,
    "ServeDeploymentProcessorConfig": "there is no serve here: ask the deployment over HTTP, with HttpRequestProcessorConfig",
}
_INSTEAD = {
    "aktis": _TOP,
    "aktis.data": _DATA,
    "aktis.data.aggregate": _AGGREGATE,
    "aktis.data.checkpoint": _CHECKPOINT,
    "aktis.data.collate_fn": _COLLATE,
    "aktis.data.datasource": _DATASOURCE,
    "aktis.data.expressions": _EXPRESSIONS,
    "aktis.data.llm": _LLM,
    "aktis.util": _UTIL,
    "Dataset": _DATASET,
    "Expr": _EXPR,
}
#: Owners of methods, of which the names above say what to call.
_CLASSES = {
    "DataIterator": "a DataIterator",
    "Dataset": "a Dataset",
    "Expr": "an expression",
    "GroupedData": "groups",
    "Processor": "a Processor",
}


def explained(owner: str, name: str, known: list[str]) -> str:
    """What is told of a name that is not there.

    Args:
        owner: a module, or a class of :mod:`aktis.data`.
        known: the names that are there.
    """
    instead = _INSTEAD.get(owner, {}).get(name)
    if instead is not None:
        call = "()" if owner in _CLASSES else ""
        return f"{owner}.{name}{call} of Ray is not in Aktis yet: {instead}"
    what = _CLASSES.get(owner, f"module {owner!r}")
    if name.startswith("_"):
        # Python itself asks for such names, at each import of a submodule: not a mistake, and nothing to spend time on.
        return f"{what} has no attribute {name!r}"
    import difflib

    nearest = difflib.get_close_matches(name, [each for each in known if not each.startswith("_")], n=1)
    return f"{what} has no attribute {name!r}" + (f". Did you mean {nearest[0]!r}?" if nearest else "")


def refuse_module(path: str) -> None:
    """Raises for an import of a module of Ray's that is known not to be there; also for ``from aktis.data import read_hdf5``.

    Python asks for modules where it has found no attribute, and would say no more than that there is none.
    """
    owner, _, name = path.rpartition(".")
    if name in _INSTEAD.get(owner, {}):
        raise ImportError(explained(owner, name, []), name=path)
