"""Runs a pipeline with and without faults, and compares the rows."""

from __future__ import annotations

import collections
import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .entering import Chaos, chaos

#: Rows that a message shows of each kind.
_SHOWN = 5
_LONGEST = 200


def chaos_check(
    pipeline: Callable[..., Any],
    *,
    seeds: Iterable[int] = range(3),
    kill_workers: int = 1,
    slow: float = 0.0,
    errors: float = 0.0,
) -> list[Chaos]:
    """Runs a pipeline without faults, then under the faults of each seed, and compares the rows: which there are and how often, not
    their order.

    Args:
        pipeline: what is run. It gives a dataset, a table or frame, a list of rows, or a value; or it must have one argument, the path of a
            new folder, and writes Parquet files into that.
        seeds: of the faults, one at least, see :func:`chaos`.
        kill_workers: as for :func:`chaos`; spread over all calls of the run without faults.
        slow: as for :func:`chaos`.
        errors: as for :func:`chaos`.

    Returns:
        For each seed what was done.

    Raises:
        AssertionError: rows differ; the message shows them, and the seed. What the pipeline raises is raised with a note of the seed.
        TypeError: ``pipeline`` is no function.
        ValueError, RuntimeError: as for :func:`chaos`; or ``seeds`` are none.

    Example:
        >>> import aktis.data, aktis.testing
        >>> def pipeline():
        ...     return aktis.data.range(100).map_batches(lambda batch: {"n": batch["id"] * 2}, batch_size=10)
        >>> [faults.count("kill") for faults in aktis.testing.chaos_check(pipeline, seeds=[1])]
        [1]
    """
    seeds = _seeds(seeds)
    with chaos() as calm:
        wanted = _Rows(_run(pipeline))
    done = []
    for seed in seeds:
        with chaos(seed=seed, kill_workers=kill_workers, slow=slow, errors=errors, _calls=calm.calls) as faults:
            try:
                found = _Rows(_run(pipeline))
            except Exception as error:
                error.add_note(f"under aktis.testing.chaos(seed={seed}): {faults!r}")
                raise
        difference = wanted.difference(found)
        if difference:
            raise AssertionError(_told(faults, difference, wanted.difference(_Rows(_run(pipeline)))))
        done.append(faults)
    return done


def _told(faults: Chaos, difference: str, without: str) -> str:
    """What is to be done about rows that differ. ``without``: how those of another run without faults do."""
    if without:
        return (
            f"rows of this pipeline are others in every run, also without faults, so that nobody can tell what these did:\n{without}\n"
            "Let what is random hang on the row (a seed made of its id), leave out times and ids of processes, or return what stays the same"
        )
    return (
        f"rows differ under {faults!r}, and do not without faults:\n{difference}\n"
        "What a dead worker had begun is called again: results must hang on the rows alone, and not on how often or where functions are called"
    )


def _seeds(given: Any) -> list[int]:
    """All of them, so that a mistake is found before anything runs."""
    seeds = list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping)) else []
    if not seeds or not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        raise ValueError(f"chaos_check(seeds={given!r}): whole numbers are needed, one at least, as [1, 2] or range(3)")
    return seeds


def _takes_folder(pipeline: Callable[..., Any]) -> bool:
    """Whether it cannot be called without an argument."""
    if not callable(pipeline):
        raise TypeError(f"chaos_check() takes a function that runs a pipeline, not {pipeline!r:.60}")
    try:
        inspect.signature(pipeline).bind()
    except TypeError:
        return True
    return False


def _run(pipeline: Callable[..., Any]) -> list[Any]:
    if not _takes_folder(pipeline):
        return _rows_of(pipeline())
    folder = tempfile.mkdtemp(prefix="aktis-chaos-")
    try:
        given = pipeline(os.path.join(folder, "out"))
        return _rows_of(os.path.join(folder, "out") if given is None else given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rows_of(given: Any) -> list[Any]:
    from aktis.data import Dataset, read_parquet

    if isinstance(given, str):
        given = read_parquet(given)
    if isinstance(given, Dataset):
        return list(given.iter_rows())
    if hasattr(given, "to_pylist"):
        return list(given.to_pylist())
    if hasattr(given, "to_dicts"):  # of polars
        return list(given.to_dicts())
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        return list(given.to_dict("records"))
    # A series has a frame; what yields rows is no value either.
    return list(given) if isinstance(given, (list, tuple, Iterator)) or hasattr(given, "to_frame") else [given]


class _Rows:
    """Rows by their hashes, and how often each is there."""

    def __init__(self, rows: Iterable[Any]):
        self._counts: collections.Counter[bytes] = collections.Counter()
        self._texts: dict[bytes, str] = {}
        for row in rows:
            text = canonical(row)
            digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self._counts[digest] += 1
            self._texts[digest] = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."

    def difference(self, found: _Rows) -> str:
        """Rows that are missing, and rows that are too many, for people; nothing if there are none."""
        lines = []
        for what, less, more in (("missing", found, self), ("too many", self, found)):
            left = more._counts - less._counts
            if left:
                lines.append(f"  {what}: {left.total()} of {more._counts.total()} rows")
                lines += [f"    {more._texts[each]}  ({count} times)" for each, count in left.most_common(_SHOWN)]
        return "\n".join(lines)


def canonical(value: Any) -> str:
    """A text that is the same for the same value.

    >>> canonical({"b": 1.5, "a": [None, "x"]})
    "{'a': [None, 'x'], 'b': 1.5}"
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {canonical(value[key])}" for key in sorted(value, key=repr)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(canonical, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(canonical, value))) + "}"
    if hasattr(value, "tolist"):  # of numpy: scalars as Python's, and arrays with all their elements
        shape = getattr(value, "shape", ())
        return canonical(value.tolist()) if not shape else f"array({value.dtype}, {canonical(value.tolist())})"
    return repr(value)
