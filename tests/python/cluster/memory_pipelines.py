"""Random pipelines, each the same for the same seed: what they do, what must come of it, and how to run them.

A row is ``id``, ``key``, ``value``, ``seed`` and ``pad``: the pad is the seed again and again, so that rows can be as long as one likes,
and whoever has the numbers knows every byte. What must come is computed of the numbers alone.
"""

import dataclasses
import itertools
import pathlib
import random

import numpy as np

NUMBERS = ("id", "key", "value", "seed")
#: Rows of a union's second dataset have numbers from here on.
SECOND = 10**9
#: What one call of a function may give: its batches are that small. More is the function's own doing, whatever runs it.
CALL_BYTES = 12 << 20
#: What goes through a pipeline where rows are longest.
VOLUMES = (200 << 20, 500 << 20, 900 << 20, 1500 << 20)
FACTORS = (0.01, 0.1, 0.5, 1, 2, 10, 100)
MOST_ROWS = 400_000
#: Where functions see rows one by one.
MOST_SINGLE_ROWS = 30_000
KEYS = 1000


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of a method of the dataset."""

    name: str
    options: dict

    def __str__(self):
        return f"{self.name}({', '.join(f'{name}={value}' for name, value in self.options.items())})"


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A source of so many rows with pads of so many bytes, steps, and where the rows go."""

    seed: int
    source: str
    rows: int
    length: int
    num_cpus: int
    steps: tuple
    sink: str

    def __str__(self):
        steps = "".join(f".{step}" for step in self.steps)
        return (
            f"seed {self.seed}, {self.num_cpus} cpus: {self.source}({self.rows} x {self.length} B){steps}.{self.sink}"
        )

    @property
    def is_map_only(self):
        """Whether no row waits for others, so that nothing has to be put on the disk."""
        meeting = {"sort", "aggregate", "map_groups", "join"}
        return self.sink != "materialize" and not any(step.name in meeting for step in self.steps)


def lengths(length, steps):
    """Bytes of the pad in front of the first step, and behind each."""
    found = [length]
    for step in steps:
        found.append(step.options["to"] if step.name == "grow" else found[-1])
    return found


def beside(steps):
    """Bytes of other columns in front of the first step, and behind each."""
    found = [40]
    for step in steps:
        found.append(found[-1] + step.options["length"] if step.name == "join" else found[-1])
    return found


