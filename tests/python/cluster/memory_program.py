"""Runs the pipeline of a seed in a session, within the group of processes that it is told: ``SEED FOLDER GROUP``.

Prints one JSON object: the rows that came, or their number.
"""

import json
import pathlib
import sys

import numpy as np
from memory_pipelines import SECOND, Collected, lengths, mixed, numbers, pads, pipeline, table  # type: ignore[import-not-found]


class Grow:
    """Gives rows pads of another length."""

    def __init__(self, length, batch_format, is_generator):
        self.length, self.batch_format, self.is_generator = length, batch_format, is_generator

    def __call__(self, batch):
        if self.is_generator:
            return self.parts(batch)
        if self.batch_format == "pyarrow":
            return self.grown(batch)
        # A new bytes object for each row, as programs make them.
        new = [int(seed).to_bytes(8, "little", signed=True) * (self.length // 8) for seed in batch["seed"]]
        if self.batch_format == "pandas":
            return batch.assign(pad=new)
        return {**batch, "pad": new}

    def grown(self, batch):
        place = batch.schema.get_field_index("pad")
        return batch.set_column(place, "pad", pads(batch.column("seed").to_numpy(), self.length))

    def parts(self, batch):
        step = max(1, batch.num_rows // 4)
        for start in range(0, batch.num_rows, step):
            yield self.grown(batch.slice(start, step))


def source(made, folder, first):
    import aktis.data

    name = "other" if first else "one"
    if made.source == "parquet":
        return aktis.data.read_parquet(str(folder / name))
    if made.source == "items":
        return aktis.data.from_items(table(numbers(first, made.rows), made.length).to_pylist())
    length = made.length

    def make(batch):
        ids = batch.column("id").to_numpy() + first
        rows = {"id": ids, "key": ids * 7919 % 1000, "value": mixed(ids), "seed": ids}
        return table(rows, length)

    return aktis.data.range(made.rows).map_batches(
        make, batch_format="pyarrow", batch_size=max(1, min(4096, (8 << 20) // length))
    )


def grown(ds, options, _made, _folder):
    from aktis.data import ActorPoolStrategy

    arguments = (options["to"], options["format"], options["is_generator"])
    how = {"batch_format": options["format"], "batch_size": options["batch_size"]}
    if options["compute"] == "tasks":
        return ds.map_batches(Grow(*arguments).__call__, **how)
    pool = ActorPoolStrategy(min_size=1, max_size=2)
    return ds.map_batches(Grow, fn_constructor_args=arguments, compute=pool, **how)


def filtered(ds, options, _made, _folder):
    modulo = options["modulo"]
    if options["single"]:
        return ds.filter(lambda row: row["id"] % modulo != 1)
    return ds.filter(expr=f"id % {modulo} <> 1")


def copied(ds, options, _made, _folder):
    copies = options["copies"]
    return ds.flat_map(lambda row: [{**row, "id": row["id"] * 4 + copy} for copy in range(copies)])


def joined(ds, options, _made, _folder):
    import aktis.data
    import pyarrow as pa

    length = options["length"]

    def make(batch):
        keys = batch.column("id").to_numpy()
        return pa.table({"key": keys, "weight": keys * 3 + 1, "extra": pads(keys, length)})

    right = aktis.data.range(options["keys"]).map_batches(make, batch_format="pyarrow", batch_size=100)
    return ds.join(right, "inner", 8, on=("key",))


def aggregated(ds, _options, _made, _folder):
    from aktis.data.aggregate import Count, Sum

    return ds.groupby("key").aggregate(Count(alias_name="count"), Sum("id", alias_name="total"))


def grouped(ds, _options, _made, _folder):
    def summed(group):
        return {"key": group["key"][:1], "count": [len(group["id"])], "total": [group["id"].sum()]}

    return ds.groupby("key").map_groups(summed, batch_format="numpy")


STEPS = {
    "union": lambda ds, _options, made, folder: ds.union(source(made, folder, SECOND)),
    "grow": grown,
    "filter": filtered,
    "flat_map": copied,
    "sort": lambda ds, options, _made, _folder: ds.sort("value", descending=options["descending"]),
    "join": joined,
    "aggregate": aggregated,
    "map_groups": grouped,
    "limit": lambda ds, options, _made, _folder: ds.limit(options["rows"]),
}


def collected(ds, length, rows_of_batch):
    found = Collected(length)
    for batch in ds.iter_batches(batch_format="pyarrow", batch_size=rows_of_batch):
        found.add(batch)
    return found.columns()


def main():
    seed, folder, group = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    pathlib.Path(group, "cgroup.procs").write_text("0")
    import aktis
    import aktis.data

    made = pipeline(seed)
    aktis.init(num_cpus=made.num_cpus, log_to_driver=False)
    ds = source(made, folder, 0)
    for step in made.steps:
        ds = STEPS[step.name](ds, step.options, made, folder)
    has_pads = not any(step.name in ("aggregate", "map_groups") for step in made.steps)
    length = lengths(made.length, made.steps)[-1] if has_pads else 0
    # What this process holds is its own affair.
    rows_of_batch = max(1, min(1024, (8 << 20) // (length + 40)))
    if made.sink == "count":
        found = ds.count()
    elif made.sink == "write_parquet":
        ds.write_parquet(str(folder / "out"))
        found = None
    else:
        found = collected(ds.materialize() if made.sink == "materialize" else ds, length, rows_of_batch)
    if isinstance(found, dict):
        np.savez(folder / "found.npz", **found)  # pyright: ignore[reportArgumentType]
        found = None
    aktis.shutdown()
    print(json.dumps({"count": found}))


if __name__ == "__main__":
    main()
