"""Sources and sinks of one's own: a class that says which tasks read what, a class that is given what is to be written.

>>> import aktis.data
>>> class Squares(Datasource):
...     def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
...         return [ReadTask(lambda part=part: [{"square": [part ** 2]}], BlockMetadata(num_rows=1)) for part in range(3)]
>>> aktis.data.read_datasource(Squares()).take_all()
[{'square': 0}, {'square': 1}, {'square': 4}]
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import _batches
from .._partitioning import Partitioning, PartitionStyle, PathPartitionFilter, PathPartitionParser
from .._save_mode import SaveMode
from ..block import Block, BlockMetadata

if TYPE_CHECKING:
    from .._chosen_files import FileShuffleConfig

__all__ = [
    "BlockBasedFileDatasink",
    "BlockMetadata",
    "Datasink",
    "Datasource",
    "FileBasedDatasource",
    "FileDatasink",
    "FileShuffleConfig",
    "FilenameProvider",
    "PartitionStyle",
    "Partitioning",
    "PathPartitionFilter",
    "PathPartitionParser",
    "ReadTask",
    "RowBasedFileDatasink",
    "SaveMode",
    "TaskContext",
    "WriteResult",
    "WriteReturnType",
]


#: What a call of a sink returns.
WriteReturnType = TypeVar("WriteReturnType")


class Datasource:
    """What a dataset is read from, for :func:`aktis.data.read_datasource`: a class of one's own with :meth:`get_read_tasks`.

    >>> class Ones(Datasource):
    ...     def get_read_tasks(self, parallelism, per_task_row_limit=None, data_context=None):
    ...         return [ReadTask(lambda: [{"one": [1]}]) for _ in range(parallelism)]
    >>> len(Ones().get_read_tasks(3))
    3
    """

    def get_name(self) -> str:
        """What the step is called in messages and statistics: ``Read`` and this.

        Returns:
            The name of the class, without ``Datasource``.

        >>> class NightlyDatasource(Datasource): ...
        >>> NightlyDatasource().get_name()
        'Nightly'
        """
        return type(self).__name__.removeprefix("_").removesuffix("Datasource")

    def estimate_inmemory_data_size(self) -> int | None:
        """How many bytes all rows have in memory: about as many tasks are asked for as fit.

        Returns:
            The bytes, or ``None`` if nobody knows.

        >>> Datasource().estimate_inmemory_data_size() is None
        True
        """
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """What is to be read, cut into tasks, in the order of the rows. Called in the driver.

        Args:
            parallelism: About how many tasks there should be.
            per_task_row_limit: Rows that a task need not exceed; ``None``: all are wanted.
            data_context: For Ray's sake.

        Returns:
            Tasks, which workers run; one whose worker dies is run again.

        Raises:
            NotImplementedError: the class does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method get_read_tasks(self, parallelism, ...)")


class ReadTask:
    """A part of what a :class:`Datasource` reads.

    Args:
        read_fn: Gives blocks, one after another: tables of pyarrow, data frames of pandas or dicts of columns.
        metadata: What is known of them.
        schema: For Ray's sake: the columns are those of the blocks.
        per_task_row_limit: Rows after which nothing more is read.

    >>> list(ReadTask(lambda: [{"x": [1]}, {"x": [2]}], BlockMetadata())())
    [{'x': [1]}, {'x': [2]}]
    """

    def __init__(
        self,
        read_fn: Callable[[], Iterable[Block]],
        metadata: BlockMetadata | None = None,
        schema: Any = None,
        per_task_row_limit: int | None = None,
    ) -> None:
        self.read_fn = read_fn
        self.metadata = metadata or BlockMetadata()
        self.schema = schema
        self.per_task_row_limit = per_task_row_limit

    def __call__(self) -> Iterator[Block]:
        """Reads. Yields the blocks."""
        left = self.per_task_row_limit
        for block in self.read_fn():
            if left is None:
                yield block
                continue
            table = _table(block)
            yield table.slice(0, left)
            left -= table.num_rows
            if left <= 0:
                return


