"""Rows as pairs of features and label, for loops that were written for datasets of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._torch import Target

if TYPE_CHECKING:
    import torch  # pyright: ignore[reportMissingImports] - it need not be there


class Features(NamedTuple):
    """Which columns are features, and what their tensors are like."""

    #: Names; lists of them, or a dict of these: a tensor for each. ``None``: all columns but the label.
    columns: Any
    dtypes: Any
    label: str | None
    label_dtype: Any
    are_unsqueezed: bool
    is_label_unsqueezed: bool

    def checked(self) -> Features:
        """The same, if what the user wrote goes together."""
        columns, dtypes = self.columns, self.dtypes
        if columns is not None and (isinstance(columns, str) or not isinstance(columns, (Sequence, Mapping))):
            raise TypeError(
                f"to_torch(): feature_columns is a list of columns, a list of such lists or a dict of them, not {columns!r}"
            )
        if columns is not None and not len(columns):
            raise ValueError("to_torch(): feature_columns is empty; None means all columns but the label")
        if isinstance(columns, Mapping):
            if isinstance(dtypes, Mapping) and set(dtypes) != set(columns):
                raise ValueError(
                    f"to_torch(): feature_column_dtypes has the keys {sorted(dtypes)}, and feature_columns {sorted(columns)}"
                )
        elif isinstance(dtypes, Mapping):
            raise TypeError("to_torch(): feature_column_dtypes is a dict where feature_columns is one")
        if isinstance(dtypes, Sequence) and (columns is None or len(dtypes) != len(columns)):
            raise ValueError(
                "to_torch(): feature_column_dtypes is a list as long as feature_columns, or one type for all of them"
            )
        return self

    def wanted(self, table: Any) -> Any:
        """The columns of a table that tensors are made of: others need not have any."""
        if self.columns is None:
            names = [*table.column_names, *([] if self.label is None else [self.label])]
        else:
            entries = self.columns.values() if isinstance(self.columns, Mapping) else self.columns
            lists = [[entry] if isinstance(entry, str) else entry for entry in entries]
            names = [name for names in lists for name in names] + ([] if self.label is None else [self.label])
        for name in names:
            if name not in table.column_names:
                known = ", ".join(map(repr, table.column_names))
                raise ValueError(f"to_torch(): there is no column {name!r}; the columns are {known}")
        return table.select(list(dict.fromkeys(names)))

    def pair(self, batch: Mapping[str, torch.Tensor]) -> tuple[Any, torch.Tensor | None]:
        """Features and label of a batch of tensors."""
        label = None
        if self.label is not None:
            label = _typed(batch[self.label], self.label_dtype)
            label = label.unsqueeze(1) if self.is_label_unsqueezed else label
        columns, dtypes = self.columns, self.dtypes
        if columns is None:
            columns = [name for name in batch if name != self.label]
        if isinstance(columns, Mapping):
            of_key = dtypes if isinstance(dtypes, Mapping) else dict.fromkeys(columns, dtypes)
            return {key: self._together(batch, names, of_key[key]) for key, names in columns.items()}, label
        if all(isinstance(name, str) for name in columns):
            return self._together(batch, columns, dtypes), label
        types = dtypes if isinstance(dtypes, Sequence) else [dtypes] * len(columns)
        return [self._together(batch, names, one) for names, one in zip(columns, types, strict=True)], label

    def _together(self, batch: Mapping[str, torch.Tensor], names: Any, dtypes: Any) -> torch.Tensor:
        """Columns side by side in one tensor."""
        import torch  # pyright: ignore[reportMissingImports] - it need not be there

        names = [names] if isinstance(names, str) else list(names)
        types = dtypes if isinstance(dtypes, Sequence) else [dtypes] * len(names)
        tensors = [_typed(batch[name], one) for name, one in zip(names, types, strict=True)]
        if self.are_unsqueezed:
            tensors = [tensor.unsqueeze(1) for tensor in tensors]
        if len(tensors) == 1:
            return tensors[0]
        try:
            return torch.cat(tensors, dim=1)
        except (RuntimeError, IndexError) as error:
            shapes = ", ".join(f"{name!r} {tuple(t.shape[1:])}" for name, t in zip(names, tensors, strict=True))
            raise ValueError(
                f"to_torch(): columns of these shapes do not go into one tensor: {shapes}; give feature_columns as a list of lists, "
                "a tensor for each"
            ) from error


def _typed(tensor: torch.Tensor, dtype: Any) -> torch.Tensor:
    return tensor if dtype is None else tensor.to(dtype)


def maker(features: Features) -> Callable[[Any], dict[str, torch.Tensor]]:
    """What makes tensors of the columns of a table that are wanted."""
    target = Target.of(call="to_torch", way_out="name others in feature_columns")
    return lambda table: target.tensors(features.wanted(table))


def dataset(features: Features, batches: Callable[[], Iterable[Any]]) -> Any:
    """A ``torch.utils.data.IterableDataset`` of pairs, which runs what makes batches each time it is iterated over."""
    from torch.utils.data import (  # pyright: ignore[reportMissingImports] - it need not be there
        IterableDataset,
        get_worker_info,
    )

    class RowsOfTorch(IterableDataset):  # type: ignore[misc, unused-ignore]
        """Pairs of features and label."""

        def __iter__(self) -> Iterator[Any]:
            if get_worker_info() is not None:
                raise RuntimeError(
                    "to_torch(): each worker of a DataLoader would read all rows: iterate over the dataset itself, which is made "
                    "ready beside the loop already, or give DataLoader(num_workers=0, batch_size=None)"
                )
            return map(features.pair, batches())

    return RowsOfTorch()
