"""Batches as tensors of TensorFlow and arrays of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _iteration, _local_shuffle

if TYPE_CHECKING:
    from .collate_fn import CollateFn


class IteratingFrameworks:
    """What can be iterated over in batches of other libraries than torch."""

    if TYPE_CHECKING:
        schema: Callable[[], Any]

        def _each_batch(
            self,
            call: str,
            batch_size: int | None,
            drop_last: bool,
            chance: _local_shuffle.Chance | None,
            prefetch_batches: int,
            formatted: Callable[[Any], Any],
        ) -> _iteration.Repeatable[Any]: ...

    def iter_tf_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int | None = 256,
        dtypes: Any = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
    ) -> _iteration.Repeatable[Any]:
        """Batches as tensors of TensorFlow, one after another. Can be iterated over again.

        Args:
            prefetch_batches: As in :meth:`iter_batches`.
            batch_size: As in :meth:`iter_batches`.
            dtypes: The type of all tensors (a ``tf.DType``), or one for each column that is named (a dict); others keep the type of
                their column.
            drop_last: As in :meth:`iter_batches`.
            local_shuffle_buffer_size: As in :meth:`iter_batches`.
            local_shuffle_seed: As in :meth:`iter_batches`.

        Returns:
            An iterable of dicts from column to tensor, the first index of which is the row. Text becomes tensors of ``tf.string``.

        Raises:
            ImportError: there is no TensorFlow here.
            ValueError: as for :meth:`iter_batches`.
            TypeError: while iterating: a column has values that are no tensor, such as times, or arrays of different shapes.
            TaskError: as for :meth:`take`, while iterating.

        Example:
            >>> import aktis.data
            >>> for batch in aktis.data.range(3).iter_tf_batches(batch_size=2):  # doctest: +SKIP
            ...     print(batch["id"].numpy())
            [0 1]
            [2]
        """
        from . import _tensorflow

        target = _tensorflow.Target.of(dtypes)
        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        return self._each_batch("iter_tf_batches", batch_size, drop_last, chance, prefetch_batches, target.tensors)

    def to_tf(
        self,
        feature_columns: str | list[str],
        label_columns: str | list[str],
        *,
        additional_columns: str | list[str] | None = None,
        prefetch_batches: int = 1,
        batch_size: int = 1,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        feature_type_spec: Any = None,
        label_type_spec: Any = None,
        additional_type_spec: Any = None,
    ) -> Any:
        """The rows as a ``tf.data.Dataset`` of features and labels, as ``tf.keras.Model.fit`` takes it.

        Args:
            feature_columns: A column, which becomes a tensor; or a list of columns, which become a dict of tensors.
            label_columns: As ``feature_columns``.
            additional_columns: As ``feature_columns``, for what else belongs to a row, such as its weight.
            prefetch_batches: As in :meth:`iter_batches`.
            batch_size: Rows of a batch.
            drop_last: As in :meth:`iter_batches`.
            local_shuffle_buffer_size: As in :meth:`iter_batches`.
            local_shuffle_seed: As in :meth:`iter_batches`.
            feature_type_spec: The ``tf.TypeSpec`` of the features, or a dict of them; ``None``: by the columns, for which the dataset
                runs over its first row where only a function knows them. Lists of different lengths are a ``tf.RaggedTensorSpec``.
            label_type_spec: As ``feature_type_spec``.
            additional_type_spec: As ``feature_type_spec``.

        Returns:
            A dataset of TensorFlow. It runs this one anew each time it is iterated over.

        Raises:
            ImportError: there is no TensorFlow here.
            ValueError: a column is not there, or columns and types do not go together; as for :meth:`iter_batches`.
            TypeError: a column has values that are no tensor.

        Example:
            >>> import aktis.data
            >>> ds = aktis.data.from_items([{"x": 0.5, "y": 1}, {"x": 1.5, "y": 0}])
            >>> for features, label in ds.to_tf("x", "y", batch_size=2):  # doctest: +SKIP
            ...     print(features.numpy(), label.numpy())
            [0.5 1.5] [1 0]
        """
        from . import _tensorflow

        columns = (feature_columns, label_columns, additional_columns)
        pairs = _tensorflow.Pairs(columns, (feature_type_spec, label_type_spec, additional_type_spec))
        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        batches = self._each_batch("to_tf", batch_size, drop_last, chance, prefetch_batches, pairs.wanted)
        return pairs.with_specs(self.schema).dataset(batches.__iter__)

    def iter_jax_batches(
        self,
        *,
        prefetch_batches: int = 1,
        batch_size: int = 256,
        dtypes: Any = None,
        collate_fn: Callable[[Any], Any] | CollateFn | None = None,
        drop_last: bool = False,
        local_shuffle_buffer_size: int | None = None,
        local_shuffle_seed: int | None = None,
        synchronize_batches: bool = False,
        paddings: Any = None,
    ) -> _iteration.Repeatable[Any]:
        """Batches as arrays of JAX, whose rows are shared out over all devices. Can be iterated over again.

        Where a program runs as several processes of JAX, each iterates over its own rows (see :meth:`streaming_split`), and an array is
        made of those of all.

        Args:
            prefetch_batches: As in :meth:`iter_batches`.
            batch_size: Rows of a batch of this process: a multiple of the number of its devices.
            dtypes: The type of all arrays, or one for each column that is named (a dict); others keep the type of their column.
            collate_fn: Makes an array of numpy, or a dict of them, of a batch: of a dict of numpy arrays, or, if it is one of the classes
                of :mod:`aktis.data.collate_fn`, of a table or data frame.
            drop_last: As in :meth:`iter_batches`; with ``synchronize_batches`` the end is where the first process has no more.
            local_shuffle_buffer_size: As in :meth:`iter_batches`.
            local_shuffle_seed: As in :meth:`iter_batches`.
            synchronize_batches: Whether processes ask each other how many rows their next batches have, so that those that do not go
                together are an error, and not a wait without an end.
            paddings: What a batch with fewer rows is filled up with to ``batch_size``: a value, or one for each column (a dict).

        Returns:
            An iterable of dicts from column to array, the first index of which is the row; or of arrays, as ``collate_fn`` returns them.

        Raises:
            ImportError: there is no JAX here.
            ValueError: as for :meth:`iter_batches`; while iterating: a batch cannot be shared by the devices, or the processes' batches
                differ.
            TypeError: while iterating: a column has values that are no numbers.
            TaskError: as for :meth:`take`, while iterating.

        Example:
            >>> import aktis.data
            >>> for batch in aktis.data.range(4).iter_jax_batches(batch_size=2):  # doctest: +SKIP
            ...     print(batch["id"])
            [0 1]
            [2 3]
        """
        from . import _jax

        target = _jax.Target.of(
            batch_size,
            dtypes,
            paddings,
            collate_fn,
            drop_last,
            is_synchronized=synchronize_batches,
            ahead=prefetch_batches,
        )
        chance = _local_shuffle.checked(local_shuffle_buffer_size, local_shuffle_seed, batch_size)
        batches = self._each_batch(
            "iter_jax_batches", batch_size, drop_last, chance, prefetch_batches, target.numpy_batch
        )
        return _iteration.Repeatable(lambda: target.arrays(batches))