def _table(block: Block) -> Any:
    from .. import _batches

    return _batches.to_arrow(block, "ReadTask()")


@dataclass
class WriteResult(Generic[WriteReturnType]):
    """What became of all calls of :meth:`Datasink.write`.

    Args:
        num_rows: Rows that were written.
        size_bytes: Their size in memory.
        write_returns: What the calls returned.
    """

    num_rows: int
    size_bytes: int
    write_returns: list[WriteReturnType]


@dataclass
class TaskContext:
    """What :meth:`Datasink.write` is told of its call.

    Args:
        task_idx: A number that no other call has, also none for the same rows; by chance.
        op_name: The step.
        kwargs: ``write_uuid``, as Ray has it: of this run.
        numbered: The rows of the call, a table, and the number of the first of them, for :attr:`idempotence_key`; ``None``: nobody knows.
    """

    task_idx: int
    op_name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    numbered: tuple[Any, int, str] | None = field(default=None, repr=False)

    @functools.cached_property
    def idempotence_key(self) -> str:
        """What a service that takes such keys knows a call by that comes again (64 letters and digits). A call for the same rows at the same place
        of the job has the same key: after the death of a worker, and in a job that is run anew, if it is one that ``resume`` could
        tell from others: its code, its settings and what it reads are the same. No other call has it, also none with equal rows.

        >>> import pyarrow
        >>> contexts = [TaskContext(number, "Write", numbered=(pyarrow.table({"id": [1]}), 0, "job")) for number in range(2)]
        >>> contexts[0].idempotence_key == contexts[1].idempotence_key
        True

        Raises:
            ValueError: the context was made by hand, without ``numbered``.
        """
        if self.numbered is None:
            raise ValueError(
                "this TaskContext does not know its rows: give it numbered=(rows, number of the first, job)"
            )
        rows, first, job = self.numbered
        # Where rows were bundled in another way than in an earlier run, or are others, the key is another.
        digest = hashlib.sha256(f"{job}\0{first}\0{rows.num_rows}\0".encode())
        # As one piece: how it was put together changes nothing.
        for batch in rows.combine_chunks().to_batches():
            digest.update(batch.serialize())
        return digest.hexdigest()


