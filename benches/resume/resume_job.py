"""A job whose driver is killed: one run of it, which goes on with what earlier ones have left.

    NOTED=FILE python resume_job.py KIND OUT ROWS

Each call of a model takes a fiftieth of a second for ten rows, and notes the rows in the file, a line each: `MODEL ID ID ...`. Its name is
no argument of the model: that would be another job.
"""

import os
import sys
import time

import aktis
import aktis.data

BATCH, CALL_S, WORKERS = 10, 0.020, 2


class Model:
    def __init__(self, name):
        self.name, self.noted = name, os.environ["NOTED"]

    def __call__(self, batch):
        time.sleep(CALL_S)
        with open(self.noted, "a") as file:
            file.write(f"{self.name} {' '.join(map(str, batch['id']))}\n")
        return {**batch, self.name: batch["id"] * 2}


def prepared(batch):
    time.sleep(CALL_S / 20)
    return batch


class Job:
    def __init__(self, rows):
        self.rows = rows

    def source(self):
        return aktis.data.range(self.rows)

    def model(self, ds, name, **options):
        """Of the resource that a cluster would have GPUs for: what is before it is another stage."""
        options = {"batch_size": BATCH, "concurrency": WORKERS, "num_cpus": 0, "num_gpus": 1, **options}
        return ds.map_batches(Model, fn_constructor_args=(name,), **options)

    def one(self):
        """A model over what is read."""
        return self.model(self.source(), "first", num_cpus=1, num_gpus=0)

    def stages(self):
        """A function on processors, then a model."""
        return self.model(self.source().map_batches(prepared, batch_size=50), "first")

    def judged(self):
        """The same, with rows that are judged in both stages."""
        ds = self.source().expect("id % 10 <> 3", max_violations=0.2).map_batches(prepared, batch_size=50)
        return self.model(ds, "first").expect("id % 10 <> 3", max_violations=0.2)

    def dead(self):
        """The same, with rows that may be put aside."""
        return self.model(self.source().map_batches(prepared, batch_size=50), "first", on_error="dead_letter")

    def legs(self):
        """A model before a shuffle and one behind it."""
        return self.model(self.model(self.source(), "first").random_shuffle(), "second")

    def join(self):
        """Two models, whose rows are joined."""
        left, right = self.model(self.source(), "first"), self.model(self.source(), "second")
        return left.join(right.select_columns(["id", "second"]), "inner", 4, on=("id",))

    def few(self):
        """A model, a limit, and another one."""
        return self.model(self.model(self.source(), "first").limit(self.rows // 2), "second")


def main():
    kind, out, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    aktis.init(num_cpus=2, num_gpus=WORKERS, log_to_driver=False)
    getattr(Job(rows), kind)().write_parquet(out, mode="append")


if __name__ == "__main__":
    main()
