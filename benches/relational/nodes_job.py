"""Shuffles rows that lie in the stores of two nodes into the stores of two nodes, and prints the seconds as JSON.

nodes_job.py ADDRESS GB
"""

import json
import sys
import time

import aktis
import aktis.data
import numpy

#: A row is a number and so many bytes by chance.
DATA_BYTES = 992
BLOCKS = 32


def rows_of(batch):
    count = len(batch["id"])
    chance = numpy.random.default_rng(int(batch["id"][0]))
    return {"id": batch["id"], "data": chance.integers(0, 256, (count, DATA_BYTES), dtype=numpy.uint8)}


def main(address, gb):
    aktis.init(address=address, log_to_driver=False)
    rows = round(gb * 1e9 / (DATA_BYTES + 8))
    made = aktis.data.range(rows, override_num_blocks=BLOCKS).map_batches(rows_of, batch_size=4096).materialize()
    assert made.size_bytes() >= gb * 0.99e9
    begin = time.perf_counter()
    shuffled = made.random_shuffle(seed=7).materialize()
    seconds = time.perf_counter() - begin
    assert shuffled.count() == rows
    assert shuffled.sum("id") == rows * (rows - 1) // 2
    first = [row["id"] for row in shuffled.select_columns(["id"]).take(1000)]
    assert first != sorted(first)
    print(json.dumps({"job_s": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
