"""Jobs whose functions only sleep, so that what is possible can be computed: how near does a system come to it?

    python occupancy_job.py two_stages --system aktis|ray

One script for both systems. Prints one JSON object in its last line: the seconds of the job, and those of the bound.
"""

import argparse
import asyncio
import importlib
import json
import os
import random
import tempfile
import time

#: Rows of one batch, where a batch is what the job counts.
ROWS = 16


class Sleeper:
    """Takes so many seconds for a batch, and so many to begin with."""

    def __init__(self, seconds, start_s=0.0):
        self.seconds = seconds
        time.sleep(start_s)

    def __call__(self, batch):
        time.sleep(self.seconds)
        return batch


class Straggler(Sleeper):
    """The first of a pool takes ten times as long as the others."""

    def __init__(self, seconds, folder):
        try:
            os.close(os.open(os.path.join(folder, "slow"), os.O_CREAT | os.O_EXCL))
            seconds *= 10
        except FileExistsError:
            pass
        super().__init__(seconds)


class Engine:
    """Serves so many requests at once; each takes the seconds that its row names."""

    def __init__(self, slots):
        self.slots = asyncio.Semaphore(slots)

    async def __call__(self, batch):
        async def serve(seconds):
            async with self.slots:
                await asyncio.sleep(seconds)

        await asyncio.gather(*map(serve, batch["seconds"].tolist()))
        return batch


def batches_of(data, batches):
    """So many batches, in blocks that are not what limits a pool."""
    return data.range(batches * ROWS, override_num_blocks=max(1, batches // 4))


def count(dataset):
    return sum(len(batch["id"]) for batch in dataset.iter_batches(batch_size=None))


def two_stages(data, batches=400):
    """0.17 s and 0.21 s a batch on 16 CPUs, each worker 5 s to begin with."""
    ds = batches_of(data, batches)
    for seconds in (0.17, 0.21):
        pool = data.ActorPoolStrategy(min_size=1, max_size=16)
        ds = ds.map_batches(Sleeper, fn_constructor_args=(seconds, 5.0), batch_size=ROWS, compute=pool, num_cpus=1)
    return lambda: count(ds), batches, 5.0 + batches * (0.17 + 0.21) / 16


def three_pools(data, batches=8000):
    """40 ms on one of 32 CPUs, then 9 ms and 2 ms on 8 GPUs: H8, an image pipeline in the times of its stages."""
    ds = batches_of(data, batches)
    for seconds, need in ((0.040, {"num_cpus": 1}), (0.009, {"num_gpus": 1}), (0.002, {"num_gpus": 1})):
        pool = data.ActorPoolStrategy(min_size=1, max_size=32 if "num_cpus" in need else 7)
        ds = ds.map_batches(Sleeper, fn_constructor_args=(seconds,), batch_size=ROWS, compute=pool, **need)
    return lambda: count(ds), batches, batches * max(0.040 / 32, 0.011 / 8)


def after_cpu(data, batches=250):
    """10 ms on a CPU, then 20 ms on one of two GPUs."""

    def prepare(batch):
        time.sleep(0.010)
        return batch

    ds = batches_of(data, batches).map_batches(prepare, batch_size=ROWS)
    pool = data.ActorPoolStrategy(size=2)
    ds = ds.map_batches(Sleeper, fn_constructor_args=(0.020,), batch_size=ROWS, compute=pool, num_gpus=1)
    return lambda: count(ds), batches, batches * 0.020 / 2


def straggler(data, batches=800):
    """50 ms a batch in 8 workers, one of which takes 0.5 s; the bound is what 8 good ones would need."""
    folder = tempfile.mkdtemp()
    pool = data.ActorPoolStrategy(size=8)
    ds = batches_of(data, batches).map_batches(
        Straggler, fn_constructor_args=(0.050, folder), batch_size=ROWS, compute=pool, num_cpus=1
    )
    return lambda: count(ds), batches, batches * 0.050 / 8


def engine(data, requests=20_000):
    """An engine of 64 slots, requests of log-normal length (sigma 1), 80 calls of one row under way: H6."""
    chance = random.Random(1)
    lengths = [chance.lognormvariate(-3.5, 1.0) for _ in range(requests)]

    def with_length(batch):
        return {**batch, "seconds": [lengths[row] for row in batch["id"]]}

    pool = data.ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=80)
    ds = data.range(requests).map_batches(with_length)
    ds = ds.map_batches(Engine, fn_constructor_args=(64,), batch_size=1, compute=pool, num_gpus=1)
    return lambda: count(ds), requests, sum(lengths) / 64


#: What a job has: CPUs and GPUs. All are pretended: nothing here computes.
JOBS = {
    two_stages: (16, 0),
    three_pools: (40, 8),
    after_cpu: (2, 2),
    straggler: (8, 0),
    engine: (2, 1),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=[job.__name__ for job in JOBS])
    parser.add_argument("--system", default="aktis", choices=("aktis", "ray"))
    parser.add_argument("--amount", type=int, help="batches, or requests; as the job has them by default")
    options = parser.parse_args()
    job = next(job for job in JOBS if job.__name__ == options.job)
    cpus, gpus = JOBS[job]
    system = importlib.import_module(options.system)
    system.init(num_cpus=cpus, num_gpus=gpus)
    data = importlib.import_module(f"{options.system}.data")
    # What a first job costs is another question (`data_map`): imports.
    count(data.range(10).map_batches(Sleeper, fn_constructor_args=(0,), compute=data.ActorPoolStrategy(size=1)))
    run, amount, bound_s = job(data, *([options.amount] if options.amount else []))
    start = time.perf_counter()
    rows = run()
    job_s = time.perf_counter() - start
    assert rows == amount * (1 if job is engine else ROWS), f"{rows} rows"
    print("\n" + json.dumps({"job_s": job_s, "bound_s": bound_s}), flush=True)
    system.shutdown()


if __name__ == "__main__":
    main()
