"""What makes batches for a model of those of a dataset, for ``iter_torch_batches(collate_fn=...)``.

A function gets a dict of numpy arrays; a class that begins with one of these says what it wants to get.

    >>> class Lengths(ArrowBatchCollateFn):
    ...     def __call__(self, batch):
    ...         return [len(text) for text in batch["text"].to_pylist()]
    >>> Lengths.batch_format
    'pyarrow'
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = ["ArrowBatchCollateFn", "CollateFn", "NumpyBatchCollateFn", "PandasBatchCollateFn"]


class CollateFn(abc.ABC):
    """The base of the others.

    >>> CollateFn.batch_format
    'numpy'
    """

    #: What it gets, as in :meth:`Dataset.map_batches`.
    batch_format: ClassVar[str] = "numpy"

    @abc.abstractmethod
    def __call__(self, batch: Any) -> Any:
        """What is made of a batch.

        Args:
            batch: the batch.

        Returns:
            Anything. A tensor, or a list, a tuple or a dict of tensors, also of lists of them, goes to the device.
        """


class NumpyBatchCollateFn(CollateFn):
    """Gets a dict from column to numpy array.

    >>> NumpyBatchCollateFn.batch_format
    'numpy'
    """


class ArrowBatchCollateFn(CollateFn):
    """Gets an Arrow table.

    >>> ArrowBatchCollateFn.batch_format
    'pyarrow'
    """

    batch_format: ClassVar[str] = "pyarrow"


class PandasBatchCollateFn(CollateFn):
    """Gets a data frame.

    >>> PandasBatchCollateFn.batch_format
    'pandas'
    """

    batch_format: ClassVar[str] = "pandas"


if not TYPE_CHECKING:  # checkers are to report what there is not

    def __getattr__(name: str) -> object:
        from aktis._messages.missing import explained

        raise AttributeError(explained(__name__, name, __all__))
