"""The dataset."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, overload

from . import _native, _parts, _running
from ._context import DataContext
from ._handing import Handing
from ._joins import Joins
from ._kept import Keeping
from ._relational import Relational
from ._schema import Schema
from ._splitting import Splitting
from ._taking import Row, Taking
from ._transforms import Transforms
from ._writing import Writing
from ._writing_files import WritingFiles
from ._writing_records import WritingRecords
from ._writing_tables import WritingTables

if TYPE_CHECKING:
    from typing import Literal

    import pyarrow

    from ._costs import PriceTable
    from ._summary import DatasetSummary
    from .aggregate import Aggregation
    from .iterator import DataIterator


class Dataset(
    Transforms,
    Relational,
    Joins,
    Splitting,
    Keeping,
    Handing,
    Taking,
    Writing,
    WritingFiles,
    WritingRecords,
    WritingTables,
):
    """Rows, and what is to be done with them. Nothing runs until rows are taken, counted or written.

    Made by :func:`aktis.data.read_parquet`, :func:`aktis.data.from_items` and the like.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"text": "a ray"}, {"text": "of light"}])
        >>> ds.map(lambda row: {"length": len(row["text"])}).take_all()
        [{'length': 5}, {'length': 8}]
    """

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._stats: Any = None
        self._seen_schema: Schema | None = None
        self._seen_look: int | None = None

    def materialize(self) -> MaterializedDataset:
        """Runs the plan and keeps its rows in the object store.

        Returns:
            A dataset that reads these rows. They stay until it is forgotten, and go to disk where the object store is full.

        Raises:
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> ds = aktis.data.range(3).map(lambda row: {"id": row["id"] + 1}).materialize()
        >>> ds.count(), ds.take_all()
        (3, [{'id': 1}, {'id': 2}, {'id': 3}])
        """
        execution = _running.start(self._plan, ordered=True)
        self._stats = execution
        parts = _parts.of_blocks(_running.blocks(execution))
        result = MaterializedDataset(self._columns_of_run(), parts)
        result._stats = execution
        return result

    def _columns_of_run(self) -> pyarrow.Schema:
        """The columns of the rows that the last run has made."""
        import pyarrow

        schema = self._stats.seen_schema() or self._plan.schema() or pyarrow.schema([])
        return schema.remove_metadata()

    def iterator(self) -> DataIterator:
        """An iterator over the rows, for who consumes them and shall not change the dataset.

        Returns:
            An iterator that runs the dataset anew each time it is iterated over; it may be given to tasks and actors.

        >>> import aktis.data
        >>> [batch["id"].tolist() for batch in aktis.data.range(3).iterator().iter_batches(batch_size=2)]
        [[0, 1], [2]]
        """
        from .iterator import DatasetIterator

        return DatasetIterator(self)

    def summary(
        self,
        columns: list[str] | None = None,
        override_dtype_agg_mapping: Mapping[pyarrow.DataType, Callable[[str], Sequence[Aggregation]]] | None = None,
    ) -> DatasetSummary:
        """Runs the dataset and tells of each column: of numbers mean, extremes, deviation and median, of others the most frequent
        values, and of all how many are missing.

        Args:
            columns: which; ``None``: all.
            override_dtype_agg_mapping: for columns of a type of pyarrow, a function from the name of the column to what is told
                instead: see :mod:`aktis.data.aggregate`.

        Returns:
            What is told, as a data frame by its ``to_pandas()``.

        Raises:
            ValueError: a column is not there, or there is none.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> told = aktis.data.from_items([{"x": "a"}, {"x": "a"}, {"x": None}]).summary().get_column_stats("x")
        >>> dict(zip(told["statistic"], told["value"]))["approx_topk[0]"]
        {'x': 'a', 'count': 2}
        """
        from . import _summary

        return _summary.of(self, columns, override_dtype_agg_mapping)

    @property
    def context(self) -> DataContext:
        """The settings of runs: those of this process, as :meth:`DataContext.get_current` gives them.

        >>> import aktis.data
        >>> aktis.data.range(1).context is aktis.data.DataContext.get_current()
        True
        """
        return DataContext.get_current()

    def input_files(self) -> list[str]:
        """The files that are read. Which these are was found when the dataset was made; what is in them is looked at when it runs.

        Returns:
            Their paths; an empty list if the rows come from memory.

        >>> import aktis.data
        >>> aktis.data.range(3).input_files()
        []
        """
        return self._plan.input_files()

    def num_blocks(self) -> int:
        """How many blocks a materialised dataset has, and how many parts the source of another is read in at least.

        Returns:
            A number of at least 1.

        >>> import aktis.data
        >>> aktis.data.range(3, override_num_blocks=2).num_blocks()
        2
        """
        return self._plan.num_blocks()

    def explain(self, analyze: bool = False) -> str:
        """What will run: the plan as it was written, after optimisation, and the stages it is cut into.

        Args:
            analyze: runs the dataset, throws its rows away, and tells the stages as they ran: rows and bytes that came out of each
                step, and the time that it took, added up over all workers.

        Returns:
            Text of several lines. Without ``analyze`` nothing runs; what is read at most is told where it is known.

        Raises:
            TaskError: with ``analyze``: as for :meth:`take`.

        >>> import aktis.data
        >>> ds = aktis.data.range(3).filter(expr="id > 1")
        >>> print(ds.explain())  # doctest: +ELLIPSIS
        Logical plan:
        Filter: source.id > Int64(1)
          TableScan: source...
        >>> print(ds.explain(analyze=True))  # doctest: +ELLIPSIS
        Logical plan:
        ...
        Stages, as they ran:
        Stage 0 Read->Filter: 1 inputs, 1 blocks...
          Read: ...3 rows out...
          Filter: 3 rows in, 1 rows out...
        """
        if not analyze:
            return self._plan.explain()
        plan = _native.settled(self._plan)
        execution = _running.start(plan, ordered=False)
        for _ in _running.each_block(execution):
            pass
        self._stats = execution
        return plan.explain_run(getattr(execution, "native", execution))

    @overload
    def stats(self, format: Literal["text"] = "text") -> str: ...
    @overload
    def stats(self, format: Literal["dict"]) -> dict[str, Any]: ...
    @overload
    def stats(self, format: Literal["table"]) -> pyarrow.Table: ...
    def stats(self, format: str = "text") -> Any:
        """What the last run of this dataset did, per operator.

        Args:
            format: ``"text"``, which a notebook shows as a table; ``"dict"``; or ``"table"``, a ``pyarrow.Table`` with a row for each
                operator, which :meth:`write_stats` writes as Parquet.

        Returns:
            Rows, bytes, batches, seconds of wall clock and CPU; of each stage its workers and what became of their time: processes that
            start, functions and models that load, useful work, work that was done again after losses, waiting. Text is empty if it
            has not run, and so are a dict and a table. In a table each operator has its part of the time of its stage's workers, so
            that columns can be added up; what is of the whole stage begins with ``stage_``.

        Raises:
            ValueError: there is no such format.

        >>> import aktis.data
        >>> ds = aktis.data.range(3)
        >>> rows = ds.take_all()
        >>> "rows" in ds.stats()
        True
        >>> ds.stats(format="table").select(["operator", "rows_out"]).to_pylist()
        [{'operator': 'Read', 'rows_out': 3}]
        """
        from . import _stats_table
        from ._notebook import Stats

        if format == "text":
            return Stats("" if self._stats is None else self._stats.stats_text(), self.get_stats_summary())
        if format == "dict":
            return self.get_stats_summary()
        if format != "table":
            raise ValueError(
                f"stats(): format is 'text', 'dict' or 'table', not {format!r}; write_stats(path) writes Parquet"
            )
        return _stats_table.table_of(self.get_stats_summary(), [] if self._stats is None else self._stats.costs())

    def write_stats(self, path: str | os.PathLike[str]) -> None:
        """Writes what the last run of this dataset did as a Parquet file, the table of :meth:`stats`.

        Args:
            path: the file, which is replaced if it is there.

        Raises:
            ValueError: this dataset has not run yet.

        >>> import tempfile, aktis.data
        >>> ds = aktis.data.range(3)
        >>> rows = ds.take_all()
        >>> path = tempfile.mkdtemp() + "/stats.parquet"
        >>> ds.write_stats(path)
        >>> aktis.data.read_parquet(path).select_columns(["operator", "rows_out"]).take_all()
        [{'operator': 'Read', 'rows_out': 3}]
        """
        import pyarrow.parquet

        self._check_has_run("write_stats() writes what the last run of this dataset did")
        pyarrow.parquet.write_table(self.stats(format="table"), os.fspath(path))

    def cost(self, prices: PriceTable | None = None) -> dict[str, Any]:
        """What the last run of this dataset has cost: for how long its workers had CPUs and GPUs, what became of that time, and money.

        Args:
            prices: what an hour of a CPU and of a GPU costs; ``None``: nothing.

        Returns:
            A dict. ``cpu_s`` and ``gpu_s`` are the seconds for which workers had CPUs and GPUs, ``used_cpu_s`` those that their processes
            have really used, ``worker_s`` the time of workers, whatever they had. That is ``starting_s`` (processes begin), ``loading_s``
            (functions and models load), ``useful_s``, ``repeated_s`` (work that was done again, or in vain, after losses) and ``idle_s``
            together. ``lent_s`` is time in which idle workers had lent their CPUs and kept their GPUs. ``money`` by the prices.
            ``operators`` has the same for each operator and kind of worker; its parts are the whole.

        Raises:
            TypeError: ``prices`` is no :class:`PriceTable`.
            ValueError: this dataset has not run yet.

        >>> import aktis.data
        >>> ds = aktis.data.range(1000).map_batches(lambda batch: batch)
        >>> rows = ds.take_all()
        >>> cost = ds.cost(aktis.data.PriceTable(cpu_hour=0.04))
        >>> cost["cpu_s"] > 0 and abs(sum(one["cpu_s"] for one in cost["operators"]) - cost["cpu_s"]) < 1e-6
        True
        """
        from . import _costs

        self._check_has_run("cost() tells what the last run of this dataset has cost")
        return _costs.added_up(self._stats.costs(), _costs.PriceTable() if prices is None else prices)

    def _check_has_run(self, why: str) -> None:
        if self._stats is None:
            raise ValueError(f"{why}, and it has not run: take or write its rows first")

    def get_stats_summary(self, detail: bool = False) -> dict[str, Any]:
        """:meth:`stats` as a dict.

        Args:
            detail: Ray's; the dict has all that is known in any case.

        Returns:
            An empty dict if it has not run. Times are seconds, sizes bytes.

        >>> import aktis.data
        >>> aktis.data.range(3).get_stats_summary()
        {}
        """
        return {} if self._stats is None else self._stats.stats()

    def dead_letters(self, operator: str | None = None) -> Dataset:
        """The rows that steps with ``on_error="dead_letter"`` have put aside in the last run of this dataset.

        Also of a run that has failed because they were too many. Of one that wrote files, they lie beside these as well: see
        :func:`aktis.data.read_dead_letters`, which says what the columns are. Iterators of :meth:`streaming_split` have a method of this
        name. What is made of this dataset (``ds.sort(...)``, also within ``ds.sum(...)``) has runs of its own.

        Args:
            operator: only those of the step of this name.

        Returns:
            A dataset with a row for each of them, whose column ``row`` is the row as the step got it. It lives as long as the
            session.

        Raises:
            ValueError: this dataset has not run yet.

        >>> import aktis.data
        >>> ds = aktis.data.from_items([{"x": "1"}, {"x": "two"}]).map(lambda row: {"x": int(row["x"])}, on_error="dead_letter")
        >>> ds.take_all()
        [{'x': 1}]
        >>> [dead["row"] for dead in ds.dead_letters().take_all()]
        [{'x': 'two'}]
        """
        from . import _dead_letters

        if self._stats is None:
            raise ValueError(
                "dead_letters() gives the rows that failed in the last run of this dataset, and it has not run: take, count or write its rows first"
            )
        return _dead_letters.letters_of(self._stats, operator)

    def copy(self) -> Self:
        """The same dataset once more.

        Returns:
            A dataset of the same rows, which are not copied.

        >>> import aktis.data
        >>> aktis.data.range(3).copy().count()
        3
        """
        result = copy.copy(self)
        result._stats = None
        return result

    def __reduce__(self) -> Any:
        return type(self), (self._plan,)

    def __repr__(self) -> str:
        schema = self._known_columns()
        columns = "unknown columns" if schema is None else ", ".join(f"{f.name}: {f.type}" for f in schema)
        return f"{type(self).__name__}({columns})"

    def _repr_html_(self) -> str:
        from ._notebook import dataset_html

        return dataset_html(type(self).__name__, self._known_columns(), self._rows_at_hand())

    def _rows_at_hand(self) -> int | None:
        """How many rows, if nothing has to be read to know it."""
        return None

    def __iter__(self) -> Iterator[Row]:
        raise TypeError("a Dataset is not iterated over directly: use iter_rows() or iter_batches()")

    def __bool__(self) -> bool:
        """A dataset is there, whether it has rows or not."""
        return True

    if not TYPE_CHECKING:  # checkers are to report what there is not

        def __len__(self) -> int:
            raise TypeError("a Dataset has no len(), because all of it may have to run to know: use count()")

        def __getitem__(self, index: Any) -> Any:
            raise TypeError(
                f"a Dataset cannot be indexed with {index!r}: use take(n) or limit(n) for the first rows, select_columns() for columns"
            )

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            from aktis._messages.missing import explained

            known = self._known_columns()
            if known is not None and name in known.names:
                raise AttributeError(
                    f"a Dataset has no attribute {name!r}, but a column: select_columns([{name!r}]), or take_batch()[{name!r}] for "
                    "the first values"
                )
            raise AttributeError(explained("Dataset", name, dir(type(self))))


class MaterializedDataset(Dataset):
    """A dataset whose rows lie in the object store; :meth:`Dataset.materialize` makes it.

    Tasks and actors that it is given to read the same rows; they stay as long as somebody has the dataset.

    >>> import aktis.data
    >>> aktis.data.range(3).materialize().take(1)
    [{'id': 0}]
    """

    def __init__(self, schema: pyarrow.Schema, parts: Sequence[_parts.Part]) -> None:
        super().__init__(_parts.plan_of(schema, parts))
        self._schema = schema
        self._parts = parts

    def materialize(self) -> MaterializedDataset:
        """The same dataset: its rows are there already.

        Returns:
            This dataset.

        >>> import aktis.data
        >>> ds = aktis.data.range(3).materialize()
        >>> ds.materialize() is ds
        True
        """
        return self

    def cache(self) -> Self:
        """The same dataset: its rows are kept already.

        Returns:
            This dataset.

        >>> import aktis.data
        >>> aktis.data.range(3).materialize().cache().count()
        3
        """
        return self

    def size_bytes(self) -> int:
        """How much memory the rows take.

        Returns:
            Bytes of the blocks, with a head of some hundred bytes for each.

        >>> import aktis.data
        >>> aktis.data.range(1000).materialize().size_bytes() >= 8000
        True
        """
        return sum(part.bytes for part in self._parts)

    def __reduce__(self) -> Any:
        return type(self), (self._schema, self._parts)

    def _rows_at_hand(self) -> int | None:
        return _parts.rows_of(self._parts)

    def _bytes_at_hand(self) -> int | None:
        return self.size_bytes()
