"""Batches as tensors of torch, which is imported when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _batches
from .collate_fn import CollateFn

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports] - it need not be there


class Target(NamedTuple):
    """What tensors shall be like."""

    dtypes: Any
    device: torch.device
    collate_fn: Callable[[Any], Any] | None
    batch_format: str
    is_pinned: bool
    #: What the user has called, and what else helps there where a column has no tensor.
    call: str
    way_out: str

    @staticmethod
    def of(
        *,
        dtypes: Any = None,
        device: Any = "auto",
        collate_fn: Any = None,
        pin_memory: bool = False,
        call: str = "iter_torch_batches",
        way_out: str = "give a collate_fn",
    ) -> Target:
        """What the user wrote."""
        try:
            import torch  # pyright: ignore[reportMissingImports] - it need not be there
        except ImportError as error:
            raise ImportError(
                f"{call}() needs torch, which is not installed here: iter_batches() gives numpy arrays",
                name="torch",
            ) from error
        if collate_fn is not None and dtypes is not None:
            raise ValueError(
                "iter_torch_batches(): give either dtypes or collate_fn, which makes tensors of its own types"
            )
        if collate_fn is not None and not callable(collate_fn):
            raise TypeError(
                f"iter_torch_batches(): collate_fn is a function of a batch, not {type(collate_fn).__name__}"
            )
        where = torch.device("cpu" if device == "auto" else device)
        if where.type == "cuda" and where.index is None and torch.cuda.is_available():
            # What "the current one" is depends on the thread, and batches are made ahead on another one.
            where = torch.device("cuda", torch.cuda.current_device())
        batch_format = collate_fn.batch_format if isinstance(collate_fn, CollateFn) else "numpy"
        return Target(dtypes, where, collate_fn, batch_format, bool(pin_memory), call, way_out)

    def tensors(self, table: Any) -> Any:
        """What becomes of a table."""
        batch = _batches.from_arrow(_batches._one_batch(table), self.batch_format)
        if self.collate_fn is not None:
            return self._placed(self.collate_fn(batch))
        return {
            name: self._tensor(name, column).to(self.device, non_blocking=self.is_pinned)
            for name, column in batch.items()
        }

    def _tensor(self, name: str, column: Any) -> torch.Tensor:
        import numpy
        import torch  # pyright: ignore[reportMissingImports] - it need not be there

        dtype = self.dtypes.get(name) if isinstance(self.dtypes, Mapping) else self.dtypes
        if column.dtype == object:
            column = _stacked(column)
        if column.dtype == object or column.dtype.kind in "USmM":
            raise TypeError(
                f"{self.call}(): the column {name!r} has no tensor: its values are {_kind_of(column)}. Leave it out by "
                f"drop_columns(), make numbers of it in map_batches(), or {self.way_out}"
            )
        # A copy: rows lie in memory that others read too and nobody may write to, and a tensor does not know that.
        column = numpy.ascontiguousarray(column)
        plain = torch.empty(column.shape, dtype=_dtype_of(column.dtype), pin_memory=self.is_pinned)
        plain.numpy()[...] = column
        return plain if dtype is None else plain.to(dtype)

    def _placed(self, collated: Any) -> Any:
        """What a function has returned, with tensors where they shall be."""
        import torch  # pyright: ignore[reportMissingImports] - it need not be there

        if isinstance(collated, torch.Tensor):
            if self.is_pinned and collated.device.type == "cpu" and not collated.is_pinned():
                collated = collated.pin_memory()
            return collated.to(self.device, non_blocking=self.is_pinned)
        if type(collated) in (list, tuple):
            return type(collated)(map(self._placed, collated))
        if isinstance(collated, dict):
            return {key: self._placed(value) for key, value in collated.items()}
        return collated


def _stacked(column: Any) -> Any:
    """Rows that are arrays of one shape, as lists of one length are, as one array; else as they are."""
    import numpy

    if not len(column) or not all(isinstance(value, (numpy.ndarray, list)) for value in column):
        return column
    rows = [numpy.asarray(value) for value in column]
    kinds = {(row.shape, row.dtype) for row in rows}
    return numpy.stack(rows) if len(kinds) == 1 else column


def _dtype_of(dtype: Any) -> torch.dtype:
    """The type of torch that a type of numpy is in memory."""
    import numpy
    import torch  # pyright: ignore[reportMissingImports] - it need not be there

    return torch.from_numpy(numpy.empty(0, dtype)).dtype


def _kind_of(column: Any) -> str:
    """For messages: of what kind the values of such a column are."""
    import numpy

    if column.dtype.kind in "mM":
        return "times"
    first = next((value for value in column if value is not None), None)
    if isinstance(first, numpy.ndarray):
        return "arrays of different shapes"
    return f"of the type {type(first).__name__}"
