"""Rows one after another: of a dataset, or of a consumer's share of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, overload

from . import _batches, _iteration, _local_shuffle, _one_schema
from ._iterating_frameworks import IteratingFrameworks
from ._keywords import Keywords, Refused

if TYPE_CHECKING:
    from typing import Literal, Unpack

    import numpy
    import pandas
    import pyarrow

    from ._typed import BatchFormat, IterArgs
    from .collate_fn import CollateFn

    NumpyBatch = dict[str, numpy.ndarray[Any, Any]]

Row = dict[str, Any]

_ITERATION = Keywords(
    "iter_batches",
    used=(
        "prefetch_batches", "batch_size", "batch_format", "drop_last", "local_shuffle_buffer_size", "local_shuffle_seed",
    ),
    refused={"_collate_fn": Refused("call it on each batch, or use iter_torch_batches(collate_fn=...)")},
)  # fmt: skip


class Iterating(IteratingFrameworks):
    """What can be iterated over in batches and rows."""

    if TYPE_CHECKING:

        def _begin(self) -> tuple[Iterator[pyarrow.RecordBatch], Callable[[], None]]:
            """The record batches of a new run, and what ends it."""
            ...

    @overload
    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: Literal["default", "numpy"] = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        **more: Unpack[IterArgs],
    ) -> _iteration.Repeatable[NumpyBatch]: ...
    @overload
    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: Literal["pandas"],
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        **more: Unpack[IterArgs],
    ) -> _iteration.Repeatable[pandas.DataFrame]: ...
    @overload
    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: Literal["pyarrow"] | None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        **more: Unpack[IterArgs],
    ) -> _iteration.Repeatable[pyarrow.Table]: ...
    def iter_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        batch_format: BatchFormat | None = "default",
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        **more: Unpack[IterArgs],
    ) -> _iteration.Repeatable[Any]:
        """Batches one after another, while the rest is still being made. Can be iterated over again.

        Args:
            prefetch_batches: Batches that are made ready on a thread before they are asked for; below 2 there is no thread,
                because rows are made ahead in any case.
            batch_size: Rows of a batch; ``None``: as they come.
            batch_format: As in :meth:`map_batches`.
            drop_last: Whether a last batch with fewer rows is left out.
            local_shuffle_buffer_size: Rows are drawn by chance from so many that are held in this process, at least (and from a
                batch's rows); up to half as many more are held. ``None``: they come in their order.
            local_shuffle_seed: A number that always gives the same order of the same rows.
            more: There are no others; a misspelt one is told with the nearest name.

        Returns:
            An iterable of batches, as :meth:`take_batch` gives them. It runs the dataset anew each time it is iterated over, and
            ends the run when it is left early.

        Raises:
            ValueError: ``batch_size`` is not a number of at least 1; or rows shall be drawn by chance, and there is no batch size.
            TaskError: as for :meth:`take`, while iterating.

        >>> import aktis.data
        >>> [len(batch["id"]) for batch in aktis.data.range(10).iter_batches(batch_size=4)]
        [4, 4, 2]
        """
        _ITERATION.check(more)
        wanted = _batches.check_format(batch_format)

        def formatted(table: Any) -> Any:
            return _batches.from_arrow(_batches._one_batch(table), wanted)

        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        return self._each_batch("iter_batches", batch_size, drop_last, chance, prefetch_batches, formatted)

    def _each_batch(
        self,
        call: str,
        batch_size: int | None,
        drop_last: bool,
        chance: _local_shuffle.Chance | None,
        prefetch_batches: int,
        formatted: Callable[[Any], Any],
    ) -> _iteration.Repeatable[Any]:
        """What ``formatted`` makes of each table of so many rows."""
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"{call}(): batch_size must be None or a number of at least 1, not {batch_size!r}")
        if not isinstance(prefetch_batches, int) or prefetch_batches < 0:
            raise ValueError(f"{call}(): prefetch_batches must be a number of at least 0, not {prefetch_batches!r}")

        def begin() -> Iterator[Any]:
            batches, cancel = self._begin()
            if chance is None:
                tables = _one_schema.tables(batches, batch_size, drop_last, f"{call}()")
            else:
                tables = _local_shuffle.tables(batches, chance, drop_last, f"{call}()")
            return _iteration.ahead(map(formatted, tables), prefetch_batches, cancel)

        return _iteration.Repeatable(begin)

    def iter_torch_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Callable[[Any], Any] | CollateFn | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        pin_memory: bool = False,
    ) -> _iteration.Repeatable[Any]:
        """Batches as tensors of torch, one after another. Can be iterated over again.

        Args:
            prefetch_batches: As in :meth:`iter_batches`; what is made ahead is on the device already.
            batch_size: As in :meth:`iter_batches`.
            dtypes: The type of all tensors (a ``torch.dtype``), or one for each column that is named (a dict); others keep
                the type of their column. Not with ``collate_fn``.
            device: Where the tensors shall be, as text or a ``torch.device``; ``"auto"``: in the memory of this process.
            collate_fn: Makes of a batch what is wanted instead: of a dict of numpy arrays, or, if it is one of the classes of
                :mod:`aktis.data.collate_fn`, of a table or data frame. Tensors in what it returns go to the device.
            drop_last: As in :meth:`iter_batches`.
            local_shuffle_buffer_size: As in :meth:`iter_batches`.
            local_shuffle_seed: As in :meth:`iter_batches`.
            pin_memory: Whether tensors are made in pinned memory first, from where they reach a GPU faster.

        Returns:
            An iterable of dicts from column to tensor, the first index of which is the row; or of what ``collate_fn`` returns.

        Raises:
            ImportError: there is no torch here.
            ValueError: as for :meth:`iter_batches`; or ``dtypes`` and ``collate_fn`` are both given.
            TypeError: while iterating: a column has values that are no tensor, such as text, or arrays of different shapes.
            TaskError: as for :meth:`take`, while iterating.

        Example:
            >>> import aktis.data
            >>> for batch in aktis.data.range(3).iter_torch_batches(batch_size=2):  # doctest: +SKIP
            ...     print(batch["id"])
            tensor([0, 1])
            tensor([2])
        """
        from . import _torch

        target = _torch.Target.of(dtypes=dtypes, device=device, collate_fn=collate_fn, pin_memory=pin_memory)
        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        return self._each_batch("iter_torch_batches", batch_size, drop_last, chance, prefetch_batches, target.tensors)

    def to_torch(
        self,
        *,
        label_column: str | None = None,
        feature_columns: list[str] | list[list[str]] | dict[str, list[str]] | None = None,
        label_column_dtype: Any = None,
        feature_column_dtypes: Any = None,
        batch_size: int = 1,
        prefetch_batches: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        unsqueeze_label_tensor: bool = True,
        unsqueeze_feature_tensors: bool = True,
    ) -> Any:
        """The rows as a dataset of torch, which gives pairs of features and label. New loops do with :meth:`iter_torch_batches`.

        Args:
            label_column: Whose values are the labels; ``None``: the label of each pair is ``None``.
            feature_columns: Columns that go into one tensor side by side; a list of such lists, or a dict of them: a tensor for each.
                ``None``: all columns but the label.
            label_column_dtype: A ``torch.dtype``; ``None``: that of the column.
            feature_column_dtypes: One for all features, or one for each entry of ``feature_columns``, as a list or dict like that.
            batch_size: Rows of a pair of tensors.
            prefetch_batches: As in :meth:`iter_batches`.
            drop_last: As in :meth:`iter_batches`.
            local_shuffle_buffer_size: As in :meth:`iter_batches`.
            local_shuffle_seed: As in :meth:`iter_batches`.
            unsqueeze_label_tensor: Whether labels have the shape ``(N, 1)``, which losses of regressions want, and not ``(N,)``.
            unsqueeze_feature_tensors: Whether each column becomes ``(N, 1, ...)`` before it is put beside others. ``False`` for one column
                of tensors, such as images.

        Returns:
            A ``torch.utils.data.IterableDataset``. It runs the dataset anew each time it is iterated over. Give it to a ``DataLoader``
            with ``batch_size=None`` only, and without workers: what it gives are batches, and they are made by workers of this session.

        Raises:
            ImportError: there is no torch here.
            ValueError: arguments do not go together; while iterating: a column is not there, or columns do not go into one tensor.
            TypeError: as for :meth:`iter_torch_batches`, while iterating.
            TaskError: as for :meth:`take`, while iterating.

        Example:
            >>> import aktis.data
            >>> ds = aktis.data.from_items([{"x": 0.5, "y": 1}, {"x": 1.5, "y": 0}])
            >>> for features, label in ds.to_torch(label_column="y", batch_size=2):  # doctest: +SKIP
            ...     print(features.shape, label.shape)
            torch.Size([2, 1]) torch.Size([2, 1])
        """
        from . import _torch_rows

        features = _torch_rows.Features(
            feature_columns, feature_column_dtypes, label_column, label_column_dtype,
            unsqueeze_feature_tensors, unsqueeze_label_tensor,
        ).checked()  # fmt: skip
        tensors = _torch_rows.maker(features)
        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        batches = self._each_batch("to_torch", batch_size, drop_last, chance, prefetch_batches, tensors)
        return _torch_rows.dataset(features, batches.__iter__)

    def iter_rows(self) -> _iteration.Repeatable[Row]:
        """Rows one after another, as dicts. Can be iterated over again.

        Returns:
            An iterable that runs the dataset anew each time it is iterated over, and ends the run when it is left early.

        Raises:
            TaskError: as for :meth:`take`, while iterating.

        >>> import aktis.data
        >>> sum(row["id"] for row in aktis.data.range(4).iter_rows())
        6
        """

        def begin() -> Iterator[Row]:
            batches, _ = self._begin()
            for piece in _batches.pieces(batches):
                yield from _batches.rows_of(piece)

        return _iteration.Repeatable(begin)
