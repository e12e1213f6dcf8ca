"""Datasets: read, transform with functions and models, write; streamed through the cluster.

A :class:`Dataset` describes work and runs when it is consumed. Names, arguments and meanings are those of Ray Data.

    >>> import aktis.data
    >>> ds = aktis.data.range(1000).map_batches(lambda batch: {"square": batch["id"] ** 2})
    >>> ds.take(3)
    [{'square': 0}, {'square': 1}, {'square': 4}]
    >>> ds.filter(expr="square >= 998000").count()
    1
"""

from . import _foreseen, collate_fn, expressions  # noqa: F401 - the first one first
from ._chosen_files import FileShuffleConfig
from ._compute import ActorPoolStrategy, TaskPoolStrategy
from ._context import DataContext, ExecutionOptions, ExecutionResources
from ._costs import PriceTable
from ._dead_letters import read_dead_letters
from ._expectations import ExpectationError
from ._failing import RowError
from ._mixing import MixStoppingCondition
from ._rate_limits import RateLimit
from ._reading import from_arrow, from_items, from_numpy, from_pandas, range, read_parquet
from ._reading_blocks import (
    from_arrow_refs,
    from_blocks,
    from_daft,
    from_dask,
    from_numpy_refs,
    from_pandas_refs,
    range_tensor,
)
from ._reading_documents import read_pdfs
from ._reading_extras import read_arrow, read_audio, read_avro, read_mcap, read_tfrecords, read_videos
from ._reading_files import (
    read_binary_files,
    read_csv,
    read_images,
    read_json,
    read_numpy,
    read_orc,
    read_text,
    read_webdataset,
)
from ._reading_sources import from_huggingface, from_tf, from_torch, read_datasource, read_sql
from ._reading_tables import read_delta, read_iceberg, read_lance
from ._save_mode import SaveMode
from ._schema import Schema
from ._sql import sql
from ._sql_functions import SqlFunction
from ._summary import DatasetSummary
from ._together import run_together
from .dataset import Dataset, MaterializedDataset
from .datasource import BlockBasedFileDatasink, Datasink, Datasource, ReadTask, RowBasedFileDatasink
from .iterator import DataIterator

__all__ = [
    "ActorPoolStrategy",
    "BlockBasedFileDatasink",
    "DataContext",
    "DataIterator",
    "Dataset",
    "DatasetSummary",
    "Datasink",
    "Datasource",
    "ExecutionOptions",
    "ExecutionResources",
    "ExpectationError",
    "FileShuffleConfig",
    "MaterializedDataset",
    "MixStoppingCondition",
    "PriceTable",
    "RateLimit",
    "ReadTask",
    "RowBasedFileDatasink",
    "RowError",
    "SaveMode",
    "Schema",
    "SqlFunction",
    "TaskPoolStrategy",
    "collate_fn",
    "expressions",
    "from_arrow",
    "from_arrow_refs",
    "from_blocks",
    "from_daft",
    "from_dask",
    "from_huggingface",
    "from_items",
    "from_numpy",
    "from_numpy_refs",
    "from_pandas",
    "from_pandas_refs",
    "from_tf",
    "from_torch",
    "range",
    "range_tensor",
    "read_arrow",
    "read_audio",
    "read_avro",
    "read_binary_files",
    "read_csv",
    "read_datasource",
    "read_dead_letters",
    "read_delta",
    "read_iceberg",
    "read_images",
    "read_json",
    "read_lance",
    "read_mcap",
    "read_numpy",
    "read_orc",
    "read_parquet",
    "read_pdfs",
    "read_sql",
    "read_text",
    "read_tfrecords",
    "read_videos",
    "read_webdataset",
    "run_together",
    "sql",
]


# As type checkers know it; they must not think that any name is there.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import llm as llm
else:

    def __getattr__(name: str) -> object:
        if name == "llm":
            # Loaded when it is used: most programs do not.
            import importlib

            return importlib.import_module(f"{__name__}.llm")
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
