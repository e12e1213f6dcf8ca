"""Every public name of Ray Data's classes is there, or is refused by name with what to use instead.

The names are those of Ray 2.60.0.
"""

import aktis.data
import aktis.data.aggregate
import aktis.data.checkpoint
import aktis.data.datasource
import aktis.data.expressions
import aktis.data.llm
import pytest
from aktis.data.grouped_data import GroupedData

DATASET = """
add_column aggregate columns context copy count deserialize_lineage drop_columns explain filter flat_map get_dataset_id
get_internal_block_refs get_stats_summary groupby has_serializable_lineage input_files iter_batches iter_internal_ref_bundles
iter_jax_batches iter_rows iter_tf_batches iter_torch_batches iterator join limit map map_batches map_batches_internal
materialize max mean min mix name num_blocks random_sample random_shuffle randomize_block_order rename_columns repartition
schema select_columns serialize_lineage set_name show size_bytes sort split split_at_indices split_proportionately stats std
streaming_split streaming_train_test_split sum summary take take_all take_batch to_arrow_refs to_daft to_dask to_mars to_modin
to_numpy_refs to_pandas to_pandas_refs to_random_access_dataset to_spark to_tf train_test_split union unique with_column
with_columns write_bigquery write_clickhouse write_csv write_datasink write_delta write_iceberg write_images write_json
write_kafka write_lance write_mongo write_numpy write_orc write_parquet write_snowflake write_sql write_tfrecords
write_turbopuffer write_webdataset zip
"""
GROUPED = "aggregate count map_groups max mean min std sum with_column"
ITERATOR = """
get_context iter_batches iter_jax_batches iter_rows iter_tf_batches iter_torch_batches materialize schema stats to_tf to_torch
"""
AGGREGATE = """
AbsMax AggregateFn AggregateFnV2 ApproximateQuantile ApproximateTopK AsList Count CountDistinct Max Mean Min
MissingValuePercentage Quantile Std Sum Unique ValueCounter VectorizedAggregateFnV2 ZeroPercentage
"""
DATA = """
ActorPoolStrategy BlockBasedFileDatasink Catalog CatalogAccessMode ClickHouseTableSettings DataContext DataIterator
DatabricksUnityCatalog Dataset DatasetContext DatasetIterator DatasetSummary Datasink Datasource ExecutionOptions
ExecutionResources FileShuffleConfig KafkaAuthConfig MixStoppingCondition NodeIdStr Preprocessor RandomSeedConfig ReadTask
ReaderFormat ResolvedSource RowBasedFileDatasink SaveMode Schema SinkMode TaskPoolStrategy from_arrow from_arrow_refs
from_blocks from_daft from_dask from_huggingface from_items from_mars from_modin from_numpy from_numpy_refs from_pandas
from_pandas_refs from_spark from_tf from_torch list_stats_summaries range range_tensor read_audio read_avro read_bigquery
read_binary_files read_clickhouse read_csv read_databricks_tables read_datasource read_delta read_delta_sharing_tables
read_hudi read_iceberg read_images read_json read_kafka read_lance read_lerobot read_mcap read_mongo read_numpy read_orc
read_parquet read_snowflake read_sql read_text read_tfrecords read_unity_catalog read_videos read_webdataset read_zarr
"""
CHECKPOINT = """
CheckpointBackend CheckpointConfig CheckpointFilter CheckpointManager IdColumnCheckpointManager NumpyArrayBasedCheckpointFilter
"""
COLLATE = "ArrowBatchCollateFn CollateFn DefaultCollateFn NumpyBatchCollateFn PandasBatchCollateFn is_tensor_batch_type"
DATASOURCE = """
BaseFileMetadataProvider BlockBasedFileDatasink Connection Datasink Datasource DefaultFileMetadataProvider
DeltaSharingDatasource DummyOutputDatasink FileBasedDatasource FileMetadataProvider FileShuffleConfig FilenameProvider
LeRobotDatasource MCAPDatasource PartitionStyle Partitioning PathPartitionFilter PathPartitionParser RandomIntRowDatasource
ReadTask Reader RowBasedFileDatasink SaveMode TimeRange TurbopufferDatasink WriteResult WriteReturnType
"""
EXPRESSIONS = """
AliasExpr BinaryExpr ColumnExpr DownloadExpr Expr LiteralExpr MonotonicallyIncreasingIdExpr Operation PyArrowComputeUDFExpr
RandomExpr StarExpr UDFExpr UUIDExpr UnaryExpr UnnestExpr col download lit monotonically_increasing_id pyarrow_udf random star
udf unnest uuid
"""
EXPR = """
abs acos alias arr asin atan cast ceil cos dt exp expand_projection floor get_type is_idempotent is_in is_not_null is_null
list ln log10 log2 map name negate not_in nullable power round sign sin str struct structurally_equals tan to_field to_pyarrow
trunc
"""
LLM = """
ChatTemplateStageConfig DetokenizeStageConfig HttpRequestProcessorConfig HttpRequestStageConfig PrepareMultimodalStageConfig
Processor ProcessorConfig SGLangEngineProcessorConfig ServeDeploymentProcessorConfig TokenizerStageConfig build_llm_processor
build_processor vLLMEngineProcessorConfig
"""
CASES = [
    (owner, name)
    for owner, names in (
        ("Dataset", DATASET),
        ("GroupedData", GROUPED),
        ("DataIterator", ITERATOR),
        ("aktis.data.aggregate", AGGREGATE),
        ("aktis.data", DATA),
        ("aktis.data.checkpoint", CHECKPOINT),
        ("aktis.data.collate_fn", COLLATE),
        ("aktis.data.datasource", DATASOURCE),
        ("aktis.data.expressions", EXPRESSIONS),
        ("Expr", EXPR),
        ("aktis.data.llm", LLM),
    )
    for name in names.split()
]


@pytest.mark.parametrize(("owner", "name"), CASES)
def test_name_is_there_or_refused_with_what_to_use(owner, name):
    ds = aktis.data.range(1)
    has = {
        "Dataset": ds,
        "GroupedData": GroupedData(ds, "id"),
        "DataIterator": ds.iterator(),
        "aktis.data.aggregate": aktis.data.aggregate,
        "aktis.data": aktis.data,
        "aktis.data.checkpoint": aktis.data.checkpoint,
        "aktis.data.collate_fn": aktis.data.collate_fn,
        "aktis.data.datasource": aktis.data.datasource,
        "aktis.data.expressions": aktis.data.expressions,
        "Expr": aktis.data.expressions.col("id"),
        "aktis.data.llm": aktis.data.llm,
    }
    try:
        assert getattr(has[owner], name) is not None
    except AttributeError as error:
        assert f"{owner}.{name}" in str(error) and " of Ray is not in Aktis yet: " in str(error)


def test_misspelt_method_of_groups_is_told_with_the_nearest_name():
    with pytest.raises(AttributeError, match="groups has no attribute 'agregate'. Did you mean 'aggregate'"):
        getattr(aktis.data.range(1).groupby("id"), "agregate")  # noqa: B009