def pipeline(seed):
    """The pipeline of this seed."""
    rng = random.Random(seed)
    source = rng.choice(["range", "range", "parquet", "parquet", "items"])
    length = rng.choice([8, 64, 512, 4096, 32768])
    steps = _steps(rng, length)
    longest = max(map(sum, zip(lengths(length, steps), beside(steps), strict=True)))
    rows = min(rng.choice(VOLUMES) // longest, MOST_ROWS)
    if any(step.options.get("single") for step in steps):
        rows = min(rows, MOST_SINGLE_ROWS)
    if source == "items":
        # They come out of this process.
        rows = min(rows, (16 << 20) // (length + 40))
    sink = rng.choice(["iter_batches", "iter_batches", "write_parquet", "write_parquet", "count", "materialize"])
    return Pipeline(seed, source, max(rows, 50), length, rng.choice([1, 2, 2, 4]), tuple(steps), sink)


def _steps(rng, length):
    steps = []
    if rng.random() < 0.2:
        steps.append(Step("union", {}))
    for _ in range(rng.randint(1, 4)):
        kind = rng.choices(["grow", "filter", "flat_map", "sort", "join"], [6, 2, 1, 1, 1])[0]
        now = lengths(length, steps)[-1]
        if kind == "grow":
            steps.append(_grow(rng, now, beside(steps)[-1]))
        elif kind == "filter":
            steps.append(Step("filter", {"modulo": rng.choice([2, 3, 10]), "single": rng.random() < 0.3}))
        elif kind == "flat_map" and not any(step.name == "flat_map" for step in steps):
            steps.append(Step("flat_map", {"copies": rng.randint(0, 3), "single": True}))
        elif kind == "sort":
            steps.append(Step("sort", {"descending": rng.random() < 0.5}))
        elif kind == "join" and not any(step.name == "join" for step in steps):
            options = {"keys": rng.choice([1, 100, KEYS]), "length": rng.choice([8, 1000, 20000])}
            steps.append(Step("join", options))
    last = rng.random()
    if last < 0.1:
        steps.append(Step("aggregate", {}))
    elif last < 0.15:
        steps.append(Step("map_groups", {}))
    elif last < 0.25:
        steps.append(Step("limit", {"rows": rng.choice([1, 100, 10_000])}))
    return steps


def _grow(rng, now, other):
    factor = rng.choice([factor for factor in FACTORS if 8 <= now * factor <= 1 << 20] or [1])
    to = max(8, int(now * factor) // 8 * 8)
    most = max(1, CALL_BYTES // (max(to, now) + other))
    sizes = [size for size in (16, 64, 256, 1024, 4096) if size <= most] or [most]
    # Where nobody says how large batches are, that is what the system finds.
    size = rng.choice([*sizes, None, None])
    how = {"format": rng.choice(["pyarrow", "pyarrow", "numpy", "pandas"])}
    how["is_generator"] = how["format"] == "pyarrow" and rng.random() < 0.25
    how["compute"] = rng.choice(["tasks", "tasks", "actors"])
    return Step("grow", {"to": to, "batch_size": size, **how})


def numbers(first, rows):
    """The numbers of so many rows."""
    ids = np.arange(first, first + rows, dtype=np.int64)
    return {"id": ids, "key": ids * 7919 % KEYS, "value": mixed(ids), "seed": ids}


def mixed(ids):
    """Another number for each, in no order."""
    return (np.asarray(ids).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64)


def expected(made):
    """The columns of numbers that must come out, in any order, and the length of pads (0: there are none)."""
    rows = numbers(0, made.rows)
    for step in made.steps:
        rows = _EXPECTED[step.name](rows, step.options, made)
    has_pads = not any(step.name in ("aggregate", "map_groups") for step in made.steps)
    return rows, lengths(made.length, made.steps)[-1] if has_pads else 0


def _chosen(rows, which):
    return {name: column[which] for name, column in rows.items()}


def _united(rows, _options, made):
    other = numbers(SECOND, made.rows)
    return {name: np.concatenate([column, other[name]]) for name, column in rows.items()}


def _copied(rows, options, _made):
    copies = options["copies"]
    rows = {name: np.repeat(column, copies) for name, column in rows.items()}
    rows["id"] = rows["id"] * 4 + np.tile(np.arange(copies), len(rows["id"]) // max(copies, 1))
    return rows


def _joined(rows, options, _made):
    rows = _chosen(rows, rows["key"] < options["keys"])
    return {**rows, "weight": rows["key"] * 3 + 1}


def _aggregated(rows, _options, _made):
    keys, groups = np.unique(rows["key"], return_inverse=True)
    count = np.bincount(groups, minlength=len(keys)).astype(np.int64)
    total = np.zeros(len(keys), np.int64)
    np.add.at(total, groups, rows["id"])
    return {"key": keys, "count": count, "total": total}


_EXPECTED = {
    "union": _united,
    "grow": lambda rows, _options, _made: rows,
    "filter": lambda rows, options, _made: _chosen(rows, rows["id"] % options["modulo"] != 1),
    "flat_map": _copied,
    "sort": lambda rows, _options, _made: rows,
    "join": _joined,
    "aggregate": _aggregated,
    "map_groups": _aggregated,
    "limit": lambda rows, _options, _made: rows,
}


def check(made, found):
    """Compares what came with what must come. ``found``: columns of numbers."""
    right, _ = expected(made)
    limits = [step.options["rows"] for step in made.steps if step.name == "limit"]
    rows = min([len(right["key"]), *limits])
    if made.sink == "count":
        assert found == rows, f"{made}: {found} rows instead of {rows}"
        return
    lengths_found = {name: len(column) for name, column in found.items()}
    if rows == 0:
        assert not any(lengths_found.values()), f"{made}: rows came where there are none: {lengths_found}"
        return
    assert set(found) == set(right), f"{made}: columns {sorted(found)} instead of {sorted(right)}"
    assert set(lengths_found.values()) == {rows}, f"{made}: {lengths_found} rows instead of {rows}"
    if made.steps and made.steps[-1].name == "sort" and made.sink != "write_parquet":
        values = found["value"][::-1] if made.steps[-1].options["descending"] else found["value"]
        assert (values[1:] >= values[:-1]).all(), f"{made}: the rows are not sorted"
    if limits:
        by_id = {name: column[np.argsort(right["id"], kind="stable")] for name, column in right.items()}
        places = np.searchsorted(by_id["id"], found["id"]).clip(max=len(by_id["id"]) - 1)
        assert len(np.unique(found["id"])) == rows, f"{made}: rows came twice"
        right = _chosen(by_id, places)
        same = all((found[name] == right[name]).all() for name in right)
    else:
        first = "id" if "id" in right else "key"
        order, other = np.argsort(found[first], kind="stable"), np.argsort(right[first], kind="stable")
        same = all((found[name][order] == right[name][other]).all() for name in right)
    assert same, f"{made}: the rows are others than they should be"


def pads(seeds, length):
    """A column of pads."""
    import pyarrow as pa

    seeds = np.ascontiguousarray(seeds, dtype=np.int64)
    content = np.repeat(seeds, length // 8)
    offsets = np.arange(len(seeds) + 1, dtype=np.int64) * length
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.large_binary(), len(seeds), buffers)


def table(rows, length):
    """Rows with pads."""
    import pyarrow as pa

    return pa.table({**rows, "pad": pads(rows["seed"], length)})


def check_pads(batch, length):
    """Whether all pads of a batch are what they should be."""
    import pyarrow as pa
    import pyarrow.compute as pc

    seeds = batch.column("seed").to_numpy()
    column = batch.column("pad")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    assert column.type in (pa.binary(), pa.large_binary()), column.type
    for start in range(0, len(column), 1024):
        part = column.slice(start, 1024)
        right = pads(seeds[start : start + 1024], length).cast(part.type)
        is_equal = pc.equal(part, right)  # pyright: ignore[reportAttributeAccessIssue]
        assert False not in is_equal.to_pylist(), "a pad has other bytes than it should"


def write_source(made, folder):
    """The files of a pipeline that reads Parquet; their pages shrink to almost nothing."""
    import pyarrow.parquet as pq

    rng = random.Random(made.seed)
    for name, first in (("one", 0), ("other", SECOND)):
        (folder / name).mkdir(parents=True)
        files = rng.choice([1, 3, 8])
        # What a group of rows holds is up to whoever wrote the file.
        group = max(1, rng.choice([1 << 20, 16 << 20, 48 << 20]) // (made.length + 40))
        bounds = [made.rows * part // files for part in range(files + 1)]
        for part, (begin, end) in enumerate(itertools.pairwise(bounds)):
            schema = table(numbers(0, 0), made.length).schema
            with pq.ParquetWriter(folder / name / f"{part}.parquet", schema, compression="zstd") as file:
                for start in range(begin, end, group):
                    rows = numbers(first + start, min(group, end - start))
                    file.write_table(table(rows, made.length))
        if not any(step.name == "union" for step in made.steps):
            return


def read_numbers(folder, length):
    """The columns of numbers of Parquet files, whose pads are looked at."""
    import pyarrow.dataset

    found = Collected(length)
    files = sorted(map(str, pathlib.Path(folder).glob("*.parquet")))
    if not files:
        return {}
    for batch in pyarrow.dataset.dataset(files, format="parquet").to_batches(batch_size=256):
        found.add(batch)
    return found.columns()


class Collected:
    """Columns of numbers, of batch after batch."""

    def __init__(self, length):
        self._length = length
        self._parts = {}

    def add(self, batch):
        if batch.num_rows == 0:
            return
        if self._length:
            check_pads(batch, self._length)
        for name in batch.schema.names:
            if name not in ("pad", "extra"):
                # A copy: `numpy.array` of a chunked column is a view, which would hold all of its block.
                self._parts.setdefault(name, []).append(batch.column(name).to_numpy().copy())

    def columns(self):
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}
