"""Datasets in pieces: for tests, for several consumers; and their blocks in another order."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from . import _native, _parts, expressions
from ._keywords import REMOTE_ARGS, Keywords

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ._streaming_split import SharedIterator
    from ._typed import RemoteArgs
    from .dataset import Dataset, MaterializedDataset

#: A column that nobody has.
_IS_TRAIN = "aktis: is this row to be trained with"
_TRAIN_AND_TEST = (f'"{_IS_TRAIN}"', f'not "{_IS_TRAIN}"')


class Splitting:
    """The methods of a dataset that take it apart."""

    _plan: Any
    _then: Callable[[Any], Dataset]
    materialize: Callable[[], MaterializedDataset]
    random_shuffle: Callable[..., Dataset]
    groupby: Callable[..., Any]
    filter: Callable[..., Dataset]

    def split(
        self, n: int, *, equal: bool = False, locality_hints: Sequence[Any] | None = None
    ) -> list[MaterializedDataset]:
        """Runs the dataset and deals its rows out, in order: the first rows are in the first piece.

        Args:
            n: how many pieces.
            equal: whether all have the same number of rows; up to ``n - 1`` rows at the end are in none of them. ``False``:
                whole blocks, about as many for each.
            locality_hints: a handle of an actor for each piece; has no effect: blocks are read in place where they lie on the same
                node, and fetched otherwise.

        Returns:
            ``n`` datasets, some without rows if there are fewer blocks than pieces. Rows are not copied.

        Raises:
            ValueError: ``n`` is not a whole number of at least 1, or there is not one hint for each piece.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> [piece.count() for piece in aktis.data.range(10).split(3, equal=True)]
        [3, 3, 3]
        """
        _check_pieces("split", n, locality_hints)
        whole = self.materialize()
        if equal:
            share = _parts.rows_of(whole._parts) // n
            return _pieces(whole, [share * index for index in range(1, n + 1)])[:n]
        ends = [len(whole._parts) * index // n for index in range(n + 1)]
        # As numpy.array_split has it: longer ones first.
        sizes = sorted((end - first for first, end in itertools.pairwise(ends)), reverse=True)
        bounds = [0, *itertools.accumulate(sizes)]
        return [_of(whole, whole._parts[first:end]) for first, end in itertools.pairwise(bounds)]

    def split_at_indices(self, indices: list[int]) -> list[MaterializedDataset]:
        """Runs the dataset and cuts it before these rows.

        Args:
            indices: numbers of rows from 0, in order; one beyond the end is the end.

        Returns:
            One dataset more than there are indices. Rows are not copied.

        Raises:
            ValueError: there is no index, or they are not whole numbers of at least 0 in order.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> [piece.count() for piece in aktis.data.range(10).split_at_indices([2, 9])]
        [2, 7, 1]
        """
        given = list(indices)
        if not given:
            raise ValueError("split_at_indices() needs at least one index")
        for index in given:
            if not isinstance(index, int) or isinstance(index, bool) or index < 0:
                raise ValueError(f"split_at_indices(): an index is a whole number of at least 0, not {index!r}")
        if sorted(given) != given:
            raise ValueError(f"split_at_indices(): indices must be in order, not {given}")
        return _pieces(self.materialize(), given)

    def split_proportionately(self, proportions: list[float]) -> list[MaterializedDataset]:
        """Runs the dataset and cuts it into pieces of these proportions, and one of what is left.

        Args:
            proportions: of each piece but the last: each more than 0, less than 1 together.

        Returns:
            One dataset more than there are proportions, none of them without rows. Rows are not copied.

        Raises:
            ValueError: the proportions are not so, or there are too few rows.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> [piece.count() for piece in aktis.data.range(10).split_proportionately([0.2, 0.5])]
        [2, 5, 3]
        """
        given = list(proportions)
        if not given or any(proportion <= 0 for proportion in given) or sum(given) >= 1:
            raise ValueError(
                f"split_proportionately() needs proportions that are each more than 0 and less than 1 together, not {given}: "
                "the last piece is what is left"
            )
        whole = self.materialize()
        return _pieces(whole, _ends(_parts.rows_of(whole._parts), given))

    def train_test_split(
        self, test_size: float, *, shuffle: bool = False, seed: int | None = None, stratify: str | None = None
    ) -> tuple[MaterializedDataset, MaterializedDataset]:
        """Runs the dataset and cuts it in two.

        Args:
            test_size: how many rows are for the test, or as a float which part of them.
            shuffle: whether chance says which; by default these are the last rows.
            seed: of chance, as for :meth:`random_shuffle`.
            stratify: a column: of the rows with each of its values the same part is for the test.

        Returns:
            The rows to train with, and those to test with.

        Raises:
            TypeError: ``test_size`` is no number.
            ValueError: one of the two would have no rows, or ``shuffle`` and ``stratify`` are both given.
            TaskError: as for :meth:`take`.

        >>> import aktis.data
        >>> train, test = aktis.data.range(8).train_test_split(0.25)
        >>> train.count(), test.take_all()
        (6, [{'id': 6}, {'id': 7}])
        """
        if isinstance(test_size, bool) or not isinstance(test_size, (int, float)):
            raise TypeError(f"train_test_split(): test_size is a whole number or a float, not {test_size!r}")
        if isinstance(test_size, float) and not 0 < test_size < 1:
            raise ValueError(f"train_test_split(): a test_size that is a float is between 0 and 1, not {test_size}")
        if shuffle and stratify is not None:
            raise ValueError(
                "train_test_split(): Cannot specify both 'shuffle=True' and 'stratify'; shuffle the two results where both are needed"
            )
        dataset = self.random_shuffle(seed=seed) if shuffle else cast("Dataset", self)
        whole = dataset.materialize()
        rows = _parts.rows_of(whole._parts)
        if isinstance(test_size, int) and not 0 < test_size < rows:
            raise ValueError(
                f"train_test_split(): of {rows} rows, test_size=... can be 1 to {rows - 1}, not {test_size}"
            )
        if stratify is not None:
            return _stratified(whole, test_size if isinstance(test_size, float) else test_size / rows, stratify)
        at = rows - test_size if isinstance(test_size, int) else _ends(rows, [1 - test_size])[0]
        train, test = _pieces(whole, [at])
        return train, test

    def streaming_train_test_split(
        self,
        test_size: float,
        *,
        split_type: Literal["random", "hash"] = "random",
        hash_column: str | None = None,
        seed: int | None = None,
        **remote_args: Unpack[RemoteArgs],
    ) -> tuple[Dataset, Dataset]:
        """The dataset in two, of which nothing is made before it is needed: each of the two runs it, and leaves out the other's rows.

        With ``"random"``, both must be made of the same blocks: of what gives others in every run, :meth:`materialize` first.

        Args:
            test_size: which part of the rows is for the test, about.
            split_type: ``"random"``: chance says which; ``"hash"``: the value of a column, so that rows of one value stay together, in
                every run and every dataset.
            hash_column: the column, with ``"hash"``.
            seed: of chance, with ``"random"``.
            remote_args: Ray's options of workers: refused by name, unless they are the defaults.

        Returns:
            The rows to train with, and those to test with.

        Raises:
            ValueError: ``test_size`` is not between 0 and 1, or an argument goes with the other type.

        >>> import aktis.data
        >>> train, test = aktis.data.range(100).streaming_train_test_split(0.2, seed=1)
        >>> train.count() + test.count()
        100
        """
        Keywords("streaming_train_test_split", refused=REMOTE_ARGS).check(remote_args)
        if not 0 < test_size < 1:
            raise ValueError(f"streaming_train_test_split(): test_size must be between 0 and 1, not {test_size!r}")
        if split_type not in ("random", "hash"):
            raise ValueError(
                f"streaming_train_test_split(): Invalid split type: {split_type}; it is 'random' or 'hash'"
            )
        if split_type == "hash" and hash_column is None:
            raise ValueError("streaming_train_test_split(): hash_column is required for hash split")
        if split_type == "random" and hash_column is not None:
            raise ValueError("streaming_train_test_split(): hash_column is not supported for random split")
        if split_type == "hash" and seed is not None:
            raise ValueError(
                "streaming_train_test_split(): seed is not supported for hash split, which draws nothing by chance"
            )
        dataset = cast("Dataset", self)
        if hash_column is None:
            flagged = dataset.with_column(_IS_TRAIN, expressions.random(seed=seed) >= test_size)
        else:
            flagged = _flagged_by_hash(dataset, hash_column, 1 - test_size)
        train, test = (flagged.filter(expr=text).drop_columns([_IS_TRAIN]) for text in _TRAIN_AND_TEST)
        return train, test

    def streaming_split(
        self, n: int, *, equal: bool = False, locality_hints: Sequence[Any] | None = None
    ) -> list[SharedIterator]:
        """Iterators for several consumers, tasks or actors, which share the rows of one run while it is under way.

        All of them begin together: a run begins when each consumer has begun to iterate, and once more when each has begun
        again. Consumers of one process need threads.

        Args:
            n: how many.
            equal: whether all get the same number of rows; up to ``n - 1`` rows at the end come to nobody. ``False``: about as many,
                in whole blocks; who has waited long for a slow one gets some of its blocks.
            locality_hints: an id of a node for each; has no effect: blocks are read in place where they lie on the same node, and
                fetched otherwise.

        Returns:
            ``n`` iterators, to be given to tasks and actors.

        Raises:
            ValueError: ``n`` is not a whole number of at least 1, or there is not one hint for each iterator.

        >>> import aktis, aktis.data
        >>> @aktis.remote(num_cpus=0)
        ... def rows(shard):
        ...     return sum(len(batch["id"]) for batch in shard.iter_batches())
        >>> shards = aktis.data.range(100).streaming_split(2, equal=True)
        >>> aktis.get([rows.remote(shard) for shard in shards])
        [50, 50]
        """
        _check_pieces("streaming_split", n, locality_hints)
        from . import _streaming_split

        return _streaming_split.iterators(cast("Dataset", self), n, is_equal=bool(equal))

    def randomize_block_order(self, *, seed: int | None = None) -> Dataset:
        """The blocks in an order by chance; rows stay where they are in their block.

        All rows are made, and lie in the object store, before the first block comes; to have them in no order at all,
        :meth:`random_shuffle`.

        Args:
            seed: a number that always gives the same order of the same blocks; ``None``: another order in every run.

        Returns:
            A dataset of the same rows.

        Raises:
            ValueError: the seed is no whole number.

        >>> import aktis.data
        >>> ds = aktis.data.range(4, override_num_blocks=2).randomize_block_order(seed=0)
        >>> sorted(row["id"] for row in ds.take_all())
        [0, 1, 2, 3]
        """
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"randomize_block_order(): seed must be a whole number or None, not {seed!r}")
        return self._then(_native.deferred(_BlockOrder(cast("Dataset", self), seed)))


class _BlockOrder:
    """A dataset with its blocks in another order, made when it is run."""

    def __init__(self, dataset: Dataset, seed: int | None) -> None:
        self._dataset = dataset
        self._seed = seed

    def outline(self) -> Any:
        return self._dataset._plan

    def settled(self) -> Any:
        whole = self._dataset.materialize()
        parts = list(whole._parts)
        random.Random(self._seed).shuffle(parts)
        return _parts.plan_of(whole._schema, parts)


def _check_pieces(call: str, n: int, hints: Sequence[Any] | None) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{call}() needs a whole number of at least 1, not {n!r}")
    if hints is not None and len(hints) != n:
        raise ValueError(f"{call}(): {len(hints)} locality_hints for {n} pieces")


def _of(whole: MaterializedDataset, parts: Sequence[_parts.Part]) -> MaterializedDataset:
    from .dataset import MaterializedDataset

    piece = MaterializedDataset(whole._schema, parts)
    piece._stats = whole._stats
    return piece


def _pieces(whole: MaterializedDataset, indices: list[int]) -> list[MaterializedDataset]:
    return [_of(whole, parts) for parts in _parts.cut(whole._parts, indices)]


def _ends(rows: int, proportions: list[float]) -> list[int]:
    """Where pieces of these proportions end, so that none is without rows.

    >>> _ends(10, [0.2, 0.5]), _ends(3, [0.1, 0.1])
    ([2, 7], [1, 2])
    """
    # Sums such as 0.1 + 0.2 lie a little beside what is meant.
    ends = [min(math.floor(rows * share + 1e-9), rows) for share in itertools.accumulate(proportions)]
    for index in range(len(ends)):
        ends[index] = max(ends[index], ends[index - 1] + 1 if index else 1)
    for index in reversed(range(len(ends))):
        ends[index] = min(ends[index], rows - (len(ends) - index))
    if ends[0] < 1:
        raise ValueError(f"{rows} rows are too few for {len(ends) + 1} pieces, none of which is without rows")
    return ends


def _stratified(
    whole: MaterializedDataset, share: float, column: str
) -> tuple[MaterializedDataset, MaterializedDataset]:
    def flagged(group: Any) -> Any:
        import pyarrow

        test = int(group.num_rows * share)
        flags = [True] * (group.num_rows - test) + [False] * test
        return group.append_column(_IS_TRAIN, pyarrow.array(flags, pyarrow.bool_()))

    rows = whole.groupby(column).map_groups(flagged, batch_format="pyarrow").materialize()
    train, test = (rows.filter(expr=text).drop_columns([_IS_TRAIN]).materialize() for text in _TRAIN_AND_TEST)
    return train, test


def _flagged_by_hash(dataset: Dataset, column: str, share: float) -> Dataset:
    """With a column that says whether the hash of a value is among this share of all hashes. It is the hash that Ray takes."""
    end = int(share * (1 << 64))

    def is_train(value: Any) -> bool:
        return int.from_bytes(hashlib.blake2b(str(value).encode(), digest_size=8).digest(), "big") < end

    def flagged(batch: Any) -> Any:
        import pyarrow

        flags = [is_train(value) for value in batch.column(column).to_pylist()]
        return batch.append_column(_IS_TRAIN, pyarrow.array(flags, pyarrow.bool_()))

    return dataset.map_batches(flagged, batch_format="pyarrow", udf_modifying_row_count=False)
