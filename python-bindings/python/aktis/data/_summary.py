"""What can be told of each column at a glance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import aggregate
from ._declared import is_of_ray

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from .aggregate import Aggregation
    from .dataset import Dataset

#: From the name of a column to what is told of it.
Teller = Callable[[str], "Sequence[Aggregation]"]


class DatasetSummary:
    """What is told of each column of a dataset; :meth:`Dataset.summary` makes it.

    >>> import aktis.data
    >>> summary = aktis.data.range(5).summary()
    >>> summary.columns
    ['id']
    """

    #: The column of :meth:`to_pandas` that says what is told.
    STATISTIC_COLUMN = "statistic"

    def __init__(self, schema: pyarrow.Schema, told: dict[str, dict[str, Any]]) -> None:
        self.dataset_schema = schema
        #: The columns of which something is told.
        self.columns = list(told)
        self._told = told

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each thing that is told, in alphabetical order, and a column for each column.

        Returns:
            A data frame; what is not told of a column is None.

        >>> import aktis.data
        >>> frame = aktis.data.range(5).summary().to_pandas()
        >>> frame[frame["statistic"] == "max"]["id"].tolist()
        [4]
        """
        import pandas

        names = sorted({name for told in self._told.values() for name in told})
        columns = {column: [told.get(name) for name in names] for column, told in self._told.items()}
        return pandas.DataFrame({self.STATISTIC_COLUMN: names, **columns}, dtype=object)

    def get_column_stats(self, column: str) -> pandas.DataFrame:
        """What is told of one column.

        Args:
            column: its name.

        Returns:
            A data frame of ``statistic`` and ``value``, in alphabetical order.

        Raises:
            ValueError: nothing is told of such a column.

        >>> import aktis.data
        >>> told = aktis.data.range(5).summary().get_column_stats("id")
        >>> dict(zip(told["statistic"], told["value"]))["mean"]
        2.0
        """
        import pandas

        if column not in self._told:
            raise ValueError(f"nothing is told of a column {column!r}, but of {', '.join(map(repr, self.columns))}")
        names = sorted(self._told[column])
        values = [self._told[column][name] for name in names]
        return pandas.DataFrame({self.STATISTIC_COLUMN: names, "value": pandas.Series(values, dtype=object)})

    def __repr__(self) -> str:
        return self.to_pandas().to_string(index=False)


def of(dataset: Dataset, columns: Sequence[str] | None, overrides: Mapping[Any, Teller] | None) -> DatasetSummary:
    """Runs the dataset once and tells what there is to tell."""
    schema = dataset.schema().base_schema
    wanted = list(schema.names) if columns is None else list(columns)
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise ValueError(
            f"summary(): there is no column {missing[0]!r}; there are {', '.join(map(repr, schema.names))}"
        )
    tellers = _checked(overrides or {})
    aggregations = {name: list(_teller_of(schema.field(name).type, tellers)(name)) for name in wanted}
    flat = [each for told in aggregations.values() for each in told]
    if not flat:
        raise ValueError("summary(): there is no column to tell something of")
    results = dataset.aggregate(*flat)
    return DatasetSummary(schema, {name: _told(told, results) for name, told in aggregations.items() if told})


def _checked(overrides: Mapping[Any, Teller]) -> dict[Any, Teller]:
    import pyarrow

    plain = {kind.to_arrow_dtype() if is_of_ray(kind) else kind: teller for kind, teller in overrides.items()}
    for kind in plain:
        if not isinstance(kind, pyarrow.DataType):
            raise TypeError(
                f"summary(override_dtype_agg_mapping=...) takes a dict from types of pyarrow, as pyarrow.int64(), not {kind!r}"
            )
    return plain


def _teller_of(kind: Any, overrides: Mapping[Any, Teller]) -> Teller:
    """What is told of columns of such a type."""
    from pyarrow import types

    if kind in overrides:
        return overrides[kind]
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        return _of_numbers
    return _of_times if types.is_temporal(kind) else _of_anything


def _of_numbers(column: str) -> Sequence[Aggregation]:
    return [
        aggregate.Count(column),
        aggregate.Mean(column),
        aggregate.Min(column),
        aggregate.Max(column),
        aggregate.Std(column, ddof=0),
        aggregate.ApproximateQuantile(column, [0.5]),
        aggregate.MissingValuePercentage(column),
        aggregate.ZeroPercentage(column),
    ]


def _of_times(column: str) -> Sequence[Aggregation]:
    return [
        aggregate.Count(column),
        aggregate.Min(column),
        aggregate.Max(column),
        aggregate.MissingValuePercentage(column),
    ]


def _of_anything(column: str) -> Sequence[Aggregation]:
    return [aggregate.Count(column), aggregate.MissingValuePercentage(column), aggregate.ApproximateTopK(column, 10)]


def _told(aggregations: Sequence[Aggregation], results: Mapping[str, Any]) -> dict[str, Any]:
    """By name, without the column; of lists, each item with its place."""
    told: dict[str, Any] = {}
    for aggregation in aggregations:
        name, value = aggregation.get_agg_name(), results[aggregation.name]
        if isinstance(value, list):
            told |= {f"{name}[{index}]": item for index, item in enumerate(value)}
        else:
            told[name] = value
    return told