class Datasink(Generic[WriteReturnType]):
    """What a dataset is written to, for :meth:`aktis.data.Dataset.write_datasink`: a class of one's own with :meth:`write`.

    >>> import aktis.data
    >>> class Sums(Datasink):
    ...     def write(self, blocks, ctx):
    ...         return sum(sum(block["id"].to_pylist()) for block in blocks)
    ...     def on_write_complete(self, write_result):
    ...         print(write_result.num_rows, sum(write_result.write_returns))
    >>> aktis.data.range(10).write_datasink(Sums())
    10 45

    What a run does:

    >>> import pyarrow
    >>> sink = Sums()
    >>> sink.on_write_start()
    >>> result = sink.write([pyarrow.table({"id": [1, 2]})], TaskContext(task_idx=7, op_name="WriteSums"))
    >>> sink.on_write_complete(WriteResult(num_rows=2, size_bytes=16, write_returns=[result]))
    2 3
    >>> sink.on_write_failed(OSError("or this, in its place"))
    """

    def on_write_start(self, schema: Any = None) -> None:
        """Called before anything is written.

        Args:
            schema: The columns, if they are known by then; else ``None``.
        """

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> WriteReturnType:
        """Writes rows. Called in workers, any number of times.

        Args:
            blocks: Tables of pyarrow.
            ctx: Tells calls apart.

        Returns:
            Something that can be pickled, for :meth:`on_write_complete`.

        Raises:
            NotImplementedError: the class does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method write(self, blocks, ctx)")

    def on_write_complete(self, write_result: WriteResult[WriteReturnType]) -> None:
        """Called when all rows are written: what was written may become visible here.

        Args:
            write_result: What the calls returned.
        """

    def on_write_failed(self, error: Exception) -> None:
        """Called when the job, or :meth:`on_write_complete`, has failed.

        Args:
            error: Why.
        """

    def get_name(self) -> str:
        """What the sink is called in messages.

        Returns:
            The name of the class, without ``Datasink``.

        >>> class NightlyDatasink(Datasink): ...
        >>> NightlyDatasink().get_name()
        'Nightly'
        """
        return type(self).__name__.removeprefix("_").removesuffix("Datasink")

    @property
    def min_rows_per_write(self) -> int | None:
        """Rows that a call should get; ``None``: as many as there are at hand."""
        return None


class FilenameProvider:
    """What files are called, for ``write_parquet(filename_provider=...)`` and its kin: a class of one's own with
    :meth:`get_filename_for_task`. Called in this process, when all rows are written.

    Args:
        dataset_uuid: What default names begin with.
        file_format: What they end in, without the dot.

    >>> class Named(FilenameProvider):
    ...     def get_filename_for_task(self, write_uuid, task_index):
    ...         return f"words_{write_uuid}_{task_index:03}.{self.file_format}"
    >>> Named(file_format="csv").get_filename_for_task("a1b2", 7)
    'words_a1b2_007.csv'
    """

    def __init__(self, dataset_uuid: str | None = None, file_format: str | None = None) -> None:
        self.dataset_uuid = dataset_uuid
        self.file_format = file_format

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """The name of a task's file. Where a task has several, their numbers come behind it, before its ending.

        Args:
            write_uuid: Of this job; names that have it in them are unique.
            task_index: Which of the inputs of the last step it is, from 0.

        Returns:
            The name, without a folder.

        >>> FilenameProvider("words", "json").get_filename_for_task("a1b2", 7)
        'words_a1b2_000007.json'
        """
        begin = "" if self.dataset_uuid is None else f"{self.dataset_uuid}_"
        ending = "" if self.file_format is None else f".{self.file_format}"
        return f"{begin}{write_uuid}_{task_index:06}{ending}"


class WriteTask:
    """What workers call with batches: the sink, and what it returned as a row."""

    #: A sink decides itself what to do about rows that it cannot write: none are left out, and no call is ended.
    ends_with_job = True

    #: The column that has the numbers of rows.
    NUMBERS = f"{_batches.MADE_ON_THE_WAY}row"

    def __init__(self, datasink: Datasink[Any], job: str, write_uuid: str) -> None:
        self._datasink = datasink
        self._job = job
        self._write_uuid = write_uuid
        self.__name__ = f"Write{datasink.get_name()}"

    def __call__(self, batch: Any) -> Any:
        import cloudpickle
        import pyarrow

        rows = batch.drop_columns([self.NUMBERS])
        first = batch[self.NUMBERS][0].as_py() if batch.num_rows else -1
        context = TaskContext(
            task_idx=random.getrandbits(62),
            op_name=self.__name__,
            kwargs={"write_uuid": self._write_uuid},
            numbered=(rows, first, self._job),
        )
        # Classes of the user's script are known there alone.
        result = cloudpickle.dumps(self._datasink.write([rows], context))
        return pyarrow.table(
            {
                "num_rows": [rows.num_rows],
                "size_bytes": [rows.nbytes],
                "result": pyarrow.array([result], pyarrow.binary()),
            }
        )


# They derive from what is above.
from .file_based_datasource import FileBasedDatasource
from .file_datasink import BlockBasedFileDatasink, FileDatasink, RowBasedFileDatasink

if not TYPE_CHECKING:  # checkers are to report what there is not

    def __getattr__(name: str) -> object:
        if name == "FileShuffleConfig":
            # It lies with what reads files, which needs this module.
            from .._chosen_files import FileShuffleConfig

            return FileShuffleConfig
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
