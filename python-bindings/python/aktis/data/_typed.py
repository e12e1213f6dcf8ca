"""What only type checkers and editors read of datasets: what functions return, and Ray's arguments as typed dictionaries.

Nothing imports this module when a program runs. An argument of Ray that Aktis does not have is here with the values that ask for
nothing, so that a checker reports others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, TypeVar

from ._compute import ActorPoolStrategy, TaskPoolStrategy
from ._failing import RowError

if TYPE_CHECKING:
    import os

    from pyarrow.parquet import SortingColumn

    from ._rate_limits import RateLimit
    from .datasource import FilenameProvider

T = TypeVar("T")


class Frame(Protocol):
    """A ``pandas.DataFrame``, a ``pyarrow.Table`` or a record batch: known by its columns, as pyarrow has no types to name."""

    @property
    def columns(self) -> Any: ...


class Columns(Protocol):
    """A ``pyarrow.Schema``, or what :meth:`Dataset.schema` gives."""

    @property
    def names(self) -> Any: ...

    @property
    def types(self) -> Any: ...


#: Columns and their types, as users declare them.
OutputSchema = Columns | Mapping[str, Any]


class NativeModel(Protocol):
    """A model that runs without Python, such as :class:`aktis.models.TextEmbedder`."""

    def spec_json(self, *, replicas: int | None = None, sharing: int | None = None) -> str: ...


OnError = Literal["raise", "skip", "dead_letter"]
#: Classes of exceptions after which a call is made again; True: all.
RetryExceptions = bool | Sequence[type[BaseException]]
BatchFormat = Literal["default", "numpy", "pandas", "pyarrow"]
Row = Mapping[str, Any]
Batch = Row | Frame
#: One batch, several one after another, or either later.
Batches = Batch | Iterator[Batch | RowError] | Awaitable[Batch] | AsyncIterator[Batch | RowError]
#: A function, or a class whose instances are functions.
Makes = Callable[..., T] | Callable[..., Callable[..., T]]

BatchFunction = Makes[Batches]
RowFunction = Makes[Row | RowError | Awaitable[Row | RowError]]
ManyRowsFunction = Makes[Iterable[Row] | RowError | Awaitable[Iterable[Row] | RowError] | AsyncIterator[Row]]


#: Where a function runs: one kind of worker, or several.
Compute = ActorPoolStrategy | TaskPoolStrategy | Literal["tasks", "actors"] | Sequence[ActorPoolStrategy] | None


class FunctionArgs(TypedDict, total=False):
    """What Ray gives to the workers of a function, and is not there."""

    accelerator_type: None
    label_selector: None
    fallback_strategy: None
    runtime_env: None
    scheduling_strategy: Literal["DEFAULT"] | None
    ray_remote_args_fn: None
    max_calls: Literal[0] | None
    max_restarts: Literal[-1] | None
    max_task_retries: Literal[-1] | None


class RemoteArgs(FunctionArgs, total=False):
    """The same where no call is made again."""

    max_retries: Literal[-1] | None
    retry_exceptions: Literal[False] | None


class RowOptions(FunctionArgs, total=False):
    """Options of a function over rows."""

    compute: Compute
    fn_args: Iterable[Any] | None
    fn_kwargs: Mapping[str, Any] | None
    fn_constructor_args: Iterable[Any] | None
    fn_constructor_kwargs: Mapping[str, Any] | None
    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    concurrency: int | tuple[int, int] | tuple[int, int, int] | None
    resources: Mapping[str, float] | None
    input_columns: list[str] | None
    max_concurrency: int | None
    rate_limit: float | RateLimit | None
    on_error: OnError | None
    max_errors: int | None
    max_error_ratio: float | None
    timeout_s: float | None
    retry_exceptions: RetryExceptions | None
    max_retries: int | None


class MapOptions(RowOptions, total=False):
    """The same, of a function that makes rows."""

    output_schema: OutputSchema | None
    cache: str | os.PathLike[str] | None


class ColumnHints(RemoteArgs, total=False):
    """Options of what chooses and renames columns: it runs where rows are read, whatever they say."""

    compute: ActorPoolStrategy | TaskPoolStrategy | Literal["tasks", "actors"] | None
    concurrency: int | tuple[int, int] | tuple[int, int, int] | None
    num_cpus: float | None
    num_gpus: float | None
    memory: float | None
    resources: Mapping[str, float] | None


class ArrowStream(Protocol):
    """A table of another library."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any: ...


class SourceHints(TypedDict, total=False):
    """Options of what a dataset is made of in this process."""

    override_num_blocks: int | None
    parallelism: int | None
    num_cpus: Literal[1] | None
    num_gpus: Literal[0] | None
    memory: None
    concurrency: None
    ray_remote_args: None
    compute: None


class ReadHints(SourceHints, RemoteArgs, total=False):
    """Options of what reads files."""

    #: A filesystem of ``pyarrow.fs`` or of fsspec.
    filesystem: Any
    catalog: None
    tensor_column_schema: None
    include_row_hash: Literal[False] | None
    arrow_parquet_args: None
    memory_pool: None
    resources: None


class IterArgs(TypedDict, total=False):
    """Arguments of ``iter_batches`` besides: none that are taken, and a misspelt one is told with the nearest name."""

    _collate_fn: None


class WriteFileArgs(TypedDict, total=False):
    """Arguments of ``write_csv`` and its kin that they take for Ray's sake."""

    num_rows_per_file: int | None
    max_rows_per_file: int | None
    partition_cols: Sequence[str] | None
    filename_provider: FilenameProvider | None
    resume: Literal["auto"] | bool
    dead_letters: str | os.PathLike[str] | None
    filesystem: Any
    arrow_csv_args_fn: None
    pandas_json_args_fn: None
    arrow_orc_args_fn: None
    ray_remote_args: None


class WriteWholeFileArgs(WriteFileArgs, total=False):
    """The same, of formats whose files are not compressed as a whole."""

    arrow_open_stream_args: None


class WriteORCArgs(WriteWholeFileArgs, total=False):
    """The same, and the arguments of ``pyarrow.orc.ORCWriter``."""

    file_version: str
    batch_size: int
    stripe_size: int
    compression: str
    compression_block_size: int
    compression_strategy: str
    row_index_stride: int
    padding_tolerance: float
    dictionary_key_size_threshold: float
    bloom_filter_columns: Sequence[int] | None
    bloom_filter_fpp: float


class WriteArgs(TypedDict, total=False):
    """Arguments of ``write_parquet`` that it takes for Ray's sake."""

    num_rows_per_file: int | None
    compression_level: int | None
    use_dictionary: bool | None
    write_statistics: bool | None
    data_page_size: int | None
    sorting_columns: Sequence[SortingColumn] | None
    filesystem: Any
    catalog: None
    partitioning_flavor: Literal["hive"] | None
    arrow_open_stream_args: None
    ray_remote_args: None
