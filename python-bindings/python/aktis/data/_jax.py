"""Batches as arrays of JAX over all its devices. JAX is imported when they are asked for.

Where a program runs as several processes of JAX, each gives its own rows, and an array is made of those of all: its rows are shared
out over the devices of all processes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from . import _batches
from ._packages import needs
from ._torch import _kind_of, _stacked
from .collate_fn import CollateFn

_WAY_OUT = "give drop_last=True, or paddings=... to fill it up"


class Target(NamedTuple):
    """What arrays shall be like."""

    jax: Any
    batch_rows: int
    dtypes: Any
    paddings: Any
    collate_fn: Callable[[Any], Any] | None
    is_last_dropped: bool
    #: How many batches all processes look at together, to see whether they go on alike; 0: each for itself.
    looks_ahead: int

    @staticmethod
    def of(
        batch_rows: Any,
        dtypes: Any,
        paddings: Any,
        collate_fn: Any,
        is_last_dropped: bool,
        *,
        is_synchronized: bool,
        ahead: int,
    ) -> Target:
        """What the user wrote."""
        jax = needs("iter_jax_batches", "jax", "jax")
        devices = jax.local_device_count()
        if not isinstance(batch_rows, int) or batch_rows < 1 or batch_rows % devices:
            raise ValueError(
                f"iter_jax_batches(): batch_size must be a multiple of the number of local devices, which is {devices}, not {batch_rows!r}"
            )
        if collate_fn is not None and not callable(collate_fn):
            raise TypeError(f"iter_jax_batches(): collate_fn is a function of a batch, not {type(collate_fn).__name__}")
        looks = max(ahead, 1) if is_synchronized and jax.process_count() > 1 else 0
        return Target(jax, batch_rows, dtypes, paddings, collate_fn, is_last_dropped, looks)

    def numpy_batch(self, table: Any) -> Any:
        """What becomes of a table before it goes to the devices: an array, or a dict of arrays."""
        import numpy

        wanted = self.collate_fn.batch_format if isinstance(self.collate_fn, CollateFn) else "numpy"
        batch = _batches.from_arrow(_batches._one_batch(table), wanted)
        if self.collate_fn is not None:
            batch = self.collate_fn(batch)
        if isinstance(batch, numpy.ndarray):
            return _numbers("", batch)
        if not isinstance(batch, Mapping) or not all(isinstance(one, numpy.ndarray) for one in batch.values()):
            raise TypeError(
                f"iter_jax_batches(): collate_fn returns an array of numpy or a dict of them, not {type(batch).__name__}"
            )
        return {name: _numbers(name, column) for name, column in batch.items()}

    def arrays(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches as arrays on the devices."""
        sharding = self._sharding()
        with contextlib.closing(iter(batches)) as each:  # type: ignore[type-var]
            for batch in self._alike(each) if self.looks_ahead else map(self._filled, each):
                yield self._placed(batch, sharding)

    def _sharding(self) -> Any:
        """Rows over all devices, in an order that suits their network where JAX knows one."""
        import numpy
        from jax.sharding import (  # pyright: ignore[reportMissingImports] - it need not be there
            Mesh,
            NamedSharding,
            PartitionSpec,
        )

        try:
            from jax.experimental import mesh_utils  # pyright: ignore[reportMissingImports] - it need not be there

            devices = mesh_utils.create_device_mesh((self.jax.device_count(),))
        except Exception:  # noqa: BLE001 - it knows some machines only; the order of devices is no matter of correctness
            devices = numpy.array(self.jax.devices())
        return NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data"))

    def _filled(self, batch: Any) -> Any:
        """A batch that the devices of this process can share."""
        rows = _rows_of(batch)
        if self.paddings is not None:
            return _each(self._with_padding, batch) if rows < self.batch_rows else batch
        devices = self.jax.local_device_count()
        if rows % devices:
            raise ValueError(
                f"iter_jax_batches(): a batch of {rows} rows cannot be shared by the {devices} devices of this process: {_WAY_OUT}"
            )
        return batch

    def _with_padding(self, name: str, array: Any) -> Any:
        import numpy

        value = self._of_column(self.paddings, name, "paddings")
        more = numpy.full((self.batch_rows - len(array), *array.shape[1:]), value, array.dtype)
        return numpy.concatenate([array, more])

    def _of_column(self, told: Any, name: str, argument: str) -> Any:
        """What was said for all columns, or for this one."""
        if not isinstance(told, Mapping):
            return told
        if not name:
            if len(told) != 1:
                raise ValueError(
                    f"iter_jax_batches(): {argument} has {len(told)} values, and collate_fn gives one array"
                )
            return next(iter(told.values()))
        if name not in told and argument == "paddings":
            raise ValueError(f"iter_jax_batches(): paddings has no value for the column {name!r}")
        return told.get(name)

    def _alike(self, batches: Iterator[Any]) -> Iterator[Any]:
        """As many batches as the other processes have, of as many rows: none of them may wait for one that does not come."""
        like, is_first = None, True
        while True:
            window = list(itertools.islice(batches, self.looks_ahead))
            like = window[0] if like is None and window else like
            for place, sizes in enumerate(self._sizes_of_all([_rows_of(batch) for batch in window])):
                if not any(sizes) or (self.is_last_dropped and not all(sizes)):
                    return
                self._check_sizes(sizes, is_first=is_first)
                is_first = False
                yield self._filled(window[place] if place < len(window) else _each(lambda _, array: array[:0], like))

    def _sizes_of_all(self, rows: list[int]) -> list[list[int]]:
        """Of each place in the window the rows that every process has there: 0 where it has no batch."""
        import numpy
        from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports] - it need not be there

        mine = numpy.array(rows + [0] * (self.looks_ahead - len(rows)), numpy.int32)
        return numpy.asarray(multihost_utils.process_allgather(mine)).reshape(-1, self.looks_ahead).T.tolist()

    def _check_sizes(self, sizes: list[int], *, is_first: bool) -> None:
        """Raises in all processes alike: none is left waiting for another."""
        if self.paddings is None and len(set(sizes)) > 1:
            raise ValueError(
                f"iter_jax_batches(): the processes have batches of {sizes} rows, and an array is made of those of all: {_WAY_OUT}"
            )
        if is_first and not all(sizes):
            raise ValueError(
                f"iter_jax_batches(): the first batches of the processes have {sizes} rows; one without any cannot tell what its paddings "
                "are like: give each process some rows, or drop_last=True"
            )

    def _placed(self, batch: Any, sharding: Any) -> Any:
        def placed(name: str, array: Any) -> Any:
            self._check_range(name, array)
            shape = (len(array) * self.jax.process_count(), *array.shape[1:])
            made = self.jax.make_array_from_process_local_data(sharding, array, shape)
            dtype = self._of_column(self.dtypes, name, "dtypes")
            return made if dtype is None else made.astype(dtype)

        return _each(placed, batch)

    def _check_range(self, name: str, array: Any) -> None:
        """JAX takes whole numbers for those of 32 bits unless it is told otherwise, and cuts off what does not fit without a word."""
        import numpy

        if array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or self.jax.config.jax_enable_x64 or not array.size:
            return
        fitting = numpy.iinfo("int32" if array.dtype.kind == "i" else "uint32")
        if array.max() > fitting.max or array.min() < fitting.min:
            raise ValueError(
                f"iter_jax_batches(): the column {name!r} has numbers that do not fit into 32 bits, which is what JAX makes of them: "
                "jax.config.update('jax_enable_x64', True), or make other numbers of them in map_batches()"
            )


def _each(function: Callable[[str, Any], Any], batch: Any) -> Any:
    """The function of each array; one that is alone has no name."""
    if isinstance(batch, Mapping):
        return {name: function(name, array) for name, array in batch.items()}
    return function("", batch)


def _rows_of(batch: Any) -> int:
    return len(next(iter(batch.values()), ())) if isinstance(batch, Mapping) else len(batch)


def _numbers(name: str, column: Any) -> Any:
    import numpy

    column = _stacked(column) if column.dtype == object else column
    if column.dtype == object or column.dtype.kind in "USmM":
        raise TypeError(
            f"iter_jax_batches(): the column {name!r} has no array in JAX: its values are {_kind_of(column)}. Leave it out by "
            "drop_columns(), make numbers of it in map_batches(), or give a collate_fn"
        )
    return numpy.ascontiguousarray(column)
