"""Batches as tensors of TensorFlow, which is imported when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _batches
from ._packages import needs
from ._torch import _kind_of, _stacked

if TYPE_CHECKING:
    import numpy
    import pyarrow


class Target(NamedTuple):
    """What tensors shall be like."""

    tf: Any
    dtypes: Any

    @staticmethod
    def of(dtypes: Any) -> Target:
        """What the user wrote."""
        return Target(needs("iter_tf_batches", "tensorflow", "tensorflow"), dtypes)

    def tensors(self, table: Any) -> dict[str, Any]:
        """What becomes of a table."""
        columns = _batches.from_arrow(_batches._one_batch(table), "numpy")
        return {name: self._tensor(name, column) for name, column in columns.items()}

    def _tensor(self, name: str, column: numpy.ndarray) -> Any:
        dtype = self.dtypes.get(name) if isinstance(self.dtypes, Mapping) else self.dtypes
        return _tensor(self.tf, "iter_tf_batches", name, column, dtype)


def _tensor(tf: Any, call: str, name: str, column: Any, dtype: Any) -> Any:
    column = _stacked(column) if column.dtype == object else column
    is_text = column.dtype == object and all(isinstance(value, (str, bytes)) for value in column)
    if column.dtype.kind in "mM" or (column.dtype == object and not is_text):
        raise _no_tensor(call, name, column)
    return tf.convert_to_tensor(column, dtype=dtype)


def _ragged(tf: Any, name: str, column: Any, dtype: Any) -> Any:
    """Rows of different lengths."""
    if any(value is None for value in column):
        raise _no_tensor("to_tf", name, column)
    return tf.ragged.constant([value.tolist() for value in column], dtype=dtype)


def _no_tensor(call: str, name: str, column: Any) -> TypeError:
    has_null = column.dtype == object and any(value is None for value in column)
    kind = "null in some rows" if has_null else _kind_of(column)
    return TypeError(
        f"{call}(): the column {name!r} has no tensor: its values are {kind}. Leave it out, or make numbers of it in map_batches()"
    )


class Pairs:
    """Features, labels and what else belongs to them, for ``to_tf``.

    Args:
        columns: for features, labels and others: a column, a list of columns, or ``None`` for the others.
        specs: for each of these a ``tf.TypeSpec``, or a dict of them by column; ``None``: by the columns of the rows.
    """

    _NAMES = ("feature_columns", "label_columns", "additional_columns")
    _SPECS = ("feature_type_spec", "label_type_spec", "additional_type_spec")

    def __init__(self, columns: tuple[Any, Any, Any], specs: tuple[Any, Any, Any]) -> None:
        self.tf = needs("to_tf", "tensorflow", "tensorflow")
        count = 2 if columns[2] is None else 3
        for name, wanted in zip(self._NAMES[:count], columns, strict=False):
            if not isinstance(wanted, str) and not (isinstance(wanted, list) and all(map(_is_text, wanted)) and wanted):
                raise TypeError(f"to_tf({name}=...) takes the name of a column or a list of names, not {wanted!r}")
        if columns[2] is None and specs[2] is not None:
            raise ValueError("to_tf(): additional_type_spec goes with additional_columns=...")
        self.columns = columns[:count]
        self.specs = specs[:count]

    def with_specs(self, schema: Callable[[], Any]) -> Pairs:
        """The same with the types of all tensors; ``schema`` is called where the user has not given them all."""
        if not any(spec is None for spec in self.specs):
            self._check_specs()
            return self
        known = schema()
        if known is None:
            raise ValueError(
                "to_tf(): the columns are not known before the rows are made: give feature_type_spec and label_type_spec"
            )
        told = known.base_schema
        for wanted in self.columns:
            for name in [wanted] if isinstance(wanted, str) else wanted:
                if name not in told.names:
                    raise ValueError(
                        f"to_tf(): there is no column {name!r}; the columns are {', '.join(map(repr, told.names))}"
                    )
        self.specs = tuple(
            self._specs_of(told, wanted) if spec is None else spec
            for wanted, spec in zip(self.columns, self.specs, strict=True)
        )
        self._check_specs()
        return self

    def _check_specs(self) -> None:
        for name, wanted, spec in zip(self._SPECS, self.columns, self.specs, strict=False):
            if isinstance(wanted, list) and not (isinstance(spec, Mapping) and set(wanted) <= set(spec)):
                raise ValueError(f"to_tf({name}=...) takes a dict with a type for each of {wanted}, not {spec!r}")
            if isinstance(wanted, str) and isinstance(spec, Mapping):
                raise TypeError(f"to_tf({name}=...) takes the type of the one column {wanted!r}, not a dict")

    def _specs_of(self, schema: pyarrow.Schema, wanted: str | list[str]) -> Any:
        if isinstance(wanted, str):
            return _spec_of(self.tf, schema.field(wanted))
        return {name: _spec_of(self.tf, schema.field(name)) for name in wanted}

    def wanted(self, table: Any) -> dict[str, Any]:
        """The arrays of a table that tensors are made of: other columns need not have any."""
        names = [name for one in self.columns for name in ([one] if isinstance(one, str) else one)]
        table = table.select(list(dict.fromkeys(names)))
        return _batches.from_arrow(_batches._one_batch(table), "numpy")

    def dataset(self, batches: Callable[[], Iterable[Any]]) -> Any:
        """A ``tf.data.Dataset`` of pairs, which runs what makes batches each time it is iterated over."""

        def pairs() -> Iterator[Any]:
            for batch in batches():
                yield tuple(
                    self._tensors(batch, wanted, spec) for wanted, spec in zip(self.columns, self.specs, strict=True)
                )

        options = self.tf.data.Options()
        # Each process of a strategy has an iterator of its own: TensorFlow must not share the rows out once more.
        options.experimental_distribute.auto_shard_policy = self.tf.data.experimental.AutoShardPolicy.OFF
        made = self.tf.data.Dataset.from_generator(pairs, output_signature=self.specs)
        return made.with_options(options)

    def _tensors(self, batch: Mapping[str, Any], wanted: str | list[str], spec: Any) -> Any:
        if isinstance(wanted, list):
            return {name: self._tensors(batch, name, spec[name]) for name in wanted}
        if isinstance(spec, self.tf.RaggedTensorSpec):
            return _ragged(self.tf, wanted, batch[wanted], spec.dtype)
        return _tensor(self.tf, "to_tf", wanted, batch[wanted], spec.dtype)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _spec_of(tf: Any, field: pyarrow.Field) -> Any:
    """What tensors of a column are like: the first index is the row, of which there are as many as a batch has."""
    from pyarrow import types

    from . import _tensors

    kind: Any = field.type
    shape: tuple[int | None, ...] = (None,)
    tensor = _tensors.tensor_of(kind, field.metadata)
    if tensor is not None:
        kind, sizes = tensor.value_type, tensor.shape or (None,) * tensor.ndim
        order = tensor.permutation or range(len(sizes))
        shape = (None, *(sizes[axis] for axis in order))
    while types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        shape = (*shape, kind.list_size if types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        dtype = tf.string
    elif types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        dtype = tf.dtypes.as_dtype(kind.to_pandas_dtype())
    else:
        raise TypeError(
            f"to_tf(): the column {field.name!r} of the type {field.type} has no tensor: make numbers of it in map_batches(), or give "
            "feature_type_spec and label_type_spec"
        )
    # Arrays whose type tells no shape are mostly of one, such as images: those of a batch that are not are an error.
    if shape.count(None) > 1 and tensor is None:
        return tf.RaggedTensorSpec(shape, dtype=dtype)
    return tf.TensorSpec(shape, dtype=dtype, name=field.name)
