"""Rows of several datasets side by side: by keys, and by their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._keywords import Keywords
from ._native import Recorder

if TYPE_CHECKING:
    from .dataset import Dataset

_JOIN = Keywords(
    "join",
    used=(
        "ds",
        "join_type",
        "num_partitions",
        "on",
        "right_on",
        "left_suffix",
        "right_suffix",
        "hint",
        "validate_schemas",
    ),
    harmless={
        "partition_size_hint": "sizes are measured",
        "aggregator_ray_remote_args": "partitions are joined by the workers of their stage",
    },
)


def plan_beside(plan: Any, other: Any) -> Any:
    """The plan of another dataset, as a native plan or one that records its calls takes it."""
    return other._native if isinstance(other, Recorder) and not isinstance(plan, Recorder) else other


def check_datasets(call: str, others: Iterable[Any]) -> None:
    """Fails for what is no dataset among those that a method takes one by one."""
    for other in others:
        if not hasattr(other, "_plan"):
            many = f": write {call}(*datasets)" if isinstance(other, (list, tuple)) else ""
            raise TypeError(f"{call}() takes datasets, not {type(other).__name__}{many}")


class Joins:
    """The methods of a dataset that put rows of others beside its own."""

    _plan: Any
    _then: Callable[[Any], Dataset]
    schema: Callable[..., Any]

    def join(
        self,
        ds: Dataset,
        join_type: str,
        num_partitions: int,
        on: tuple[str, ...] | list[str] = ("id",),
        right_on: tuple[str, ...] | list[str] | None = None,
        left_suffix: str | None = None,
        right_suffix: str | None = None,
        *,
        validate_schemas: bool = False,
        hint: str | None = None,
        **more: Any,
    ) -> Dataset:
        """Rows of this dataset, the left, beside those of another, the right, that have the same keys.

        Both sides are cut by their keys into partitions, which are joined one by one; a partition that does not fit into memory is
        sorted through files. A side that is known to be small goes whole to all parts of the other instead.

        Args:
            ds: the right.
            join_type: ``"inner"``: pairs; ``"left_outer"``, ``"right_outer"``, ``"full_outer"``: also the rows of the left, of the
                right, or of both that have no partner; ``"left_semi"``, ``"right_semi"``: rows of one side that have a partner;
                ``"left_anti"``, ``"right_anti"``: rows of one side that have none.
            num_partitions: into how many parts both sides are cut. Small ones are put together.
            on: the columns of the keys. A null is equal to nothing.
            right_on: the columns of the keys on the right; ``None``: they have the same names.
            left_suffix: is put behind names of the left that are on both sides and no keys; ``None``: they stay as they are.
            right_suffix: the same for the right.
            validate_schemas: looks at the columns of both sides now, even if a function has to run for that; otherwise those that
                only a run will show are looked at then.
            hint: ``"broadcast"``: all parts of the left get all of the right, which must fit into memory. ``"salt"``: a few keys have
                many rows: partitions of twice the mean and more are joined by several workers, each of which gets a part of the
                rows of one side and all of the other. Without a hint partitions of ten times the mean and 256 MiB are.
            more: Ray's ``partition_size_hint`` and ``aggregator_ray_remote_args`` have no effect.

        Returns:
            A dataset, in any order. Keys come out once: with their names on the left, on the right for ``"right_outer"``.

        Raises:
            ValueError: a key is not there, keys are of types that are never equal, both sides have a column and no suffix was
                given, or an argument makes no sense: a hint among them that would change the rows of a join of this type.
            TypeError: something that is no dataset was given.

        >>> import aktis.data
        >>> docs = aktis.data.from_items([{"id": 1, "text": "a ray"}, {"id": 2, "text": "of light"}])
        >>> labels = aktis.data.from_items([{"doc": 2, "label": "good"}])
        >>> docs.join(labels, "inner", 4, on=("id",), right_on=("doc",)).take_all()
        [{'id': 2, 'text': 'of light', 'label': 'good'}]
        """
        _JOIN.check(more)
        if not hasattr(ds, "_plan"):
            raise TypeError(f"join() takes a dataset, not {type(ds).__name__}")
        left, right = _names("on", on), _names("right_on", on if right_on is None else right_on)
        if len(left) != len(right) or not left:
            raise ValueError(
                f"join() needs as many keys of the right as of the left, and one at least: on={left}, right_on={right}"
            )
        if not isinstance(num_partitions, int) or isinstance(num_partitions, bool) or num_partitions < 1:
            raise ValueError(f"join(): num_partitions must be a whole number of at least 1, not {num_partitions!r}")
        if validate_schemas:
            _validate(self.schema(), ds.schema(), left, right)
        kind = getattr(join_type, "value", join_type)
        options = (kind, left, right, left_suffix, right_suffix, num_partitions, hint)
        return self._then(self._plan.join(plan_beside(self._plan, ds._plan), options))

    def zip(self, *other: Dataset) -> Dataset:
        """The rows of this dataset and of others side by side: the first with the first, the second with the second.

        One worker puts them together. All datasets keep their order for that, whatever ``preserve_order`` says.

        Args:
            other: any number of datasets.

        Returns:
            A dataset with the columns of all. A name that is taken gets a number: ``id``, ``id_1``, ``id_2``.

        Raises:
            ValueError: when it runs, and the datasets are known to have different numbers of rows.
            TaskError: as for :meth:`take`; or the datasets turn out to have different numbers of rows.

        >>> import aktis.data
        >>> ds = aktis.data.range(2)
        >>> ds.zip(ds.map(lambda row: {"id": row["id"] * 10})).take_all()
        [{'id': 0, 'id_1': 0}, {'id': 1, 'id_1': 10}]
        """
        check_datasets("zip", other)
        return self._then(self._plan.zip([plan_beside(self._plan, dataset._plan) for dataset in other]))


def _names(argument: str, value: Any) -> list[str]:
    if not isinstance(value, (tuple, list)):
        # Ray Data's class and words.
        raise ValueError(f"Expected tuple or list as `{argument}` (got {type(value).__name__})")  # noqa: TRY004
    return list(value)


def _validate(left: Any, right: Any, on: list[str], right_on: list[str]) -> None:
    """Raises if keys are not there, or of different types."""
    kinds = []
    for side, schema, names in (("left", left, on), ("right", right, right_on)):
        columns = {} if schema is None else dict(zip(schema.names, schema.types, strict=True))
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(
                f"join(): there is no column {missing[0]!r} on the {side}; its columns are {list(columns)}"
            )
        kinds.append([columns[name] for name in names])
    for name, other, kind, other_kind in zip(on, right_on, *kinds, strict=True):
        if kind != other_kind:
            raise ValueError(
                f"join(): the key {name!r} of the left is {kind} and the key {other!r} of the right is {other_kind}; bring one of "
                "them to the type of the other with with_column(name, col(name).cast(type))"
            )
